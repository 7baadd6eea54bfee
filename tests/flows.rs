//! The flows that follow from a topology, and whether a running lab lets in those and no others.

#![expect(clippy::expect_used, reason = "a test may stop")]

use std::collections::BTreeSet;
use std::fs;
use std::net::Ipv4Addr;
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::common::lab::Bench;
use crate::common::{PROGRAM, TOPOLOGY, TestEnvironment, not_run};

/// A connection that is tried: from, to, port.
type Door = (String, String, u16);

fn flows(text: &[u8]) -> Vec<Value> {
    let shown: Value = serde_json::from_slice(text).expect("JSON");
    shown["flows"].as_array().expect("flows").clone()
}

/// Whether the derived list has a connection.
fn is_needed(flows: &[Value], (from, to, port): &Door) -> bool {
    let names = |end: &Value, address: &str| {
        let all = end["addresses"].as_array().expect("addresses").iter();
        all.filter_map(Value::as_str)
            .any(|one| one == address || one == "0.0.0.0/0")
    };
    flows.iter().any(|flow| {
        flow["protocol"] == "tcp"
            && flow["port"] == *port
            && names(&flow["from"], from)
            && names(&flow["to"], to)
    })
}

#[test]
fn flows_follow_from_the_topology() {
    let work = TestEnvironment::with(TOPOLOGY);
    insta::assert_snapshot!(work.run(&["show", "flows"]).exits(0).stdout);
    insta::assert_snapshot!(
        work.run(&["show", "flows", "--format", "dot"])
            .exits(0)
            .stdout
    );
    let shown = work.run(&["show", "flows", "--format", "json"]).exits(0);
    let all = flows(shown.stdout.as_bytes());
    let door = |from: &str, to: &str, port| (from.to_owned(), to.to_owned(), port);
    assert!(is_needed(&all, &door("10.20.0.64", "10.20.0.32", 27017)));
    assert!(!is_needed(&all, &door("10.20.0.16", "10.20.0.32", 27017)));
    assert!(!is_needed(&all, &door("203.0.113.5", "10.20.0.16", 8404)));
    work.run(&["show", "--format", "dot"]).exits(64);
}

