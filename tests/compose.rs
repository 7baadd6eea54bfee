//! The export for Docker Compose, run for real: an engine of the tests' own, images built as its README
//! says, containers killed and stopped as the demonstration does while a prober asks through the
//! virtual IP, the app tier scaled, and nothing left behind.

#![expect(clippy::expect_used, reason = "a test may stop")]

pub(crate) mod engine;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::common::turn::Turn;
use crate::common::{PROGRAM, REPOSITORY, TestEnvironment, not_run, note, target_directory};
use engine::{Engine, Kind, good, supply};

/// A stack that runs in containers.
struct Stack<'e> {
    engine: &'e Engine,
    directory: PathBuf,
    name: String,
    virtual_ip: String,
    numbers: Vec<String>,
}

impl Stack<'_> {
    fn compose(&self, arguments: &[&str]) -> String {
        compose(self.engine, &self.directory, arguments)
    }

    fn container(&self, node: &str) -> String {
        self.compose(&["ps", "-q", node]).trim().to_owned()
    }

    /// Container and time of creation of each service.
    fn containers(&self) -> BTreeMap<String, String> {
        let format = "{{.Label \"com.docker.compose.service\"}} {{.ID}} {{.CreatedAt}}";
        let said = self.engine.ask(&["ps", "--all", "--format", format]);
        let pairs = said.lines().filter_map(|line| line.split_once(' '));
        pairs
            .map(|(name, rest)| (name.to_owned(), rest.to_owned()))
            .collect()
    }

    /// Asks a path through the virtual IP once.
    fn ask(&self, path: &str) -> Option<String> {
        let url = format!("http://{}{path}", self.virtual_ip);
        let output = self
            .engine
            .inside("curl")
            .args(["-sf", "-m", "2", &url])
            .output();
        let output = output.expect("curl starts");
        output
            .status
            .success()
            .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Waits until every one of `nodes` has answered through the virtual IP.
    #[track_caller]
    fn served_by(&self, nodes: &[&str]) {
        let mut missing = nodes.to_vec();
        wait(60, &format!("{nodes:?} answer"), || {
            let answer = self
                .ask("/readyz")
                .and_then(|text| serde_json::from_str::<Value>(&text).ok());
            let node = answer.as_ref().and_then(|answer| answer["node"].as_str());
            missing.retain(|name| node != Some(*name));
            missing.is_empty()
        });
    }

    /// Does something while a prober asks, gives it `seconds` to show, and notes what was seen.
    fn probed(&mut self, what: &str, seconds: u64, act: impl FnOnce(&Self)) -> Seen {
        let probe = Probe::start(self.engine, &self.virtual_ip);
        std::thread::sleep(Duration::from_secs(1));
        act(self);
        std::thread::sleep(Duration::from_secs(seconds));
        let seen = probe.finish();
        let line = format!("{}: {what}: {}", self.name, seen.0);
        note(&line);
        self.numbers.push(line);
        seen
    }
}

/// What a prober saw.
struct Seen(Value);

impl Seen {
    fn lost(&self) -> u64 {
        self.0["lost"].as_u64().expect("a number")
    }

    fn sent(&self) -> u64 {
        self.0["sent"].as_u64().expect("a number")
    }

    /// A planned change: nobody notices.
    #[track_caller]
    fn is_lossless(&self) {
        // Where requests are sent late, adverts are as well, and the virtual IP moves unplanned.
        if self.lost() > 0 && self.0["late_ms"].as_u64() > Some(LATE) {
            note(&format!("void: this machine was busy: {}", self.0));
            return self.is_survived();
        }
        assert_eq!(self.lost(), 0, "{}", self.0);
    }

    /// Something died: what it had in hand may be lost, and then it goes on.
    #[track_caller]
    fn is_survived(&self) {
        let limit = 2 * RATE;
        assert!(self.lost() <= limit && self.sent() > limit, "{}", self.0);
    }
}

/// Milliseconds: three adverts.
const LATE: u64 = 300;
/// Requests a second.
const RATE: u64 = 50;

struct Probe(Child);

impl Probe {
    fn start(engine: &Engine, virtual_ip: &str) -> Self {
        let script = Path::new(REPOSITORY).join("tests/compose/probe.py");
        let mut command = engine.inside("python3");
        command
            .arg(script)
            .args([virtual_ip, "80", "/", &RATE.to_string()]);
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        Self(piped.spawn().expect("the prober starts"))
    }

