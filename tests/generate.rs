//! `generate`: what is written into hosts/, what is taken away and what is never touched.

#![expect(clippy::unwrap_used, reason = "a test may stop")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::common::{REPOSITORY, TOPOLOGY, TestEnvironment};

/// Every file below a directory: its bytes and when it was written.
fn tree(directory: &Path) -> BTreeMap<PathBuf, (Vec<u8>, SystemTime)> {
    let mut found = BTreeMap::new();
    let mut open = vec![directory.to_path_buf()];
    while let Some(next) = open.pop() {
        let Ok(entries) = fs::read_dir(&next) else {
            continue;
        };
        for path in entries.map(|entry| entry.unwrap().path()) {
            if path.is_dir() && !path.is_symlink() {
                open.push(path);
            } else {
                let data = fs::symlink_metadata(&path).unwrap();
                let bytes = fs::read(&path).unwrap_or_default();
                found.insert(
                    path.strip_prefix(directory).unwrap().to_path_buf(),
                    (bytes, data.modified().unwrap()),
                );
            }
        }
    }
    found
}

fn bytes(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    tree(directory)
        .into_iter()
        .map(|(path, (bytes, _))| (path, bytes))
        .collect()
}

/// A generated stack.
fn generated() -> TestEnvironment {
    let environment = TestEnvironment::with(TOPOLOGY);
    environment.run(&["generate"]).exits(0);
    environment
}

/// Runs `generate` and `generate --check`, which must both refuse and write nothing.
#[track_caller]
fn refused(environment: &TestEnvironment, names: &[&str]) {
    let before = tree(&environment.path("hosts"));
    for arguments in [&["generate"][..], &["generate", "--check"]] {
        let output = environment.run(arguments).exits(1);
        for name in names {
            assert!(
                output.stderr.contains(&format!("hosts/{name}\n")),
                "{name} is not named:\n{}",
                output.text()
            );
        }
        assert_eq!(
            output.stderr.matches("\n  ").count(),
            names.len(),
            "{}",
            output.text()
        );
    }
    assert_eq!(
        tree(&environment.path("hosts")),
        before,
        "something was written"
    );
}

#[test]
fn every_node_has_its_files() {
    let environment = TestEnvironment::with(TOPOLOGY);
    let output = environment.run(&["generate"]).exits(0);
    insta::assert_snapshot!(output.text());
    let files: Vec<String> = tree(&environment.path("hosts"))
        .into_keys()
        .map(|path| path.display().to_string())
        .collect();
    insta::assert_snapshot!(files.join("\n"));
}

#[test]
fn rendered_files_are_what_they_were() {
    let environment = generated();
    for path in [
        "lb-1/etc/haproxy/haproxy.cfg",
        "lb-1/etc/haproxy/drain.map",
        "lb-2/etc/keepalived/keepalived.conf",
        "app-1/etc/nginx/app.conf",
        "app-1/etc/gunicorn/gunicorn.conf.py",
        "app-1/etc/supervisor/supervisord.conf",
        "db-1/etc/mongod.conf",
        "lb-1/node.json",
        "app-1/node.json",
        "db-1/node.json",
    ] {
        insta::assert_snapshot!(
            path.replace('/', "_"),
            environment.read(Path::new("hosts").join(path))
        );
    }
}

#[test]
fn a_second_run_writes_nothing() {
    let environment = generated();
    let before = tree(&environment.path("hosts"));
    let output = environment.run(&["generate"]).exits(0);
    assert!(
        output
            .stderr
            .ends_with(&format!("{} unchanged\n", before.len())),
        "{}",
        output.text()
    );
    assert_eq!(tree(&environment.path("hosts")), before);
    environment.run(&["generate", "--check"]).exits(0);
}

#[test]
fn only_what_changed_is_written() {
    let environment = generated();
    let before = tree(&environment.path("hosts"));
    environment.write(
        "topology.json",
        TOPOLOGY.replace("\"./app\"", "\"./app\",\n    \"threads\": 9"),
    );
    let output = environment.run(&["generate"]).exits(0);
    let after = tree(&environment.path("hosts"));
    let written: Vec<String> = after
        .iter()
        .filter(|(path, file)| before[*path] != **file)
        .map(|(path, _)| path.display().to_string())
        .collect();
    let expected = [
        "app-1/etc/gunicorn/gunicorn.conf.py",
        "app-1/etc/nginx/app.conf",
        "app-1/node.json",
        "app-2/etc/gunicorn/gunicorn.conf.py",
        "app-2/etc/nginx/app.conf",
        "app-2/node.json",
        "lb-1/etc/haproxy/haproxy.cfg",
        "lb-1/node.json",
        "lb-2/etc/haproxy/haproxy.cfg",
        "lb-2/node.json",
    ];
    assert_eq!(written, expected, "{}", output.text());
    for (path, (bytes, time)) in &after {
        let same = *bytes == before[path].0;
        assert_eq!(
            same,
            *time == before[path].1,
            "{}: the time changes with the bytes",
            path.display()
        );
    }
}

