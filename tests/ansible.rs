//! The export for Ansible, run for real: plain Debian 12 machines with systemd and sshd, as containers of
//! the tests' own engine. The playbook runs twice, and the second time changes nothing.

#![expect(clippy::expect_used, reason = "a test may stop")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use serde_json::Value;

use crate::common::turn::Turn;
use crate::common::{PROGRAM, REPOSITORY, TestEnvironment, not_run, note};
use crate::compose::engine::{self, Engine, Kind, good};
use crate::compose::{https, is_encrypted, machine, wait};
use crate::export::certificate;

const IMAGE: &str = "gen-topology-test-machine";
const PAGE: &str = "http://10.20.0.10/";
/// The preferred load balancer and the first app server.
const BALANCER: &str = "10.20.0.16";
const APP: &str = "10.20.0.64";

/// A node of each tier, or with this variable all machines of the shipped stack: twice the time.
const ALL: &str = "GEN_TOPOLOGY_ALL_MACHINES";

/// A stack's export, its secrets and a key for the machines.
fn export(environment: &TestEnvironment, topology: &str) -> PathBuf {
    let own = Path::new(REPOSITORY);
    let text = fs::read_to_string(own.join(topology)).expect("a topology");
    let text = text.replace("\"../", "\"./");
    let mut text: Value = serde_json::from_str(&text).expect("JSON");
    text["load_balancer"]["tls"] = https();
    environment.write("topology.json", text.to_string());
    let (authority, certificate) = certificate();
    environment.write("authority.pem", authority);
    environment.write(".gen-topology/secrets/certificates/site.pem", certificate);
    let mut copy = Command::new("cp");
    good(
        copy.arg("-rT")
            .arg(own.join("app"))
            .arg(environment.path("app")),
    );
    environment.run(&["secrets", "init"]).exits(0);
    environment.run(&["export", "ansible"]).exits(0);
    let key = environment.path("key");
    good(
        Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-f"])
            .arg(key),
    );
    // As it is delivered: what a debugger reads would be most of what is copied.
    let mut strip = Command::new("strip");
    let own = environment.path("gen-topology");
    good(strip.arg("-o").arg(own).arg(PROGRAM));
    environment.path("export/ansible")
}

/// Makes the machines' image, with what the playbook will install in its caches.
fn build(builder: &Engine, environment: &TestEnvironment) {
    let place = environment.path("image");
    let own = Path::new(REPOSITORY);
    fs::create_dir_all(&place).expect("a directory");
    let copied = [
        ("tests/ansible/Dockerfile", "Dockerfile"),
        ("app/requirements.txt", "requirements.txt"),
    ];
    for (from, to) in copied {
        fs::copy(own.join(from), place.join(to)).expect("a copy");
    }
    let playbook = environment.read("export/ansible/site.yaml");
    let wheel = playbook
        .lines()
        .find_map(|line| line.trim().strip_prefix("content: \"fiftyone"));
    let wheel = wheel
        .and_then(|rest| rest.strip_suffix("\\n\""))
        .expect("the wheel's line");
    fs::write(place.join("mongod.txt"), format!("fiftyone{wheel}\n")).expect("a file");
    builder.ask(&[
        "build",
        "--network",
        "host",
        "--tag",
        IMAGE,
        &place.display().to_string(),
    ]);
}

/// Nodes and their addresses.
fn nodes(environment: &TestEnvironment) -> Vec<(String, String)> {
    let topology: Value = serde_json::from_str(&environment.read("topology.json")).expect("JSON");
    let nodes = topology["nodes"].as_object().expect("nodes");
    let address = |node: &Value| node["address"].as_str().expect("an address").to_owned();
    nodes
        .iter()
        .map(|(name, node)| (name.clone(), address(node)))
        .collect()
}

fn node_at(environment: &TestEnvironment, address: &str) -> String {
    let mut nodes = nodes(environment).into_iter();
    let node = nodes.find(|(_, other)| other == address);
    node.expect("a node has the address").0
}

