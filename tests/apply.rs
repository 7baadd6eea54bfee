//! `lab apply` on a running lab, with visitors all the time: what they notice, what is
//! refused before anything is touched, what goes back, and what an interruption leaves.

#![expect(clippy::expect_used, reason = "a test may stop")]

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::common::lab::Bench;
use crate::common::{REPOSITORY, not_run};
use crate::lab::{interrupt, wait};

/// Visitors at 200 requests a second.
pub(crate) struct Load {
    child: Child,
    output: BufReader<std::process::ChildStdout>,
}

impl Load {
    pub(crate) fn start(bench: &Bench) -> Self {
        let mut child = bench
            .command(&["lab", "load", "--rate", "200"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program");
        let mut output = BufReader::new(child.stdout.take().expect("its output"));
        let mut line = String::new();
        output.read_line(&mut line).expect("a line");
        assert_eq!(line.trim(), "sending");
        std::thread::sleep(Duration::from_secs(1));
        Self { child, output }
    }

    /// Nobody was sent away, and nothing that was acknowledged is missing.
    #[track_caller]
    pub(crate) fn lost_nothing(mut self, what: &str) {
        std::thread::sleep(Duration::from_secs(1));
        interrupt(&self.child);
        let mut text = String::new();
        self.output.read_to_string(&mut text).expect("its output");
        assert!(self.child.wait().expect("wait").success(), "{text}");
        let seen: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(seen["writes_lost"], 0, "{seen}\n{what}");
        let (lost, late) = (&seen["lost"], &seen["seen"]["late"]);
        // The rule stands at `faults::load::Summary::late`: a machine that can't send the requests in time can't be
        // expected to answer them.
        let sent = seen["seen"]["sent"].as_u64().expect("a number");
        if *lost != 0 && late.as_u64().expect("a number") * 100 > sent {
            return not_run(&format!(
                "{what}: {lost} of {sent} requests were lost on a machine that sent {late} of them late"
            ));
        }
        // What was lost comes first: a report of a long test is cut.
        assert_eq!(*lost, 0, "{seen}\n{what}");
        assert!(
            seen["seen"]["sent"].as_u64().is_some_and(|sent| sent > 400),
            "{what}: {seen:#}"
        );
    }
}

/// Changes something while visitors come, and returns what the program said.
#[track_caller]
fn under_load(bench: &Bench, arguments: &[&str], code: i32) -> String {
    let load = Load::start(bench);
    let said = bench.expect(arguments, code);
    load.lost_nothing(&arguments.join(" "));
    said
}

/// A copy of the demo app that a test may change; the topology names it.
fn own_app(bench: &Bench) -> PathBuf {
    let app = bench.directory.path().join("app");
    let copied = Command::new("cp")
        .args(["-r"])
        .arg(Path::new(REPOSITORY).join("app"))
        .arg(&app)
        .status();
    assert!(copied.expect("cp").success());
    let text = fs::read_to_string(bench.topology()).expect("the topology");
    let shipped = Path::new(REPOSITORY).join("app").display().to_string();
    fs::write(bench.topology(), text.replace(&shipped, "./app")).expect("the topology");
    app.join("app.py")
}

fn edit(file: &Path, old: &str, new: &str) {
    let text = fs::read_to_string(file).expect("a file");
    assert!(text.contains(old), "{old}");
    fs::write(file, text.replace(old, new)).expect("a file");
}

/// Names of the nodes that a status shows as ready.
fn ready(bench: &Bench) -> Vec<String> {
    let status = bench.status();
    let nodes = status["nodes"].as_array().expect("nodes").clone();
    let ready = nodes.iter().filter(|node| node["ready"] == true);
    let mut names: Vec<String> = ready
        .filter_map(|node| Some(node["name"].as_str()?.to_owned()))
        .collect();
    names.sort();
    names
}

#[test]
fn tiers_grow_and_shrink_and_nobody_notices() {
    let test = "tiers_grow_and_shrink_and_nobody_notices";
    let Some(bench) = Bench::new(test, "topology.json") else {
        return;
    };
    bench.expect(&["lab", "up", "--wait"], 0);
    wait("the first load balancer to own the address", || {
        bench.status()["owners"] == serde_json::json!(["node-1"])
    });
    let before = bench.pids("web-stack");
    for (size, nodes) in [
        ("app=4", 7),
        ("load-balancer=3", 8),
        ("database=3", 10),
        ("database=1", 8),
        ("load-balancer=2", 7),
        ("app=2", 5),
    ] {
        bench.expect(&["scale", size], 0);
        let load = Load::start(&bench);
        let said = bench.expect(&["lab", "apply"], 0);
        load.lost_nothing(&format!("{size}: {said}"));
        assert!(said.contains("each node runs what was planned"), "{said}");
        wait("every node to be ready", || ready(&bench).len() == nodes);
        assert_eq!(
            bench.status()["nodes"].as_array().map(Vec::len),
            Some(nodes)
        );
    }
    // Nodes that stay were not booted, whatever came and went around them.
    assert_eq!(bench.pids("web-stack"), before);
    let said = bench.expect(&["lab", "apply"], 0);
    assert!(said.contains("nothing to do"), "{said}");
}

#[test]
fn code_and_settings_change_and_a_broken_app_goes_back() {
    let test = "code_and_settings_change_and_a_broken_app_goes_back";
    let Some(bench) = Bench::new(test, "topology.json") else {
        return;
    };
    let app = own_app(&bench);
    bench.expect(&["lab", "up", "--wait"], 0);
    let version = |bench: &Bench| {
        let python = "/etc/gen-topology/python/bin/python";
        let ask = "import urllib.request as r; print(r.urlopen('http://10.20.0.10/healthz').read().decode())";
        let said = bench.run(&["lab", "exec", "node-2", "--", python, "-c", ask]);
        String::from_utf8_lossy(&said.stdout).into_owned()
    };
    assert!(
        version(&bench).contains("\"version\":\"1.0.0\""),
        "{}",
        version(&bench)
    );

    // A dry run tells and touches nothing.
    edit(&app, "__version__ = \"1.0.0\"", "__version__ = \"2.0.0\"");
    let files = bench.run(&[
        "lab",
        "exec",
        "node-2",
        "--",
        "ls",
        "-l",
        "/etc/gen-topology/",
    ]);
    let said = bench.expect(&["lab", "apply", "--dry-run"], 0);
    assert!(said.contains("the app's code changed"), "{said}");
    bench.expect(&["plan", "--against", "lab", "--exit-code"], 2);
    let after = bench.run(&[
        "lab",
        "exec",
        "node-2",
        "--",
        "ls",
        "-l",
        "/etc/gen-topology/",
    ]);
    assert_eq!(after.stdout, files.stdout);

    let said = under_load(
        &bench,
        &["lab", "apply", "--canary", "1", "--bake", "2s"],
        0,
    );
    assert!(
        said.contains("watching 1 changed app servers for 2 s"),
        "{said}"
    );
    assert!(
        version(&bench).contains("\"version\":\"2.0.0\""),
        "{}",
        version(&bench)
    );

    // Healthy to the eye of a health check, but its page is an error.
    edit(
        &app,
        "def index() -> ResponseReturnValue:\n",
        "def index() -> ResponseReturnValue:\n    abort(500)\n",
    );
    let said = under_load(&bench, &["lab", "apply"], 5);
    assert!(said.contains("answers its page with an error"), "{said}");
    assert!(said.contains("gen-topology lab logs node-2"), "{said}");
    assert_eq!(ready(&bench).len(), 5);
    bench.expect(&["plan", "--against", "lab", "--exit-code"], 2);

    // No Python at all: refused before anything is touched.
    edit(&app, "    abort(500)\n", "    abort(\n");
    let said = under_load(&bench, &["lab", "apply"], 1);
    assert!(said.contains("nothing was touched"), "{said}");
    assert!(
        said.contains("app.py\", line") && said.contains("SyntaxError"),
        "{said}"
    );
    edit(&app, "    abort(\n", "");
    bench.expect(&["plan", "--against", "lab", "--exit-code"], 0);

    // A topology that is none, and an app that is not there.
    let sound = fs::read_to_string(bench.topology()).expect("the topology");
    let with = |settings: &str| {
        let text = sound.replace("\"nodes\"", &format!("{settings},\n  \"nodes\""));
        fs::write(bench.topology(), text).expect("the topology");
    };
    with("\"load_balancer\": { \"prot\": 80 }");
    bench.expect(&["lab", "apply"], 3);
    let text = sound.replace("\"./app\"", "\"./app\", \"entry\": \"nothing:app\"");
    fs::write(bench.topology(), text).expect("the topology");
    let said = under_load(&bench, &["lab", "apply"], 1);
    assert!(said.contains("nothing was touched"), "{said}");
    assert!(said.contains("the app has no such module"), "{said}");

    // One that it takes.
    with("\"load_balancer\": { \"max_connections\": 4000 }");
    let said = under_load(&bench, &["lab", "apply"], 0);
    assert!(said.contains("node-5: reload haproxy"), "{said}");
    let haproxy = bench.run(&[
        "lab",
        "exec",
        "node-1",
        "--",
        "grep",
        "maxconn 4000",
        "/etc/haproxy/haproxy.cfg",
    ]);
    assert!(haproxy.status.success());
    instances_change_one_after_the_other(&bench, &sound);
}

/// One instance more, and settings that all of them have to take: each is started once.
fn instances_change_one_after_the_other(bench: &Bench, sound: &str) {
    let starts = |number: usize| {
        let line = format!("spawned: 'gunicorn-{number}'");
        let log = "/var/log/supervisor/supervisord.log";
        let said = bench.run(&["lab", "exec", "node-2", "--", "grep", "-c", &line, log]);
        let text = String::from_utf8_lossy(&said.stdout).into_owned();
        text.trim().parse::<usize>().unwrap_or(0)
    };
    let before = [starts(0), starts(1), starts(2)];
    assert!(before[0] > 0 && before[2] == 0, "{before:?}");
    let source = "\"./app\"";
    let settings = format!("{source}, \"instances\": 3, \"longest_request\": \"20s\"");
    fs::write(bench.topology(), sound.replace(source, &settings)).expect("the topology");
    let said = under_load(bench, &["lab", "apply"], 0);
    assert!(said.contains("each node runs what was planned"), "{said}");
    let after = [starts(0), starts(1), starts(2)];
    assert_eq!(after, before.map(|count| count + 1));
}

#[test]
fn who_is_down_or_at_it_already_is_said_first() {
    let test = "who_is_down_or_at_it_already_is_said_first";
    let Some(bench) = Bench::new(test, "topology.json") else {
        return;
    };
    let app = own_app(&bench);
    let said = bench.expect(&["lab", "apply"], 1);
    assert!(said.contains("is not running"), "{said}");
    bench.expect(&["lab", "up", "--wait"], 0);
    edit(&app, "1.0.0", "1.0.1");

    bench.expect(&["lab", "stop", "node-4"], 0);
    let said = bench.expect(&["lab", "apply"], 1);
    assert!(
        said.contains("nothing was touched")
            && said.contains("node-4 is down; `gen-topology lab start node-4`"),
        "{said}"
    );
    bench.expect(&["lab", "start", "node-4"], 0);
    wait("haproxy to use it again", || {
        bench.node("node-4")["notes"]
            .to_string()
            .contains("UP for node-1, node-5")
    });

    // Two at once: the second is told who is first.
    let first = bench
        .command(&["lab", "apply"])
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program");
    wait("the first to have begun", || {
        bench.labs().join("web-stack/apply.journal").exists()
    });
    let said = bench.expect(&["lab", "apply"], 1);
    let holder = format!("`gen-topology lab apply` (process {}", first.id());
    assert!(said.contains(&holder), "{said}");

    // Ctrl-C in the middle of a step: it is finished, and the rest is left for later.
    interrupt(&first);
    let output = first.wait_with_output().expect("output");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(130), "{said}");
    assert!(said.contains("1 of 2 steps are done"), "{said}");
    assert_eq!(ready(&bench).len(), 5);
    let said = bench.expect(&["lab", "apply", "--resume"], 0);
    assert!(said.contains("going on after 1 of 2 steps"), "{said}");
    assert!(said.contains("done in"), "{said}");

    // Killed in the middle of a step: that is seen, and the step done again.
    edit(&app, "1.0.1", "1.0.2");
    let mut killed = bench
        .command(&["lab", "apply"])
        .stderr(Stdio::null())
        .spawn()
        .expect("the program");
    let journal = bench.labs().join("web-stack/apply.journal");
    wait("a step to be begun", || {
        fs::read_to_string(&journal)
            .is_ok_and(|text| text.lines().count() == 2 && text.contains("\"start\""))
    });
    let inner = inner_of(&bench);
    assert!(
        Command::new("kill")
            .args(["-KILL", &inner])
            .status()
            .expect("kill")
            .success()
    );
    killed.wait().expect("wait");
    let said = bench.expect(&["lab", "apply"], 1);
    assert!(said.contains("killed in a step (change node-2)"), "{said}");
    let said = bench.expect(&["lab", "apply", "--resume"], 0);
    assert!(said.contains("done again: change node-2"), "{said}");
    assert_eq!(ready(&bench).len(), 5);
    for node in ["node-2", "node-4"] {
        let notes = bench.node(node)["notes"].to_string();
        assert!(notes.contains("UP for node-1, node-5"), "{notes}");
    }
}

/// Process id of the part of an apply that works inside the lab.
fn inner_of(bench: &Bench) -> String {
    let labs = bench.labs().display().to_string();
    let entries = fs::read_dir("/proc").expect("/proc").flatten();
    let found: Vec<u32> = entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).into_owned();
            let first = line.split('\0').next().unwrap_or_default().to_owned();
            first.ends_with("gen-topology") && line.contains("inside") && line.contains(&labs)
        })
        .collect();
    // A command that it starts looks like it until it is another program.
    let begun_by = |pid: &u32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
        parent.and_then(|parent| parent.trim().parse().ok())
    };
    let inner = found
        .iter()
        .find(|pid| begun_by(pid).is_some_and(|parent: u32| !found.contains(&parent)));
    inner.expect("the inner command").to_string()
}
