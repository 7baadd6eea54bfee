//! The stack on machines that are reached by ssh: nodes of a lab with a real sshd, the real daemons and a real
//! Nix store each, and a deployer beside them.

#![expect(clippy::expect_used, reason = "a test may stop")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Stdio;

use gen_topology::config::NodeFacts;
use gen_topology::machines::units;
use serde_json::Value;

use crate::apply::Load;
use crate::common::REPOSITORY;
use crate::common::machines::Machines;
use crate::lab::{add_entries, interrupt, wait};

#[test]
fn machines_are_reached_and_what_is_wrong_is_said() {
    let test = "machines_are_reached_and_what_is_wrong_is_said";
    let Some(machines) = Machines::new(test, "topology.json") else {
        return;
    };
    words_arrive_as_they_are(&machines);
    states_are_told(&machines);
    the_users_own_way_is_gone(&machines);
    data_are_copied_and_put_back(&machines);
    files_that_drifted_are_found(&machines);
    who_is_not_reached_is_said_with_what_to_do(&machines);
}

fn words_arrive_as_they_are(machines: &Machines) {
    let said = machines.expect(
        &["exec", "--on", "@app", "--", "echo", "it's $HOME *", "a  b"],
        0,
    );
    let mut lines: Vec<&str> = said.lines().collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        ["node-2 | it's $HOME * a  b", "node-4 | it's $HOME * a  b"]
    );
    // The worst exit code counts.
    let script = "echo seen >&2; [ $(hostname) = node-4 ] && exit 7; exit 3";
    let said = machines.expect(&["exec", "--on", "@app", "--", "sh", "-c", script], 7);
    assert!(said.contains("node-2 | seen"), "{said}");
    let said = machines.expect(&["ssh", "node-3", "--", "hostname"], 0);
    assert_eq!(said, "node-3\n");
    machines.expect(&["ssh", "node-3", "--", "false"], 1);
    machines.expect(&["ssh", "@app"], 64);
    // Nothing of ours stays behind.
    assert!(leftovers(machines).is_empty(), "{:?}", leftovers(machines));
}

/// Directories of sockets, and ssh's masters.
fn leftovers(machines: &Machines) -> Vec<String> {
    let temporary = fs::read_dir(machines.temporary()).expect("a directory");
    let names = temporary
        .flatten()
        .map(|entry| entry.file_name().display().to_string());
    let masters = machines.masters().into_iter().map(|(_, line)| line);
    names.chain(masters).collect()
}

fn states_are_told(machines: &Machines) {
    let said = machines.expect(&["status", "--format", "json"], 0);
    let status: Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!(status["owners"], serde_json::json!(["node-1"]));
    let nodes = status["nodes"].as_array().expect("nodes");
    assert!(nodes.iter().all(|node| node["state"] == "ready"), "{said}");
    let said = machines.expect(&["status", "--on", "@app"], 0);
    assert!(said.contains("node-4  app   10.20.0.65  ready"), "{said}");
    let said = machines.expect(&["status", "--on", "@database"], 0);
    assert!(said.contains("primary; term 1; oplog of"), "{said}");
    let database = nodes.iter().find(|node| node["name"] == "node-3");
    assert_eq!(database.expect("node-3")["database"]["votes"], true);
}