/// Boots a machine for each node.
fn boot(engine: &Engine, environment: &TestEnvironment) {
    engine.ask(&["network", "create", "--subnet", "10.20.0.0/24", "stack"]);
    let key = environment.read("key.pub");
    for (name, address) in nodes(environment) {
        let arguments = [
            "run",
            "--detach",
            "--cap-add",
            "ALL",
            // Some machines have not got it to give.
            "--cap-drop",
            "SYS_RESOURCE",
            "--security-opt",
            "seccomp=unconfined",
            "--security-opt",
            "systempaths=unconfined",
            "--cgroupns",
            "private",
            "--name",
            &name,
            "--hostname",
            &name,
            "--network",
            "stack",
            "--ip",
            &address,
            "--tmpfs",
            "/run",
            "--tmpfs",
            "/tmp:exec",
            "--env",
            "container=docker",
            IMAGE,
        ];
        engine.ask(&arguments);
        let add = format!("echo '{}' >/root/.ssh/authorized_keys", key.trim());
        engine.ask(&["exec", &name, "sh", "-c", &add]);
    }
    for (name, _) in nodes(environment) {
        wait(60, &format!("sshd of {name}"), || {
            engine
                .docker(&["exec", &name, "systemctl", "is-active", "ssh"])
                .status
                .success()
        });
    }
}

/// Runs the playbook, and gives the lines of its summary.
fn play(engine: &Engine, environment: &TestEnvironment, directory: &Path) -> Vec<String> {
    let begun = Instant::now();
    let mut command = engine.inside("ansible-playbook");
    command
        .args(["site.yaml", "--inventory", "inventory.yaml", "--extra-vars"])
        .arg(format!(
            "program={}",
            environment.path("gen-topology").display()
        ))
        .current_dir(directory)
        .env("HOME", environment.path("home"))
        .env("ANSIBLE_REMOTE_USER", "root")
        .env("ANSIBLE_PRIVATE_KEY_FILE", environment.path("key"))
        .env("ANSIBLE_HOST_KEY_CHECKING", "False")
        .env("ANSIBLE_PIPELINING", "True")
        .env("ANSIBLE_NOCOLOR", "1");
    let said = good(&mut command);
    let took = begun.elapsed().as_secs_f64();
    note(&format!("playbook: {took:.0} s"));
    let summary = said.split("PLAY RECAP").nth(1).expect("a summary");
    let lines: Vec<String> = summary
        .lines()
        .skip(1)
        .filter(|line| line.contains("ok="))
        .map(str::to_owned)
        .collect();
    assert_eq!(lines.len(), nodes(environment).len(), "{said}");
    // Read where a test wants nothing to have changed.
    fs::write(environment.path("changes.txt"), changes(&said)).expect("a file");
    lines
}

/// Tasks that changed something.
fn changes(said: &str) -> String {
    let mut task = "";
    let mut found = String::new();
    for line in said.lines() {
        if line.starts_with("TASK") || line.starts_with("RUNNING HANDLER") {
            task = line;
        } else if line.starts_with("changed:") {
            found.push_str(&format!("{task} {line}\n"));
        }
    }
    found
}

