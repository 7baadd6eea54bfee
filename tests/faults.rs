//! Failures: what they may cost by the rendered files, and a few of them made in a lab
//! with the real daemons. What they do cost, in milliseconds, is the report's matter; here
//! it is whether they are made, noticed, undone and counted.

#![expect(clippy::expect_used, reason = "a test may stop")]

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::common::lab::Bench;
use crate::common::{TOPOLOGY, TestEnvironment};

/// What `faults predict` says about one fault.
fn predicted(topology: &str, fault: &str) -> Value {
    let environment = TestEnvironment::with(topology);
    let output = environment
        .run(&["faults", "predict", "--format", "json"])
        .exits(0);
    let all: Value = serde_json::from_str(&output.stdout).expect("JSON");
    let all = all.as_array().expect("a list");
    all.iter()
        .find(|one| one["fault"] == fault)
        .expect("the fault")
        .clone()
}

fn milliseconds(bound: &Value) -> f64 {
    bound["ms"].as_f64().expect("a number")
}

#[test]
fn bounds_follow_from_the_rendered_files() {
    // RFC 9568 with adverts of 50 ms and priority 244: 150 + 50 × 12 / 256 + the margin.
    let gap = &predicted(TOPOLOGY, "lb-power-off")["bound"]["gap"];
    assert!((milliseconds(gap) - 197.3).abs() < 0.1, "{gap}");
    assert_eq!(gap["formula"], "3 × advert + skew + margin");
    let slower = TOPOLOGY.replace(
        "\"app\": {",
        "\"load_balancer\": { \"advert_interval\": \"200ms\" },\n  \"app\": {",
    );
    let gap = &predicted(&slower, "lb-power-off")["bound"]["gap"];
    assert!((milliseconds(gap) - 654.4).abs() < 0.1, "{gap}");
    // 50 + 30 + 100 + 50 until another is elected, 250 to connect, and 50 between two writes of 20 a second.
    let gap = &predicted(TOPOLOGY, "db-primary-kill")["bound"]["write_gap"];
    assert!((milliseconds(gap) - 530.0).abs() < 0.1, "{gap}");
    // Four adverts after a question that was due half of one ago, and a quarter until they are heard: 475; 200 for
    // a look at who accepts and does not answer, 50 for the vote, 100 to catch up, 250 to connect, 50 between two writes.
    let gap = &predicted(TOPOLOGY, "db-primary-hang")["bound"]["write_gap"];
    assert!((milliseconds(gap) - 1125.0).abs() < 0.1, "{gap}");
    // 200 + 2 × 50 + 3 × 130 until an app server that is gone is down, 230 until what waits there is taken back.
    let slowest = &predicted(TOPOLOGY, "app-power-off")["bound"]["slowest"];
    assert!((milliseconds(slowest) - 965.0).abs() < 0.1, "{slowest}");
    // 100 + 400 until a haproxy that hangs is given up, a skew of 2.3 and the margin.
    let gap = &predicted(TOPOLOGY, "haproxy-hang")["bound"]["gap"];
    assert!((milliseconds(gap) - 547.3).abs() < 0.1, "{gap}");
}

#[test]
fn a_fault_needs_what_it_breaks() {
    let single = TOPOLOGY
        .replace(
            "    \"db-1\": { \"tier\": \"database\", \"address\": \"10.20.0.32\" },\n",
            "",
        )
        .replace(
            "    \"db-2\": { \"tier\": \"database\", \"address\": \"10.20.0.33\" },\n",
            "",
        );
    let lacks = &predicted(&single, "db-primary-kill")["lacks"];
    assert_eq!(lacks, "needs 3 databases that vote, the stack has 1");
    assert_eq!(predicted(TOPOLOGY, "db-primary-kill")["lacks"], Value::Null);
}

