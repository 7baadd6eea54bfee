//! Every rendered file given to the program that will read it: once as the lab
//! puts it together and once as NixOS does. The files name absolute paths, so each
//! parser runs in a mount namespace of its own, where `/etc`, `/run`, `/var/lib`
//! and `/var/log` are the node's; nothing of this machine is touched.

#![expect(clippy::expect_used, clippy::panic, reason = "a test may stop")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gen_topology::lab::supplies::{self, AppCode, Supplies};
use gen_topology::lab::{LabPlan, NodePlan, state};
use gen_topology::render::{self, Rendered};
use gen_topology::topology::{Source, Tier, Topology};
use gen_topology::{config, exec};

use crate::common::{REPOSITORY, TOPOLOGY, not_run, tool};

/// Files below `/etc` of one node in one of the two worlds.
type Etc = BTreeMap<String, String>;

/// Puts the node's directories in place of this machine's and runs the parser.
/// Arguments: work directory, interface, address, command.
const ROOM: &str = r#"
work=$1 interface=$2 address=$3
shift 3
mount --make-rprivate /
for name in ld.so.cache ld.so.conf ld.so.conf.d passwd group nsswitch.conf localtime alternatives python3 python3.11; do
    if [ -e "/etc/$name" ]; then cp -a "/etc/$name" "$work/etc/"; fi
done
mount --bind "$work/etc" /etc
for directory in /run /var/lib /var/log; do mount -t tmpfs tmpfs $directory; done
mkdir -p /run/gen-topology /run/haproxy /run/keepalived /run/supervisor /run/nginx /var/lib/mongodb /var/lib/nginx \
    /var/log/nginx /var/log/mongodb /var/log/supervisor /var/log/gunicorn
# As `node run haproxy` leaves it before haproxy is started.
echo 1 > /run/haproxy/servers.state
ip link set lo up
ip link add "$interface" type veth peer name other-end
ip address add "$address/16" dev "$interface"
ip link set "$interface" up
exec "$@"
"#;

/// One node of one topology.
struct Case {
    /// For messages: topology, node and world.
    name: String,
    interface: String,
    address: String,
    etc: Etc,
}

/// What a parser said.
struct Verdict {
    accepted: bool,
    said: String,
}

impl Case {
    /// Runs `command` where the node's files are in their places.
    fn run(&self, command: &[&str]) -> Verdict {
        let work = tempfile::Builder::new()
            .prefix("gen-topology-test-")
            .tempdir()
            .expect("a temporary directory");
        let etc = work.path().join("etc");
        for (path, text) in &self.etc {
            let file = etc.join(path);
            fs::create_dir_all(file.parent().expect("a directory")).expect("a directory");
            fs::write(file, text).expect("a file");
        }
        let ours = etc.join("gen-topology");
        fs::create_dir_all(&ours).expect("a directory");
        // keepalived wants to see that it can run the program; it does not run it.
        let program = ours.join("gen-topology");
        fs::write(&program, "#!/bin/sh\nexit 0\n").expect("a file");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("a file");
        std::os::unix::fs::symlink(Path::new(REPOSITORY).join("app"), ours.join("app"))
            .expect("a link");
        if let Some(python) = python_environment() {
            std::os::unix::fs::symlink(python, ours.join("python")).expect("a link");
        }
        let mut room = assert_cmd::Command::new("unshare");
        room.args(["--mount", "--net", "--pid", "--fork", "--kill-child"]);
        if !rustix::process::geteuid().is_root() {
            room.args(["--user", "--map-root-user"]);
        }
        room.args(["sh", "-euc", ROOM, "room"])
            .arg(work.path())
            .args([&self.interface, &self.address])
            .args(command);
        let path = std::env::var_os("PATH").unwrap_or_default();
        room.env_clear()
            .env("PATH", path)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .timeout(Duration::from_secs(60));
        let output = room.output().expect("unshare starts");
        let said = [output.stdout, output.stderr]
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .concat();
        Verdict {
            accepted: output.status.success(),
            said,
        }
    }