fn answers(engine: &Engine, url: &str) -> Option<String> {
    let output = engine
        .inside("curl")
        .args(["-sf", "-m", "2", url])
        .output()
        .expect("curl starts");
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Only what the flows need comes into an app server, and it is the firewall that keeps the rest out.
fn doors(engine: &Engine, environment: &TestEnvironment) {
    let inside = &format!("http://{APP}/readyz");
    let app = &node_at(environment, APP);
    assert!(answers(engine, inside).is_none(), "past the load balancers");
    let table = "nft delete table inet gen_topology_firewall";
    engine.ask(&["exec", app, "sh", "-c", table]);
    assert!(
        answers(engine, inside).is_some(),
        "it was not the firewall that closed it"
    );
    let load = "systemctl reload gen-topology-firewall.service";
    engine.ask(&["exec", app, "sh", "-c", load]);
    assert!(answers(engine, inside).is_none(), "not loaded again");
}

/// haproxy and then, where there is another one, the whole preferred load balancer die; visitors go on.
fn failures(engine: &Engine, environment: &TestEnvironment) {
    let serves = || answers(engine, PAGE).is_some();
    let balancer = &node_at(environment, BALANCER);
    let kill = "kill -KILL $(pidof haproxy)";
    engine.ask(&["exec", balancer, "sh", "-c", kill]);
    wait(5, "the page, haproxy killed", serves);
    let active = [
        "exec",
        balancer,
        "systemctl",
        "is-active",
        "haproxy.service",
    ];
    wait(10, "systemd starts haproxy again", || {
        engine.docker(&active).status.success()
    });
    if nodes(environment).len() > 3 {
        engine.ask(&["kill", balancer]);
        wait(5, "the page, the machine killed", serves);
    }
}

/// No unit has failed, and the rules are there.
fn is_well(engine: &Engine, name: &str) {
    let listed = [
        "exec",
        name,
        "systemctl",
        "--failed",
        "--plain",
        "--no-legend",
    ];
    assert_eq!(engine.ask(&listed), "", "{name}");
    let rules = [
        "exec",
        name,
        "nft",
        "list",
        "table",
        "inet",
        "gen_topology_firewall",
    ];
    let rules = engine.ask(&rules);
    assert!(rules.contains("policy drop"), "{name}: {rules}");
}

/// Why the test can't run here.
fn obstacle() -> Option<String> {
    let programs = ["ansible-playbook", "ssh-keygen", "curl", "strip"];
    let missing = programs
        .into_iter()
        .find(|program| gen_topology::exec::find(program).is_none());
    engine::obstacle().or(missing.map(|program| format!("{program} is not here")))
}

#[test]
#[ignore = "needs root and Debian's docker.io, mmdebstrap and ansible-core: cargo test -- --ignored"]
fn the_playbook_makes_plain_machines_the_stack() {
    if let Some(why) = obstacle() {
        return not_run(&why);
    }
    let _turn = Turn::alone();
    let before = machine();
    let environment = TestEnvironment::new();
    let is_all = std::env::var_os(ALL).is_some();
    let topology = ["examples/single.json", "topology.json"][usize::from(is_all)];
    let directory = export(&environment, topology);
    let builder = match Engine::start(Kind::Builder) {
        Ok(builder) => builder,
        Err(why) => return not_run(&why),
    };
    engine::supply(&builder, Path::new(PROGRAM));
    build(&builder, &environment);
    drop(builder);
    let engine = match Engine::start(Kind::Runner) {
        Ok(engine) => engine,
        Err(why) => return not_run(&why),
    };
    boot(&engine, &environment);
    let first = play(&engine, &environment, &directory);
    let is_changed = |line: &String| line.contains("failed=0") && !line.contains("changed=0 ");
    assert!(first.iter().all(is_changed), "{first:?}");
    wait(30, "the page", || {
        answers(&engine, PAGE).is_some_and(|page| page.contains("<html"))
    });
    let second = play(&engine, &environment, &directory);
    let is_same = |line: &String| line.contains("failed=0") && line.contains("changed=0 ");
    assert!(
        second.iter().all(is_same),
        "{second:?}\n{}",
        environment.read("changes.txt")
    );
    for (name, _) in nodes(&environment) {
        is_well(&engine, &name);
    }
    is_encrypted(&engine, &environment.path("authority.pem"), "10.20.0.10");
    doors(&engine, &environment);
    failures(&engine, &environment);
    for (name, _) in nodes(&environment) {
        engine.ask(&["rm", "--force", "--volumes", &name]);
    }
    drop(engine);
    assert_eq!(machine(), before, "something is left on this machine");
}
