//! `plan`: which steps, in which order, why, and what visitors notice. The plan is
//! pure, so it is tested without a lab.

#![expect(clippy::expect_used, reason = "a test may stop")]

use std::collections::BTreeSet;
use std::path::Path;

use gen_topology::config;
use gen_topology::deploy::{Choice, Now, Plan, What, plan};
use gen_topology::render::render;
use gen_topology::site::Fleet;
use gen_topology::topology::{Source, Topology};
use serde_json::Value;

use crate::common::{TOPOLOGY, TestEnvironment};

/// The fleet that a topology makes.
pub(crate) fn fleet(text: &str) -> Fleet {
    let source = Source {
        path: "topology.json".into(),
        base: ".".into(),
        bytes: text.as_bytes().to_vec(),
    };
    let checked = Topology::check(&source, &|_: &Path| true);
    let topology = checked.topology.expect("a sound topology");
    let rendered = render(&config::resolve(&topology)).expect("files");
    Fleet::rendered(&rendered).expect("facts")
}

/// `TOPOLOGY` with some of its text replaced.
fn with(changes: &[(&str, &str)]) -> String {
    let mut text = TOPOLOGY.to_owned();
    for (old, new) in changes {
        assert!(text.contains(old), "{old}");
        text = text.replace(old, new);
    }
    text
}

const APP_2: &str = r#"    "app-2": { "tier": "app", "address": "10.20.0.65" },"#;
const DB_3: &str = r#",
    "db-3": { "tier": "database", "address": "10.20.0.34" }"#;
const LB_2: &str = r#"    "lb-2": { "tier": "load-balancer", "address": "10.20.0.17" },"#;

/// As when all is well.
fn now() -> Now {
    Now {
        owner: Some("lb-1".into()),
        primaries: ["db-1".into()].into(),
        ..Now::default()
    }
}

fn between(old: &str, new: &str) -> Plan {
    plan(&fleet(old), &fleet(new), &now(), &Choice::default())
}

/// Each wave as `NODE[, NODE]: what is done`.
fn told(plan: &Plan) -> Vec<String> {
    plan.waves()
        .map(|wave| {
            let names: Vec<&str> = wave.iter().map(|step| step.node.as_str()).collect();
            let words: BTreeSet<String> =
                wave.iter().map(gen_topology::deploy::Step::words).collect();
            let words: Vec<String> = words.into_iter().collect();
            format!("{}: {}", names.join(", "), words.join(" / "))
        })
        .collect()
}

#[test]
fn what_is_right_is_left_alone() {
    let plan = between(TOPOLOGY, TOPOLOGY);
    assert!(plan.is_empty(), "{:?}", told(&plan));
    assert!(plan.obstacles.is_empty());
}

#[test]
fn app_servers_join_before_and_leave_after_load_balancers_learn_of_it() {
    let more = with(&[(
        APP_2,
        "    \"app-2\": { \"tier\": \"app\", \"address\": \"10.20.0.65\" },\n    \
             \"app-3\": { \"tier\": \"app\", \"address\": \"10.20.0.66\" },",
    )]);
    let grow = between(TOPOLOGY, &more);
    assert_eq!(
        told(&grow),
        [
            "db-2, db-3, db-1: load the firewall",
            "app-3: boot",
            "lb-2: reload haproxy",
            "lb-1: reload haproxy"
        ]
    );
    assert_eq!(grow.steps[0].reason, "app-3 joins");
    assert_eq!(
        grow.steps[5].reason,
        "app-3 joins; after the others, as it has the virtual IP"
    );
    assert_eq!(
        grow.impact.sentence(),
        "2 haproxy reloads, 0 connections dropped, 0 elections, capacity never below 2/2"
    );
    assert_eq!(
        told(&between(&more, TOPOLOGY)),
        [
            "db-2, db-3, db-1: load the firewall",
            "app-3: drain",
            "lb-2: reload haproxy",
            "lb-1: reload haproxy",
            "app-3: stop"
        ]
    );
    // Whoever has the virtual IP is the last, wherever it stands in the file.
    let other = Now {
        owner: Some("lb-2".into()),
        ..now()
    };
    let plan = plan(&fleet(TOPOLOGY), &fleet(&more), &other, &Choice::default());
    assert_eq!(
        plan.steps.last().map(|step| step.node.as_str()),
        Some("lb-2")
    );
}