    /// The same node with more text at the end of a file.
    fn with(&self, path: &str, line: &str) -> Self {
        let mut etc = self.etc.clone();
        etc.get_mut(path)
            .unwrap_or_else(|| panic!("{} has no {path}", self.name))
            .push_str(line);
        Self {
            name: format!("{} with a mistake", self.name),
            interface: self.interface.clone(),
            address: self.address.clone(),
            etc,
        }
    }
}

/// The Python environment that a lab has made on this machine.
fn python_environment() -> Option<PathBuf> {
    let cache = state::cache_directory().ok()?;
    let mut found: Vec<PathBuf> = fs::read_dir(cache)
        .ok()?
        .map(|entry| entry.expect("an entry").path())
        .collect();
    found.sort();
    found
        .into_iter()
        .filter(|path| path.join("complete").exists() && path.join("bin/python").exists())
        // Other applications have others.
        .find(|path| is_of_the_demo(path))
}

/// Whether an environment has what the demo application imports.
fn is_of_the_demo(environment: &Path) -> bool {
    let libraries = fs::read_dir(environment.join("lib"));
    let mut libraries = libraries.into_iter().flatten().flatten();
    libraries.any(|library| {
        let packages = library.path().join("site-packages");
        ["flask", "gunicorn", "pymongo"]
            .iter()
            .all(|package| packages.join(package).is_dir())
    })
}

/// Topologies with a stack of every kind, the last as large and odd as is allowed.
fn topologies() -> Vec<(String, Topology)> {
    let mut files = vec![Path::new(REPOSITORY).join("topology.json")];
    files.extend(
        fs::read_dir(Path::new(REPOSITORY).join("examples"))
            .expect("examples")
            .map(|e| e.expect("an entry").path()),
    );
    files.sort();
    let mut all: Vec<(String, Vec<u8>, PathBuf)> = files
        .into_iter()
        .map(|path| {
            let name = path
                .file_stem()
                .expect("a name")
                .to_string_lossy()
                .into_owned();
            (
                name,
                fs::read(&path).expect("a file"),
                path.parent().expect("a directory").to_path_buf(),
            )
        })
        .collect();
    all.push(("extreme".into(), extreme().into_bytes(), REPOSITORY.into()));
    all.into_iter()
        .map(|(name, bytes, base)| {
            let source = Source {
                path: "topology.json".into(),
                base,
                bytes,
            };
            let checked = Topology::check(&source, &|path| path.exists());
            let problems: Vec<String> = checked.problems.iter().map(ToString::to_string).collect();
            (
                name,
                checked.topology.unwrap_or_else(|| panic!("{problems:?}")),
            )
        })
        .collect()
}

fn extreme() -> String {
    let mut nodes = String::new();
    for (tier, count, block) in [
        ("load-balancer", 254, 1),
        ("app", 300, 4),
        ("database", 50, 8),
    ] {
        for index in 0..count {
            let (high, low) = (block + index / 200, 1 + index % 200);
            let name = format!("{tier}-{}-{index}", "x".repeat(40));
            writeln!(
                nodes,
                "\"{name}\": {{ \"tier\": \"{tier}\", \"address\": \"10.20.{high}.{low}\" }},"
            )
            .expect("a string");
        }
    }
    let start = TOPOLOGY
        .split("\"lb-1\"")
        .next()
        .expect("a start")
        .replace("/24", "/16");
    let app = format!(
        r#""source": "./app", "health_path": "/{}.ready~", "port": 65535, "instances": 32, "workers": 64, "threads": 256,
        "env": {{ "A": "quote \" backslash \\ dollar $HOME percent % %(x)s semicolon ; hash # line\nbreak tab\t € 😀",
                  "B": "", "C": "'''{{{{ }}}} {{% %}} {}" }}"#,
        "a-long.path/".repeat(15),
        "long ".repeat(1000),
    );
    let settings = r#""load_balancer": { "port": 65535, "internal_port": 1, "advert_interval": "40950ms", "preempt": false,
        "preempt_delay": "10m", "drain_time": "10m", "max_connections": 1000000 },
        "database": { "replica_set": "-_very-long-name-of-a-replica-set-123-", "name": "a", "port": 1,
        "election_timeout": "10m", "heartbeat_interval": "150s", "cache_size": "300MiB" },
        "network""#;
    let text = start
        .replace("\"source\": \"./app\"", &app)
        .replace("\"network\"", settings)
        .replace(
            "10.20.0.10\"",
            "10.20.0.10\", \"interface\": \"a-b_c.d\", \"virtual_router_id\": 255",
        );
    text + nodes.trim_end_matches([',', '\n']) + "} }"
}

