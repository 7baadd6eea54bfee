//! `set` and `rename`: one value or one name, and nothing else.

use crate::common::{TOPOLOGY, TestEnvironment};

/// Runs an edit and returns the file afterwards.
#[track_caller]
fn edited(arguments: &[&str]) -> String {
    let work = TestEnvironment::with(TOPOLOGY);
    work.run(arguments).exits(0);
    work.run(&["check"]).exits(0);
    work.read("topology.json")
}

#[test]
fn a_value_is_changed_in_its_place() {
    assert_eq!(
        edited(&["set", "nodes.app-1.address", "10.20.0.99"]),
        TOPOLOGY.replace("10.20.0.64", "10.20.0.99")
    );
    assert_eq!(
        edited(&["set", "nodes.db-3.voting", "true"]),
        TOPOLOGY.replace("\"10.20.0.34\" }", "\"10.20.0.34\", \"voting\": true }")
    );
    // A text stays one, whatever it looks like.
    assert!(edited(&["set", "app.env.PORT", "80"]).contains("\"PORT\": \"80\""));
    assert!(edited(&["set", "app.workers", "3"]).contains("\"workers\": 3\n"));
    assert!(edited(&["set", "load_balancer.preempt", "false"]).contains("\"preempt\": false"));
    assert!(edited(&["set", "x-owner", "us"]).contains("\"x-owner\": \"us\""));
}

#[test]
fn the_default_counts_again() {
    let work = TestEnvironment::with(TOPOLOGY);
    work.run(&["set", "app.workers", "3"]).exits(0);
    work.run(&["set", "app.workers", "--default"]).exits(0);
    assert_eq!(work.read("topology.json"), TOPOLOGY);
    // What was made for the value goes with it.
    work.run(&["set", "load_balancer.drain_time", "2s"])
        .exits(0);
    work.run(&["set", "load_balancer.drain_time", "--default"])
        .exits(0);
    assert_eq!(work.read("topology.json"), TOPOLOGY);
    let output = work
        .run(&["set", "database.cache_size", "--default"])
        .exits(0);
    assert!(
        output.stderr.contains("nothing to change"),
        "{}",
        output.text()
    );
}

#[test]
fn what_cannot_be_set_is_said() {
    for (arguments, code, why) in [
        (
            &["set", "app.workrs", "3"][..],
            1,
            "`app` has no key `workrs`; did you mean `workers`?",
        ),
        (&["set", "ap.workers", "3"], 1, "did you mean `app`?"),
        (
            &["set", "app.workers", "many"],
            1,
            "`many` is no value for `app.workers`",
        ),
        (
            &["set", "app.workers", "0"],
            3,
            "`workers` goes from 1 to 64",
        ),
        (&["set", "app.source.x", "3"], 1, "it is a single value"),
        (
            &["set", "nodes.app-9.address", "10.20.0.9"],
            1,
            "there is no node `app-9`",
        ),
        (
            &["set", "nodes.app-1.tier", "aps"],
            3,
            "did you mean `app`?",
        ),
        (
            &["set", "nodes.app-1.address", "10.20.0.65"],
            3,
            "10.20.0.65",
        ),
        (&["set", "", "3"], 1, "has no key"),
        (&["set", "app.workers"], 64, "required"),
        (
            &["rename", "app-9", "web"],
            1,
            "there is no node `app-9`; did you mean",
        ),
        (
            &["rename", "app-1", "app-2"],
            1,
            "there is a node `app-2` already",
        ),
        (&["rename", "app-1", "web_1"], 1, "can't be a node's name"),
    ] {
        let work = TestEnvironment::with(TOPOLOGY);
        let output = work.run(arguments).exits(code);
        assert!(
            output.stderr.contains(why),
            "{arguments:?}: {}",
            output.text()
        );
        assert_eq!(work.read("topology.json"), TOPOLOGY, "{arguments:?}");
    }
}

#[test]
fn a_node_is_renamed_in_its_place() {
    assert_eq!(
        edited(&["rename", "app-1", "web-1"]),
        TOPOLOGY.replace("\"app-1\"", "\"web-1\"")
    );
}

#[test]
fn applications_follow_a_node_that_is_renamed() {
    let chosen = TOPOLOGY.replace(
        "\"nodes\": {",
        "\"apps\": { \"shop\": { \"source\": \"./app\", \"port\": 8081, \"paths\": [\"/shop/\"], \"nodes\": [\"app-2\", \"app-1\"] } },\n  \"nodes\": {",
    );
    let work = TestEnvironment::with(chosen.clone());
    work.run(&["rename", "app-1", "web-1"]).exits(0);
    assert_eq!(
        work.read("topology.json"),
        chosen.replace("\"app-1\"", "\"web-1\"")
    );
}

#[test]
fn an_edit_ends_with_the_plan() {
    let work = TestEnvironment::with(TOPOLOGY);
    work.run(&["generate"]).exits(0);
    let output = work.run(&["add", "app", "--dry-run"]).exits(0);
    assert!(
        output.stderr.contains("1 to add, 5 to change"),
        "{}",
        output.text()
    );
    assert_eq!(work.read("topology.json"), TOPOLOGY);
    let output = work.run(&["rename", "app-1", "web-1"]).exits(0);
    assert!(
        output
            .stderr
            .contains("can't be applied: web-1 has the address of app-1"),
        "{}",
        output.text()
    );
    let output = work.run(&["set", "load_balancer.port", "8080"]).exits(0);
    assert!(
        output
            .stderr
            .contains("visitors notice: port 80 of the virtual IP is answered no more"),
        "{}",
        output.text()
    );
}