#[test]
fn a_damaged_file_is_mended() {
    let environment = generated();
    let good = environment.read("hosts/db-1/etc/mongod.conf");
    environment.write("hosts/db-1/etc/mongod.conf", good.replace("27017", "27018"));
    fs::remove_file(environment.path("hosts/lb-1/etc/haproxy/drain.map")).unwrap();
    fs::remove_dir_all(environment.path("hosts/app-1/etc")).unwrap();
    fs::remove_dir_all(environment.path("hosts/app-2")).unwrap();
    environment.run(&["generate"]).exits(0);
    assert_eq!(environment.read("hosts/db-1/etc/mongod.conf"), good);
    assert_eq!(
        bytes(&environment.path("hosts")),
        bytes(&generated().path("hosts"))
    );
}

#[test]
fn a_node_that_is_gone_goes() {
    let environment = generated();
    environment.run(&["remove", "app-2"]).exits(0);
    let output = environment.run(&["generate"]).exits(0);
    assert!(output.stderr.contains("6 removed"), "{}", output.text());
    assert!(!environment.path("hosts/app-2").exists());
    environment.run(&["generate", "--check"]).exits(0);
}

#[test]
fn files_that_a_node_no_longer_has_go() {
    let environment = TestEnvironment::with(TOPOLOGY.replace("\"app-2\"", "\"node\""));
    environment.run(&["generate"]).exits(0);
    environment.write("hosts/node/mine.nix", "{ }\n");
    let database = TOPOLOGY
        .replace(
            "    \"app-2\": { \"tier\": \"app\", \"address\": \"10.20.0.65\" },\n",
            "",
        )
        .replace("\"db-3\"", "\"node\"");
    environment.write("topology.json", &database);
    environment.run(&["generate"]).exits(0);
    let files: Vec<PathBuf> = tree(&environment.path("hosts/node")).into_keys().collect();
    assert_eq!(
        files,
        [
            "default.nix",
            "etc/gen-topology/firewall.nft",
            "etc/mongod.conf",
            "mine.nix",
            "node.json"
        ]
        .map(PathBuf::from)
    );
    assert!(
        !environment.path("hosts/node/etc/nginx").exists(),
        "an empty directory is left"
    );
}

#[test]
fn an_interrupted_change_of_tier_is_finished_by_the_next_run() {
    // What is left when the run ends between its steps: old files and new facts must never be taken for done.
    let environment = TestEnvironment::with(TOPOLOGY.replace("\"app-2\"", "\"node\""));
    environment.run(&["generate"]).exits(0);
    let database = TOPOLOGY
        .replace(
            "    \"app-2\": { \"tier\": \"app\", \"address\": \"10.20.0.65\" },\n",
            "",
        )
        .replace("\"db-3\"", "\"node\"");
    environment.write("topology.json", &database);
    // An obstacle that shows only while writing.
    environment.write(
        "hosts/node/etc/mongod.conf/x",
        "by gen-topology from the topology file",
    );
    refused(&environment, &["node/etc/mongod.conf"]);
    fs::remove_dir_all(environment.path("hosts/node/etc/mongod.conf")).unwrap();
    environment.run(&["generate"]).exits(0);
    assert!(!environment.path("hosts/node/etc/nginx/app.conf").exists());
}

#[test]
fn a_foreign_file_in_our_place_is_refused() {
    let environment = generated();
    environment.write("hosts/lb-1/etc/haproxy/haproxy.cfg", "global\n");
    environment.write("hosts/db-2/node.json", "{}\n");
    environment.write(
        "topology.json",
        TOPOLOGY.replace("\"./app\"", "\"./app\",\n    \"threads\": 9"),
    );
    refused(
        &environment,
        &["lb-1/etc/haproxy/haproxy.cfg", "db-2/node.json"],
    );
    insta::assert_snapshot!(environment.run(&["generate"]).text());
}