fn supplies() -> Supplies {
    let names = supplies::TOOLS
        .iter()
        .map(|tool| tool.program)
        .chain(["mongod"]);
    Supplies {
        program: crate::common::PROGRAM.into(),
        apps: vec![AppCode {
            name: None,
            source: Path::new(REPOSITORY).join("app"),
            built: None,
            version: "000000000000".into(),
            python: python_environment().unwrap_or_else(|| "/nowhere".into()),
        }],
        app_versions: "/nowhere".into(),
        secrets: None,
        tools: names
            .filter_map(|name| Some((name.to_owned(), supplies::locate(name)?)))
            .collect(),
        binds: BTreeMap::new(),
        database_binds: BTreeMap::new(),
    }
}

/// What NixOS's modules make of the files: a `global` section before haproxy's,
/// and its own nginx.conf around ours. The others are used as they are.
fn on_nixos(rendered: &Rendered) -> Etc {
    let text = |path: &str| rendered.files.get(path).map(ToString::to_string);
    let mut etc: Etc = rendered
        .files
        .iter()
        .filter_map(|(path, text)| Some((path.strip_prefix("etc/")?.to_owned(), text.to_string())))
        .collect();
    if let Some(haproxy) = text(render::HAPROXY) {
        let global = "global\n  # needed for hot-reload to work without dropping packets in multi-worker mode\n  \
             stats socket /run/haproxy/haproxy.sock mode 600 expose-fd listeners level user\n";
        etc.insert("haproxy/haproxy.cfg".into(), format!("{global}\n{haproxy}"));
    }
    if etc.contains_key("nginx/app.conf") {
        etc.insert(
            "nginx/mime.types".into(),
            "types { text/html html; }\n".into(),
        );
        etc.insert("nginx/nginx.conf".into(), NIXOS_NGINX.into());
    }
    etc
}

/// nginx.conf as the NixOS module writes it with the options of `modules/nginx.nix`, less
/// the included files of nginx itself.
const NIXOS_NGINX: &str = "
pid /run/nginx/nginx.pid;
error_log stderr;
daemon off;
events {
  worker_connections 4096;
}
http {
  # Load mime types and configure maximum size of the types hash tables.
  include /etc/nginx/mime.types;
  types_hash_max_size 2688;
  default_type application/octet-stream;
  ssl_protocols TLSv1.2 TLSv1.3;
  # $connection_upgrade is used for websocket proxying
  map $http_upgrade $connection_upgrade {
      default upgrade;
      ''      close;
  }
  client_max_body_size 10m;
  server_tokens off;
  include /etc/nginx/app.conf;
}
worker_processes auto;
";