    fn finish(mut self) -> Seen {
        drop(self.0.stdin.take());
        let output = self.0.wait_with_output().expect("the prober ends");
        Seen(serde_json::from_slice(&output.stdout).expect("JSON"))
    }
}

#[track_caller]
pub(crate) fn wait(seconds: u64, what: &str, mut done: impl FnMut() -> bool) {
    let limit = Instant::now() + Duration::from_secs(seconds);
    while !done() {
        assert!(Instant::now() < limit, "{what}: not within {seconds} s");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn compose(engine: &Engine, directory: &Path, arguments: &[&str]) -> String {
    let mut command = engine.command("docker-compose");
    good(command.args(arguments).current_dir(directory))
}

/// What an engine could change of this machine.
pub(crate) fn machine() -> String {
    let links = good(Command::new("ip").args(["-oneline", "link"]));
    let links: Vec<&str> = links
        .lines()
        .filter_map(|line| line.split(": ").nth(1))
        .collect();
    let sysctls = ["ip_forward", "conf/all/forwarding"]
        .map(|name| fs::read_to_string(format!("/proc/sys/net/ipv4/{name}")).unwrap_or_default());
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let overlays = mounts.matches("/engine/").count();
    format!("{links:?} {sysctls:?} {overlays}")
}

/// The shipped stack and the one with three databases, with secrets and their exports.
fn exports(environment: &TestEnvironment) {
    let own = Path::new(REPOSITORY);
    for file in ["topology.json", "examples/ha.json"] {
        let text = fs::read(own.join(file)).expect("an example");
        let mut topology: Value = serde_json::from_slice(&text).expect("JSON");
        if file != "topology.json" {
            topology["load_balancer"]["tls"] = https();
            let (authority, certificate) = crate::export::certificate();
            environment.write("authority.pem", authority);
            environment.write(
                "examples/.gen-topology/secrets/certificates/site.pem",
                certificate,
            );
        }
        environment.write(file, topology.to_string());
        let output = environment.path(format!("out/{}", file.replace('/', "-")));
        let output = output.display().to_string();
        environment.run(&["secrets", "-f", file, "init"]).exits(0);
        environment
            .run(&["export", "compose", "-f", file, "-o", &output])
            .exits(0);
    }
    let mut copy = Command::new("cp");
    good(
        copy.arg("-rT")
            .arg(own.join("app"))
            .arg(environment.path("app")),
    );
}

/// HTTPS beside plain HTTP.
pub(crate) fn https() -> Value {
    json!({ "names": ["www.example.org", "example.org"], "files": ["site.pem"], "redirect": false })
}

/// Visitors who trust `authority` get an answer over TLS, and others don't.
#[track_caller]
pub(crate) fn is_encrypted(engine: &Engine, authority: &Path, virtual_ip: &str) {
    let visit = |more: &[&str]| {
        let name = format!("www.example.org:443:{virtual_ip}");
        let mut command = engine.inside("curl");
        command
            .args(["-sf", "-m", "5", "--resolve", &name])
            .args(more);
        let said = command.arg("https://www.example.org/").output();
        said.expect("curl starts")
    };
    let trusted = visit(&["--cacert", &authority.display().to_string()]);
    assert!(trusted.status.success(), "{trusted:?}");
    assert!(!visit(&[]).status.success(), "curl trusts anybody");
}

/// Builds the images of an export, as its README says, but for where the network is.
fn build(builder: &Engine, directory: &Path) {
    let text = fs::read_to_string(directory.join("compose.yaml")).expect("compose.yaml");
    let services: Vec<&str> = text
        .lines()
        .skip_while(|line| *line != "services:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| {
            line.strip_prefix("  ")
                .filter(|line| !line.starts_with(' '))?
                .strip_suffix(':')
        })
        .collect();
    let own: Vec<String> = services
        .iter()
        .map(|name| format!("  {name}: {{build: {{network: host}}}}\n"))
        .collect();
    let file = directory.join("network.yaml");
    fs::write(&file, format!("services:\n{}", own.concat())).expect("a file");
    let arguments = [
        "-f",
        "compose.yaml",
        "-f",
        "network.yaml",
        "build",
        "--parallel",
    ];
    // One service of each image: the others have the same.
    let mut images = BTreeMap::new();
    let config: serde_yaml_ng::Value = serde_yaml_ng::from_str(&text).expect("YAML");
    for name in services {
        let image = config["services"][name]["image"]
            .as_str()
            .expect("an image");
        images.insert(image.to_owned(), name);
    }
    let names = images.into_values();
    compose(
        builder,
        directory,
        &arguments.into_iter().chain(names).collect::<Vec<_>>(),
    );
}

fn up<'e>(engine: &'e Engine, environment: &TestEnvironment, file: &str) -> Stack<'e> {
    let topology: Value = serde_json::from_str(&environment.read(file)).expect("JSON");
    let mut stack = Stack {
        engine,
        directory: environment.path(format!("out/{}", file.replace('/', "-"))),
        name: file.to_owned(),
        virtual_ip: topology["network"]["virtual_ip"]
            .as_str()
            .expect("an address")
            .to_owned(),
        numbers: Vec::new(),
    };
    // It says that nothing is missing.
    good(
        engine
            .command("sh")
            .arg("check.sh")
            .current_dir(&stack.directory),
    );
    let begun = Instant::now();
    stack.compose(&["up", "--detach", "--no-build"]);
    wait(90, "the first answer", || stack.ask("/readyz").is_some());
    let took = begun.elapsed().as_secs_f64();
    let line = format!("{file}: up to the first answer: {took:.1} s");
    note(&line);
    stack.numbers.push(line);
    stack
}

