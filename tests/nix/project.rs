//! Projects of others: what our template makes, what is said when their files don't
//! fit together, and our modules without the generator.

use std::fs;
use std::process::Output;

use serde_json::Value;

use super::{evaluation, json, keys, read, repository};
use crate::common::{TOPOLOGY, TestEnvironment};

/// A project made from the template: its flake and the files of a topology.
fn project(topology: &str) -> TestEnvironment {
    let project = TestEnvironment::with(topology);
    for file in ["flake.nix", "modules/default.nix"] {
        let text = fs::read(repository("templates/default").join(file)).expect("the template");
        project.write(file, text);
    }
    project.run(&["generate"]).exits(0);
    project
}

fn evaluate_project(project: &TestEnvironment) -> Option<Output> {
    let mut command = evaluation()?;
    let work = project.path("").display().to_string();
    command.arg(repository("tests/nix/project.nix")).args([
        "--arg",
        "work",
        work.trim_end_matches('/'),
    ]);
    Some(command.output().expect("Nix starts"))
}

#[test]
fn the_template_is_a_whole_project() {
    let project = project(TOPOLOGY);
    let Some(output) = evaluate_project(&project) else {
        return;
    };
    let seen = json(&output);
    assert_eq!(keys(&seen["toplevels"]).len(), 7);
    assert_eq!(
        seen["apps"],
        serde_json::json!(["deploy", "gen-topology", "lab", "vms"])
    );
    assert_eq!(
        seen["images"]["db-1"],
        serde_json::json!(["openstack", "qemu", "virtualbox"])
    );
}

/// The topologies that we ship and that no other test evaluates.
#[test]
fn every_example_is_a_whole_project() {
    for name in ["large", "sharded", "single"] {
        let topology = read(&format!("examples/{name}.json"));
        let project = project(&topology.replace("\"../app\"", "\"./app\""));
        let Some(output) = evaluate_project(&project) else {
            return;
        };
        let wanted: Value = serde_json::from_str(&topology).expect("JSON");
        let seen = json(&output);
        assert_eq!(keys(&seen["toplevels"]), keys(&wanted["nodes"]), "{name}");
    }
}

/// The application's own secrets are taken at its start, and a deploy can look for them.
#[test]
fn app_servers_take_the_secrets_of_the_application() {
    let mut topology: Value = serde_json::from_str(TOPOLOGY).expect("JSON");
    topology["app"]["secrets"] = serde_json::json!({ "API_TOKEN": {} });
    let Some(output) = evaluate_project(&project(&topology.to_string())) else {
        return;
    };
    let seen = json(&output);
    let host = &seen["hosts"]["app-1"];
    let unit = host["units"]["supervisord"].to_string();
    let taken =
        "'/var/lib/gen-topology/secrets/app/API_TOKEN' /run/gen-topology/secrets/app/API_TOKEN";
    assert!(unit.contains(taken), "{unit}");
    let list = &host["etc"]["gen-topology/secrets-of-app"];
    assert!(list.is_string(), "{host}");
    assert!(
        seen["hosts"]["db-1"]["etc"]
            .get("gen-topology/secrets-of-app")
            .is_none()
    );
}

/// Each application has its code, its Python and its gunicorn file on the app servers that run it, and
/// supervisord's start notes what of each runs.
#[test]
fn app_servers_run_what_was_chosen_for_them() {
    let mut topology: Value = serde_json::from_str(TOPOLOGY).expect("JSON");
    topology["apps"] = serde_json::json!({
        "api": { "source": "./app", "port": 8001, "paths": ["/api/"], "nodes": ["app-2"] },
    });
    let Some(output) = evaluate_project(&project(&topology.to_string())) else {
        return;
    };
    let seen = json(&output);
    let own = [
        "gen-topology/apps/api",
        "gen-topology/pythons/api",
        "gunicorn/apps/api.conf.py",
    ];
    for file in own {
        let has = |node: &str| seen["hosts"][node]["etc"].get(file).is_some();
        assert!(has("app-2") && !has("app-1") && !has("db-1"), "{file}");
    }
    let unit = seen["hosts"]["app-2"]["units"]["supervisord"].to_string();
    assert!(unit.contains("remember-app-versions"), "{unit}");
}