/// Every different set of files that a node of `tier` has, in both worlds.
fn cases(tier: Tier) -> Vec<Case> {
    let supplies = supplies();
    let mut seen = BTreeSet::new();
    let mut cases = Vec::new();
    for (name, topology) in topologies() {
        let rendered =
            render::render(&config::resolve(&topology)).expect("every topology can be rendered");
        let lab = LabPlan::of(&topology, &rendered, &supplies, "test");
        let of_tier = lab.tier(tier).collect::<Vec<&NodePlan>>();
        // The first, the last and one between: nodes of a tier differ in little more than addresses.
        let chosen: BTreeSet<usize> = BTreeSet::from([0, of_tier.len() / 2, of_tier.len() - 1]);
        for node in chosen.into_iter().map(|at| of_tier[at]) {
            let files = rendered
                .iter()
                .find(|files| files.node == node.name)
                .expect("every node is rendered");
            for (world, etc) in [("lab", node.etc.clone()), ("NixOS", on_nixos(files))] {
                let mut daemons = etc.clone();
                daemons.retain(|path, _| {
                    !matches!(
                        path.as_str(),
                        "hostname" | "hosts" | "gen-topology/node.json"
                    )
                });
                if !seen.insert(daemons) {
                    continue;
                }
                cases.push(Case {
                    name: format!("{name}, {}, {world}", &node.name[..node.name.len().min(20)]),
                    interface: node.interface.clone(),
                    address: node.address.to_string(),
                    etc,
                });
            }
        }
    }
    cases
}

/// Where the program is, unless the test can't run: then it says so.
fn parser(program: &str) -> Option<String> {
    let Some(found) = supplies::locate(program) else {
        not_run(&format!("{program} is missing"));
        return None;
    };
    let probe = Case {
        name: "probe".into(),
        interface: "eth0".into(),
        address: "10.20.0.16".into(),
        etc: Etc::new(),
    };
    for tool in ["unshare", "ip"] {
        if exec::find(tool).is_none() {
            not_run(&format!("{tool} is missing"));
            return None;
        }
    }
    let verdict = probe.run(&["true"]);
    if !verdict.accepted {
        not_run(&format!("no namespaces: {}", verdict.said.trim()));
        return None;
    }
    Some(found.display().to_string())
}

/// Gives every case to a parser, which must accept it without a word of warning,
/// and then the first of each world with each of `mistakes`, which it must refuse.
fn judge(cases: &[Case], command: &[&str], silence: &[&str], mistakes: &[(&str, &str)]) {
    assert!(!cases.is_empty());
    for case in cases {
        let verdict = case.run(command);
        assert!(
            verdict.accepted,
            "{}: `{}` refuses:\n{}",
            case.name,
            command.join(" "),
            verdict.said
        );
        let lower = verdict.said.to_lowercase();
        let word = silence.iter().find(|word| lower.contains(**word));
        assert_eq!(
            word,
            None,
            "{}: `{}` complains:\n{}",
            case.name,
            command.join(" "),
            verdict.said
        );
    }
    for world in ["lab", "NixOS"] {
        let case = cases.iter().find(|case| case.name.ends_with(world));
        for (path, line) in mistakes {
            let Some(case) = case.filter(|case| case.etc.contains_key(*path)) else {
                continue;
            };
            let verdict = case.with(path, line).run(command);
            assert!(
                !verdict.accepted,
                "{}: {line:?} in {path} was not noticed:\n{}",
                case.name, verdict.said
            );
        }
    }
}

#[test]
fn haproxy_reads_its_file() {
    let Some(haproxy) = parser("haproxy") else {
        return;
    };
    judge(
        &cases(Tier::LoadBalancer),
        &[&haproxy, "-c", "-f", "/etc/haproxy/haproxy.cfg"],
        &["warning", "notice", "alert"],
        &[
            ("haproxy/haproxy.cfg", "\n    frobnicate\n"),
            (
                "haproxy/haproxy.cfg",
                "\nbackend app\n    server twice 10.0.0.1:80\n    server twice 10.0.0.2:80\n",
            ),
        ],
    );
}

#[test]
fn nft_reads_its_file() {
    let Some(nft) = parser("nft") else {
        return;
    };
    for tier in Tier::ALL {
        judge(
            &cases(tier),
            &[&nft, "--check", "--file", "/etc/gen-topology/firewall.nft"],
            &["warning", "error"],
            &[
                ("gen-topology/firewall.nft", "\nfrobnicate\n"),
                (
                    "gen-topology/firewall.nft",
                    "\nadd rule inet gen_topology_firewall input ip saddr @strangers accept\n",
                ),
            ],
        );
    }
}