/// What the demonstration does to load balancers and app servers.
fn failures(stack: &mut Stack<'_>) {
    let page = stack.ask("/").expect("a page");
    assert!(page.contains("<html"), "{page}");
    let door = "http://127.0.0.1:8080/";
    good(stack.engine.inside("curl").args(["-sf", "-m", "5", door]));
    let haproxy = [
        "exec",
        "-T",
        "node-1",
        "supervisorctl",
        "signal",
        "KILL",
        "haproxy",
    ];
    stack
        .probed("haproxy killed", 5, |stack| drop(stack.compose(&haproxy)))
        .is_survived();
    let balancer = stack.container("node-1");
    stack
        .probed("load balancer's container killed", 5, |stack| {
            stack.engine.ask(&["kill", &balancer]);
        })
        .is_survived();
    // Back, and it takes the virtual IP back.
    stack
        .probed("that container started again", 10, |stack| {
            stack.engine.ask(&["start", &balancer]);
        })
        .is_lossless();
    stack
        .probed("load balancer's container stopped", 2, |stack| {
            stack.compose(&["stop", "node-1"]);
        })
        .is_lossless();
    stack.compose(&["start", "node-1"]);
    let app = stack.container("node-2");
    stack
        .probed("app server's container killed", 4, |stack| {
            stack.engine.ask(&["kill", &app]);
        })
        .is_survived();
    stack.engine.ask(&["start", &app]);
    stack.served_by(&["node-2", "node-4"]);
    stack
        .probed("app server's container stopped", 2, |stack| {
            stack.compose(&["stop", "node-4"]);
        })
        .is_lossless();
    stack.compose(&["start", "node-4"]);
    stack.served_by(&["node-2", "node-4"]);
}

/// Only what the flows need comes into a load balancer.
fn doors(stack: &Stack<'_>) {
    let reached = |address: &str| {
        let mut command = stack.engine.inside("curl");
        command.args(["-s", "-m", "2", "-o", "/dev/null", address]);
        command.status().expect("curl starts").success()
    };
    assert!(
        !reached("http://10.20.0.16:8404/"),
        "the internal port is open for all"
    );
    stack.compose(&[
        "exec",
        "-T",
        "node-1",
        "nft",
        "delete",
        "table",
        "inet",
        "gen_topology_firewall",
    ]);
    assert!(
        reached("http://10.20.0.16:8404/"),
        "it was not the firewall that closed it"
    );
    let load = [
        "exec",
        "-T",
        "node-1",
        "/etc/gen-topology/gen-topology",
        "node",
        "load-firewall",
    ];
    stack.compose(&load);
    assert!(!reached("http://10.20.0.16:8404/"));
}

