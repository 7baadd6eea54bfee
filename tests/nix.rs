//! The Nix files: their syntax and format, the flake's outputs evaluated with a
//! stand-in for nixpkgs (`tests/nix/`), what is said to those whose files don't fit
//! together, and the scripts of the VM tests. Nothing is built and no store is used.

#![expect(clippy::expect_used, reason = "a test may stop")]

mod program;
mod project;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use gen_topology::exec;
use gen_topology::render::escape;
use proptest::prelude::*;
use serde_json::Value;

use crate::common::{REPOSITORY, TestEnvironment, not_run, tool};

/// The modules that `hosts/` and `docs/nixos.md` use.
const OWN_UNITS: [&str; 5] = [
    "haproxy",
    "keepalived",
    "supervisord",
    "mongod",
    "reconcile-database",
];

fn repository(path: &str) -> PathBuf {
    Path::new(REPOSITORY).join(path)
}

/// Every file of the repository that ends with `.nix`.
fn nix_files() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut directories = vec![PathBuf::from(REPOSITORY)];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).expect("a directory").flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = entry.path();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                if !name.starts_with('.') && name != "target" {
                    directories.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == "nix") {
                found.push(path);
            }
        }
    }
    found.sort();
    assert!(found.len() > 40, "only {} Nix files", found.len());
    found
}

/// `nix-instantiate` with a store that holds nothing, or says why not.
fn nix() -> Option<Command> {
    let Some(program) = exec::find("nix-instantiate") else {
        not_run("nix-instantiate is not here (Debian package nix-bin)");
        return None;
    };
    let mut command = Command::new(program);
    command.args(["--store", "dummy://", "--readonly-mode"]);
    Some(command)
}

/// The same for evaluating: with the library of nixpkgs where `GEN_TOPOLOGY_NIXPKGS` or
/// `NIX_PATH` say where that is, else with a stand-in for it, too.
fn evaluation() -> Option<Command> {
    let nixpkgs = nixpkgs();
    let mut command = nix()?;
    command
        .args(["--eval", "--strict", "--json"])
        .env("GEN_TOPOLOGY_NIXPKGS", nixpkgs.unwrap_or_default());
    Some(command)
}

/// nixpkgs, or at least its `lib`, if it is here.
fn nixpkgs() -> Option<PathBuf> {
    let named = std::env::var_os("GEN_TOPOLOGY_NIXPKGS").map(PathBuf::from);
    let nixpkgs = named.or_else(|| {
        let mut command = Command::new(exec::find("nix-instantiate")?);
        let found = command.args(["--find-file", "nixpkgs"]).output().ok()?;
        let path = String::from_utf8(found.stdout).ok()?;
        found.status.success().then(|| PathBuf::from(path.trim()))
    });
    nixpkgs.filter(|nixpkgs| nixpkgs.join("lib/modules.nix").is_file())
}

