//! The lab, with the real daemons: up and down, twice and half-way, root and
//! rootless, and whether anything is left behind.
//!
//! The tests share two processors, so they take turns.

#![expect(clippy::expect_used, reason = "a test may stop")]

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use std::time::{Duration, Instant};

use gen_topology::exec;
use gen_topology::faults::noise::Noise;
use serde_json::Value;

use crate::common::lab::{Bench, cache, processes};
use crate::common::{PROGRAM, REPOSITORY, not_run};

/// Everything of which a lab could leave something. A namespace lives as long as a
/// process is in it, so processes are looked at closely: those whose command line
/// names the bench's directory, and those that have one of its directories mounted.
#[derive(Debug, PartialEq, Eq)]
struct Leftovers {
    processes: Vec<String>,
    mounts: usize,
    interfaces: usize,
}

impl Leftovers {
    fn count(bench: &Bench) -> Self {
        let directory = bench.directory.path().display().to_string();
        let mounted = |pid: &str| {
            fs::read_to_string(format!("/proc/{pid}/mountinfo"))
                .is_ok_and(|mounts| mounts.contains(&directory))
        };
        let ours = processes()
            .into_iter()
            .filter(|(pid, line)| line.contains(&directory) || mounted(pid));
        Self {
            processes: ours
                .map(|(pid, line)| format!("{pid} {}", line.replace('\0', " ")))
                .collect(),
            mounts: fs::read_to_string("/proc/self/mountinfo")
                .expect("mounts")
                .lines()
                .count(),
            interfaces: fs::read_to_string("/proc/net/dev")
                .expect("interfaces")
                .lines()
                .count(),
        }
    }

