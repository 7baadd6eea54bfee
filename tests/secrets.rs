//! Secrets of a lab: nobody sees one who should not, and they are exchanged while the
//! stack serves.

#![expect(clippy::expect_used, reason = "a test may stop")]

use std::collections::BTreeSet;
use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use gen_topology::health::http;
use gen_topology::secrets::{Kind, Secrets};
use serde_json::Value;

use crate::common::TestEnvironment;
use crate::common::lab::Bench;
use crate::lab::wait;

/// Every secret in a directory.
fn needles(secrets: &Secrets) -> Vec<String> {
    let logins = Kind::USERS
        .into_iter()
        .flat_map(|kind| secrets.logins(kind).expect("logins"))
        .map(|login| login.password.reveal().to_owned());
    let keys = secrets.keys().expect("keys");
    let keys = keys.iter().map(|key| key.reveal().to_owned());
    logins.chain(keys).collect()
}

/// Files below `directory` that hold one of `needles`, but not those in directories for secrets.
fn files_with(needles: &[String], directory: &Path) -> BTreeSet<String> {
    let list = tempfile::NamedTempFile::new().expect("a file");
    fs::write(list.path(), needles.join("\n")).expect("a file");
    let output = Command::new("grep")
        .args([
            "--recursive",
            "--text",
            "--files-with-matches",
            "--fixed-strings",
        ])
        .args(["--devices=skip", "--exclude-dir=secrets", "--file"])
        .arg(list.path())
        .arg(directory)
        .output()
        .expect("grep");
    // 1: nothing was found. 2: a file that went away meanwhile, or worse.
    assert!(output.status.code() <= Some(2));
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(str::to_owned)
        .collect()
}

/// Processes of this machine that show one of `needles` in their command line or environment.
fn processes_with(needles: &[String]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir("/proc").expect("/proc").flatten() {
        for file in ["cmdline", "environ"] {
            let path = entry.path().join(file);
            let text = fs::read(&path).unwrap_or_default();
            let text = String::from_utf8_lossy(&text);
            if needles.iter().any(|needle| text.contains(needle)) {
                found.insert(path.display().to_string());
            }
        }
    }
    found
}