/// Without databases nothing on an app server waits for a password.
#[test]
fn a_stack_without_database_takes_no_secrets() {
    let mut topology: Value = serde_json::from_str(TOPOLOGY).expect("JSON");
    let nodes = topology["nodes"].as_object_mut().expect("nodes");
    nodes.retain(|_, node| node["tier"] != "database");
    let Some(output) = evaluate_project(&project(&topology.to_string())) else {
        return;
    };
    let seen = json(&output);
    assert_eq!(keys(&seen["toplevels"]).len(), 4);
    let host = seen["hosts"]["app-1"].to_string();
    assert!(!host.contains("secrets/application"), "{host}");
    assert!(!host.contains("watch-database"), "{host}");
}

/// A load balancer with HTTPS judges its certificates before haproxy starts, and when they change.
#[test]
fn load_balancers_load_their_certificates() {
    let mut topology: Value = serde_json::from_str(TOPOLOGY).expect("JSON");
    topology["load_balancer"] =
        serde_json::json!({ "tls": { "names": ["a.example"], "files": ["site.pem"] } });
    let Some(output) = evaluate_project(&project(&topology.to_string())) else {
        return;
    };
    let host = &json(&output)["hosts"]["lb-1"];
    let list = host["etc"]["haproxy/certificates.list"]
        .as_str()
        .unwrap_or_default();
    assert!(
        list.ends_with("hosts/lb-1/etc/haproxy/certificates.list"),
        "{list}"
    );
    for (unit, words) in [
        ("haproxy", "node load-certificates --from %d --only-files"),
        (
            "gen-topology-certificates",
            "node load-certificates --from %d",
        ),
    ] {
        let said = host["units"][unit].to_string();
        let credential = "site.pem:/var/lib/gen-topology/secrets/certificates/site.pem";
        assert!(
            said.contains(words) && said.contains(credential),
            "{unit}: {said}"
        );
    }
}

/// One that asks for certificates by ACME is given the keys, and keeps what it gets.
#[test]
fn load_balancers_ask_for_their_certificates() {
    let mut topology: Value = serde_json::from_str(TOPOLOGY).expect("JSON");
    topology["load_balancer"] =
        serde_json::json!({ "tls": { "names": ["a.example"], "acme": {} } });
    let Some(output) = evaluate_project(&project(&topology.to_string())) else {
        return;
    };
    let host = &json(&output)["hosts"]["lb-1"];
    let renews = host["units"]["renew-certificates"].to_string();
    assert!(renews.contains("node renew-certificates"), "{renews}");
    for unit in ["haproxy", "gen-topology-certificates"] {
        let said = host["units"][unit].to_string();
        let place = "/var/lib/gen-topology/secrets/certificates";
        for file in ["acme.key", "acme-account.key", "ticket-keys"] {
            assert!(said.contains(&format!("{file}:{place}/{file}")), "{said}");
        }
        assert!(
            !said.contains("acme.pem") && said.contains("gen-topology-acme"),
            "{said}"
        );
    }
}