#[test]
fn keepalived_reads_its_file() {
    let Some(keepalived) = parser("keepalived") else {
        return;
    };
    judge(
        &cases(Tier::LoadBalancer),
        &[
            &keepalived,
            "--config-test",
            "--use-file=/etc/keepalived/keepalived.conf",
        ],
        &[
            "warning",
            "unknown",
            "unsafe",
            "not found",
            "doesn't exist",
            "invalid",
            "error",
            "ignoring",
            "deprecated",
        ],
        &[
            ("keepalived/keepalived.conf", "\nfrobnicate\n"),
            (
                "keepalived/keepalived.conf",
                "\nvrrp_instance other {\n    virtual_router_id 999\n}\n",
            ),
        ],
    );
}

#[test]
fn nginx_reads_its_file() {
    let Some(nginx) = parser("nginx") else { return };
    judge(
        &cases(Tier::App),
        &[&nginx, "-t", "-c", "/etc/nginx/nginx.conf"],
        &["[warn]", "[emerg]", "[error]", "[alert]"],
        &[
            ("nginx/app.conf", "\nfrobnicate on;\n"),
            ("nginx/nginx.conf", "\nfrobnicate on;\n"),
            ("nginx/app.conf", "\nupstream app {\n}\n"),
        ],
    );
}

/// NixOS gives the file to gixy when it builds, and any finding ends the build.
#[test]
fn gixy_finds_nothing_in_nginx_files() {
    let (Some(_), Some(gixy)) = (parser("python3"), tool("gixy")) else {
        return;
    };
    let gixy = gixy.display().to_string();
    judge(
        &cases(Tier::App),
        &[&gixy, "/etc/nginx/nginx.conf"],
        &["error", "fail", "warning"],
        &[
            (
                "nginx/app.conf",
                "\nserver { location / { proxy_pass http://app; proxy_set_header Host $http_host; } }\n",
            ),
            (
                "nginx/app.conf",
                "\nserver { location / { proxy_pass http://app$uri; } }\n",
            ),
            ("nginx/app.conf", "\nserver {\n"),
        ],
    );
}

/// Reads a configuration as supervisord does at its start, included files and programs too.
const SUPERVISORD: &str = "
from supervisor.options import ServerOptions
options = ServerOptions()
options.realize(['--configuration=/etc/supervisor/supervisord.conf'])
for group in options.process_group_configs:
    for process in group.process_configs:
        print(group.name, process.name, process.command)
";

#[test]
fn supervisord_reads_its_file() {
    let Some(_) = parser("supervisord") else {
        return;
    };
    let Some(python) = parser("python3") else {
        return;
    };
    let command = [python.as_str(), "-c", SUPERVISORD];
    let mistakes = [
        (
            "supervisor/supervisord.conf",
            "\n[program:broken]\nautostart=true\n",
        ),
        (
            "supervisor/supervisord.conf",
            "\n[program:broken]\ncommand=true\nnumprocs=many\n",
        ),
        ("supervisor/supervisord.conf", "\nno section and no key\n"),
    ];
    for tier in Tier::ALL {
        // On NixOS systemd runs the daemons of the other tiers.
        let cases: Vec<Case> = cases(tier)
            .into_iter()
            .filter(|case| case.etc.contains_key("supervisor/supervisord.conf"))
            .collect();
        judge(&cases, &command, &["error", "warn"], &mistakes);
        for case in &cases {
            let said = case.run(&command).said;
            let expected: &[&str] = match (tier, case.name.ends_with("lab")) {
                (Tier::LoadBalancer, _) => &["haproxy haproxy ", "keepalived keepalived "],
                (Tier::App, true) => &[
                    "gunicorn-0 gunicorn-0 ",
                    "gunicorn-1 gunicorn-1 ",
                    "nginx nginx ",
                ],
                (Tier::App, false) => &["gunicorn-0 gunicorn-0 ", "gunicorn-1 gunicorn-1 "],
                (Tier::Database, _) => {
                    &["mongod mongod ", "reconcile-database reconcile-database "]
                }
            };
            for program in expected {
                assert!(
                    said.contains(program),
                    "{}: no {program} in\n{said}",
                    case.name
                );
            }
        }
    }
}