/// Another user than root, who becomes root by sudo, and a host between.
fn the_users_own_way_is_gone(machines: &Machines) {
    // Root by another name, and what sudo does, as far as it matters.
    let account = r#"set -e
        cp /etc/passwd /tmp/accounts
        echo 'ops:x:0:0::/root:/bin/sh' >> /tmp/accounts
        mount --bind /tmp/accounts /etc/passwd
        echo 'ops:*:19000:0:99999:7:::' >> /etc/shadow
        mkdir -p /run/current-system/sw/bin
        cd /run/current-system/sw/bin
        echo '#!/bin/sh' > sudo
        echo '[ "$1 $2" = "-n --" ] && shift 2 && BY=sudo exec "$@"' >> sudo
        chmod +x sudo"#;
    machines.inside("node-4", account);
    let by = ["exec", "--on", "node-4", "--user", "ops", "--"];
    let said = machines.expect(
        &[&by[..], &["sh", "-c", "echo $USER $BY \"it's\""]].concat(),
        0,
    );
    assert_eq!(said, "ops sudo it's\n");
    let said = machines.expect(&["status", "--on", "node-4", "--user", "ops"], 0);
    assert!(said.contains("node-4  app   10.20.0.65  ready"), "{said}");
    machines.inside("node-4", "rm -r /run/current-system");

    let own = machines.room().join("home/.ssh/config");
    fs::write(&own, "Host node-4\n    ProxyJump node-1\n").expect("a file");
    let said = machines.expect(
        &[
            "exec",
            "--on",
            "node-4",
            "--",
            "sh",
            "-c",
            "echo $SSH_CLIENT",
        ],
        0,
    );
    assert!(said.starts_with("10.20.0.16 "), "{said}");
    fs::remove_file(own).expect("a file");
}

fn data_are_copied_and_put_back(machines: &Machines) {
    add_entries(&machines.bench, "node-2", 30);
    let rooms = || machines.inside("node-3", "ls /var/tmp | grep -c gen-topology- || true");
    assert_eq!(rooms(), "0\n");
    let mongod = gen_topology::lab::supplies::mongod();
    let mongod = mongod.ok().flatten().expect("a mongod");
    // The deployer does not see our home.
    fs::copy(mongod, machines.room().join("mongod")).expect("a copy of mongod");
    let said = machines.expect(&["backup", "monday", "--mongod", "deployer/mongod"], 0);
    let copied = "from node-3; put back into a scratch mongod and counted";
    assert!(said.contains(copied), "{said}");
    let said = machines.expect(&["backup", "monday"], 1);
    assert!(said.contains("is there already"), "{said}");
    // Without a mongod to try it with, that is said.
    let said = machines.expect(&["backup", "tuesday"], 0);
    assert!(
        said.contains("not tried, because there is no mongod"),
        "{said}"
    );

    add_entries(&machines.bench, "node-2", 5);
    let said = machines.expect(&["restore", "monday"], 1);
    assert!(
        said.contains("holds something; nothing was changed"),
        "{said}"
    );
    let said = machines.expect(&["restore", "monday", "--overwrite"], 0);
    assert!(said.contains("put back 30 documents"), "{said}");
    // What was damaged on its way changes nothing.
    let entries = machines
        .bench
        .directory
        .path()
        .join("tuesday/web/entries.bson");
    let mut bytes = fs::read(&entries).expect("the copy");
    bytes.truncate(bytes.len() / 2);
    fs::write(&entries, bytes).expect("the copy");
    let said = machines.expect(&["restore", "tuesday", "--overwrite"], 1);
    assert!(said.contains("tuesday"), "{said}");
    let said = machines.expect(&["backup", "wednesday"], 0);
    assert!(said.contains("30 documents"), "{said}");
    assert_eq!(rooms(), "0\n", "nothing stays on the machine");
    // Nobody who could be asked.
    machines.bench.expect(&["lab", "stop", "node-3"], 0);
    let said = machines.expect(&["backup", "thursday"], 1);
    assert!(
        said.contains("no database is primary: node-3 (10.20.0.32)"),
        "{said}"
    );
    assert!(!machines.bench.directory.path().join("thursday").exists());
    machines.bench.expect(&["lab", "start", "node-3"], 0);
    machines.serve("node-3");
}

fn files_that_drifted_are_found(machines: &Machines) {
    machines.expect(&["drift"], 0);
    machines.inside(
        "node-4",
        "cp /etc/nginx/app.conf /tmp/kept; echo '# mine' >> /etc/nginx/app.conf",
    );
    let said = machines.expect(&["drift"], 2);
    assert!(
        said.contains("node-4  changed  /etc/nginx/app.conf"),
        "{said}"
    );
    machines.inside("node-4", "rm /etc/nginx/app.conf");
    let said = machines.expect(&["drift", "--on", "@app", "--format", "json"], 2);
    let found: Value =
        serde_json::from_str(said.split("`gen-topology plan").next().expect("JSON")).expect("JSON");
    assert_eq!(found[0]["what"], "missing");
    machines.inside("node-4", "cp /tmp/kept /etc/nginx/app.conf");
    machines.expect(&["drift"], 0);
}