/// Each app server of a sharded stack has a router, with the key that only it may read, and
/// the databases are as they always are.
#[test]
fn app_servers_of_a_sharded_stack_route() {
    let topology = read("examples/sharded.json");
    let project = project(&topology.replace("\"../app\"", "\"./app\""));
    let Some(output) = evaluate_project(&project) else {
        return;
    };
    let hosts = &json(&output)["hosts"];
    for node in ["app-1", "app-2"] {
        let host = &hosts[node];
        let source = host["etc"]["mongos.conf"].as_str().unwrap_or_default();
        assert!(source.ends_with(&format!("hosts/{node}/etc/mongos.conf")));
        let unit = &host["units"]["mongos"];
        let said = unit.to_string();
        for words in [
            "/bin/mongos --config /etc/mongos.conf",
            "/var/lib/gen-topology/secrets/database-key",
            "supervisord.service",
        ] {
            assert!(said.contains(words), "{node}: no {words} in {said}");
        }
        let app = host["units"]["supervisord"].to_string();
        assert!(!app.contains("database-key"), "{node}: {app}");
    }
    for node in ["lb-1", "db-1", "config-1"] {
        assert!(hosts[node]["units"]["mongos"].is_null(), "{node}");
    }
    assert!(!hosts["config-1"]["units"]["reconcile-database"].is_null());
}

/// A node that left the stack has a mark, with which nothing of the stack starts.
#[test]
fn who_has_left_does_not_come_back_by_booting() {
    let topology = read("examples/sharded.json");
    let project = project(&topology.replace("\"../app\"", "\"./app\""));
    let Some(output) = evaluate_project(&project) else {
        return;
    };
    let hosts = &json(&output)["hosts"];
    let services = [
        ("lb-1", ["haproxy", "keepalived"].as_slice()),
        ("app-1", &["supervisord", "nginx", "mongos"]),
        ("db-1", &["mongod", "reconcile-database"]),
    ];
    for (node, units) in services {
        for unit in units {
            let condition = &hosts[node]["units"][unit]["unitConfig"]["ConditionPathExists"];
            assert_eq!(condition, "!/var/lib/gen-topology/away", "{unit} of {node}");
        }
    }
}

/// What is done to a project.
type Harm = fn(&TestEnvironment);

/// What can be wrong, how it comes about, and what is then said.
const MISFITS: [(&str, Harm, &str); 12] = [
    (
        "a file edited by hand",
        |p| p.write("hosts/lb-1/etc/haproxy/haproxy.cfg", "global\n"),
        "lb-1/etc/haproxy/haproxy.cfg was changed by hand; change the topology file, then run `gen-topology generate`.",
    ),
    (
        "a missing file",
        |p| fs::remove_file(p.path("hosts/db-1/etc/mongod.conf")).expect("a file"),
        "db-1/etc/mongod.conf is missing; run `gen-topology generate`",
    ),
    (
        "a missing host",
        |p| fs::remove_dir_all(p.path("hosts/app-2")).expect("a directory"),
        "hosts/app-2 is missing, and topology.json has the node app-2; run `gen-topology generate`",
    ),
    (
        "a host too many",
        |p| {
            let app = "\"app-2\": { \"tier\": \"app\", \"address\": \"10.20.0.65\" },";
            p.write("topology.json", TOPOLOGY.replace(app, ""));
        },
        "hosts/app-2 belongs to no node of topology.json; run `gen-topology generate`",
    ),
    (
        "another address",
        |p| {
            p.write(
                "topology.json",
                TOPOLOGY.replace("10.20.0.65", "10.20.0.99"),
            );
        },
        "hosts/app-2/node.json says address 10.20.0.65, and topology.json says 10.20.0.99; run `gen-topology generate`",
    ),
    (
        "another virtual IP",
        |p| {
            p.write(
                "topology.json",
                TOPOLOGY.replace("10.20.0.10\"", "10.20.0.11\""),
            );
        },
        "/node.json says virtual IP 10.20.0.10, and topology.json says 10.20.0.11; run `gen-topology generate`",
    ),
    (
        "another tier",
        |p| {
            let node = "\"db-3\": { \"tier\": \"database\"";
            p.write(
                "topology.json",
                TOPOLOGY.replace(node, "\"db-3\": { \"tier\": \"app\""),
            );
        },
        "hosts/db-3/node.json says tier database, and topology.json says app; run `gen-topology generate`",
    ),
    (
        "a host without its Nix file",
        |p| fs::remove_file(p.path("hosts/db-2/default.nix")).expect("a file"),
        "hosts/db-2/default.nix is missing; run `gen-topology generate`",
    ),
    (
        "modules for nobody",
        |p| {
            let flake = p.read("flake.nix");
            let line = "hosts = ./hosts;\n        nodeModules.lb-9 = [ ];";
            p.write("flake.nix", flake.replace("hosts = ./hosts;", line));
        },
        "mkStack: nodeModules names lb-9, which is no node of topology.json; correct it in flake.nix.",
    ),
    (
        "no modules",
        |p| fs::remove_file(p.path("modules/default.nix")).expect("a file"),
        "modules/default.nix is missing beside hosts",
    ),
    (
        "no topology",
        |p| fs::remove_file(p.path("topology.json")).expect("a file"),
        "topology.json is missing; run `gen-topology init`",
    ),
    (
        "an unknown system",
        |p| {
            let flake = p
                .read("flake.nix")
                .replace("\"x86_64-linux\"", "\"riscv64-linux\"");
            // The project's own outputs keep their system: only the stack's is unknown.
            p.write("flake.nix", flake.replace("${system}", "x86_64-linux"));
        },
        "mkStack: unknown system riscv64-linux; use one of aarch64-linux, x86_64-linux",
    ),
];