#[test]
fn load_balancers_join_after_and_leave_before_the_others_learn_of_it() {
    let more = with(&[(
        LB_2,
        "    \"lb-2\": { \"tier\": \"load-balancer\", \"address\": \"10.20.0.17\" },\n    \
             \"lb-3\": { \"tier\": \"load-balancer\", \"address\": \"10.20.0.18\" },",
    )]);
    let reload = "load the firewall, reload haproxy, reload Keepalived";
    let doors = "app-1, app-2: load the firewall";
    assert_eq!(
        told(&between(TOPOLOGY, &more)),
        [
            doors.to_owned(),
            format!("lb-2: {reload}"),
            format!("lb-1: {reload}"),
            "lb-3: boot".into()
        ]
    );
    assert_eq!(
        told(&between(&more, TOPOLOGY)),
        [
            doors.to_owned(),
            "lb-3: stop".into(),
            format!("lb-2: {reload}"),
            format!("lb-1: {reload}")
        ]
    );
}

#[test]
fn databases_join_first_and_leave_last_one_at_a_time() {
    let five = with(&[(
        DB_3,
        ",\n    \"db-3\": { \"tier\": \"database\", \"address\": \"10.20.0.34\" },\n    \
           \"db-4\": { \"tier\": \"database\", \"address\": \"10.20.0.35\" },\n    \
           \"db-5\": { \"tier\": \"database\", \"address\": \"10.20.0.36\" }",
    )]);
    let quiet = "load the firewall";
    let app = "drain, load the firewall, restart the app, undrain";
    assert_eq!(
        told(&between(TOPOLOGY, &five)),
        [
            "db-4: boot, join the replica set".to_owned(),
            "db-5: boot, join the replica set".into(),
            format!("db-2, db-3, db-1: {quiet}"),
            format!("app-1: {app}"),
            format!("app-2: {app}"),
        ]
    );
    let shrink = between(&five, TOPOLOGY);
    assert_eq!(
        told(&shrink)[3..],
        [
            "db-4: leave the replica set, stop",
            "db-5: leave the replica set, stop"
        ]
    );
    assert_eq!(shrink.impact.elections, 0);
    // A primary that leaves is the last, and steps down.
    let other = Now {
        primaries: ["db-4".into()].into(),
        ..now()
    };
    let plan = plan(&fleet(&five), &fleet(TOPOLOGY), &other, &Choice::default());
    assert_eq!(
        plan.steps.last().map(|step| step.node.as_str()),
        Some("db-4")
    );
    assert_eq!(plan.impact.elections, 1);
}

#[test]
fn databases_change_one_at_a_time_the_primary_last() {
    let cache = with(&[(
        "\"nodes\"",
        "\"database\": { \"cache_size\": \"512MiB\" },\n  \"nodes\"",
    )]);
    let plan = between(TOPOLOGY, &cache);
    assert_eq!(
        told(&plan),
        [
            "db-2: restart mongod",
            "db-3: restart mongod",
            "db-1: restart mongod"
        ]
    );
    assert_eq!(
        plan.steps[2].reason,
        "mongod.conf changed; after the others, as it is primary"
    );
    assert_eq!(
        (plan.impact.elections, plan.impact.databases_restarted),
        (1, 3)
    );
    // Settings of the set are its primary's to change: once.
    let patience = with(&[(
        "\"nodes\"",
        "\"database\": { \"election_timeout\": \"3s\" },\n  \"nodes\"",
    )]);
    let configured: Vec<String> = told(&between(TOPOLOGY, &patience))
        .into_iter()
        .filter(|wave| wave.contains("configure the replica set"))
        .collect();
    assert_eq!(configured, ["db-1: configure the replica set"]);
}

