//! The command line as a whole: exit codes, help, and the commands that only tell something.

use std::fs;

use gen_topology::topology::Code;

use crate::common::{REPOSITORY, TOPOLOGY, TestEnvironment};

#[test]
fn help_tells_the_commands() {
    let environment = TestEnvironment::new();
    insta::assert_snapshot!(environment.run(&["--help"]).exits(0).text());
    insta::assert_snapshot!(environment.run(&["-h"]).exits(0).text());
    for command in [
        "init", "check", "show", "schema", "explain", "add", "remove", "scale", "generate",
        "whatif", "lab", "doctor",
    ] {
        let output = environment.run(&[command, "--help"]).exits(0);
        assert!(
            output.stdout.contains("Usage: gen-topology"),
            "{}",
            output.text()
        );
        assert!(output.stderr.is_empty(), "{}", output.text());
        assert!(
            output
                .stdout
                .lines()
                .all(|line| line.chars().count() <= 100),
            "{}",
            output.text()
        );
    }
    let version = environment.run(&["--version"]).exits(0);
    assert_eq!(
        version.stdout,
        format!("gen-topology {}\n", env!("CARGO_PKG_VERSION"))
    );
}

#[test]
fn wrong_usage_ends_with_64() {
    let environment = TestEnvironment::with(TOPOLOGY);
    for arguments in [
        &[][..],
        &["chekc"],
        &["check", "--strickt"],
        &["check", "--format", "xml"],
        &["check", "one", "two"],
        &["explain", "even-voter"],
        &["add"],
        &["generate", "-o"],
        &["completions", "tcsh-or-so"],
        &["--color", "sometimes", "check"],
        &["init", "--name", "Not A Name", "new"],
        &["lab"],
        &["lab", "exec", "node-1"],
        &["lab", "graph", "--format", "png"],
    ] {
        let output = environment.run(arguments).exits(64);
        assert!(output.stdout.is_empty(), "{arguments:?}: {}", output.text());
        assert!(!output.stderr.is_empty(), "{arguments:?}");
    }
    insta::assert_snapshot!(environment.run(&["chekc"]).text());
    insta::assert_snapshot!(environment.run(&["explain", "even-voter"]).text());
}

#[test]
fn completions_for_each_shell() {
    let environment = TestEnvironment::new();
    for shell in ["bash", "zsh", "fish"] {
        let output = environment.run(&["completions", shell]).exits(0);
        assert!(
            output.stdout.contains("gen-topology") && output.stdout.contains("generate"),
            "{shell}"
        );
        assert!(output.stderr.is_empty(), "{}", output.stderr);
    }
}

#[test]
fn bash_reads_its_completions() {
    let environment = TestEnvironment::new();
    environment.write(
        "script",
        environment.run(&["completions", "bash"]).exits(0).stdout,
    );
    let read = std::process::Command::new("bash")
        .arg("-n")
        .arg(environment.path("script"))
        .output();
    match read {
        Ok(output) => assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        ),
        Err(_) => crate::common::not_run("bash is missing"),
    }
}