    #[track_caller]
    fn none_since(before: &Self, bench: &Bench) {
        assert_eq!(before.processes, Vec::<String>::new());
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            let now = Self::count(bench);
            if now == *before {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "left behind: {now:#?}\nbefore: {before:#?}"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// A lab that runs is seen: the count would notice one that is left.
    #[track_caller]
    fn some_since(before: &Self, bench: &Bench) {
        let now = Self::count(bench);
        assert!(
            now.processes.len() > before.processes.len() + 10,
            "{now:#?}"
        );
    }
}

#[track_caller]
pub(crate) fn wait(what: &str, mut ready: impl FnMut() -> bool) {
    // Long enough for a busy machine: what a test waits for is that it happens, not when.
    let deadline = Instant::now() + Duration::from_secs(90);
    while !ready() {
        assert!(Instant::now() < deadline, "waited 90 s for {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn up_answers_shows_itself_and_leaves_nothing() {
    let Some(bench) = Bench::new(
        "up_answers_shows_itself_and_leaves_nothing",
        "topology.json",
    ) else {
        return;
    };
    let before = Leftovers::count(&bench);
    let said = bench.expect(&["lab", "up", "--wait"], 0);
    assert!(
        said.contains("first answer through http://10.20.0.10/"),
        "{said}"
    );
    let first = bench.pids("web-stack");
    Leftovers::some_since(&before, &bench);

    // Again: nothing is started twice.
    bench.expect(&["lab", "up"], 0);
    assert_eq!(bench.pids("web-stack"), first);

    wait("one owner of the virtual IP", || {
        bench.status()["owners"]
            .as_array()
            .is_some_and(|owners| owners.len() == 1)
    });
    wait("a primary", || {
        bench.node("node-3")["notes"][0] == "primary"
    });
    let said = bench.expect(&["lab", "ls"], 0);
    assert!(
        said.contains("web-stack") && said.contains("running"),
        "{said}"
    );
    if is_root() {
        // Field 41 is the policy; 1 is SCHED_FIFO. Without it a busy machine moves the virtual IP.
        let script = "for pid in $(pidof keepalived); do cut -d' ' -f41 /proc/$pid/stat; done";
        let said = bench.expect(&["lab", "exec", "node-1", "--", "sh", "-c", script], 0);
        assert_eq!(said, "1\n1\n");
    }
    let said = bench.expect(
        &[
            "lab",
            "exec",
            "node-2",
            "--",
            "cat",
            "/etc/gen-topology/node.json",
            "/proc/sys/kernel/hostname",
        ],
        0,
    );
    assert!(
        said.contains("\"name\": \"node-2\"") && said.trim_end().ends_with("node-2"),
        "{said}"
    );
    bench.expect(&["lab", "exec", "node-2", "--", "sh", "-c", "exit 7"], 7);
    let said = bench.expect(&["lab", "exec", "node-2", "--", "touch", "/usr/here"], 1);
    assert!(said.contains("Read-only file system"), "{said}");
    let said = bench.expect(&["lab", "exec", "nod-2", "--", "true"], 1);
    assert!(said.contains("did you mean `node-2`"), "{said}");
    assert!(
        bench
            .expect(&["lab", "ps", "node-1"], 0)
            .contains("haproxy.cfg")
    );
    assert!(
        bench
            .expect(&["lab", "logs", "node-1"], 0)
            .contains("haproxy")
    );

    // What runs is what was rendered, byte for byte.
    let inside = bench.run(&[
        "lab",
        "exec",
        "node-1",
        "--",
        "cat",
        "/etc/haproxy/haproxy.cfg",
        "/etc/keepalived/keepalived.conf",
    ]);
    let hosts = Path::new(REPOSITORY).join("hosts/node-1/etc");
    let mut rendered = fs::read(hosts.join("haproxy/haproxy.cfg")).expect("hosts/");
    rendered.extend(fs::read(hosts.join("keepalived/keepalived.conf")).expect("hosts/"));
    assert_eq!(inside.stdout, rendered);

    bench.expect(&["lab", "down"], 0);
    Leftovers::none_since(&before, &bench);
    let said = bench.expect(&["lab", "down"], 0);
    assert!(said.contains("nothing to do"), "{said}");
    assert!(!bench.labs().join("web-stack").exists());
}

/// A program beside an application, as frameworks have it.
const MANAGE: &str = "\
import os, sys
import web
assert web.__file__.startswith(os.getcwd())
print(sys.argv[1], os.environ['GREETING'], os.getcwd())
";

/// The smallest stack, and an application of the user's own with a name, an entry, a
/// health path and an environment unlike the demo's.
#[test]
fn one_of_each_serves_an_application_of_ones_own() {
    let test = "one_of_each_serves_an_application_of_ones_own";
    let Some(bench) = Bench::new(test, "examples/single.json") else {
        return;
    };
    let site = bench.directory.path().join("site");
    fs::create_dir(&site).expect("a directory");
    fs::write(
        site.join("web.py"),
        "import os\n\ndef create(environ, start):\n    start('200 OK', [('Content-Type', 'text/plain')])\n    \
         return [os.environ['GREETING'].encode()]\n",
    )
    .expect("an application");
    let requirements = Path::new(REPOSITORY).join("app/requirements.txt");
    fs::copy(requirements, site.join("locked.txt")).expect("a lock file");
    let text = fs::read_to_string(bench.topology()).expect("the topology");
    let mut topology: Value = serde_json::from_str(&text).expect("JSON");
    let greeting = "it's \"100%\" $HOME \\ ünïcode";
    topology["app"] = serde_json::json!({
        "source": "./site", "entry": "web:create", "requirements": "locked.txt",
        "health_path": "/health", "env": { "GREETING": greeting },
    });
    fs::write(bench.topology(), topology.to_string()).expect("a topology");
    let sound = fs::read_to_string(site.join("web.py")).expect("the application");
    fs::write(
        site.join("web.py"),
        format!("import nothing_like_it\n{sound}"),
    )
    .expect("a mistake");
    let begun = Instant::now();
    let said = bench.expect(&["lab", "up", "--wait"], 1);
    assert!(
        said.contains("app-1 can't load the application")
            && said.contains("No module named 'nothing_like_it'"),
        "{said}"
    );
    assert!(begun.elapsed() < Duration::from_secs(60), "{said}");
    fs::write(site.join("web.py"), sound).expect("the application");
    bench.expect(&["lab", "up", "--wait"], 0);
    fs::write(site.join("manage.py"), MANAGE).expect("a program");
    bench.expect(&["lab", "apply"], 0);
    let said = bench.expect(&["lab", "run", "app-1", "--", "manage.py", "migrate"], 0);
    let wanted = format!("migrate {greeting} /opt/gen-topology/app/");
    assert!(said.starts_with(&wanted), "{said}");
    let argv = [
        "lab",
        "exec",
        "app-1",
        "--",
        "/etc/gen-topology/python/bin/python",
        "-c",
    ];
    let ask = "import urllib.request as r; print(r.urlopen('http://10.20.0.10/').read().decode())";
    let said = bench.run(&[argv.as_slice(), &[ask]].concat());
    assert_eq!(String::from_utf8_lossy(&said.stdout).trim_end(), greeting);
}

#[test]
fn nodes_stop_start_and_are_cut_off() {
    let Some(bench) = Bench::new("nodes_stop_start_and_are_cut_off", "topology.json") else {
        return;
    };
    bench.expect(&["lab", "up", "--wait"], 0);
    wait("the first load balancer to own the address", || {
        bench.status()["owners"] == serde_json::json!(["node-1"])
    });
    bench.expect(&["lab", "stop", "--power-off", "node-1"], 0);
    wait("the second to own it", || {
        bench.status()["owners"] == serde_json::json!(["node-5"])
    });
    assert_eq!(bench.node("node-1")["state"], "stopped");
    bench.expect(&["lab", "start", "node-1"], 0);
    wait("the first to take it back", || {
        bench.status()["owners"] == serde_json::json!(["node-1"])
    });
    bench.expect(&["lab", "cut", "node-4"], 0);
    assert_eq!(bench.node("node-4")["state"], "cut off");
    wait("haproxy to notice", || {
        bench.node("node-4")["notes"].to_string().contains("DOWN")
    });
    bench.expect(&["lab", "heal", "node-4"], 0);
    wait("haproxy to use it again", || {
        bench.node("node-4")["notes"]
            .to_string()
            .contains("UP for node-1, node-5")
    });

    // A node whose first process is killed is stopped; `up` starts it again, with its data.
    bench.expect(&["lab", "reboot", "node-3"], 0);
    wait("a primary", || {
        bench.node("node-3")["notes"][0] == "primary"
    });
    let pid = bench.run(&[
        "lab",
        "exec",
        "node-2",
        "--",
        "sh",
        "-c",
        "kill -KILL 1; echo sent",
    ]);
    assert!(
        String::from_utf8_lossy(&pid.stdout).contains("sent"),
        "a node's first process ignores its own kill"
    );
    bench.expect(&["lab", "stop", "--power-off", "node-2"], 0);
    let said = bench.expect(&["lab", "exec", "node-2", "--", "true"], 1);
    assert!(said.contains("node-2 is not running"), "{said}");
    bench.expect(&["lab", "up", "--wait"], 0);
    assert_eq!(bench.node("node-2")["ready"], true);
}

#[test]
fn two_labs_at_once_and_down_without_the_file() {
    let Some(bench) = Bench::new(
        "two_labs_at_once_and_down_without_the_file",
        "topology.json",
    ) else {
        return;
    };
    let before = Leftovers::count(&bench);
    bench.expect(&["lab", "up"], 0);
    bench.expect(&["lab", "up", "--lab", "other"], 0);
    let list: Value = serde_json::from_slice(&bench.run(&["lab", "ls", "--format", "json"]).stdout)
        .expect("JSON");
    assert_eq!(list.as_array().map(Vec::len), Some(2), "{list}");
    assert!(
        list.as_array()
            .is_some_and(|labs| labs.iter().all(|lab| lab["running"] == true)),
        "{list}"
    );

    // Another topology file must not take over a lab that runs.
    let foreign = bench.directory.path().join("foreign.json");
    fs::copy(bench.topology(), &foreign).expect("a copy");
    let said = bench.expect(&["-f", "foreign.json", "lab", "up"], 1);
    assert!(said.contains("choose another name with --lab"), "{said}");

    fs::remove_file(bench.topology()).expect("removing");
    fs::remove_file(foreign).expect("removing");
    let said = bench.expect(&["lab", "down"], 64);
    assert!(said.contains("several labs: other, web-stack"), "{said}");
    bench.expect(&["lab", "down", "--lab", "web-stack"], 0);
    // The only one left needs no name.
    bench.expect(&["lab", "down"], 0);
    Leftovers::none_since(&before, &bench);
}

#[test]
fn killed_anywhere_it_can_be_cleaned_up_or_brought_up() {
    let Some(bench) = Bench::new(
        "killed_anywhere_it_can_be_cleaned_up_or_brought_up",
        "topology.json",
    ) else {
        return;
    };
    let before = Leftovers::count(&bench);
    bench.expect(&["lab", "up"], 0);
    let anchor = bench.anchor("web-stack").expect("an anchor");
    assert!(
        Command::new("kill")
            .args(["-KILL", &anchor])
            .status()
            .expect("kill")
            .success()
    );
    wait("the lab to end with its anchor", || {
        bench.anchor("web-stack").is_none()
    });
    let said = bench.expect(&["lab", "status"], 1);
    assert!(said.contains("is not running"), "{said}");
    assert!(
        bench
            .expect(&["lab", "ls"], 0)
            .contains("ended without `down`")
    );
    // As after a power cut: up again, on the same data.
    bench.expect(&["lab", "up"], 0);
    bench.expect(&["lab", "down"], 0);
    Leftovers::none_since(&before, &bench);

    // The command itself is killed half-way, at several moments.
    for milliseconds in [20, 120, 400, 900] {
        let mut child = bench
            .command(&["lab", "up"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the program");
        std::thread::sleep(Duration::from_millis(milliseconds));
        child.kill().expect("kill");
        child.wait().expect("wait");
        if milliseconds == 120 {
            wait("the lock to be free", || {
                bench.run(&["lab", "up"]).status.success()
            });
        }
        bench.expect(&["lab", "down"], 0);
        Leftovers::none_since(&before, &bench);
    }
}

pub(crate) fn interrupt(child: &Child) {
    assert!(
        Command::new("kill")
            .args(["-INT", &child.id().to_string()])
            .status()
            .expect("kill")
            .success()
    );
}

#[test]
fn an_interrupted_up_leaves_nothing() {
    let Some(bench) = Bench::new("an_interrupted_up_leaves_nothing", "topology.json") else {
        return;
    };
    let before = Leftovers::count(&bench);
    for milliseconds in [60, 250, 700] {
        let child = bench
            .command(&["lab", "up", "--wait"])
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program");
        std::thread::sleep(Duration::from_millis(milliseconds));
        interrupt(&child);
        let output = child.wait_with_output().expect("output");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(130), "{said}");
        assert!(
            said.contains("interrupted: nothing is left of the lab"),
            "{said}"
        );
        Leftovers::none_since(&before, &bench);
        assert!(!bench.labs().join("web-stack").exists());
    }
}

#[test]
fn a_full_disk_and_a_missing_daemon_are_told_and_leave_nothing() {
    let test = "a_full_disk_and_a_missing_daemon_are_told_and_leave_nothing";
    let Some(bench) = Bench::new(test, "topology.json") else {
        return;
    };
    let before = Leftovers::count(&bench);
    let state = bench.directory.path().join("state");
    fs::create_dir_all(&state).expect("a directory");
    // In a mount namespace of its own: a disk that is too small, and a haproxy that can't be run.
    let script = |prepare: &str| {
        let mut command = Command::new("unshare");
        if !is_root() {
            command.args(["--user", "--map-root-user"]);
        }
        command
            .args([
                "--mount",
                "sh",
                "-c",
                &format!("{prepare} && exec \"$0\" lab up"),
            ])
            .arg(PROGRAM)
            .current_dir(bench.directory.path())
            .env("GEN_TOPOLOGY_STATE", &state)
            .env("GEN_TOPOLOGY_CACHE", cache())
            .env("NO_COLOR", "1");
        let output = command.output().expect("unshare");
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    let (code, said) = script(&format!(
        "mount -t tmpfs -o size=1m tmpfs '{}'",
        state.display()
    ));
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("No space left on device") && said.contains("nothing is left of the lab"),
        "{said}"
    );
    let (code, said) =
        script("for f in /usr/sbin/haproxy /sbin/haproxy; do mount --bind /dev/null $f; done");
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("haproxy is missing here") && said.contains("apt-get install"),
        "{said}"
    );
    Leftovers::none_since(&before, &bench);
}

#[test]
fn forward_offers_the_page_and_tells_of_a_port_in_use() {
    let Some(bench) = Bench::new(
        "forward_offers_the_page_and_tells_of_a_port_in_use",
        "topology.json",
    ) else {
        return;
    };
    bench.expect(&["lab", "up", "--wait"], 0);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let said = bench.expect(&["lab", "forward", "--listen", &address], 1);
    assert!(said.contains("choose another with --listen"), "{said}");
    drop(taken);
    let mut child = bench
        .command(&["lab", "forward", "--listen", &address])
        .spawn()
        .expect("the program");
    let mut page = String::new();
    wait("the forwarded port", || {
        let Ok(mut stream) = TcpStream::connect(&address) else {
            return false;
        };
        stream
            .set_read_timeout(Some(Duration::from_secs(5)))
            .expect("a limit");
        page.clear();
        let asked = stream.write_all(b"GET / HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n");
        asked.is_ok() && stream.read_to_string(&mut page).is_ok() && !page.is_empty()
    });
    child.kill().expect("kill");
    child.wait().expect("wait");
    assert!(page.starts_with("HTTP/1.1 200"), "{page}");
    assert!(page.to_lowercase().contains("x-app-node: node-"), "{page}");
}

#[test]
fn a_changed_topology_reaches_a_running_lab() {
    let Some(bench) = Bench::new("a_changed_topology_reaches_a_running_lab", "topology.json")
    else {
        return;
    };
    bench.expect(&["lab", "up", "--wait"], 0);
    let before = bench.pids("web-stack");
    bench.expect(&["scale", "app=3"], 0);
    let said = bench.expect(&["lab", "up", "--wait"], 0);
    assert!(
        said.contains("node-6: started") && !said.contains("node-2: started"),
        "{said}"
    );
    assert!(
        said.lines().any(|line| line.starts_with("node-1: changed") && line.contains("haproxy/haproxy.cfg")),
        "{said}"
    );
    assert!(
        before.is_subset(&bench.pids("web-stack")),
        "nodes that were there go on"
    );
    wait("haproxy to use the new one", || {
        bench.node("node-6")["notes"]
            .to_string()
            .contains("UP for node-1, node-5")
    });
    bench.expect(&["scale", "database=3"], 0);
    bench.expect(&["lab", "up", "--wait"], 0);
    let roles = |bench: &Bench| {
        let status = bench.status();
        let nodes = status["nodes"].as_array().expect("nodes").clone();
        let mut roles: Vec<String> = nodes
            .iter()
            .filter(|node| node["tier"] == "database")
            .map(|node| node["notes"][0].to_string())
            .collect();
        roles.sort();
        roles
    };
    wait("three members", || {
        roles(&bench) == ["\"primary\"", "\"secondary\"", "\"secondary\""]
    });
    bench.expect(&["remove", "node-6"], 0);
    let said = bench.expect(&["lab", "up"], 0);
    assert!(said.contains("node-6: removed"), "{said}");
}

#[test]
fn without_root_rights_it_is_the_same() {
    let test = "without_root_rights_it_is_the_same";
    let Some(bench) = Bench::new(test, "topology.json") else {
        return;
    };
    if !is_root() {
        // Then every other test has shown it.
        return;
    }
    let before = Leftovers::count(&bench);
    let nobody = "65534";
    let own = bench.directory.path().join("rootless");
    // The cache and the program may be where only root can look.
    let copy = |from: &Path, to: &Path| {
        Command::new("cp")
            .args(["-r", "--reflink=auto"])
            .arg(from)
            .arg(to)
            .status()
            .expect("cp")
    };
    fs::create_dir_all(&own).expect("a directory");
    bench.expect(&["lab", "up"], 0);
    bench.expect(&["lab", "down"], 0);
    assert!(copy(&cache(), &own.join("cache")).success());
    assert!(copy(Path::new(PROGRAM), &own.join("gen-topology")).success());
    assert!(copy(&Path::new(REPOSITORY).join("app"), &own.join("app")).success());
    let text = fs::read_to_string(bench.topology()).expect("the topology");
    let app = Path::new(REPOSITORY).join("app").display().to_string();
    fs::write(own.join("topology.json"), text.replace(&app, "./app")).expect("a topology");
    assert!(
        Command::new("chown")
            .args(["-R", nobody])
            .arg(&own)
            .status()
            .expect("chown")
            .success()
    );
    let run = |arguments: &[&str]| {
        Command::new("setpriv")
            .args(["--reuid", nobody, "--regid", nobody, "--clear-groups", "--"])
            .arg(own.join("gen-topology"))
            .args(arguments)
            .current_dir(&own)
            .env("HOME", &own)
            .env("GEN_TOPOLOGY_STATE", own.join("state"))
            .env("GEN_TOPOLOGY_CACHE", own.join("cache"))
            .env("NO_COLOR", "1")
            .output()
            .expect("setpriv")
    };
    let up = run(&["lab", "up", "--wait"]);
    let said = String::from_utf8_lossy(&up.stderr).into_owned();
    if said.contains("refuses the lab its namespaces") {
        not_run(&said);
        return;
    }
    assert!(up.status.success(), "{said}");
    let status: Value =
        serde_json::from_slice(&run(&["lab", "status", "--format", "json"]).stdout).expect("JSON");
    let ready = status["nodes"]
        .as_array()
        .expect("nodes")
        .iter()
        .all(|node| node["ready"] == true);
    assert!(ready, "{status}");
    assert!(run(&["lab", "reboot", "node-1"]).status.success());
    assert!(run(&["lab", "down"]).status.success());
    Leftovers::none_since(&before, &bench);
}

/// The old stack's promises. A promised gap is judged with room for a busy machine; losses are not.
#[test]
fn the_demonstration_keeps_its_promises() {
    let Some(bench) = Bench::alone("the_demonstration_keeps_its_promises", "topology.json") else {
        return;
    };
    let before = Leftovers::count(&bench);
    let output = bench.run(&["demo", "--format", "json"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let run: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| Value::String(said.clone()));
    let trials = run["trials"].as_array().expect("trials").clone();
    assert_eq!(trials.len(), 7, "{said}");
    for trial in trials {
        let (name, measured) = (&trial["fault"], &trial["measured"]);
        let (requests, bound) = (&measured["requests"], &trial["bound"]);
        let number = |value: &Value| value.as_f64().expect("a number");
        let failed = requests["failed"].as_object().expect("failures").values();
        let lost: u64 = failed.filter_map(Value::as_u64).sum();
        for never in ["missing", "doubled", "backwards"] {
            assert_eq!(measured["ledger"][never], 0, "{name}: {requests:#}");
        }
        let noise: Noise = serde_json::from_value(trial["noise"].clone()).expect("noise");
        if let Some(why) = noise.excuse() {
            not_run(&format!("{name}: what a visitor noticed: {why}"));
            continue;
        }
        // What the command itself holds to the number gets room for a busy machine here.
        match bound["lost"]["most"].as_u64() {
            Some(most) => assert!(lost <= 2 * most, "{name}: {requests:#}"),
            None => assert_eq!(lost, 0, "{name}: {requests:#}"),
        }
        if bound["gap"].is_object() {
            let gap = number(&requests["longest_gap_ms"]);
            assert!(
                gap <= number(&bound["gap"]["ms"]) + 200.0,
                "{name}: {requests:#}"
            );
        }
        assert!(
            requests["sent"].as_u64() >= Some(500),
            "{name}: {requests:#}"
        );
    }
    Leftovers::none_since(&before, &bench);
}

pub(crate) fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output().expect("id");
    id.stdout == b"0\n"
}

/// A sharded stack small enough for two processors: one database in each shard.
fn small_shards(bench: &Bench) {
    let text = fs::read_to_string(bench.topology()).expect("a topology");
    fs::write(
        bench.topology(),
        text.replace("\"name\": \"sharded\"", "\"name\": \"shards\""),
    )
    .expect("a topology");
    bench.expect(&["scale", "shards=2", "members=1", "config-servers=3"], 0);
}

#[test]
fn databases_of_a_sharded_stack_run_in_their_roles() {
    let test = "databases_of_a_sharded_stack_run_in_their_roles";
    let Some(bench) = Bench::new(test, "examples/sharded.json") else {
        return;
    };
    small_shards(&bench);
    if exec::find("mongos").is_none() {
        let said = bench.expect(&["lab", "up"], 1);
        assert!(said.contains("mongos is missing here"), "{said}");
        assert!(said.contains("lab up --databases"), "{said}");
        assert!(bench.anchor("shards").is_none());
    }
    let said = bench.expect(&["lab", "up", "--databases", "--wait"], 0);
    assert!(
        said.contains("each replica set has a primary and its users"),
        "{said}"
    );
    let status = bench.status();
    let nodes = status["nodes"].as_array().expect("nodes");
    assert_eq!(nodes.len(), 5);
    let mut primaries = Vec::new();
    for node in nodes {
        let notes: Vec<&str> = node["notes"]
            .as_array()
            .expect("notes")
            .iter()
            .filter_map(|note| note.as_str())
            .collect();
        assert_eq!(node["ready"], true, "{node}");
        if notes.contains(&"primary") {
            primaries.push(notes[0].to_owned());
        }
        // mongod itself was told its role.
        let role = if node["name"]
            .as_str()
            .is_some_and(|name| name.starts_with("config"))
        {
            "configsvr"
        } else {
            "shardsvr"
        };
        let name = node["name"].as_str().expect("a name");
        let said = bench.expect(
            &["lab", "exec", name, "cat", "/var/log/mongodb/mongod.log"],
            0,
        );
        assert!(
            said.contains(&format!("\"clusterRole\":\"{role}\"")),
            "{name} is no {role}"
        );
    }
    primaries.sort();
    assert_eq!(primaries, ["config", "shard-1", "shard-2"]);
    // The config servers have done what is possible without a router, and say what they wait for.
    let argv = [
        "lab",
        "exec",
        "config-1",
        "/etc/gen-topology/gen-topology",
        "node",
        "reconcile-database",
        "--patience",
        "0",
    ];
    let said = bench.expect(&argv, 75);
    assert!(said.contains("waiting for mongos of app-"), "{said}");
    let said = bench.expect(&["lab", "backup", "copy"], 1);
    assert!(said.contains("through mongos"), "{said}");
    // A shard more; then it may go again, as it is none of the cluster's yet.
    bench.expect(&["scale", "shards=3"], 0);
    bench.expect(&["lab", "up", "--databases", "--wait"], 0);
    assert_eq!(bench.status()["nodes"].as_array().expect("nodes").len(), 6);
    bench.expect(&["scale", "shards=2"], 0);
    bench.expect(&["lab", "up", "--databases", "--wait"], 0);
    assert_eq!(bench.status()["nodes"].as_array().expect("nodes").len(), 5);
    bench.expect(&["lab", "down"], 0);
}

#[test]
fn a_sharded_stack_answers() {
    let test = "a_sharded_stack_answers";
    if exec::find("mongos").is_none() {
        return not_run(&format!(
            "{test}: no mongos on PATH, and no registry has one to fetch"
        ));
    }
    let Some(bench) = Bench::new(test, "examples/sharded.json") else {
        return;
    };
    small_shards(&bench);
    bench.expect(&["lab", "up", "--wait"], 0);
    let argv = [
        "lab",
        "exec",
        "config-1",
        "/etc/gen-topology/gen-topology",
        "node",
        "reconcile-database",
    ];
    let said = bench.expect(&argv, 0);
    assert!(
        said.contains("the cluster is as it should be: 2 shards"),
        "{said}"
    );
    add_entries(&bench, "app-1", 40);
    bench.expect(&["lab", "down"], 0);
}

#[test]
fn a_backup_of_a_lab_brings_back_what_was_there() {
    let test = "a_backup_of_a_lab_brings_back_what_was_there";
    let Some(bench) = Bench::new(test, "topology.json") else {
        return;
    };
    bench.expect(&["lab", "up", "--wait"], 0);
    // Entries to be copied, and some that come later.
    add_entries(&bench, "node-2", 40);
    let said = bench.expect(&["lab", "backup", "monday"], 0);
    assert!(
        said.contains("put back into a scratch mongod and counted"),
        "{said}"
    );
    let count = |said: &str| -> u64 {
        let words: Vec<&str> = said.split_whitespace().collect();
        let at = words
            .iter()
            .position(|word| *word == "documents")
            .expect("a count");
        words[at - 1].parse().expect("a number")
    };
    let copied = count(&said);
    assert!(copied > 0, "{said}");
    let manifest = fs::read_to_string(bench.directory.path().join("monday/backup.json"));
    assert!(manifest.expect("a manifest").contains("\"entries\""));
    let said = bench.expect(&["lab", "backup", "monday"], 1);
    assert!(said.contains("is there already"), "{said}");
    add_entries(&bench, "node-2", 5);
    let said = bench.expect(&["lab", "restore", "monday"], 1);
    assert!(
        said.contains("holds something; nothing was changed"),
        "{said}"
    );
    let said = bench.expect(&["lab", "restore", "monday", "--overwrite"], 0);
    assert_eq!(count(&said), copied, "{said}");
    let said = bench.expect(&["lab", "backup", "tuesday"], 0);
    assert_eq!(count(&said), copied, "{said}");
    // As a machine would do it, in a node of the lab.
    let node = [
        "lab",
        "exec",
        "node-3",
        "/etc/gen-topology/gen-topology",
        "node",
    ];
    let said = bench.expect(
        &[&node[..], &["backup", "/var/lib/mongodb/copy"]].concat(),
        0,
    );
    assert_eq!(count(&said), copied, "{said}");
    let restore = ["restore", "/var/lib/mongodb/copy", "--overwrite"];
    let said = bench.expect(&[&node[..], &restore].concat(), 0);
    assert!(
        said.contains(&format!("put back {copied} documents")),
        "{said}"
    );
    bench.expect(&["lab", "down"], 0);
}

/// Stores so many entries through the virtual IP, from a node that has Python.
#[track_caller]
pub(crate) fn add_entries(bench: &Bench, node: &str, count: u32) {
    let script = format!(
        "import json, urllib.request as r\n\
         for n in range({count}):\n    \
             data = json.dumps({{'text': 'entry %d' % n}}).encode()\n    \
             headers = {{'Content-Type': 'application/json'}}\n    \
             question = r.Request('http://10.20.0.10/api/entries', data, headers)\n    \
             assert r.urlopen(question, timeout=20).status == 201\n"
    );
    let python = "/etc/gen-topology/python/bin/python";
    bench.expect(&["lab", "exec", node, python, "-c", &script], 0);
}