#[test]
fn a_foreign_file_in_a_node_that_goes_is_refused() {
    let environment = generated();
    environment.write("hosts/app-2/hardware.nix", "{ }\n");
    environment.run(&["remove", "app-2"]).exits(0);
    refused(&environment, &["app-2/hardware.nix"]);
    fs::remove_file(environment.path("hosts/app-2/hardware.nix")).unwrap();
    environment.run(&["generate"]).exits(0);
    assert!(!environment.path("hosts/app-2").exists());
}

#[test]
fn a_foreign_file_in_a_node_that_stays_is_left_alone() {
    let environment = generated();
    environment.write("hosts/app-2/hardware.nix", "{ }\n");
    environment.write("hosts/app-2/etc/motd", "hello\n");
    environment.write(
        "topology.json",
        TOPOLOGY.replace("10.20.0.65", "10.20.0.70"),
    );
    environment.run(&["generate"]).exits(0);
    assert_eq!(environment.read("hosts/app-2/hardware.nix"), "{ }\n");
    assert_eq!(environment.read("hosts/app-2/etc/motd"), "hello\n");
}

#[test]
fn directories_of_the_users_own_are_left_alone() {
    let environment = generated();
    environment.write("hosts/common/users.nix", "{ }\n");
    environment.write("hosts/README.md", "mine\n");
    environment.write("hosts/old/node.json", "{ \"mine\": true }\n");
    environment.run(&["scale", "app=1", "database=1"]).exits(0);
    environment.run(&["generate"]).exits(0);
    environment.run(&["generate", "--check"]).exits(0);
    assert_eq!(environment.read("hosts/common/users.nix"), "{ }\n");
    assert_eq!(environment.read("hosts/README.md"), "mine\n");
    assert_eq!(
        environment.read("hosts/old/node.json"),
        "{ \"mine\": true }\n"
    );
}

#[test]
fn links_are_not_followed_out_of_hosts() {
    // A node's directory, a directory in it, and a file in it.
    let environment = generated();
    let outside = environment.path("outside");
    fs::create_dir_all(outside.join("etc")).unwrap();
    fs::remove_dir_all(environment.path("hosts/app-1")).unwrap();
    symlink(&outside, environment.path("hosts/app-1")).unwrap();
    refused(&environment, &["app-1"]);
    fs::remove_file(environment.path("hosts/app-1")).unwrap();
    environment.run(&["generate"]).exits(0);

    fs::remove_dir_all(environment.path("hosts/app-1/etc")).unwrap();
    symlink(outside.join("etc"), environment.path("hosts/app-1/etc")).unwrap();
    refused(&environment, &["app-1/etc"]);
    assert_eq!(tree(&outside).len(), 0, "written through a link");
    fs::remove_file(environment.path("hosts/app-1/etc")).unwrap();
    environment.run(&["generate"]).exits(0);

    let theirs = environment
        .read("hosts/db-1/etc/mongod.conf")
        .replace("27017", "1");
    environment.write("outside/mongod.conf", &theirs);
    fs::remove_file(environment.path("hosts/db-1/etc/mongod.conf")).unwrap();
    symlink(
        outside.join("mongod.conf"),
        environment.path("hosts/db-1/etc/mongod.conf"),
    )
    .unwrap();
    environment.run(&["generate"]).exits(0);
    assert_eq!(
        environment.read("outside/mongod.conf"),
        theirs,
        "written through a link"
    );
}

#[test]
fn a_link_in_a_node_that_goes_is_not_followed() {
    let environment = generated();
    environment.write(
        "outside/etc/mongod.conf",
        environment.read("hosts/db-1/etc/mongod.conf"),
    );
    fs::remove_dir_all(environment.path("hosts/app-2/etc")).unwrap();
    symlink(
        environment.path("outside/etc"),
        environment.path("hosts/app-2/etc"),
    )
    .unwrap();
    environment.run(&["remove", "app-2"]).exits(0);
    refused(&environment, &["app-2/etc"]);
    assert!(environment.path("outside/etc/mongod.conf").exists());
}

#[test]
fn hosts_may_be_a_link() {
    let environment = TestEnvironment::with(TOPOLOGY);
    fs::create_dir(environment.path("elsewhere")).unwrap();
    symlink("elsewhere", environment.path("hosts")).unwrap();
    environment.run(&["generate"]).exits(0);
    assert!(environment.path("elsewhere/lb-1/node.json").exists());
    environment.run(&["generate", "--check"]).exits(0);
}

