//! Other people's files: each is read as its daemon reads it, refused with a reason, and shown without its secrets.

use std::collections::BTreeSet;
use std::fs;

use super::{fixtures, found, run, with};
use crate::common::TestEnvironment;

/// Each directory holds the smallest files of a kind and an `expect`: the codes of all
/// findings, and what is said or not said of them. A `--near-miss` differs in what matters.
#[test]
fn each_kind_of_foreign_file_is_read_as_its_daemon_reads_it() {
    let environment = TestEnvironment::new();
    let mut wrong = Vec::new();
    let mut count = 0;
    for directory in fs::read_dir(fixtures().join("kinds")).unwrap() {
        let directory = directory.unwrap().path();
        let name = directory.file_name().unwrap().to_str().unwrap().to_owned();
        let path = directory.to_str().unwrap();
        let expect = fs::read_to_string(directory.join("expect")).unwrap_or_default();
        let rest = |word: &str| -> Vec<String> {
            let lines = expect.lines().filter_map(|line| line.strip_prefix(word));
            lines.map(str::to_owned).collect()
        };
        let codes = expect.lines().filter(|line| !line.contains(' '));
        let expected: BTreeSet<String> = codes.map(str::to_owned).collect();
        let text = environment.run(&["lint", path]);
        let said = text.text();
        if let [why] = &rest("refused ")[..] {
            // A directory skips what is named by itself here.
            let mut files = fs::read_dir(&directory)
                .unwrap()
                .map(|entry| entry.unwrap().path());
            let file = files.find(|path| !path.ends_with("expect")).unwrap();
            let output = environment.run(&["lint", file.to_str().unwrap()]).exits(1);
            if !output.stderr.contains(why.as_str()) {
                wrong.push(format!("{name}: {}", output.text()));
            }
            count += 1;
            continue;
        }
        let output = environment.run(&["lint", "--format", "json", path]);
        let codes: BTreeSet<String> = found(&output).into_iter().collect();
        if codes != expected && directory.join("expect").exists() {
            wrong.push(format!("{name}: {codes:?}, not {expected:?}\n{said}"));
        }
        for words in rest("says ")
            .iter()
            .filter(|words| !said.contains(words.as_str()))
        {
            wrong.push(format!("{name}: does not say {words}\n{said}"));
        }
        for words in rest("silent ")
            .iter()
            .filter(|words| said.contains(words.as_str()))
        {
            wrong.push(format!("{name}: says {words}\n{said}"));
        }
        count += 1;
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n\n"));
    assert!(count > 60, "{count}");
}

#[test]
fn standard_input_and_links_are_read() {
    let (environment, _) = with("good");
    let path = environment.path("haproxy.cfg");
    let mut command = environment.command();
    environment
        .finish(command.args(["lint", "-"]).pipe_stdin(path).unwrap())
        .exits(0);
    std::os::unix::fs::symlink("haproxy.cfg", environment.path("link.cfg")).unwrap();
    // One file under two names is one file.
    let output = environment
        .run(&["lint", "haproxy.cfg", "link.cfg"])
        .exits(0);
    assert!(output.stderr.contains("1 file:"), "{}", output.text());
}

#[test]
fn no_credential_of_a_file_is_printed() {
    let environment = TestEnvironment::new();
    for (name, text) in [
        ("app.env", "URI=mongodb://u:geheim@db/x?w=1\n"),
        (
            "keepalived.conf",
            "vrrp_instance A {\n authentication { auth_pass geheim\n}\n state MASTER\n}\n",
        ),
        (
            "haproxy.cfg",
            "defaults\n stats auth a:geheim\nbackend b\n server a 10.0.0.1:80\n",
        ),
        (
            "mongod.conf",
            "net:\n  tls: { certificateKeyFilePassword: geheim }\n",
        ),
    ] {
        environment.write(name, text);
        for more in [&[][..], &["--format", "json"]] {
            let output = run(&environment, &[name.to_owned()], more);
            let said = output.text();
            assert!(said.contains(name) && !said.contains("geheim"), "{said}");
        }
    }
    let output = run(&environment, &["app.env".to_owned()], &[]);
    assert!(
        output.stderr.contains("u:******@db/x?w=1"),
        "{}",
        output.text()
    );
}

#[test]
fn what_is_no_configuration_is_refused() {
    let (environment, _) = with("good");
    environment.write("notes.txt", "nothing of interest\n");
    environment.write("damaged.json", "{");
    for (names, code, said) in [
        (&["nowhere.cfg"][..], 1, "reading nowhere.cfg"),
        (
            &["notes.txt", "haproxy.cfg"],
            1,
            "notes.txt: this is no configuration",
        ),
        (&["damaged.json"], 1, "damaged.json: this is no JSON"),
    ] {
        let output = environment.run(&[&["lint"], names].concat()).exits(code);
        assert!(output.stderr.contains(said), "{names:?}: {}", output.text());
    }
    TestEnvironment::with("{").run(&["lint"]).exits(3);
    // The spelling that it had first.
    environment
        .run(&["lint", "--foreign", "haproxy.cfg", "mongod.conf"])
        .exits(0);
    environment
        .run(&["lint", "-f", "topology.json", "haproxy.cfg"])
        .exits(64);
}