fn who_is_not_reached_is_said_with_what_to_do(machines: &Machines) {
    let etc = |node: &str| {
        machines
            .bench
            .labs()
            .join("machines/nodes")
            .join(node)
            .join("etc/ssh")
    };
    let known = machines.room().join("home/.ssh/known_hosts");
    let sound = fs::read_to_string(&known).expect("known hosts");

    // Another key than the one that is known: node-4 shows that of node-2.
    let swapped = sound
        .replace("10.20.0.64 ", "x ")
        .replace("10.20.0.65 ", "10.20.0.64 ");
    fs::write(&known, &swapped).expect("known hosts");
    let said = machines.expect(&["exec", "--on", "node-2", "--", "true"], 255);
    assert!(
        said.contains("node-2 (10.20.0.64) has another host key than the one known here"),
        "{said}"
    );
    assert!(said.contains("ssh-keygen -R 10.20.0.64"), "{said}");
    let said = machines.expect(&["exec", "--on", "node-4", "--", "true"], 255);
    assert!(
        said.contains("node-4 (10.20.0.65) is not known here"),
        "{said}"
    );
    fs::write(&known, &sound).expect("known hosts");

    // Nobody's key.
    fs::rename(
        etc("node-2").join("authorized_keys"),
        etc("node-2").join("away"),
    )
    .expect("a file");
    let said = machines.expect(&["drift"], 1);
    assert!(
        said.contains("node-2 (10.20.0.64) refuses the login"),
        "{said}"
    );
    assert!(said.contains("1 of 5 nodes could not be asked"), "{said}");
    fs::rename(
        etc("node-2").join("away"),
        etc("node-2").join("authorized_keys"),
    )
    .expect("a file");

    // No sshd, and nobody at that address at all.
    machines.inside("node-2", "kill $(cat /run/sshd.pid)");
    let said = machines.expect(&["status"], 1);
    assert!(said.contains("Connection refused"), "{said}");
    assert!(said.contains("unreachable"), "{said}");
    machines.bench.expect(&["lab", "cut", "node-4"], 0);
    let quick = [
        "exec",
        "--ssh-option",
        "ConnectTimeout=1",
        "--on",
        "node-4",
        "--",
        "true",
    ];
    let said = machines.expect(&quick, 255);
    assert!(
        said.contains("node-4 (10.20.0.65) is not reachable"),
        "{said}"
    );
    let said = machines.expect(&["exec", "--ssh-option", "Nonsense=1", "--", "true"], 255);
    assert!(
        said.contains("Bad configuration option: nonsense"),
        "{said}"
    );
    machines.expect(&["exec", "--ssh-option", "Nonsense", "--", "true"], 1);
}

#[test]
fn systems_are_rolled_out_and_a_bad_one_goes_back() {
    let test = "systems_are_rolled_out_and_a_bad_one_goes_back";
    let Some(machines) = Machines::new(test, "topology.json") else {
        return;
    };
    the_first_systems_arrive(&machines);
    a_change_reaches_all_and_back(&machines);
    a_system_that_fails_or_cuts_the_way_goes_back(&machines);
    what_is_wrong_is_said_before_anything_is_touched(&machines);
}

/// The systems that run, by node.
fn current(machines: &Machines) -> Vec<String> {
    let script = "readlink /run/current-system || echo none";
    let nodes = ["node-1", "node-2", "node-3", "node-4", "node-5"];
    nodes
        .iter()
        .map(|node| machines.inside(node, script).trim().to_owned())
        .collect()
}