#[test]
fn who_administers_is_named_by_address_or_subnet() {
    let with = |administration: &str| {
        let key = format!("\"administration\": {administration}, \"subnet\"");
        TestEnvironment::with(TOPOLOGY.replace("\"subnet\"", &key))
    };
    let work = with(r#"["192.0.2.7", "198.51.100.0/24"]"#);
    let shown = work.run(&["show", "flows", "--format", "json"]).exits(0);
    let all = flows(shown.stdout.as_bytes());
    let ssh = |from: &str| is_needed(&all, &(from.to_owned(), "10.20.0.32".to_owned(), 22));
    assert!(ssh("192.0.2.7") && !ssh("203.0.113.5"));
    work.run(&["generate"]).exits(0);
    let rules = work.read("hosts/db-1/etc/gen-topology/firewall.nft");
    assert!(
        rules.contains("            192.0.2.7,\n            198.51.100.0/24,\n"),
        "{rules}"
    );
    for wrong in [
        r#"["192.0.2.7/24"]"#,
        r#"["2001:db8::1"]"#,
        "[7]",
        "\"192.0.2.7\"",
    ] {
        let said = with(wrong).run(&["check"]).exits(3).stderr;
        assert!(said.contains("administration"), "{wrong}: {said}");
    }
}

/// A thousand nodes more are a thousand addresses, and not one rule.
#[test]
fn rules_are_as_many_however_many_nodes_there_are() {
    let rules = |text: &str| {
        let work = TestEnvironment::with(text);
        work.run(&["generate"]).exits(0);
        let rules = work.read("hosts/db-1/etc/gen-topology/firewall.nft");
        rules
            .lines()
            .filter(|line| line.ends_with(" accept"))
            .count()
    };
    let mut many = String::new();
    for index in 0..1000 {
        let (high, low) = (10 + index / 250, 1 + index % 250);
        many.push_str(&format!(
            "\"more-{index}\": {{ \"tier\": \"app\", \"address\": \"10.20.{high}.{low}\" }},\n"
        ));
    }
    let large = TOPOLOGY
        .replace("10.20.0.0/24", "10.20.0.0/16")
        .replace("\"lb-1\"", &format!("{many}\"lb-1\""));
    assert_eq!(rules(&large), rules(TOPOLOGY));
}

/// Runs a script of the shell in a network namespace of its own.
fn apart(script: &str, arguments: &[&str]) -> Option<Output> {
    let output = Command::new("unshare")
        .args(["--net", "sh", "-ec", script, PROGRAM])
        .args(arguments)
        .output()
        .expect("unshare");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if said.contains("Operation not permitted") {
        not_run(&format!("no network namespace: {}", said.trim()));
        return None;
    }
    assert!(output.status.success(), "{said}");
    Some(output)
}

/// Who leaves keeps its doors until it is gone, and who is to come has them before it is named.
#[test]
fn a_change_of_the_rules_cuts_nobody_off() {
    let work = TestEnvironment::with(TOPOLOGY);
    let file = |name: &str, text: &str| {
        work.write("topology.json", text);
        work.run(&["generate"]).exits(0);
        let rules = work.read("hosts/db-1/etc/gen-topology/firewall.nft");
        work.write(name, rules);
        work.path(name).display().to_string()
    };
    let before = file("before.nft", TOPOLOGY);
    let after = file("after.nft", &TOPOLOGY.replace("10.20.0.65", "10.20.0.66"));
    let script = r#"
        "$0" node load-firewall "$1"
        echo '{"apps": ["10.20.0.66"], "strangers": ["10.20.0.99"]}' | "$0" node open-firewall
        nft list set inet gen_topology_firewall passing_apps
        echo =====
        "$0" node load-firewall "$2"
        nft list set inet gen_topology_firewall passing_apps
        echo =====
        nft list set inet gen_topology_firewall apps
        nft list tables
    "#;
    let Some(output) = apart(script, &[&before, &after]) else {
        return;
    };
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let parts: Vec<&str> = said.split("=====").collect();
    let [opened, passing, now] = parts.as_slice() else {
        unreachable!("{said}");
    };
    assert!(opened.contains("10.20.0.66 timeout 1h"), "{opened}");
    assert!(passing.contains("10.20.0.65 timeout 10m"), "{passing}");
    assert!(
        now.contains("10.20.0.66") && !now.contains("10.20.0.65"),
        "{now}"
    );
    assert!(!said.contains("10.20.0.99"), "{said}");
}

/// Listens on the ports that its arguments name, as many programs would, in the background.
const LISTEN: &str = r#"
import os, socket, sys
kept = []
for port in sys.argv[1:]:
    one = socket.socket()
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    one.bind(("0.0.0.0", int(port)))
    one.listen(64)
    kept.append(one)
if os.fork():
    os._exit(0)
os.setsid()
null = os.open(os.devnull, os.O_RDWR)
for number in range(3):
    os.dup2(null, number)
while True:
    for one in kept:
        one.settimeout(60)
    try:
        kept[0].accept()[0].close()
    except OSError:
        pass
"#;

/// Tries every address and port at the same time, and prints those that answer. A connection
/// that is refused was let in: nothing listens, but the firewall did not say so.
const SCAN: &str = r"
import json, select, socket, sys, time
source, addresses, ports = json.loads(sys.argv[1])
poll, tried, found = select.poll(), {}, []
for address in addresses:
    for port in ports:
        one = socket.socket()
        one.setblocking(False)
        one.bind((source, 0))
        one.connect_ex((address, port))
        poll.register(one, select.POLLOUT | select.POLLERR | select.POLLHUP)
        tried[one.fileno()] = (one, address, port)
until = time.monotonic() + 2.5
while tried and time.monotonic() < until:
    for number, _ in poll.poll(200):
        one, address, port = tried.pop(number)
        poll.unregister(number)
        error = one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error in (0, 111):
            found.append([source, address, port])
        one.close()
print(json.dumps(found))
";

/// A port at which nothing of the stack listens.
const STRANGE: u16 = 7777;

/// What is reached from `source`, where `command` runs a program.
fn scan(mut command: Command, source: &str, targets: &[String], ports: &[u16]) -> BTreeSet<Door> {
    let question = json!([source, targets, ports]).to_string();
    let output = command
        .args(["python3", "-c", SCAN, &question])
        .output()
        .expect("a scan");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{source}: {said}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// The lab's own network, where its client is.
fn beside(anchor: &str) -> Command {
    let mut command = Command::new("nsenter");
    command.args(["--net", "--target", anchor]);
    command
}

/// Scans from every node and from both clients; compares with what the topology needs.
fn differences(bench: &Bench, places: &[(&str, Ipv4Addr)], anchor: &str) -> Vec<String> {
    let shown = bench.run(&["show", "flows", "--format", "json"]).stdout;
    let flows = flows(&shown);
    let virtual_ip = "10.20.0.10".to_owned();
    let nodes = places.iter().filter(|(name, _)| !name.is_empty());
    let mut targets: Vec<String> = nodes.map(|(_, address)| address.to_string()).collect();
    targets.push(virtual_ip.clone());
    let ports = [22, 80, 8404, 27017, STRANGE];
    let mut wrong = Vec::new();
    for (name, address) in places {
        let source = address.to_string();
        let command = if name.is_empty() {
            beside(anchor)
        } else {
            bench.command(&["lab", "exec", name, "--"])
        };
        // What a node says to itself needs no door; one of them has the virtual IP, too.
        let is_balancer = name.starts_with("lb-");
        let others = targets
            .iter()
            .filter(|target| **target != source && !(is_balancer && **target == virtual_ip));
        let others: Vec<String> = others.cloned().collect();
        let open = scan(command, &source, &others, &ports);
        for to in &others {
            for port in ports {
                let door = (source.clone(), to.clone(), port);
                match (open.contains(&door), is_needed(&flows, &door)) {
                    (true, false) => wrong.push(format!("open, not needed: {door:?}")),
                    (false, true) => wrong.push(format!("needed, closed: {door:?}")),
                    _ => {}
                }
            }
        }
    }
    wrong
}

/// From every node, from the administration and from a stranger in the same subnet, to every
/// address, at every port at which something listens and at one more.
#[test]
fn a_lab_lets_in_what_the_topology_needs_and_nothing_else() {
    let Some(bench) = Bench::new("flows", "examples/ha.json") else {
        return;
    };
    let text = fs::read_to_string(bench.topology()).expect("a topology");
    let key = "\"administration\": [\"10.20.0.254\"], \"subnet\"";
    fs::write(bench.topology(), text.replacen("\"subnet\"", key, 1)).expect("a topology");
    bench.expect(&["lab", "up"], 0);
    let status = bench.status();
    let name = status["name"].as_str().or(status["lab"].as_str());
    let anchor = bench
        .anchor(name.unwrap_or("ha"))
        .expect("the lab's anchor");
    let stranger: Ipv4Addr = "10.20.0.253".parse().expect("an address");
    let added = beside(&anchor)
        .args(["ip", "addr", "add", "10.20.0.253/24", "dev", "switch"])
        .status();
    assert!(added.expect("ip").success());

    let topology: Value =
        serde_json::from_slice(&bench.run(&["show", "--format", "json"]).stdout).expect("JSON");
    let nodes = topology["nodes"].as_array().expect("nodes").clone();
    let mut places: Vec<(&str, Ipv4Addr)> = nodes
        .iter()
        .map(|node| {
            let address = node["address"].as_str().expect("an address");
            let address = address.parse().expect("an address");
            (node["name"].as_str().expect("a name"), address)
        })
        .collect();
    for (node, _) in &places {
        let strange = STRANGE.to_string();
        let listen = [
            "lab", "exec", node, "--", "python3", "-c", LISTEN, "22", &strange,
        ];
        bench.expect(&listen, 0);
    }
    // Every port at which something listens is among those that are tried.
    for (node, _) in &places {
        let said = bench.expect(&["lab", "exec", node, "--", "ss", "-Hltn"], 0);
        for line in said.lines() {
            let local = line.split_whitespace().nth(3).unwrap_or_default();
            let (address, port) = local.rsplit_once(':').expect("a port");
            let port: u16 = port.parse().expect("a port");
            let is_own = address.starts_with("127.") || address == "[::1]";
            assert!(
                is_own || [22, 80, 8404, 27017, STRANGE].contains(&port),
                "{node} listens at {local}, which is not tried"
            );
        }
    }
    places.push(("", stranger));
    places.push(("", "10.20.0.254".parse().expect("an address")));

    assert_eq!(differences(&bench, &places, &anchor), Vec::<String>::new());

    // Without its rules a database is open, and the scan sees it.
    let gone = [
        "lab",
        "exec",
        "db-1",
        "--",
        "nft",
        "delete",
        "table",
        "inet",
        "gen_topology_firewall",
    ];
    bench.expect(&gone, 0);
    let seen = differences(&bench, &places, &anchor);
    assert!(
        seen.iter()
            .any(|line| line.contains("10.20.0.253\", \"10.20.0.32\", 27017")),
        "{seen:?}"
    );
    bench.expect(
        &[
            "lab",
            "exec",
            "db-1",
            "--",
            "/etc/gen-topology/gen-topology",
            "node",
            "load-firewall",
        ],
        0,
    );
    assert_eq!(differences(&bench, &places, &anchor), Vec::<String>::new());
}