/// What a real bash offers for the last of these words.
fn offered(script: &std::path::Path, words: &[&str]) -> Option<String> {
    let drive = "source \"$1\"; shift; COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); \
        f=$(complete -p gen-topology); f=${f#*-F }; ${f%% *} gen-topology \"${COMP_WORDS[$COMP_CWORD]}\" \"${COMP_WORDS[$COMP_CWORD - 1]}\"; echo \"${COMPREPLY[*]}\"";
    let output = std::process::Command::new("bash")
        .args(["--norc", "-c", drive, "bash"])
        .arg(script)
        .args(words)
        .output();
    let Ok(output) = output else {
        crate::common::not_run("bash is missing");
        return None;
    };
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn bash_completes_every_word() {
    let environment = TestEnvironment::new();
    let text = environment.run(&["completions", "bash"]).exits(0).stdout;
    environment.write("script", text);
    for (words, wanted) in [
        (&["gen-topology", "che"][..], "check"),
        (&["gen-topology", "lab", "reb"], "reboot"),
        (&["gen-topology", "lab", "up", "--w"], "--wait"),
        (&["gen-topology", "check", "--format", "js"], "json"),
    ] {
        let Some(offered) = offered(&environment.path("script"), words) else {
            return;
        };
        let offered: Vec<&str> = offered.split_whitespace().collect();
        assert!(offered.contains(&wanted), "{words:?}: {offered:?}");
    }
    let hidden = offered(&environment.path("script"), &["gen-topology", "n"]);
    assert!(hidden.is_none_or(|offered| !offered.contains("node")));
}

#[test]
fn manual_pages_are_written() {
    let environment = TestEnvironment::new();
    environment.run(&["man", "pages"]).exits(0);
    let page = std::fs::read_to_string(environment.path("pages/gen-topology-lab-up.1"));
    assert!(page.expect("a page").contains(".TH"), "no manual page");
    assert!(!environment.path("pages/gen-topology-node.1").exists());
}

#[test]
fn scripts_can_read_what_an_edit_would_do() {
    let environment = TestEnvironment::with(TOPOLOGY);
    let said = environment
        .run(&["scale", "app=3", "--dry-run", "--format", "json"])
        .exits(0);
    let json: serde_json::Value = serde_json::from_str(&said.stdout).expect("JSON");
    assert_eq!(json["written"], false);
    assert_eq!(json["added"][0]["tier"], "app", "{json}");
    let said = environment.run(&["explain", "--format", "json"]).exits(0);
    let codes: Vec<serde_json::Value> = serde_json::from_str(&said.stdout).expect("JSON");
    assert!(codes.iter().any(|code| code["code"] == "even-voters"));
}

#[test]
fn an_edit_warns_of_what_is_new() {
    let environment = TestEnvironment::with(TOPOLOGY);
    let said = environment.run(&["scale", "app=1", "--dry-run"]).exits(0);
    assert!(said.stderr.contains("no-spare-app"), "{}", said.text());
}

#[test]
fn every_code_is_explained() {
    let environment = TestEnvironment::new();
    let list = environment.run(&["explain"]).exits(0).stdout;
    for code in Code::ALL {
        let output = environment.run(&["explain", code.name()]).exits(0);
        assert!(
            output.stdout.starts_with(&format!("{code}\n\n")),
            "{}",
            output.text()
        );
        assert!(output.stdout.len() > 60, "{}", output.text());
        assert!(
            output.stdout.lines().all(|line| line.chars().count() <= 80),
            "{}",
            output.text()
        );
        assert!(
            list.lines()
                .any(|line| line.split_whitespace().next() == Some(code.name())),
            "{code} is not listed"
        );
    }
    insta::assert_snapshot!(environment.run(&["explain", "even-voters"]).text());
}

#[test]
fn a_new_project_works_at_once() {
    let environment = TestEnvironment::new();
    let output = environment.run(&["init", "shop"]).exits(0);
    insta::assert_snapshot!(output.text());
    environment
        .run_in("shop", &["check", "--strict"], None)
        .exits(0);
    environment.run_in("shop", &["generate"], None).exits(0);
    environment
        .run_in("shop", &["generate", "--check"], None)
        .exits(0);
    environment
        .run_in("shop/app", &["scale", "app=4"], None)
        .exits(0);
    assert!(
        environment
            .read("shop/topology.json")
            .contains("\"name\": \"shop\"")
    );
    // Everything that the page and the app refer to came with it.
    let page = environment.read("shop/app/templates/index.html");
    for name in page
        .split("filename='")
        .skip(1)
        .filter_map(|rest| rest.split('\'').next())
    {
        assert!(
            environment.path("shop/app/static").join(name).exists(),
            "static/{name} is missing"
        );
    }
    for file in [
        "app.py",
        "database.py",
        "requirements.txt",
        "templates/index.html",
    ] {
        let shipped = fs::read_to_string(format!("{REPOSITORY}/app/{file}")).unwrap();
        assert_eq!(environment.read(format!("shop/app/{file}")), shipped);
    }
}

/// Each start is sound, and names only files that it writes.
#[test]
fn init_starts_with_the_framework_that_is_asked_for() {
    for app in ["flask", "django", "fastapi"] {
        let environment = TestEnvironment::new();
        environment.run(&["init", "new", "--app", app]).exits(0);
        environment
            .run_in("new", &["check", "--strict"], None)
            .exits(0);
        environment.run_in("new", &["generate"], None).exits(0);
        let topology = environment.read("new/topology.json");
        assert!(!topology.contains("database"), "{app}: {topology}");
        assert!(
            environment
                .read("new/app/requirements.txt")
                .contains("--hash=")
        );
    }
    let environment = TestEnvironment::new();
    environment.run(&["init", "new", "--app", "none"]).exits(0);
    assert!(!environment.path("new/app").exists());
    environment.run_in("new", &["check"], None).exits(3);
}

/// Nothing of an application that is there is touched, and nothing is mixed into it.
#[test]
fn init_recognises_an_application_that_is_there() {
    let environment = TestEnvironment::new();
    let code = "def create_app():\n    app = Flask(__name__)\n    @app.get('/health')\n    def health(): return ''\n    return app\n";
    environment.write("shop/shop/__init__.py", code);
    environment.write("shop/requirements.txt", "flask==3.1.0\ngunicorn==23.0.0\n");
    let said = environment.run(&["init", "shop"]).exits(0);
    insta::assert_snapshot!(said.text());
    insta::assert_snapshot!(environment.read("shop/topology.json"));
    assert_eq!(environment.read("shop/shop/__init__.py"), code);
    assert!(!environment.path("shop/app").exists());
    environment.run_in("shop", &["check"], None).exits(0);
    let unknown = TestEnvironment::new();
    unknown.write("new/tool.py", "print('hello')\n");
    let refused = unknown.run(&["init", "new"]).exits(1);
    assert!(refused.stderr.contains("--app none"), "{}", refused.text());
    assert!(!unknown.path("new/topology.json").exists());
}

#[test]
fn init_names_the_stack_after_the_directory() {
    let environment = TestEnvironment::new();
    for (directory, name) in [
        ("My Shop!", "my-shop"),
        ("été", "t"),
        ("./---", "web-stack"),
        ("a.b", "a-b"),
        (&"long".repeat(20), &"long".repeat(10)),
    ] {
        environment.run(&["init", directory]).exits(0);
        let text = environment.read(format!("{directory}/topology.json"));
        assert!(
            text.contains(&format!("\"name\": \"{name}\"")),
            "{directory}: {text}"
        );
        environment.run_in(directory, &["check"], None).exits(0);
    }
    fs::create_dir(environment.path("here")).unwrap();
    environment
        .run_in("here", &["init", "--name", "chosen"], None)
        .exits(0);
    assert!(
        environment
            .read("here/topology.json")
            .contains("\"name\": \"chosen\"")
    );
}

#[test]
fn init_overwrites_nothing() {
    for taken in [
        "topology.json",
        "topology.schema.json",
        "app/app.py",
        "app/templates/index.html",
    ] {
        let environment = TestEnvironment::new();
        environment.write(format!("new/{taken}"), "mine\n");
        let output = environment.run(&["init", "new"]).exits(1);
        assert!(
            output.stderr.contains(taken) && output.stderr.contains("nothing was written"),
            "{}",
            output.text()
        );
        assert_eq!(environment.read(format!("new/{taken}")), "mine\n");
        let files = fs::read_dir(environment.path("new")).unwrap().count();
        assert_eq!(files, 1, "something was written beside {taken}");
        let asked = environment.run(&["init", "new", "--app", "demo"]).exits(1);
        assert!(
            asked.stderr.contains(taken) && asked.stderr.contains("nothing was written"),
            "{}",
            asked.text()
        );
    }
    let environment = TestEnvironment::new();
    environment.write("file", "");
    environment.run(&["init", "file"]).exits(1);
}

#[test]
fn standard_input_is_a_file_too() {
    let environment = TestEnvironment::new();
    environment
        .run_in("", &["check", "-f", "-"], Some(TOPOLOGY))
        .exits(0);
    environment
        .run_in("", &["-f", "-", "check"], Some(TOPOLOGY))
        .exits(0);
    let output = environment
        .run_in("", &["check", "-f", "-"], Some("{"))
        .exits(3);
    assert!(output.stderr.contains("--> -:1"), "{}", output.text());
    environment
        .run_in("", &["check", "-f", "-"], Some(""))
        .exits(3);
    let shown = environment
        .run_in("", &["show", "-f", "-", "--format", "json"], Some(TOPOLOGY))
        .exits(0);
    assert!(shown.stdout.starts_with('{'));
}

#[test]
fn the_nearest_file_above_is_found() {
    let environment = TestEnvironment::with(TOPOLOGY.replace("web-stack", "outer"));
    environment.write("a/topology.json", TOPOLOGY.replace("web-stack", "inner"));
    environment.write("a/app/requirements.txt", "");
    environment.write("a/b/c/x", "");
    environment.write("d/topology.json/x", "a directory is no topology");
    let name = |directory: &str| {
        let output = environment.run_in(directory, &["show"], None).exits(0);
        output.stdout.split_whitespace().next().unwrap().to_owned()
    };
    assert_eq!(
        ["", "a", "a/b/c", "d"].map(name),
        ["outer", "inner", "inner", "outer"]
    );
    // What an edit changes and where hosts/ appears follows from it, not from where one stands.
    environment.run_in("a/b/c", &["generate"], None).exits(0);
    assert!(environment.path("a/hosts/app-1/node.json").exists());
    let output = environment
        .run_in("a/b", &["check", "-f", "../../topology.json"], None)
        .exits(0);
    assert!(
        output.stderr.contains("../../topology.json: "),
        "{}",
        output.text()
    );
}

#[test]
fn what_is_named_last_counts() {
    let environment = TestEnvironment::with(TOPOLOGY);
    environment.write("other.json", TOPOLOGY.replace("web-stack", "other"));
    environment.write("third.json", TOPOLOGY.replace("web-stack", "third"));
    let name = |arguments: &[&str], variable: Option<&str>| {
        let mut command = environment.command();
        command.args(arguments);
        variable.map(|value| command.env("GEN_TOPOLOGY_FILE", value));
        let output = environment.finish(&mut command).exits(0);
        output.stdout.split_whitespace().next().unwrap().to_owned()
    };
    assert_eq!(name(&["show"], None), "web-stack");
    assert_eq!(name(&["show"], Some("other.json")), "other");
    assert_eq!(
        name(&["show", "-f", "third.json"], Some("other.json")),
        "third"
    );
    assert_eq!(
        name(&["-f", "third.json", "show"], Some("other.json")),
        "third"
    );
    assert_eq!(
        name(&["-f", "other.json", "show", "-f", "third.json"], None),
        "third"
    );
}

#[test]
fn show_has_every_default() {
    let environment = TestEnvironment::with(TOPOLOGY);
    insta::assert_snapshot!(environment.run(&["show"]).exits(0).text());
    let json = environment.run(&["show", "--format", "json"]).exits(0);
    assert_eq!(
        json.stdout,
        environment.run(&["show", "--format", "json"]).stdout
    );
    insta::assert_snapshot!(json.stdout);
}

#[test]
fn what_show_prints_is_a_topology() {
    let environment = TestEnvironment::with(TOPOLOGY);
    let shown = environment
        .run(&["show", "--format", "json"])
        .exits(0)
        .stdout;
    let mut value: serde_json::Value = serde_json::from_str(&shown).unwrap();
    // Nodes by name again; the rest is written as it is read.
    let nodes = value["nodes"].as_array().cloned().unwrap();
    let nodes = nodes.into_iter().map(|mut node| {
        let name = node.as_object_mut().unwrap().remove("name").unwrap();
        (name.as_str().unwrap().to_owned(), node)
    });
    value["nodes"] = serde_json::Value::Object(nodes.collect());
    value["version"] = 1.into();
    environment.write("full.json", value.to_string());
    environment.run(&["check", "-f", "full.json"]).exits(0);
    let again = environment
        .run(&["show", "-f", "full.json", "--format", "json"])
        .exits(0)
        .stdout;
    assert_eq!(again, shown);
}

#[test]
fn the_schema_is_json() {
    let environment = TestEnvironment::new();
    let schema: serde_json::Value =
        serde_json::from_str(&environment.run(&["schema"]).exits(0).stdout).unwrap();
    assert_eq!(schema["title"], "gen-topology");
    assert_eq!(
        schema["properties"]["nodes"]["additionalProperties"]["properties"]["tier"]["oneOf"]
            .as_array()
            .unwrap()
            .len(),
        3
    );
}

#[test]
fn graphs_in_each_format() {
    let environment = TestEnvironment::with(TOPOLOGY);
    for (format, start) in [("dot", "digraph"), ("mermaid", "flowchart"), ("text", "")] {
        let output = environment
            .run(&["lab", "graph", "--format", format])
            .exits(0);
        assert!(
            output.stdout.starts_with(start),
            "{format}: {}",
            output.text()
        );
        for node in ["lb-1", "lb-2", "app-1", "app-2", "db-1", "db-2", "db-3"] {
            assert!(
                output.stdout.contains(node),
                "{format}: {node} is missing in {}",
                output.text()
            );
        }
    }
}

#[test]
fn quiet_leaves_data_and_problems() {
    let environment = TestEnvironment::with(TOPOLOGY);
    let output = environment.run(&["check", "--quiet"]).exits(0);
    assert_eq!(output.stdout + &output.stderr, "");
    assert_eq!(environment.run(&["generate", "-q"]).exits(0).stderr, "");
    let broken = TestEnvironment::with("{").run(&["-q", "check"]).exits(3);
    assert!(broken.stderr.starts_with("error["), "{}", broken.text());
}

#[test]
fn colours_are_there_only_when_wanted() {
    let environment = TestEnvironment::with("{");
    assert!(!environment.run(&["check"]).stderr.contains('\u{1b}'));
    assert!(
        environment
            .run(&["check", "--color", "always"])
            .stderr
            .contains('\u{1b}')
    );
    let mut command = environment.command();
    let output = environment.finish(command.arg("check").env_remove("NO_COLOR"));
    assert!(!output.stderr.contains('\u{1b}'), "a pipe is no terminal");
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    use std::io::Read as _;
    let environment = TestEnvironment::new();
    let mut child = std::process::Command::new(crate::common::PROGRAM)
        .arg("schema")
        .current_dir(environment.path(""))
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut said = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    assert!(child.wait().unwrap().success(), "{said}");
    assert_eq!(said, "");
}
