//! The stack on machines that are reached by ssh: nodes of a lab with a real sshd, the real daemons and a real
//! Nix store each, and a deployer beside them.

#![expect(clippy::expect_used, reason = "a test may stop")]

use std::fs;

use serde_json::Value;

use crate::common::machines::Machines;

#[test]
fn machines_are_reached_and_what_is_wrong_is_said() {
    let test = "machines_are_reached_and_what_is_wrong_is_said";
    let Some(machines) = Machines::new(test, "topology.json") else {
        return;
    };
    words_arrive_as_they_are(&machines);
    states_are_told(&machines);
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
    let left = machines
        .beside(&[
            "sh",
            "-c",
            "ls -d /tmp/gt-*/config; pgrep -f '^ssh: .*/gt-'",
        ])
        .output();
    let left = String::from_utf8_lossy(&left.expect("sh").stdout).into_owned();
    assert_eq!(left, "", "ssh's sockets or masters");
}

fn states_are_told(machines: &Machines) {
    let said = machines.expect(&["status", "--format", "json"], 0);
    let status: Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!(status["owners"], serde_json::json!(["node-1"]));
    let nodes = status["nodes"].as_array().expect("nodes");
    assert!(nodes.iter().all(|node| node["state"] == "ready"), "{said}");
    let said = machines.expect(&["status", "--on", "@app"], 0);
    assert!(said.contains("node-4  app   10.20.0.65  ready"), "{said}");
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