fn the_first_systems_arrive(machines: &Machines) {
    let systems = machines.systems(&[]);
    // A dry run tells and touches nothing.
    machines.expect(&["deploy", "--closures", &systems, "--dry-run"], 0);
    let said = machines.expect(&["deploy", "--closures", &systems], 64);
    assert!(said.contains("pass --yes"), "{said}");
    assert_eq!(current(machines), ["none"; 5]);

    let said = machines.expect(&["deploy", "--closures", &systems, "--yes"], 0);
    assert!(said.contains("each node runs what was planned"), "{said}");
    let wanted = fs::read_to_string(&systems).expect("the systems");
    let wanted: BTreeMap<String, String> = serde_json::from_str(&wanted).expect("JSON");
    assert_eq!(
        current(machines),
        wanted.values().cloned().collect::<Vec<_>>()
    );
    // Confirmed: it is the profile, and what boots.
    let boots = machines.inside(
        "node-1",
        "readlink -f /nix/var/nix/profiles/system; tail -n 1 /var/log/switched",
    );
    assert_eq!(boots, format!("{0}\nboot {0}\n", wanted["node-1"]));
    // Nothing is kept that would keep old systems.
    machines.inside("node-1", "! ls /nix/var/nix/gcroots/gen-topology-*");
    let said = machines.expect(&["deploy", "--closures", &systems, "--yes"], 0);
    assert!(said.contains("nothing to do"), "{said}");
    let said = machines.expect(&["logs", "node-2", "-n", "3"], 0);
    assert_eq!(
        said,
        "journal --no-pager --quiet --output=short-iso --lines 3 --unit supervisord --unit nginx --unit mongos --unit watch-database\n"
    );
}

fn a_change_reaches_all_and_back(machines: &Machines) {
    let before = current(machines);
    machines.bench.expect(&["set", "app.workers", "3"], 0);
    machines
        .bench
        .expect(&["set", "load_balancer.max_connections", "4000"], 0);
    machines.expect(&["plan", "--against", "machines", "--exit-code"], 2);
    let systems = machines.systems(&[]);
    let load = Load::start(&machines.bench);
    let said = machines.expect(
        &[
            "deploy",
            "--closures",
            &systems,
            "--yes",
            "--canary",
            "1",
            "--bake",
            "1s",
        ],
        0,
    );
    load.lost_nothing("deploy");
    assert!(said.contains("node-5: reload haproxy"), "{said}");
    assert!(said.contains("watching 1 changed app servers"), "{said}");
    machines.inside("node-1", "grep 'maxconn 4000' /etc/haproxy/haproxy.cfg");
    let after = current(machines);
    let changed: Vec<bool> = before
        .iter()
        .zip(&after)
        .map(|(old, new)| old != new)
        .collect();
    assert_eq!(changed, [true, true, false, true, true]);

    // To the generation before, behind the same gates.
    let load = Load::start(&machines.bench);
    machines.expect(&["rollback", "--yes", "--on", "@load-balancer,@app"], 0);
    load.lost_nothing("rollback");
    let now = current(machines);
    assert_eq!(
        (&now[0], &now[2], &now[3]),
        (&before[0], &after[2], &before[3])
    );
    machines.expect(&["drift", "--on", "@app"], 2);
    machines.expect(&["deploy", "--closures", &systems, "--yes"], 0);
    assert_eq!(current(machines), after);
}