#[test]
fn no_secret_is_seen_where_it_should_not_be() {
    let test = "no_secret_is_seen_where_it_should_not_be";
    let Some(bench) = Bench::new(test, "topology.json") else {
        return;
    };
    bench.expect(&["lab", "up", "--wait"], 0);
    bench.expect(&["lab", "rotate", "passwords"], 0);
    bench.expect(&["generate"], 0);
    let lab = bench.labs().join("web-stack");
    let secrets = Secrets::at(lab.join("secrets"));
    let needles = needles(&secrets);
    assert_eq!(needles.len(), 4);

    // Everything that is said: data, talk, logs, and errors.
    let mut said = String::new();
    for arguments in [
        &["lab", "status", "--format", "json"][..],
        &["lab", "ps"],
        &["lab", "logs", "-n", "100000"],
        &["lab", "up", "--dry-run"],
        &["lab", "exec", "node-2", "--", "env"],
        &["lab", "exec", "node-3", "--", "supervisorctl", "status"],
    ] {
        let output = bench.run(arguments);
        said.push_str(&String::from_utf8_lossy(&output.stdout));
        said.push_str(&String::from_utf8_lossy(&output.stderr));
    }
    let node = Secrets::at(lab.join("nodes/node-3/secrets"));
    let administration = node.directory().join("administration");
    let whole = fs::read_to_string(&administration).expect("a file");
    let password = whole.trim().rsplit(':').next().expect("a password");
    let reconcile = [
        "lab",
        "exec",
        "node-3",
        "--",
        "/etc/gen-topology/gen-topology",
        "node",
        "reconcile-database",
        "--patience",
        "1",
    ];
    for (broken, code, words) in [
        (format!("{password}\n"), 75, "line 1 is not `user:password`"),
        (
            format!("somebody:{password}\n"),
            78,
            "somebody is not among them",
        ),
    ] {
        fs::write(&administration, broken).expect("a file");
        let error = bench.expect(&reconcile, code);
        assert!(error.contains(words), "{error}");
        said.push_str(&error);
    }
    fs::write(&administration, whole).expect("a file");
    for needle in &needles {
        assert!(!said.contains(needle));
    }

    // Everything that is written, and every process.
    let directory = bench.directory.path();
    assert_eq!(files_with(&needles, directory), BTreeSet::new());
    assert_eq!(processes_with(&needles), BTreeSet::new());

    // Only root reads them, and each node has only its own.
    for (node, count) in [("node-1", 0), ("node-2", 1), ("node-3", 4)] {
        let own = lab.join("nodes").join(node).join("secrets");
        let mode = |path: &Path| fs::metadata(path).expect("a file").permissions().mode() & 0o777;
        assert_eq!(mode(&own), 0o700, "{node}");
        let files: Vec<_> = fs::read_dir(&own).expect("a directory").flatten().collect();
        assert_eq!(files.len(), count, "{node}");
        assert!(
            files.iter().all(|file| mode(&file.path()) == 0o600),
            "{node}"
        );
    }

    // These searches find what there is to find.
    let planted = lab.join("nodes/node-3/log/planted.log");
    fs::write(&planted, format!("password={}", needles[0])).expect("a file");
    let found = files_with(&needles, directory);
    assert_eq!(found, BTreeSet::from([planted.display().to_string()]));
    let mut shown = Command::new("sh")
        .args(["-c", "sleep 60", &needles[3]])
        .spawn()
        .expect("sh");
    let mut held = Command::new("sleep")
        .arg("60")
        .env("PASSWORD", &needles[1])
        .spawn()
        .expect("sleep");
    let found = processes_with(&needles);
    assert!(
        found.contains(&format!("/proc/{}/cmdline", shown.id())),
        "{found:?}"
    );
    assert!(
        found.contains(&format!("/proc/{}/environ", held.id())),
        "{found:?}"
    );
    for child in [&mut shown, &mut held] {
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// The virtual IP on a port of this machine, until it is dropped.
struct Forwarded {
    process: Child,
    port: u16,
}

impl Forwarded {
    fn new(bench: &Bench) -> Self {
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = free.local_addr().expect("an address").port();
        drop(free);
        let process = bench
            .command(&["lab", "forward", "--listen", &format!("127.0.0.1:{port}")])
            .stderr(Stdio::null())
            .spawn()
            .expect("the program");
        let forwarded = Self { process, port };
        wait("the forwarded port", || {
            forwarded
                .get("/readyz")
                .is_some_and(|(status, _)| status == 200)
        });
        forwarded
    }

    fn get(&self, path: &str) -> Option<(u16, String)> {
        let client = http::client(Duration::from_secs(20));
        let answer = http::get(&client, Ipv4Addr::LOCALHOST, self.port, path).ok()?;
        Some((answer.status, answer.body))
    }

    fn post(&self, body: &str) -> Result<(), String> {
        let client = http::client(Duration::from_secs(20));
        let (path, kind) = ("/api/entries", "application/json");
        match http::post(&client, Ipv4Addr::LOCALHOST, self.port, path, kind, body) {
            Ok(answer) if answer.status == 201 => Ok(()),
            Ok(answer) => Err(format!("{}: {}", answer.status, answer.body)),
            Err(error) => Err(format!("{error:#}")),
        }
    }
}

impl Drop for Forwarded {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Ends the visitors, also when the test fails.
struct Ends<'e>(&'e AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn rotation_under_load_fails_no_request() {
    let test = "rotation_under_load_fails_no_request";
    let Some(bench) = Bench::new(test, "examples/ha.json") else {
        return;
    };
    bench.expect(&["lab", "up", "--wait"], 0);
    let secrets = Secrets::at(bench.labs().join("ha/secrets"));
    let before = needles(&secrets);
    let forwarded = Forwarded::new(&bench);
    let end = AtomicBool::new(false);
    let (written, failed) = std::thread::scope(|scope| {
        let visitors: Vec<_> = (0..4)
            .map(|visitor| {
                let (end, forwarded) = (&end, &forwarded);
                scope.spawn(move || {
                    let (mut written, mut failed) = (0, Vec::new());
                    while !end.load(Ordering::SeqCst) {
                        let text = format!("load {visitor} {written}");
                        match forwarded.post(&format!("{{\"text\": \"{text}\"}}")) {
                            Ok(()) => written += 1,
                            Err(why) => failed.push(why),
                        }
                        if forwarded.get("/").is_none_or(|(status, _)| status != 200) {
                            failed.push("the page".to_owned());
                        }
                        std::thread::sleep(Duration::from_millis(10));
                    }
                    (written, failed)
                })
            })
            .collect();
        let ends = Ends(&end);
        bench.expect(&["lab", "rotate", "passwords"], 0);
        bench.expect(&["lab", "rotate", "key"], 0);
        drop(ends);
        let ends = visitors
            .into_iter()
            .map(|visitor| visitor.join().expect("no panic"));
        ends.fold(
            (0, Vec::new()),
            |(written, mut failed), (more, problems)| {
                failed.extend(problems);
                (written + more, failed)
            },
        )
    });
    assert_eq!(failed, Vec::<String>::new(), "of {written}");
    assert!(written > 50, "{written}");
    let (_, count) = forwarded.get("/api/count?prefix=load").expect("a count");
    let count: Value = serde_json::from_str(&count).expect("JSON");
    assert_eq!(count["count"], written);

    // All are new, each there once, and the members have no others.
    let after = needles(&secrets);
    assert!(after.len() == 4 && after.iter().all(|needle| !before.contains(needle)));
    let said = bench.expect(
        &[
            "lab",
            "exec",
            "db-2",
            "--",
            "/etc/gen-topology/gen-topology",
            "node",
            "reconcile-database",
            "--patience",
            "0",
        ],
        0,
    );
    assert!(said.contains("rs0 is as it should be: 3 members"), "{said}");
}

#[test]
fn secrets_of_a_stack_are_made_listed_and_rotated() {
    let work = TestEnvironment::with(crate::common::TOPOLOGY);
    let missing = work.run(&["secrets", "list"]).exits(0);
    assert_eq!(missing.stdout.matches("missing").count(), 4);
    work.run(&["secrets", "rotate", "key"]).exits(1);
    let made = work.run(&["secrets", "init"]).exits(0);
    assert!(
        made.stderr
            .contains("made database-key, application, monitoring, administration in")
    );
    work.run(&["secrets", "init"]).exits(0);
    let secrets = Secrets::at(work.path(".gen-topology/secrets"));
    let first = needles(&secrets);
    work.run(&["secrets", "rotate", "passwords", "--finish"])
        .exits(1);
    let begun = work.run(&["secrets", "rotate", "passwords"]).exits(0);
    let again = work.run(&["secrets", "rotate", "passwords"]).exits(1);
    assert!(again.stderr.contains("add --finish"), "{}", again.stderr);
    let list = work.run(&["secrets", "list", "--format", "json"]).exits(0);
    let rotating = needles(&secrets);
    assert_eq!(rotating.len(), 7);
    work.run(&["secrets", "rotate", "passwords", "--finish"])
        .exits(0);
    assert_eq!(needles(&secrets).len(), 4);
    for output in [missing, made, begun, again, list] {
        let text = output.text();
        assert!(
            first
                .iter()
                .chain(&rotating)
                .all(|needle| !text.contains(needle))
        );
    }
}