#[test]
fn app_servers_change_by_as_many_as_allowed() {
    let four = with(&[(
        APP_2,
        "    \"app-2\": { \"tier\": \"app\", \"address\": \"10.20.0.65\" },\n    \
             \"app-3\": { \"tier\": \"app\", \"address\": \"10.20.0.66\" },\n    \
             \"app-4\": { \"tier\": \"app\", \"address\": \"10.20.0.67\" },\n    \
             \"app-5\": { \"tier\": \"app\", \"address\": \"10.20.0.68\" },",
    )]);
    let changed = four.replace("\"./app\"", "\"./app\", \"env\": { \"MOOD\": \"good\" }");
    let waves = |max_unavailable: usize, canary: usize| -> Vec<usize> {
        let choice = Choice {
            max_unavailable,
            canary,
            on: None,
        };
        let plan = plan(&fleet(&four), &fleet(&changed), &now(), &choice);
        plan.waves().map(<[_]>::len).collect()
    };
    assert_eq!(waves(1, 0), [1, 1, 1, 1, 1]);
    assert_eq!(waves(2, 0), [2, 2, 1]);
    // Those that are watched do not share a wave with others.
    assert_eq!(waves(3, 1), [1, 3, 1]);
    assert_eq!(waves(9, 9), [5]);
    let all = Choice {
        max_unavailable: 5,
        ..Choice::default()
    };
    let plan = plan(&fleet(&four), &fleet(&changed), &now(), &all);
    assert_eq!(plan.impact.apps_least, 0);
    assert!(
        plan.impact.noticed[0].contains("no other app server is left"),
        "{:?}",
        plan.impact.noticed
    );
}

#[test]
fn an_owner_that_loses_its_rank_hands_over_before() {
    let swapped = with(&[
        (LB_2, ""),
        (
            "    \"lb-1\"",
            "    \"lb-2\": { \"tier\": \"load-balancer\", \"address\": \"10.20.0.17\" },\n    \"lb-1\"",
        ),
    ]);
    let plan = between(TOPOLOGY, &swapped);
    let last = plan.steps.last().expect("a step");
    assert_eq!(last.node, "lb-1");
    assert!(
        last.words().contains("hand the virtual IP over"),
        "{}",
        last.words()
    );
    assert_eq!(plan.impact.virtual_ip_moves, 1);
}

#[test]
fn settings_that_running_commands_have_read_restart_them() {
    let drain = with(&[(
        "\"nodes\"",
        "\"load_balancer\": { \"drain_time\": \"2s\" },\n  \"nodes\"",
    )]);
    let plan = between(TOPOLOGY, &drain);
    assert!(
        told(&plan)
            .iter()
            .all(|wave| wave.ends_with("restart haproxy and Keepalived")),
        "{:?}",
        told(&plan)
    );
    // Away from the owner, and back to it.
    assert_eq!(plan.impact.virtual_ip_moves, 2);
}

#[test]
fn what_cannot_be_done_step_by_step_is_said() {
    for (new, why) in [
        (
            with(&[("10.20.0.64", "10.20.0.70")]),
            "app-1 moves from 10.20.0.64 to 10.20.0.70",
        ),
        (
            with(&[(
                "\"virtual_ip\": \"10.20.0.10\"",
                "\"virtual_ip\": \"10.20.0.11\"",
            )]),
            "the virtual IP changes from 10.20.0.10 to 10.20.0.11",
        ),
        (
            with(&[("\"./app\"", "\"./app\", \"port\": 8080")]),
            "`app.port` changes from 80 to 8080",
        ),
        (
            with(&[(
                "\"nodes\"",
                "\"database\": { \"replica_set\": \"other\" },\n  \"nodes\"",
            )]),
            "the replica set rs0 gives way to other",
        ),
        (
            with(&[("\"db-", "\"new-db-"), ("10.20.0.3", "10.20.0.4")]),
            "no database of before stays",
        ),
        (
            with(&[("\"lb-", "\"new-lb-")]),
            "no load balancer of before stays",
        ),
    ] {
        let plan = between(TOPOLOGY, &new);
        assert!(
            plan.obstacles.iter().any(|obstacle| obstacle.contains(why)),
            "{why}: {:?}",
            plan.obstacles
        );
    }
}

#[test]
fn nodes_that_are_left_out_are_not_learned_of() {
    let more = with(&[(
        APP_2,
        "    \"app-2\": { \"tier\": \"app\", \"address\": \"10.20.0.65\" },\n    \
             \"app-3\": { \"tier\": \"app\", \"address\": \"10.20.0.66\" },",
    )]);
    let on = |names: &[&str]| {
        let choice = Choice {
            on: Some(names.iter().map(|name| (*name).to_owned()).collect()),
            ..Choice::default()
        };
        plan(&fleet(TOPOLOGY), &fleet(&more), &now(), &choice)
    };
    let half = on(&["lb-1"]);
    assert!(
        half.obstacles[0].contains("lb-1 would learn of app-3"),
        "{:?}",
        half.obstacles
    );
    assert_eq!(told(&on(&["app-3"])), ["app-3: boot"]);
    assert!(on(&["app-3"]).obstacles.is_empty());
    assert!(on(&["app-3", "lb-1", "lb-2"]).obstacles.is_empty());
}