fn a_system_that_fails_or_cuts_the_way_goes_back(machines: &Machines) {
    let before = current(machines);
    // Services do not start: the machine goes back, and so does the step.
    machines.bench.expect(&["set", "app.workers", "2"], 0);
    let systems = machines.systems(&[("node-2", "broken")]);
    let load = Load::start(&machines.bench);
    let said = machines.expect(&["deploy", "--closures", &systems, "--yes"], 5);
    load.lost_nothing("a system that fails");
    assert!(
        said.contains("the following units failed: flaw.service"),
        "{said}"
    );
    assert!(
        said.contains("node-2 went back to what it was and is well"),
        "{said}"
    );
    assert_eq!(current(machines)[1], before[1]);
    let boots = machines.inside("node-2", "readlink -f /nix/var/nix/profiles/system");
    assert_eq!(boots.trim(), before[1]);

    // It runs, and can't be made what boots.
    let systems = machines.systems(&[("node-2", "unbootable")]);
    let said = machines.expect(&["deploy", "--closures", &systems, "--yes"], 5);
    assert!(said.contains("error: /boot is full"), "{said}");
    let boots = machines.inside(
        "node-2",
        "readlink -f /nix/var/nix/profiles/system; tail -n 1 /var/log/switched",
    );
    assert_eq!(boots, format!("{0}\nboot {0}\n", before[1]));
    assert_eq!(current(machines)[1], before[1]);

    // The change takes the network away: nobody can tell the machine, and it goes back.
    let systems = machines.systems(&[("node-2", "cut")]);
    let load = Load::start(&machines.bench);
    let said = machines.expect(
        &[
            "deploy",
            "--closures",
            &systems,
            "--yes",
            "--confirm-within",
            "4s",
        ],
        5,
    );
    load.lost_nothing("a system without a network");
    assert!(
        said.contains("node-2 went back to what it was and is well"),
        "{said}"
    );
    assert_eq!(current(machines)[1], before[1]);
    let switched = machines.inside("node-2", "tail -n 2 /var/log/switched");
    assert!(
        switched.ends_with(&format!("test {}\n", before[1])),
        "{switched}"
    );
    // It did so by itself, because nobody came.
    machines.inside(
        "node-2",
        "grep 'nobody confirmed it over a new connection within 4 s' /run/gen-topology/switch.json",
    );
    machines.expect(
        &["deploy", "--closures", &machines.systems(&[]), "--yes"],
        0,
    );
    machines.expect(&["status"], 0);
}

fn what_is_wrong_is_said_before_anything_is_touched(machines: &Machines) {
    let before = current(machines);
    let topology = fs::read(machines.bench.topology()).expect("a topology");
    machines
        .bench
        .expect(&["set", "app.secrets.API_TOKEN", "{}"], 0);
    let lacking = machines.systems(&[]);
    let said = machines.expect(&["deploy", "--closures", &lacking, "--yes"], 1);
    let secret = "node-2: the secret /var/lib/gen-topology/secrets/app/API_TOKEN is not there";
    assert!(
        said.contains(secret) && said.contains("nothing was touched"),
        "{said}"
    );
    fs::write(machines.bench.topology(), topology).expect("a topology");
    machines.bench.expect(&["set", "app.workers", "4"], 0);
    let stale = machines.systems(&[]);
    let deploy = [
        "deploy",
        "--closures",
        &stale,
        "--yes",
        "--ssh-option",
        "ConnectTimeout=1",
    ];
    let refused = |words: &str| {
        let said = machines.expect(&deploy, 1);
        assert!(
            said.contains("nothing was touched") && said.contains(words),
            "{said}"
        );
    };
    // A machine that is not there, one whose disk is full, one whose sshd has another key.
    machines.bench.expect(&["lab", "cut", "node-4"], 0);
    refused("node-4 (10.20.0.65) is not reachable");
    machines.bench.expect(&["lab", "heal", "node-4"], 0);
    machines.inside(
        "node-4",
        "dd if=/dev/zero of=/nix/full bs=1M count=230 2>/dev/null || true",
    );
    refused("MiB free for /nix");
    machines.inside("node-4", "rm /nix/full");
    let known = machines.room().join("home/.ssh/known_hosts");
    let sound = fs::read_to_string(&known).expect("known hosts");
    fs::write(
        &known,
        sound
            .replace("10.20.0.64 ", "x ")
            .replace("10.20.0.65 ", "10.20.0.64 "),
    )
    .expect("a file");
    refused("node-2 (10.20.0.64) has another host key");
    fs::write(&known, sound).expect("a file");
    // Systems of another topology.
    machines.bench.expect(&["set", "app.workers", "5"], 0);
    refused("the system of node-1 was not built from what the topology says now");
    machines.bench.expect(&["set", "app.workers", "4"], 0);
    assert_eq!(current(machines), before);
    machines.expect(&deploy, 0);
}