/// What is said when files don't fit together: what is wrong, where, and the command to run.
#[test]
fn what_does_not_fit_is_said_in_one_sentence() {
    for (what, harm, sentence) in MISFITS {
        let project = project(TOPOLOGY);
        harm(&project);
        let Some(output) = evaluate_project(&project) else {
            return;
        };
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{what} went unnoticed");
        assert!(said.contains(sentence), "{what}: {said}");
    }
}

/// The first example of a page that holds `words`.
fn example(page: &str, words: &str) -> String {
    let page = read(page);
    let blocks = page.split("```nix\n").skip(1);
    let mut blocks = blocks.filter_map(|rest| rest.split("```").next());
    let found = blocks.find(|block| block.contains(words));
    found.expect("an example").to_owned()
}

/// A machine of the module in `work`.
fn evaluate_module(work: &TestEnvironment) -> Option<Output> {
    work.write("mongod.conf", "net:\n  port: 27017\n");
    let module = work.path("module.nix").display().to_string();
    let output = evaluation()?
        .arg(repository("tests/nix/module.nix"))
        .args(["--arg", "module", &module])
        .output();
    Some(output.expect("Nix starts"))
}

/// The example of using our modules without the generator.
#[test]
fn the_example_of_the_documentation_evaluates() {
    let work = TestEnvironment::new();
    work.write("module.nix", example("docs/nixos.md", "facts = {"));
    let Some(output) = evaluate_module(&work) else {
        return;
    };
    let seen = json(&output);
    assert_eq!(seen["name"], "nixos-system-db");
    assert_eq!(
        seen["units"],
        serde_json::json!(["mongod", "reconcile-database"])
    );
}

/// The example of copies by a timer; and that they are refused where they would hold a part only.
#[test]
fn copies_are_made_by_a_timer_of_whole_data_only() {
    let work = TestEnvironment::new();
    let plain = example("docs/nixos.md", "facts = {");
    work.write("plain.nix", &plain);
    let backup = example("docs/database.md", "mongodb.backup");
    let module = format!("{{ imports = [ ./plain.nix {{ {backup} }} ]; }}");
    work.write("module.nix", &module);
    let Some(output) = evaluate_module(&work) else {
        return;
    };
    assert_eq!(json(&output)["startAt"]["backup-database"], "03:00");
    let role = "services.gen-topology.facts.database.role = \"shard\";";
    work.write(
        "module.nix",
        module.replace("./plain.nix {", &format!("./plain.nix {{ {role}")),
    );
    let Some(output) = evaluate_module(&work) else {
        return;
    };
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "a part of the data is copied");
    assert!(said.contains("on several replica sets"), "{said}");
}