#[test]
fn what_was_interrupted_is_done_again() {
    let interrupted = Now {
        unfinished: BTreeSet::from(["app-1".to_owned()]),
        ..now()
    };
    let same = fleet(TOPOLOGY);
    let again = plan(&same, &same, &interrupted, &Choice::default());
    assert_eq!(again.steps.len(), 1);
    assert_eq!(again.steps[0].reason, "the last apply was interrupted here");
    let down = Now {
        down: BTreeSet::from(["app-1".to_owned()]),
        ..interrupted
    };
    let again = plan(&same, &same, &down, &Choice::default());
    assert!(
        matches!(&again.steps[0].what, What::Change { how, .. } if how == &[config::Action::Boot]),
        "{:?}",
        again.steps
    );
}

#[test]
fn the_command_compares_with_hosts_and_writes_nothing() {
    let work = TestEnvironment::with(TOPOLOGY);
    // Nothing was generated yet: everything is new.
    let output = work.run(&["plan"]).exits(0);
    assert!(output.stdout.contains("7 to add"), "{}", output.text());
    work.run(&["generate"]).exits(0);
    let output = work.run(&["plan", "--exit-code"]).exits(0);
    assert!(output.stderr.contains("nothing to do"), "{}", output.text());
    assert_eq!(output.stdout, "");

    work.run(&["scale", "app=3"]).exits(0);
    let before = work.read("hosts/lb-1/node.json");
    insta::assert_snapshot!(work.run(&["plan", "--exit-code"]).exits(2).text());
    let json = work.run(&["plan", "--format", "json"]).exits(0);
    let json: Value = serde_json::from_str(&json.stdout).expect("JSON");
    assert_eq!(json["steps"][0]["how"][0], "load-firewall");
    assert_eq!(json["steps"][3]["do"], "add");
    assert_eq!(json["steps"][4]["how"][0], "reload-haproxy");
    assert_eq!(json["impact"]["haproxy_reloads"], 2);
    assert_eq!(work.read("hosts/lb-1/node.json"), before);
    work.run(&["plan", "--on", "@app"]).exits(0);
    let output = work.run(&["plan", "--on", "ap-1"]).exits(1);
    assert!(
        output.stderr.contains("did you mean `app-1`"),
        "{}",
        output.text()
    );
    work.run(&["plan", "--max-unavailable", "0"]).exits(64);
    let output = work.run(&["plan", "--against", "lab"]).exits(1);
    assert!(
        output.stderr.contains("is not running"),
        "{}",
        output.text()
    );
    work.write("topology.json", "{");
    work.run(&["plan"]).exits(3);
}

#[test]
fn a_replica_set_becomes_the_first_shard_step_by_step() {
    let environment = TestEnvironment::with(TOPOLOGY);
    environment.run(&["generate"]).exits(0);
    environment.run(&["scale", "shards=1"]).exits(0);
    let said = environment.run(&["plan"]).exits(0);
    assert!(!said.stdout.contains("can't be applied"), "{}", said.text());
    // New roles are a restart of each mongod, and of the app a new way to its database.
    let order = [
        "its replica set config is new",
        "restart mongod",
        "drain, load the firewall, restart the app",
    ];
    let places: Vec<Option<usize>> = order.iter().map(|words| said.stdout.find(words)).collect();
    assert!(places.iter().all(Option::is_some), "{}", said.text());
    assert!(places.is_sorted(), "{}", said.text());

    // Two shards at once would have data where an app server without mongos does not look.
    environment.run(&["scale", "shards=2"]).exits(0);
    let said = environment.run(&["plan"]).exits(0);
    let why = "can't be applied: rs0 becomes one shard of 2";
    assert!(said.stdout.contains(why), "{}", said.text());
    environment.run(&["generate"]).exits(0);
    environment.write("topology.json", TOPOLOGY);
    let said = environment.run(&["plan"]).exits(0);
    for why in [
        "there is no way back but a backup",
        "config leaves with the data that it has",
    ] {
        assert!(said.stdout.contains(why), "{}", said.text());
    }
}