#[test]
fn a_roll_out_that_was_interrupted_goes_on() {
    let test = "a_roll_out_that_was_interrupted_goes_on";
    let Some(machines) = Machines::new(test, "topology.json") else {
        return;
    };
    machines.expect(
        &["deploy", "--closures", &machines.systems(&[]), "--yes"],
        0,
    );
    let before = current(&machines);
    machines.bench.expect(&["set", "app.workers", "3"], 0);
    let systems = machines.systems(&[("node-2", "slow"), ("node-4", "slow")]);
    let deploy = ["deploy", "--closures", &systems, "--yes"];
    let journal = machines
        .bench
        .directory
        .path()
        .join(".gen-topology/deploy.journal");
    let begun = |node: &str| {
        wait("a step to be begun", || {
            let text = fs::read_to_string(&journal).unwrap_or_default();
            text.lines()
                .last()
                .is_some_and(|line| line.contains("start") && line.contains(node))
        });
    };

    // Ctrl-C in the middle of a step, and a second one meanwhile.
    let first = machines
        .command(&deploy)
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program");
    begun("node-2");
    let said = machines.expect(&deploy, 1);
    assert!(said.contains("nothing was touched"), "{said}");
    assert!(
        said.contains("`gen-topology deploy") && said.contains("is changing node-1"),
        "{said}"
    );
    interrupt(&first);
    let output = first.wait_with_output().expect("output");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(130), "{said}");
    assert!(
        said.contains("`gen-topology deploy --resume` goes on"),
        "{said}"
    );
    let now = current(&machines);
    assert_ne!(now[1], before[1]);
    assert_eq!(now[3], before[3]);

    // Killed, with everything that it had started: the machine goes back by itself.
    let mut killed =
        machines.command(&[&deploy[..], &["--resume", "--confirm-within", "3s"]].concat());
    let mut killed = killed.stderr(Stdio::null()).spawn().expect("the program");
    begun("node-4");
    let switch = |phase: &str| {
        let script = "cat /run/gen-topology/switch.json";
        machines
            .inside("node-4", script)
            .contains(&format!("\"{phase}\""))
    };
    wait("the switch to be begun", || switch("activating"));
    machines.end(&killed);
    killed.wait().expect("wait");
    wait("the machine to go back", || {
        switch("back") && current(&machines)[3] == before[3]
    });
    let said = machines.expect(&deploy, 1);
    assert!(said.contains("killed in a step (change node-4)"), "{said}");
    let said = machines.expect(&[&deploy[..], &["--resume"]].concat(), 0);
    assert!(said.contains("done again: change node-4"), "{said}");
    machines.expect(&["status"], 0);
    a_worker_that_is_killed_goes_back(&machines);
}

/// Nobody is left who would go back, so whoever asks next does it.
fn a_worker_that_is_killed_goes_back(machines: &Machines) {
    let before = current(machines);
    machines.bench.expect(&["set", "app.workers", "2"], 0);
    let systems = machines.systems(&[("node-2", "slow")]);
    let deploy = ["deploy", "--closures", &systems, "--yes"];
    let deployer = machines
        .command(&deploy)
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program");
    let switch = || machines.inside("node-2", "cat /run/gen-topology/switch.json");
    wait("the switch to be begun", || {
        switch().contains("\"activating\"")
    });
    machines.inside("node-2", "pkill -KILL -f '[n]ode switch-work'");
    let output = deployer.wait_with_output().expect("output");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(5), "{said}");
    assert!(said.contains("the switch was killed half-way"), "{said}");
    assert_eq!(current(machines), before);
    machines.expect(&["status"], 0);
}