#[test]
fn check_shows_a_diff_and_writes_nothing() {
    let environment = generated();
    environment.run(&["remove", "app-2"]).exits(0);
    environment.run(&["scale", "database=1"]).exits(0);
    environment.run(&["add", "load-balancer"]).exits(0);
    let before = tree(&environment.path("hosts"));
    let output = environment.run(&["generate", "--check"]).exits(2);
    assert_eq!(tree(&environment.path("hosts")), before);
    insta::assert_snapshot!(output.text());
    let nothing = TestEnvironment::with(TOPOLOGY);
    nothing.run(&["generate", "--check"]).exits(2);
    assert!(!nothing.path("hosts").exists());
}

#[test]
fn an_invalid_topology_writes_nothing() {
    let environment = TestEnvironment::with(TOPOLOGY.replace("10.20.0.65", "10.20.0.64"));
    let output = environment.run(&["generate"]).exits(3);
    assert!(
        output.stderr.contains("error[duplicate-address]"),
        "{}",
        output.text()
    );
    assert!(!environment.path("hosts").exists());
}

#[test]
fn the_same_bytes_everywhere() {
    let one = generated();
    let other = TestEnvironment::new();
    other.write("deep/down/topology.json", TOPOLOGY);
    other.write("deep/down/app/requirements.txt", "");
    other.write("deep/down/here/x", "");
    other.run_in("deep/down/here", &["generate"], None).exits(0);
    assert_eq!(
        bytes(&one.path("hosts")),
        bytes(&other.path("deep/down/hosts"))
    );
    let path = other.path("deep/down/topology.json").display().to_string();
    other
        .run(&["generate", "-f", &path, "--output", "result"])
        .exits(0);
    assert_eq!(bytes(&one.path("hosts")), bytes(&other.path("result")));
    let text = fs::read_to_string(&path).unwrap();
    other
        .run_in(
            "deep/down",
            &["-f", "-", "generate", "-o", "../../piped"],
            Some(&text),
        )
        .exits(0);
    assert_eq!(bytes(&one.path("hosts")), bytes(&other.path("piped")));
    // No name of this machine or of this place.
    for (path, bytes) in bytes(&one.path("hosts")) {
        let text = String::from_utf8(bytes).unwrap();
        assert!(!text.contains("gen-topology-test-"), "{}", path.display());
    }
}

#[test]
fn layout_of_the_file_does_not_matter() {
    let value: serde_json::Value = serde_json::from_str(TOPOLOGY).unwrap();
    let environment = TestEnvironment::with(serde_json::to_string(&value).unwrap());
    environment.run(&["generate"]).exits(0);
    assert_eq!(
        bytes(&environment.path("hosts")),
        bytes(&generated().path("hosts"))
    );
}

#[test]
fn what_is_committed_is_fresh() {
    let environment = TestEnvironment::new();
    let output = environment.run(&[
        "generate",
        "--check",
        "-f",
        &format!("{REPOSITORY}/topology.json"),
    ]);
    assert_eq!(
        output.code,
        0,
        "run `gen-topology generate` and commit hosts/:\n{}",
        output.text()
    );
    let schema = environment.run(&["schema"]).exits(0).stdout;
    let committed = fs::read_to_string(format!("{REPOSITORY}/topology.schema.json")).unwrap();
    assert!(
        schema == committed,
        "run `gen-topology schema > topology.schema.json` and commit it"
    );
}

#[test]
fn obstacles_are_named() {
    // A file where the directory of all hosts, of a node, or of its files should be.
    let environment = TestEnvironment::with(TOPOLOGY);
    environment.write("hosts", "a file\n");
    let output = environment.run(&["generate"]).exits(1);
    assert!(output.stderr.contains("hosts"), "{}", output.text());
    assert_eq!(environment.read("hosts"), "a file\n");
    fs::remove_file(environment.path("hosts")).unwrap();
    environment.write("hosts/app-1", "a file\n");
    refused(&environment, &["app-1"]);
    fs::remove_file(environment.path("hosts/app-1")).unwrap();
    environment.write("hosts/app-1/etc", "a file\n");
    environment.write("hosts/lb-1/node.json/x", "a directory\n");
    refused(&environment, &["app-1/etc", "lb-1/node.json"]);
}

#[test]
fn an_error_while_writing_says_where() {
    let environment = TestEnvironment::with(TOPOLOGY);
    // Even root can't write there.
    let output = environment
        .run(&["generate", "-o", "/proc/gen-topology"])
        .exits(1);
    insta::assert_snapshot!(output.text());
}