#[test]
fn a_budget_that_can_not_be_kept_is_an_outage_too_long() {
    let tight = TOPOLOGY.replace(
        "\"app\": {",
        "\"slo\": { \"longest_gap\": \"150ms\", \"longest_write_gap\": \"5s\" },\n  \"app\": {",
    );
    let output = TestEnvironment::with(tight)
        .run(&["faults", "predict"])
        .exits(6);
    assert!(
        output
            .stderr
            .contains("over budget: lb-power-off: longest gap: 197 ms, the budget is 150ms"),
        "{}",
        output.stderr
    );
    assert!(!output.stderr.contains("lb-reboot"), "{}", output.stderr);
}

#[test]
fn every_fault_is_told_in_full() {
    let output = TestEnvironment::with(TOPOLOGY)
        .run(&["faults", "list", "--format", "json"])
        .exits(0);
    let all: Value = serde_json::from_str(&output.stdout).expect("JSON");
    let all = all.as_array().expect("a list");
    let mut names: Vec<&str> = all.iter().filter_map(|one| one["name"].as_str()).collect();
    assert_eq!(names.len(), all.len());
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), all.len(), "names are unique");
    for one in all {
        for key in ["breaks", "visitors", "undo"] {
            assert!(
                one[key].as_str().is_some_and(|text| !text.is_empty()),
                "{one}"
            );
        }
    }
}

#[test]
fn bad_input_is_refused() {
    let environment = TestEnvironment::with(TOPOLOGY);
    let said = environment
        .run(&["faults", "run", "lb-power-of"])
        .exits(64)
        .stderr;
    assert!(
        said.contains("there is no fault `lb-power-of`; did you mean `lb-power-off`?"),
        "{said}"
    );
    let said = environment.run(&["faults", "run", "xyz*"]).exits(64).stderr;
    assert!(
        said.contains("`gen-topology faults list` lists them"),
        "{said}"
    );
    let said = environment.run(&["faults", "run"]).exits(1).stderr;
    assert!(
        said.contains("the lab web-stack is not running; `gen-topology lab up` starts it"),
        "{said}"
    );
    let said = environment.run(&["faults", "report"]).exits(1).stderr;
    assert!(said.contains("no run of web-stack was kept"), "{said}");
}

fn trial<'r>(run: &'r Value, fault: &str) -> &'r Value {
    let trials = run["trials"].as_array().expect("trials");
    trials
        .iter()
        .find(|trial| trial["fault"] == fault)
        .expect("the trial")
}

#[test]
fn faults_are_made_noticed_undone_and_counted() {
    let Some(bench) = Bench::alone(
        "faults_are_made_noticed_undone_and_counted",
        "examples/ha.json",
    ) else {
        return;
    };
    bench.expect(&["lab", "up", "--wait"], 0);
    let names = [
        "lb-power-off",
        "app-errors",
        "db-primary-kill",
        "haproxy-reload-hung",
        "network-delay",
        "lbs-but-one-power-off",
    ];
    let arguments = ["faults", "run", "--rate", "40", "--format", "json"];
    let output = bench.run(&[&arguments[..], &names[..]].concat());
    let said = String::from_utf8_lossy(&output.stderr);
    // On a machine that is busy with something else a bound may be broken; nothing else may.
    assert!(matches!(output.status.code(), Some(0 | 6)), "{said}");
    let run: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    for name in ["lb-power-off", "app-errors", "db-primary-kill"] {
        let trial = trial(&run, name);
        let ledger = &trial["measured"]["ledger"];
        assert!(ledger["acknowledged"].as_u64() > Some(0), "{trial}");
        for never in ["missing", "doubled", "backwards"] {
            assert_eq!(ledger[never], 0, "{name}: {ledger}");
        }
    }
    let power_off = trial(&run, "lb-power-off");
    assert_eq!(power_off["nodes"][0], "lb-1");
    assert!(
        power_off["measured"]["moves"].as_u64() >= Some(2),
        "there and back: {power_off}"
    );
    assert!(
        power_off["measured"]["detect_ms"].as_f64().is_some(),
        "{power_off}"
    );
    let errors = &trial(&run, "app-errors")["measured"]["requests"]["failed"];
    assert!(errors["HTTP 500"].as_u64() > Some(0), "{errors}");
    assert!(trial(&run, "db-primary-kill")["measured"]["elections"].as_u64() >= Some(1));
    nobody_is_sent_to_a_server_that_hangs(trial(&run, "haproxy-reload-hung"));
    let not_run = run["not_run"].as_array().expect("a list");
    let why = |fault: &str| {
        let of = not_run.iter().find(|one| one["fault"] == fault);
        of.map(|one| one["why"].as_str().unwrap_or_default().to_owned())
    };
    assert!(why("lbs-but-one-power-off").is_some_and(|why| why.contains("needs 3 load balancers")));
    // Where the kernel has netem it was run instead.
    assert!(why("network-delay").is_none_or(|why| why.contains("netem")));
    let status = bench.status();
    let nodes = status["nodes"].as_array().expect("nodes");
    assert!(nodes.iter().all(|node| node["ready"] == true), "{status}");
    let kept = bench.expect(&["faults", "runs"], 0);
    assert!(kept.contains("2 + 2 + 3"), "{kept}");
    random_faults_lose_no_write(&bench);
}