#[track_caller]
fn json(output: &Output) -> Value {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// What `tests/nix/evaluate.nix` says of the flake.
fn outputs() -> Option<Value> {
    let output = evaluation()?
        .arg(repository("tests/nix/evaluate.nix"))
        .output()
        .expect("Nix starts");
    Some(json(&output))
}

/// Without the real library the rest of these tests relies on the stand-in.
#[test]
fn the_stand_in_agrees_with_the_library_of_nixpkgs() {
    let (Some(real), Some(mut command)) = (outputs(), evaluation()) else {
        return;
    };
    if nixpkgs().is_none() {
        return not_run("nixpkgs is not here; set GEN_TOPOLOGY_NIXPKGS to a checkout of it");
    }
    command
        .arg(repository("tests/nix/evaluate.nix"))
        .env("GEN_TOPOLOGY_NIXPKGS", "");
    let stand_in = json(&command.output().expect("Nix starts"));
    assert!(real == stand_in, "the stand-in evaluates something else");
}

fn keys(value: &Value) -> BTreeSet<&str> {
    value
        .as_object()
        .expect("an object")
        .keys()
        .map(String::as_str)
        .collect()
}

/// The text of a file of the repository.
fn read(path: &str) -> String {
    fs::read_to_string(repository(path)).expect(path)
}

fn read_json(path: &str) -> Value {
    serde_json::from_str(&read(path)).expect(path)
}

#[test]
fn every_file_is_nix() {
    let files = nix_files();
    for path in &files {
        let text = fs::read_to_string(path).expect("a file");
        let errors = rnix::Root::parse(&text);
        assert!(
            errors.errors().is_empty(),
            "{}: {:?}",
            path.display(),
            errors.errors()
        );
    }
    let Some(mut command) = nix() else { return };
    let output = command
        .arg("--parse")
        .args(&files)
        .output()
        .expect("Nix starts");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// RFC 166, by a port of the official formatter.
#[test]
fn every_file_is_formatted() {
    for path in nix_files() {
        let text = fs::read_to_string(&path).expect("a file");
        let formatted = nixfmt_rs::format(&text).expect("a file that can be formatted");
        assert!(text == formatted, "{}: run `nix fmt`", path.display());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, failure_persistence: None, ..ProptestConfig::default() })]

    /// Real Nix reads back what the escaping function has written. Nix has no NUL in strings.
    #[test]
    fn strings_read_back(
        plain in prop::collection::vec("(?s)[^\0]{0,30}", 40),
        tricky in prop::collection::vec(r#"[\r\n\t"'$\{\}\\ aä€😀]{0,20}"#, 80),
    ) {
        let texts: Vec<String> = plain.into_iter().chain(tricky).collect();
        let list: Vec<String> = texts.iter().map(|text| escape::nix(text)).collect();
        let Some(mut command) = nix() else { return Ok(()) };
        let output = command.args(["--eval", "--strict", "--json", "--expr"]).arg(format!("[ {} ]", list.join(" ")));
        let read = json(&output.output().expect("Nix starts"));
        prop_assert_eq!(read, serde_json::to_value(texts).expect("JSON"));
    }
}

#[test]
fn the_flake_has_what_it_promises() {
    let Some(outputs) = outputs() else { return };
    let nodes = read_json("topology.json");
    let nodes = keys(&nodes["nodes"]);
    assert_eq!(keys(&outputs["toplevels"]), nodes, "nixosConfigurations");
    for system in ["x86_64-linux", "aarch64-linux"] {
        let apps = &outputs["apps"][system];
        assert_eq!(
            keys(apps),
            BTreeSet::from(["default", "deploy", "gen-topology", "lab", "vms"])
        );
        for name in keys(apps) {
            // `nix flake check` refuses any other attribute.
            assert_eq!(
                keys(&apps[name]),
                BTreeSet::from(["meta", "program", "type"]),
                "{name}"
            );
            assert_eq!(apps[name]["type"], "app");
        }
        assert_eq!(keys(&outputs["images"][system]), nodes, "images");
        for (node, images) in outputs["images"][system].as_object().expect("images") {
            assert_eq!(
                keys(images),
                BTreeSet::from(["openstack", "qemu", "virtualbox"]),
                "{node}"
            );
        }
    }
    let checks: Vec<&str> = outputs["checks"]["x86_64-linux"]
        .as_array()
        .expect("checks")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    let tests: BTreeSet<String> = fs::read_dir(repository("tests/nixos"))
        .expect("tests")
        .flatten()
        .filter_map(|entry| Some(entry.file_name().to_str()?.strip_suffix(".nix")?.to_owned()))
        .filter(|name| !["default", "node"].contains(&name.as_str()))
        .map(|name| format!("vm-{name}"))
        .collect();
    let vm_checks: BTreeSet<String> = checks
        .iter()
        .filter(|name| name.starts_with("vm-"))
        .map(|name| (*name).to_owned())
        .collect();
    assert_eq!(vm_checks, tests);
    for name in [
        "formatting",
        "haproxy",
        "hosts-shipped",
        "nginx",
        "package",
        "test-scripts",
    ] {
        assert!(checks.contains(&name), "{name} is no check");
    }
    let containers = outputs["containerTests"].as_object().expect("tests");
    for (name, test) in containers {
        assert_eq!(test["kvm"], false, "{name} would need KVM");
    }
    // Each test runs both ways.
    let both: BTreeSet<String> = containers
        .keys()
        .map(|name| name.replacen("container-", "vm-", 1))
        .collect();
    assert_eq!(both, tests);
    assert_eq!(outputs["virtualbox"]["node-1"]["nic1"], "intnet");
    assert_eq!(outputs["template"], true);
}

#[test]
fn machines_get_every_rendered_file() {
    let Some(outputs) = outputs() else { return };
    for (node, host) in outputs["hosts"].as_object().expect("hosts") {
        let facts = read_json(&format!("hosts/{node}/node.json"));
        let etc = keys(&host["etc"]);
        for file in keys(&facts["files"]) {
            let path = file.strip_prefix("etc/").expect("a path below etc/");
            assert!(etc.contains(path), "{node}: {path} is not deployed");
            let source = host["etc"][path].as_str().expect("a path");
            assert!(
                source.ends_with(&format!("hosts/{node}/{file}")),
                "{node}: {path} is {source}"
            );
        }
        for path in ["gen-topology/node.json", "gen-topology/gen-topology"] {
            assert!(etc.contains(path), "{node}: {path} is not there");
        }
    }
    let app = &outputs["hosts"]["node-2"];
    assert!(
        keys(&app["etc"]).is_superset(&BTreeSet::from(["gen-topology/app", "gen-topology/python"]))
    );
    assert_eq!(app["nginx"]["enableReload"], true);
    assert_eq!(app["nginx"]["virtualHosts"], serde_json::json!({}));
}

#[test]
fn services_are_ordered_supervised_and_confined() {
    let Some(outputs) = outputs() else { return };
    let mut seen = BTreeSet::new();
    for (node, host) in outputs["hosts"].as_object().expect("hosts") {
        for (name, unit) in host["units"].as_object().expect("units") {
            let service = &unit["serviceConfig"];
            if name == "nginx" {
                // Upstream's; ours is only when it does not start.
                assert!(service.as_object().is_none_or(serde_json::Map::is_empty));
                continue;
            }
            if name == "gen-topology-firewall" {
                // It does its work once and ends, and `firewalls_are_the_rendered_ones` has the rest.
                assert_eq!(
                    service["CapabilityBoundingSet"],
                    serde_json::json!(["CAP_NET_ADMIN"])
                );
                assert_eq!(service["NoNewPrivileges"], true);
                continue;
            }
            assert!(OWN_UNITS.contains(&name.as_str()), "{node}: {name}");
            seen.insert(name.as_str());
            let text = |key: &str| service[key].as_str().unwrap_or_default().to_owned();
            assert_eq!(text("Type"), "exec", "{name}");
            assert!(
                ["always", "on-failure"].contains(&text("Restart").as_str()),
                "{name}"
            );
            assert_eq!(
                unit["unitConfig"]["StartLimitIntervalSec"], 0,
                "{name} would be given up"
            );
            assert_eq!(text("ProtectSystem"), "strict", "{name}");
            assert_eq!(service["NoNewPrivileges"], true, "{name}");
            assert!(
                !service["CapabilityBoundingSet"].is_null(),
                "{name} has every capability"
            );
            assert!(!service["SystemCallFilter"].is_null(), "{name}");
            assert!(
                unit["after"].to_string().contains("network-online.target"),
                "{name}"
            );
            assert!(
                unit["wants"].to_string().contains("network-online.target"),
                "{name}"
            );
            assert!(
                unit["wantedBy"].to_string().contains("multi-user.target"),
                "{name}"
            );
        }
    }
    assert_eq!(seen, BTreeSet::from(OWN_UNITS));
    let unit = |node: &str, name: &str| outputs["hosts"][node]["units"][name].clone();
    // After haproxy when starting, so before it when stopping.
    assert!(
        unit("node-1", "keepalived")["after"]
            .to_string()
            .contains("haproxy.service")
    );
    for (node, name) in [
        ("node-1", "haproxy"),
        ("node-1", "keepalived"),
        ("node-2", "supervisord"),
    ] {
        assert_ne!(
            unit(node, name)["reloadTriggers"],
            serde_json::json!([]),
            "{name} does not reload"
        );
        assert!(
            !unit(node, name)["serviceConfig"]["ExecReload"].is_null(),
            "{name} can't reload"
        );
    }
    let mongod = unit("node-3", "mongod");
    assert!(mongod["serviceConfig"]["TimeoutStopSec"].as_u64() >= Some(60));
    // It ends its programs in turn: two instances of gunicorn, 40 s each, and what drains the node, 10 s.
    let supervisord = unit("node-2", "supervisord");
    assert_eq!(supervisord["serviceConfig"]["TimeoutStopSec"], 95);
    assert!(
        unit("node-3", "reconcile-database")["after"]
            .to_string()
            .contains("mongod.service")
    );
}

/// The rendered firewall, before there is an address to reach, and no other one beside it.
#[test]
fn firewalls_are_the_rendered_ones() {
    let Some(outputs) = outputs() else { return };
    for (node, host) in outputs["hosts"].as_object().expect("hosts") {
        assert_eq!(host["firewall"]["enable"], false, "{node}");
        let source = host["etc"]["gen-topology/firewall.nft"].as_str();
        let wanted = format!("/hosts/{node}/etc/gen-topology/firewall.nft");
        assert!(
            source.expect("a firewall").ends_with(&wanted),
            "{node}: {source:?}"
        );
        let unit = &host["units"]["gen-topology-firewall"];
        assert!(
            unit["before"].to_string().contains("network-pre.target"),
            "{node}"
        );
        let reload = unit["serviceConfig"]["ExecReload"].as_str();
        assert!(
            reload.expect("a reload").ends_with("node load-firewall"),
            "{node}"
        );
        assert!(
            unit["reloadTriggers"].to_string().contains("firewall.nft"),
            "{node}"
        );
    }
}

/// What the VM tests' machines are made from is what the topology files say today.
#[test]
fn hosts_of_the_vm_tests_are_fresh() {
    let work = TestEnvironment::new();
    for (topology, hosts) in [
        ("examples/ha.json", "tests/nixos/hosts/ha"),
        ("tests/nixos/topologies/acme.json", "tests/nixos/hosts/acme"),
        ("tests/nixos/topologies/apps.json", "tests/nixos/hosts/apps"),
        (
            "tests/nixos/topologies/changed.json",
            "tests/nixos/hosts/changed",
        ),
        (
            "tests/nixos/topologies/grown.json",
            "tests/nixos/hosts/grown",
        ),
        (
            "tests/nixos/topologies/https.json",
            "tests/nixos/hosts/https",
        ),
        (
            "tests/nixos/topologies/three.json",
            "tests/nixos/hosts/three",
        ),
    ] {
        let topology = repository(topology).display().to_string();
        let hosts = repository(hosts).display().to_string();
        work.run(&["-f", &topology, "generate", "--check", "--output", &hosts])
            .exits(0);
    }
}

/// The driver's build type-checks and lints the scripts; the same here, where the tools are.
#[test]
fn scripts_of_the_vm_tests_are_sound() {
    let Some(outputs) = outputs() else { return };
    let (Some(mypy), Some(pyflakes)) = (tool("mypy"), tool("pyflakes")) else {
        return;
    };
    let work = TestEnvironment::new();
    let stubs = read("tests/nix/stubs.py");
    let mut types = Command::new(mypy);
    types
        .current_dir(work.path(""))
        .args(["--no-implicit-optional", "--cache-dir", "/dev/null"]);
    for kind in ["tests", "containerTests"] {
        for (name, test) in outputs[kind].as_object().expect("tests") {
            let machines: Vec<String> = keys(&test["machines"])
                .iter()
                .map(|name| name.replace('-', "_"))
                .collect();
            let hints: String = machines
                .iter()
                .fold(String::new(), |all, name| all + name + ": QemuMachine\n");
            let script = test["script"].as_str().expect("a script");
            let typed = name.replace('-', "_") + ".py";
            work.write(&typed, format!("{stubs}\n\n{hints}\n{script}"));
            types.arg(typed);
            work.write("script", script);
            let lint = Command::new(&pyflakes)
                .arg(work.path("script"))
                .env(
                    "PYFLAKES_BUILTINS",
                    machines.join(",") + ",os,start_all,subtest,retry",
                )
                .output()
                .expect("pyflakes starts");
            let said = String::from_utf8_lossy(&lint.stdout);
            assert!(lint.status.success(), "{name}: {said}");
        }
    }
    let output = types.output().expect("mypy starts");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
}