#[test]
fn machines_come_and_go_and_nobody_notices() {
    let test = "machines_come_and_go_and_nobody_notices";
    let Some(machines) = Machines::new(test, "topology.json") else {
        return;
    };
    let deploy = |systems: &str| machines.expect(&["deploy", "--closures", systems, "--yes"], 0);
    deploy(&machines.systems(&[]));
    let sound = fs::read_to_string(machines.bench.topology()).expect("the topology");
    let is_away = |node: &str| {
        machines
            .inside(node, "ls /var/lib/gen-topology")
            .contains("away")
    };
    for node in ["node-4", "node-5"] {
        machines.bench.expect(&["remove", node], 0);
        let systems = machines.systems(&[]);
        let load = Load::start(&machines.bench);
        let said = deploy(&systems);
        load.lost_nothing(&format!("{node} leaves"));
        assert!(said.contains(&format!("{node}: stop")), "{said}");
        assert!(is_away(node));
        assert!(deploy(&systems).contains("nothing to do"));

        // It comes back as a new machine would.
        fs::write(machines.bench.topology(), &sound).expect("the topology");
        let systems = machines.systems(&[]);
        let load = Load::start(&machines.bench);
        let said = deploy(&systems);
        load.lost_nothing(&format!("{node} joins"));
        assert!(said.contains(&format!("{node}: boot")), "{said}");
        assert!(!is_away(node));
        machines.expect(&["status"], 0);
    }

    // One that is gone already leaves all the same.
    machines
        .bench
        .expect(&["lab", "stop", "node-4", "--power-off"], 0);
    machines.bench.expect(&["remove", "node-4"], 0);
    let systems = machines.systems(&[]);
    let quick = ["--ssh-option", "ConnectTimeout=1"];
    machines.expect(
        &[&["deploy", "--closures", &systems, "--yes"], &quick[..]].concat(),
        0,
    );
    machines.inside("node-1", "! grep 10.20.0.65 /etc/haproxy/haproxy.cfg");
    machines.expect(&["status"], 0);
    // And a machine of another stack is left alone.
    let text = fs::read_to_string(machines.bench.topology()).expect("the topology");
    let text = text.replace("\"machines\"", "\"others\"");
    fs::write(machines.bench.topology(), text).expect("a file");
    let said = machines.expect(&["plan", "--against", "machines"], 1);
    assert!(
        said.contains("node-1 belongs to the stack `machines`, not to `others`"),
        "{said}"
    );
}

/// Machines that run, and are no part of a stack yet: nothing can be asked through the virtual IP before the end.
#[test]
fn a_stack_is_made_where_there_was_none() {
    let test = "a_stack_is_made_where_there_was_none";
    let Some(machines) = Machines::new(test, "topology.json") else {
        return;
    };
    let nodes = ["node-1", "node-2", "node-3", "node-4", "node-5"];
    for node in nodes {
        let end = "for unit in keepalived haproxy nginx gunicorn-0 gunicorn-1 reconcile-database mongod; do \
             supervisorctl -c /etc/supervisor/supervisord.conf stop $unit; done; \
             rm -rf /var/lib/mongodb/* /etc/gen-topology/node.json";
        machines.inside(node, end);
    }
    let said = machines.expect(&["status"], 1);
    assert_eq!(said.matches("not ours").count(), 5, "{said}");
    // Interrupted half-way, where nothing can be asked through the virtual IP yet.
    let systems = machines.systems(&[("node-2", "slow"), ("node-4", "slow")]);
    let deploy = ["deploy", "--closures", &systems, "--yes"];
    let first = machines.command(&deploy).stderr(Stdio::piped()).spawn();
    let first = first.expect("the program");
    let journal = machines
        .bench
        .directory
        .path()
        .join(".gen-topology/deploy.journal");
    wait("app servers to be begun", || {
        let text = fs::read_to_string(&journal).unwrap_or_default();
        text.contains("\"start\"") && text.contains("node-4")
    });
    interrupt(&first);
    let output = first.wait_with_output().expect("output");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(130), "{said}");

    let said = machines.expect(&[&deploy[..], &["--resume"]].concat(), 0);
    assert!(said.contains("each node runs what was planned"), "{said}");
    machines.expect(&["status"], 0);
    add_entries(&machines.bench, "node-2", 3);
}

#[test]
fn a_router_is_stopped_with_its_app_server() {
    let text = fs::read(Path::new(REPOSITORY).join("hosts/node-2/node.json")).expect("its facts");
    let mut facts: NodeFacts = serde_json::from_slice(&text).expect("facts");
    assert_eq!(units(&facts), ["supervisord", "nginx"]);
    facts.app.as_mut().expect("an app server").router_port = Some(27017);
    assert_eq!(units(&facts), ["supervisord", "nginx", "mongos"]);
}
