//! The application's own secrets: their names are in the topology, their values in files that only
//! the application reads.

#![expect(clippy::expect_used, reason = "a test may stop")]

use std::fs;
use std::io::Write as _;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::common::lab::Bench;
use crate::common::{TOPOLOGY, TestEnvironment};
use crate::web_apps::{Site, status};

/// The sound topology with these keys of `app`.
fn with(keys: &Value) -> TestEnvironment {
    let mut topology: Value = serde_json::from_str(TOPOLOGY).expect("JSON");
    let app = topology["app"].as_object_mut().expect("an object");
    app.extend(keys.as_object().expect("an object").clone());
    TestEnvironment::with(topology.to_string())
}

#[test]
fn names_are_checked_with_all_other_variables() {
    for (keys, code, words) in [
        (
            json!({ "secrets": { "A": {} }, "env": { "A": "1" } }),
            "duplicate-variable",
            "A would have two values",
        ),
        (
            json!({ "secrets": { "A": {} }, "database_uri_env": "A" }),
            "duplicate-variable",
            "A would have two values",
        ),
        (
            json!({ "secrets": { "MONGODB_URI": {} } }),
            "reserved-variable",
            "set by the stack itself",
        ),
        (
            json!({ "secrets": { "../A": {} } }),
            "reserved-variable",
            "can't be the name",
        ),
        (
            json!({ "database_uri_env": "PATH" }),
            "reserved-variable",
            "would change",
        ),
        (
            json!({ "secrets": { "A": { "as": "file" } } }),
            "bad-value",
            "as",
        ),
    ] {
        let refused = with(&keys).run(&["check"]).exits(3);
        assert!(
            refused.stderr.contains(code) && refused.stderr.contains(words),
            "{keys}: {}",
            refused.text()
        );
    }
    let warned = with(&json!({ "env": { "SIGNING_KEY": "x", "SSH_PUBLIC_KEY": "x" } }));
    let warned = warned.run(&["check"]).exits(0).stderr;
    assert!(warned.contains("secrets set SIGNING_KEY"), "{warned}");
    assert!(!warned.contains("set SSH_PUBLIC_KEY"), "{warned}");
}

#[test]
fn values_are_set_listed_and_never_shown() {
    let environment = with(&json!({ "secrets": { "API_TOKEN": {}, "OTHER": {} } }));
    let missing = environment.run(&["secrets", "init"]).exits(0);
    assert!(
        missing.stderr.contains("secrets set API_TOKEN"),
        "{}",
        missing.text()
    );
    let wrong = environment
        .run(&["secrets", "set", "API_TOKE", "--random"])
        .exits(1);
    assert!(
        wrong.stderr.contains("there are API_TOKEN, OTHER"),
        "{}",
        wrong.text()
    );
    let set = environment
        .run_in("", &["secrets", "set", "API_TOKEN"], Some("hush\n"))
        .exits(0);
    assert!(!set.text().contains("hush"), "{}", set.text());
    let file = environment.path(".gen-topology/secrets/app/API_TOKEN");
    assert_eq!(fs::read_to_string(&file).expect("a file"), "hush");
    let empty = environment
        .run_in("", &["secrets", "set", "OTHER"], Some("\n"))
        .exits(1);
    assert!(empty.stderr.contains("is empty"), "{}", empty.text());
    let list = environment.run(&["secrets", "list"]).exits(0);
    let state = |name: &str| {
        let line = list.stdout.lines().find(|line| line.contains(name));
        line.expect("a row").to_owned()
    };
    assert!(state("app/API_TOKEN").contains("there"), "{}", list.text());
    assert!(state("app/OTHER").contains("missing"), "{}", list.text());
    assert!(!list.text().contains("hush"), "{}", list.text());
}

/// Each world gets the files where its mechanism for secrets wants them.
#[test]
fn exports_bring_them() {
    let environment = with(&json!({ "secrets": { "API_TOKEN": {} } }));
    for format in ["compose", "kubernetes", "ansible"] {
        environment.run(&["export", format]).exits(0);
    }
    for (file, words) in [
        ("compose/compose.yaml", "secrets/app/API_TOKEN"),
        ("compose/compose.yaml", "app.API_TOKEN"),
        ("compose/check.sh", "app/API_TOKEN"),
        ("kubernetes/README.md", "--from-file=app.API_TOKEN="),
        ("ansible/site.yaml", "[application, app/API_TOKEN]"),
        (
            "ansible/files/units/supervisord.service",
            "/var/lib/gen-topology/secrets/app/API_TOKEN /run/gen-topology/secrets/app/API_TOKEN",
        ),
    ] {
        let path = environment.path(format!("export/{file}"));
        let text = fs::read_to_string(path).expect("a file");
        assert!(text.contains(words), "{file}: {words}:\n{text}");
    }
}

fn set(bench: &Bench, name: &str, value: &str) {
    let mut command = bench.command(&["secrets", "set", name]);
    let mut child = command.stdin(Stdio::piped()).spawn().expect("the program");
    let mut input = child.stdin.take().expect("a pipe");
    input.write_all(value.as_bytes()).expect("a value");
    drop(input);
    assert!(child.wait().expect("an end").success());
}

#[test]
fn a_lab_gives_them_to_the_application_and_exchanges_them() {
    let Some(bench) = Bench::new("app secrets", "topology.json") else {
        return;
    };
    let text = fs::read_to_string(bench.topology()).expect("a topology");
    let mut topology: Value = serde_json::from_str(&text).expect("JSON");
    let keys = json!({
        "entry": "shop:create_app()", "database_uri_env": "DATABASE_URL",
        "secrets": { "SHOP_KEY": {}, "SHOP_FILE": { "as": "path" } },
    });
    topology["app"] = json!({ "source": text_of_source(), "secrets": keys["secrets"] });
    fs::write(bench.topology(), topology.to_string()).expect("a topology");
    let refused = bench.expect(&["lab", "up"], 1);
    assert!(refused.contains("names SHOP_FILE, SHOP_KEY"), "{refused}");
    assert!(!bench.labs().join("web-stack").exists());
    set(&bench, "SHOP_KEY", "one\n");
    set(&bench, "SHOP_FILE", "of a file");
    let site = Site::of(bench, topology, "flask", &keys);
    let body = |path: &str| {
        let answer = site.get(path);
        status(&answer, 200);
        answer.split("\r\n\r\n").nth(1).expect("a body").to_owned()
    };
    assert_eq!(body("/variable/SHOP_KEY"), "one");
    let path = body("/variable/SHOP_FILE");
    let held = site
        .bench
        .expect(&["lab", "exec", "node-2", "--", "cat", &path], 0);
    assert_eq!(held, "of a file");
    let documents: Value = serde_json::from_str(&body("/documents")).expect("JSON");
    assert_eq!(documents["name"], "web");
    set(&site.bench, "SHOP_KEY", "two");
    let said = site.bench.expect(&["lab", "apply"], 0);
    assert!(said.contains("a secret of the app was set"), "{said}");
    assert_eq!(body("/variable/SHOP_KEY"), "two");
    let said = site.bench.expect(&["lab", "rotate", "passwords"], 0);
    assert!(said.contains("in a variable"), "{said}");
    assert!(body("/variable/DATABASE_URL").contains("application-2:"));
    body("/documents");
}

fn text_of_source() -> String {
    format!("{}/tests/fixtures/web/flask", crate::common::REPOSITORY)
}
