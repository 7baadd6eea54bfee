//! A stack without databases: every command knows that there are none, and the application
//! is told of none.

#![expect(clippy::expect_used, reason = "a test may stop")]

use std::fs;

use serde_json::Value;

use crate::common::lab::Bench;
use crate::common::{TOPOLOGY, TestEnvironment};
use crate::web_apps::{Site, status};

/// `text` without its databases.
fn without(text: &str) -> Value {
    let mut topology: Value = serde_json::from_str(text).expect("JSON");
    let nodes = topology["nodes"].as_object_mut().expect("nodes");
    nodes.retain(|_, node| node["tier"] != "database");
    topology
}

fn environment() -> TestEnvironment {
    TestEnvironment::with(without(TOPOLOGY).to_string())
}

#[test]
fn it_is_a_whole_topology() {
    let environment = environment();
    let said = environment.run(&["check"]).exits(0);
    assert!(said.stderr.contains("no problems"), "{}", said.text());
    let shown = environment.run(&["show"]).exits(0);
    assert!(!shown.stdout.contains("database"), "{}", shown.text());
    let drawn = environment.run(&["lab", "graph"]).exits(0);
    assert!(!drawn.stdout.contains("mongod"), "{}", drawn.text());
    environment.run(&["generate"]).exits(0);
    let app = |file: &str| fs::read_to_string(environment.path(format!("hosts/app-1/{file}")));
    let gunicorn = app("etc/gunicorn/gunicorn.conf.py").expect("a file");
    assert!(!gunicorn.contains("MONGODB"), "{gunicorn}");
    assert!(gunicorn.contains("DRAIN_FILE"), "{gunicorn}");
    let firewall = app("etc/gen-topology/firewall.nft").expect("a file");
    assert!(!firewall.contains("database"), "{firewall}");
    let json = environment.run(&["show", "--format", "json"]).exits(0);
    let json: Value = serde_json::from_str(&json.stdout).expect("JSON");
    assert_eq!(json.get("database"), None);
}

/// Its own variables may lead to a database of somebody else.
#[test]
fn the_names_of_the_variables_are_free() {
    let mut topology = without(TOPOLOGY);
    topology["app"]["env"] = serde_json::json!({ "MONGODB_URI": "mongodb://elsewhere/" });
    let environment = TestEnvironment::with(topology.to_string());
    environment.run(&["check"]).exits(0);
    topology["app"]["env"] = serde_json::json!({ "DRAIN_FILE": "/tmp/x" });
    let environment = TestEnvironment::with(topology.to_string());
    let refused = environment.run(&["check"]).exits(3);
    assert!(
        refused.stderr.contains("reserved-variable"),
        "{}",
        refused.text()
    );
}

/// Who writes `database` wants one.
#[test]
fn settings_of_databases_need_databases() {
    let mut topology = without(TOPOLOGY);
    topology["database"] = serde_json::json!({});
    let environment = TestEnvironment::with(topology.to_string());
    let refused = environment.run(&["check"]).exits(3);
    assert!(refused.stderr.contains("empty-tier"), "{}", refused.text());
    assert!(
        refused.stderr.contains("remove `database`"),
        "{}",
        refused.text()
    );
}

#[test]
fn databases_come_by_scale_and_do_not_go_by_it() {
    let environment = environment();
    environment.run(&["scale", "database=3"]).exits(0);
    environment.run(&["check", "--strict"]).exits(0);
    let refused = environment.run(&["scale", "database=0"]).exits(1);
    assert!(refused.stderr.contains("by hand"), "{}", refused.text());
}

#[test]
fn what_may_fail_is_told_without_them() {
    let environment = environment();
    let told = environment.run(&["whatif"]).exits(0);
    assert!(told.stdout.contains("n-1: met"), "{}", told.text());
    assert!(!told.stdout.contains("WRITING"), "{}", told.text());
    assert!(!told.stdout.contains("database"), "{}", told.text());
    let one = environment.run(&["whatif", "--fail", "app-1,app-2"]);
    assert!(one.stdout.contains("LOST"), "{}", one.text());
    let bounds = environment
        .run(&["faults", "predict", "--format", "json"])
        .exits(0);
    let bounds: Value = serde_json::from_str(&bounds.stdout).expect("JSON");
    let text = bounds.to_string();
    assert!(text.contains("lb-power-off"), "{text}");
    assert!(text.contains("the stack has no database"), "{text}");
}

#[test]
fn every_export_does_without() {
    let environment = environment();
    for format in [
        "compose",
        "kubernetes",
        "ansible",
        "vagrant",
        "openstack",
        "opentofu",
    ] {
        environment.run(&["export", format]).exits(0);
    }
    let read = |path: &str| fs::read_to_string(environment.path(path)).expect("a file");
    for file in [
        "compose/compose.yaml",
        "compose/check.sh",
        "kubernetes/app.yaml",
        "kubernetes/kustomization.yaml",
        "kubernetes/README.md",
        "openstack/stack.yaml",
        "ansible/files/units/supervisord.service",
    ] {
        let text = read(&format!("export/{file}"));
        for word in ["mongo", "secrets/application", "database-key"] {
            assert!(!text.contains(word), "{file} names {word}:\n{text}");
        }
    }
    let playbook = read("export/ansible/site.yaml");
    assert!(!playbook.contains("[application]"), "{playbook}");
}

#[test]
fn a_lab_serves_grows_and_keeps_its_data() {
    let Some(bench) = Bench::new("no database", "topology.json") else {
        return;
    };
    let text = fs::read_to_string(bench.topology()).expect("a topology");
    let keys = serde_json::json!({ "entry": "shop:create_app()" });
    let site = Site::of(bench, without(&text), "flask", &keys);
    status(&site.get("/"), 200);
    let bench = &site.bench;
    let environment = bench.expect(&["lab", "run", "node-2", "--", "env"], 0);
    assert!(!environment.contains("MONGODB"), "{environment}");
    let refused = bench.expect(&["lab", "backup", "copy"], 1);
    assert!(refused.contains("has no database"), "{refused}");
    let refused = bench.expect(&["lab", "rotate", "passwords"], 1);
    assert!(refused.contains("has no database"), "{refused}");
    bench.expect(&["set", "app.threads", "8"], 0);
    bench.expect(&["lab", "apply"], 0);
    let single = fs::read_to_string(bench.topology()).expect("a topology");
    bench.expect(&["scale", "database=1"], 0);
    bench.expect(&["lab", "apply"], 0);
    let environment = bench.expect(&["lab", "run", "node-2", "--", "env"], 0);
    assert!(environment.contains("MONGODB_URI="), "{environment}");
    // The data would go with the databases.
    fs::write(bench.topology(), single).expect("a topology");
    let refused = bench.expect(&["lab", "up"], 1);
    assert!(refused.contains("no database any more"), "{refused}");
    let refused = bench.run(&["lab", "apply"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("no database any more"), "{said}");
    status(&site.get("/"), 200);
}