/// haproxy is reloaded while an app server is known to hang: it must not count as up before it is continued.
fn nobody_is_sent_to_a_server_that_hangs(trial: &Value) {
    let app = trial["nodes"][1].as_str().expect("an app server");
    let undone = trial["timeline"]["undone_ms"].as_f64().expect("a time");
    let changes = trial["timeline"]["changes"].as_array().expect("changes");
    let of_it = changes.iter().filter(|change| {
        change["subject"]["app"] == app && change["at_ms"].as_f64() < Some(undone)
    });
    let states: Vec<&str> = of_it.filter_map(|change| change["is"].as_str()).collect();
    assert!(!states.is_empty(), "{trial}");
    assert!(
        states
            .iter()
            .all(|state| state.is_empty() || state.starts_with("DOWN")),
        "{states:?}"
    );
    assert_eq!(
        trial["measured"]["requests"]["failed"],
        serde_json::json!({})
    );
}

/// Two trials of `faults soak`, one of a single fault and one of two.
fn random_faults_lose_no_write(bench: &Bench) {
    let arguments = [
        "faults", "soak", "--trials", "2", "--rate", "40", "--seed", "3",
    ];
    let output = bench.run(&[&arguments[..], &["--format", "json"]].concat());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(matches!(output.status.code(), Some(0 | 6)), "{said}");
    assert!(
        said.contains("0 of them lost, 0 doubled, 0 answers went backwards"),
        "{said}"
    );
    let run: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let trials = run["trials"].as_array().expect("trials");
    assert_eq!(trials.len(), 2, "{said}");
    let is_double = |trial: &Value| {
        trial["fault"]
            .as_str()
            .is_some_and(|name| name.contains(" + "))
    };
    assert!(!is_double(&trials[0]) && is_double(&trials[1]), "{said}");
}

#[test]
fn an_interrupted_run_leaves_a_whole_lab() {
    let Some(bench) = Bench::alone("an_interrupted_run_leaves_a_whole_lab", "topology.json") else {
        return;
    };
    bench.expect(&["lab", "up", "--wait"], 0);
    let mut command = bench.command(&["faults", "run", "app-link-cut", "--rate", "40"]);
    let mut child = command.stderr(Stdio::piped()).spawn().expect("the program");
    let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
    let first = lines.next().expect("a line").expect("text");
    assert!(first.contains("app-link-cut"), "{first}");
    // In the middle of it: an app server is cut off.
    let cut = || {
        let nodes = bench.status()["nodes"].clone();
        let nodes = nodes.as_array().cloned().unwrap_or_default();
        nodes.iter().any(|node| node["state"] == "cut off")
    };
    let deadline = Instant::now() + Duration::from_secs(20);
    while !cut() {
        assert!(Instant::now() < deadline, "nothing was cut off");
    }
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("Ctrl-C");
    let rest: Vec<String> = lines.map_while(Result::ok).collect();
    assert_eq!(child.wait().expect("the end").code(), Some(130), "{rest:?}");
    assert!(!cut(), "still cut off");
}