#[test]
fn gunicorn_reads_its_file() {
    if parser("python3").is_none() {
        return;
    }
    if python_environment().is_none() {
        return not_run(
            "no lab has made a Python environment with gunicorn yet; `gen-topology lab up` does",
        );
    }
    judge(
        &cases(Tier::App),
        &[
            "/etc/gen-topology/python/bin/python",
            "-m",
            "gunicorn",
            "--check-config",
            "--config",
            "/etc/gunicorn/gunicorn.conf.py",
        ],
        &["error", "warning"],
        &[
            ("gunicorn/gunicorn.conf.py", "\nfrobnicate(\n"),
            ("gunicorn/gunicorn.conf.py", "\nworkers = \"many\"\n"),
            (
                "gunicorn/gunicorn.conf.py",
                "\nwsgi_app = \"missing:app\"\n",
            ),
        ],
    );
}

/// Prints the environment that a gunicorn configuration gives the app.
const ENVIRONMENT: &str = "
import json, runpy
print(json.dumps(runpy.run_path('/etc/gunicorn/gunicorn.conf.py')['raw_env']))
";

#[test]
fn python_reads_every_variable_as_it_was_written() {
    let Some(python) = parser("python3") else {
        return;
    };
    let (_, topology) = topologies().pop().expect("the last is the extreme one");
    let cases = cases(Tier::App);
    let case = cases
        .iter()
        .find(|case| case.name.starts_with("extreme"))
        .expect("the last is the extreme one");
    let said = case.run(&[&python, "-c", ENVIRONMENT]).said;
    let read: Vec<String> =
        serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"));
    for (name, value) in &topology.app().env {
        assert!(
            read.contains(&format!("{name}={value}")),
            "{name}={value:?} was read as {read:?}"
        );
    }
}

#[test]
fn mongod_reads_its_file() {
    if parser("python3").is_none() {
        return;
    }
    let Some(mongod) = supplies::mongod().expect("a home directory") else {
        return not_run("mongod is missing; `gen-topology lab up` fetches one");
    };
    let mongod = mongod.display().to_string();
    judge(
        &cases(Tier::Database),
        &[&mongod, "--config", "/etc/mongod.conf", "--outputConfig"],
        &["error", "unrecognized", "deprecated"],
        &[
            ("mongod.conf", "\nfrobnicate: true\n"),
            ("mongod.conf", "\nnet:\n  port: 99999\n"),
        ],
    );
}

/// Starts mongod with a key of this test's own, waits until it takes connections, and ends it.
const START_MONGOD: &str = r#"
key=$(sed -n 's/^ *keyFile: *//p' /etc/mongod.conf)
mkdir -p "$(dirname "$key")"
head -c 96 /dev/urandom | base64 -w 0 > "$key"
chmod 400 "$key"
"$0" --config /etc/mongod.conf &
for _ in $(seq 300); do
    if grep -q 'Waiting for connections' /var/log/mongodb/mongod.log 2>/dev/null; then
        kill -9 $!
        exit 0
    fi
    if ! kill -0 $! 2>/dev/null; then break; fi
    sleep 0.1
done
grep -E '"s":"(E|F)"' /var/log/mongodb/mongod.log || cat /var/log/mongodb/mongod.log
exit 1
"#;

#[test]
fn mongod_starts_with_its_file() {
    if parser("python3").is_none() {
        return;
    }
    let Some(mongod) = supplies::mongod().expect("a home directory") else {
        return not_run("mongod is missing; `gen-topology lab up` fetches one");
    };
    let mongod = mongod.display().to_string();
    let cases = cases(Tier::Database);
    let command = ["sh", "-c", START_MONGOD, mongod.as_str()];
    // Parameters are looked at only by a real start.
    judge(
        &cases[..1],
        &command,
        &[],
        &[("mongod.conf", "\n  frobnicate: 1\n")],
    );
}