/// The app tier grows and shrinks as the README says, and nobody else is touched.
fn scales(stack: &mut Stack<'_>, environment: &TestEnvironment) {
    let output = stack.directory.display().to_string();
    let change = |stack: &Stack<'_>, size: &str| {
        environment.run(&["scale", size]).exits(0);
        environment
            .run(&["export", "compose", "-o", &output])
            .exits(0);
        for node in ["node-1", "node-5"] {
            stack.compose(&["exec", "-T", node, "sh", "/node/reload", "firewall"]);
        }
        stack.compose(&["up", "--detach", "--no-build", "--remove-orphans"]);
        for node in ["node-1", "node-5"] {
            stack.compose(&["exec", "-T", node, "sh", "/node/reload"]);
        }
    };
    let before = stack.containers();
    stack
        .probed("app tier scaled to three", 0, |stack| {
            change(stack, "app=3");
            stack.served_by(&["node-2", "node-4", "node-6"]);
        })
        .is_lossless();
    let mut after = stack.containers();
    assert!(after.remove("node-6").is_some(), "{after:?}");
    assert_eq!(after, before, "somebody else was made anew");
    stack
        .probed("app tier scaled to two", 1, |stack| change(stack, "app=2"))
        .is_lossless();
    assert_eq!(stack.containers(), before);
}

/// The primary of three databases dies, and another takes its place.
fn primary(stack: &mut Stack<'_>) {
    let node = |role: &str| {
        ["db-1", "db-2", "db-3"].into_iter().find(|node| {
            let said = stack.compose(&[
                "exec",
                "-T",
                node,
                "/etc/gen-topology/gen-topology",
                "node",
                "report",
            ]);
            said.contains(&format!("\"{role}\"")) || said.to_lowercase().contains(role)
        })
    };
    let first = node("primary").expect("a primary");
    let container = stack.container(first);
    stack
        .probed("primary's container killed", 8, |stack| {
            stack.engine.ask(&["kill", &container]);
        })
        .is_survived();
    wait(30, "the page", || stack.ask("/").is_some());
    stack.engine.ask(&["start", &container]);
    wait(60, "a member again", || {
        let check = [
            "exec",
            &container,
            "/etc/gen-topology/gen-topology",
            "node",
            "check",
            "database",
        ];
        stack.engine.docker(&check).status.success()
    });
}

fn down(stack: Stack<'_>) {
    stack.compose(&["down", "--volumes"]);
    for what in ["container", "volume"] {
        let mut arguments = vec![what, "ls", "--quiet"];
        arguments.extend((what == "container").then_some("--all"));
        assert_eq!(stack.engine.ask(&arguments), "", "{what}s are left");
    }
    let networks = stack
        .engine
        .ask(&["network", "ls", "--filter", "type=custom", "--quiet"]);
    assert_eq!(networks, "");
    let mut numbers = fs::File::options()
        .append(true)
        .create(true)
        .open(target_directory().join("compose-numbers.txt"))
        .expect("a file");
    for line in stack.numbers {
        writeln!(numbers, "{line}").expect("a line");
    }
}

#[test]
#[ignore = "needs root and Debian's docker.io, docker-compose and mmdebstrap: cargo test -- --ignored"]
fn a_stack_in_containers_survives_what_the_demonstration_does() {
    if let Some(why) = engine::obstacle() {
        return not_run(&why);
    }
    let _turn = Turn::alone();
    let before = machine();
    let environment = TestEnvironment::new();
    exports(&environment);
    let builder = match Engine::start(Kind::Builder) {
        Ok(builder) => builder,
        Err(why) => return not_run(&why),
    };
    supply(&builder, Path::new(PROGRAM));
    for file in ["topology.json", "examples/ha.json"] {
        build(
            &builder,
            &environment.path(format!("out/{}", file.replace('/', "-"))),
        );
    }
    drop(builder);
    let engine = match Engine::start(Kind::Runner) {
        Ok(engine) => engine,
        Err(why) => return not_run(&why),
    };
    let mut stack = up(&engine, &environment, "topology.json");
    stack.served_by(&["node-2", "node-4"]);
    failures(&mut stack);
    doors(&stack);
    scales(&mut stack, &environment);
    down(stack);
    let mut stack = up(&engine, &environment, "examples/ha.json");
    let authority = environment.path("authority.pem");
    is_encrypted(&engine, &authority, &stack.virtual_ip);
    primary(&mut stack);
    down(stack);
    drop(engine);
    assert_eq!(machine(), before, "something is left on this machine");
}