#[test]
fn what_a_killed_run_has_broken_can_be_undone() {
    let Some(bench) = Bench::alone(
        "what_a_killed_run_has_broken_can_be_undone",
        "topology.json",
    ) else {
        return;
    };
    bench.expect(&["lab", "up", "--wait"], 0);
    // As it would be if the run had been killed: somebody stands still, somebody is cut off.
    bench.expect(
        &[
            "lab",
            "exec",
            "node-2",
            "--",
            "sh",
            "-c",
            "kill -STOP $(pidof nginx)",
        ],
        0,
    );
    bench.expect(&["lab", "cut", "node-5"], 0);
    let said = bench.expect(&["faults", "undo"], 0);
    assert!(said.contains("web-stack is whole"), "{said}");
    assert_eq!(bench.node("node-2")["ready"], true);
    assert_eq!(bench.node("node-5")["ready"], true);
    a_busy_server_is_not_taken_for_a_dead_one(&bench);
}

/// Clients that ask again as soon as they are answered, for a minute; prints how many were.
const FULL_LOAD: &str = r#"
import http.client, threading, time
end, answered = time.monotonic() + 60, []
def visit():
    count = 0
    while time.monotonic() < end:
        try:
            visitor = http.client.HTTPConnection("10.20.0.10", 80, timeout=20)
            visitor.request("GET", "/")
            count += visitor.getresponse().status == 200
            visitor.close()
        except OSError:
            pass
    answered.append(count)
threads = [threading.Thread(target=visit) for _ in range(40)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(sum(answered))
"#;

/// Both app servers are as busy as they can be, for a minute: no load balancer says that one is down.
fn a_busy_server_is_not_taken_for_a_dead_one(bench: &Bench) {
    let downs = || -> Vec<u64> {
        let of = |balancer| {
            let csv = ["lab", "exec", balancer, "--", "curl", "-s"];
            let csv = bench.expect(&[&csv[..], &["http://127.0.0.1:8404/;csv"]].concat(), 0);
            let mut lines = csv.lines().map(|line| line.split(',').collect::<Vec<_>>());
            let head = lines.next().expect("a header");
            let at = head.iter().position(|name| *name == "chkdown");
            let at = at.expect("how often a server went down");
            let servers = lines.filter(|line| line[0] == "app" && line[1] != "BACKEND");
            servers
                .filter_map(|line| line[at].parse::<u64>().ok())
                .sum()
        };
        vec![of("node-1"), of("node-5")]
    };
    let before = downs();
    let python = "/etc/gen-topology/python/bin/python";
    let said = bench.expect(&["lab", "exec", "node-2", "--", python, "-c", FULL_LOAD], 0);
    let answered: u64 = said.trim().parse().expect("a number");
    assert!(answered > 1000, "{answered} answers are no full load");
    assert_eq!(downs(), before, "after {answered} answers");
}

#[test]
fn a_rate_that_can_not_be_produced_is_not_blamed_on_the_stack() {
    let Some(bench) = Bench::alone("a_rate_that_can_not_be_produced", "examples/single.json")
    else {
        return;
    };
    bench.expect(&["lab", "up", "--wait"], 0);
    let output = bench.run(&[
        "faults", "run", "blackout", "--rate", "5000", "--format", "json",
    ]);
    let run: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let void = run["trials"][0]["void"].as_str().unwrap_or_default();
    assert!(
        void.starts_with("this machine could not send 5000 requests a second"),
        "{run:.500}"
    );
    assert_eq!(output.status.code(), Some(6));
}

#[test]
fn of_a_sharded_stack_nothing_is_predicted() {
    let environment = TestEnvironment::with(TOPOLOGY);
    environment.run(&["scale", "shards=2"]).exits(0);
    let predicted = environment
        .run(&["faults", "predict", "--format", "json"])
        .exits(0);
    let all: Vec<Value> = serde_json::from_str(&predicted.stdout).expect("JSON");
    assert!(!all.is_empty());
    for fault in all {
        let why = fault["lacks"].as_str().unwrap_or_default();
        assert!(why.contains("the databases are sharded"), "{fault}");
    }
}
