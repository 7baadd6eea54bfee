//! Machines for tests: nodes of a lab, each with a real sshd and a Nix store of its own, and a deployer
//! beside them that has nothing but its own ssh, keys and store.
//!
//! A system here is a derivation without nixpkgs: the node's rendered files, and a
//! `switch-to-configuration` that puts them in place and tells supervisord.

#![expect(clippy::expect_used, reason = "a test may stop")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use super::lab::Bench;
use super::{PROGRAM, not_run};

/// Runs a command in the lab's network, with a home directory and a `/nix` of its own: `$1`
/// is the room, `$2` the directory to be in.
const BESIDE: &str = r#"
set -e
room=$1 here=$2
shift 2
mkdir -p "$room/root" "$room/nix" "$room/home"
mount -t tmpfs root "$room/root"
for entry in /*; do
    if [ "$entry" = /nix ]; then
        continue
    elif [ -L "$entry" ]; then
        cp -P "$entry" "$room/root$entry"
    elif [ -d "$entry" ]; then
        mkdir "$room/root$entry"
        mount --rbind "$entry" "$room/root$entry"
    fi
done
mkdir "$room/root/nix"
mount --bind "$room/nix" "$room/root/nix"
mount --bind "$room/home" "$room/root/root"
exec chroot "$room/root" sh -c 'cd "$0"; exec "$@"' "$here" "$@"
"#;

/// Makes a node reachable by ssh.
const SSHD: &str =
    "set -e; mkdir -p /run/sshd; mount -t tmpfs -o size=256m store /nix; /usr/sbin/sshd";

const SSHD_CONFIG: &str = "\
HostKey /etc/ssh/host_key
AuthorizedKeysFile /etc/ssh/authorized_keys
PidFile /run/sshd.pid
StrictModes no
SetEnv PATH=/run/current-system/sw/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
";

const NIX_CONF: &str = "\
build-users-group =
sandbox = false
substituters =
experimental-features = nix-command flakes
";

/// A system of one node.
const SYSTEM: &str = r#"
{ name, files, app, switch, units, flaw }:
derivation {
  name = "nixos-system-${name}";
  system = builtins.currentSystem;
  builder = "/bin/sh";
  PATH = "/usr/bin:/bin";
  inherit files app switch units flaw;
  args = [ "-c" ''
    mkdir -p $out/bin $out/sw/bin
    cp -r $files $out/etc
    chmod -R u+w $out/etc
    [ -z "$app" ] || ln -s $app $out/etc/gen-topology/app
    [ -z "$app" ] || ln -s /etc/gen-topology/python $out/etc/gen-topology/python
    ln -s /opt/gen-topology/bin/gen-topology $out/etc/gen-topology/gen-topology
    cp $switch $out/bin/switch-to-configuration
    cp $units $out/sw/bin/systemctl
    printf '#!/bin/sh\necho "journal $*"\n' > $out/sw/bin/journalctl
    echo "$flaw" > $out/flaw
    chmod +x $out/bin/* $out/sw/bin/*
  '' ];
}
"#;

/// What NixOS's own does, as far as it matters: files in place, daemons told.
const SWITCH: &str = r#"#!/bin/sh
set -eu
self=$(readlink -f "$0")
system=${self%/bin/*}
echo "$1 $system" >> /var/log/switched
flaw=$(cat "$system/flaw")
if [ "$1" = boot ]; then
    [ "$flaw" != unbootable ] || echo "error: /boot is full" >&2
    [ "$flaw" != unbootable ]
    exit
fi
if [ "$flaw" = cut ]; then
    ip link set eth0 down
else
    ip link set eth0 up
fi
changed=
cd "$system/etc"
for file in $(find . -type f); do
    cmp -s "$file" "/etc/$file" && continue
    mkdir -p "/etc/${file%/*}"
    cp "$file" "/etc/$file.new"
    mv "/etc/$file.new" "/etc/$file"
    changed="$changed $file"
done
if [ -e gen-topology/app ] && [ "$(readlink -f gen-topology/app)" != "$(readlink -f /etc/gen-topology/app)" ]; then
    ln -sfn "$(readlink -f gen-topology/app)" /etc/gen-topology/app
    changed="$changed gunicorn/"
fi
ln -sfn "$system" /run/current-system
[ "$flaw" != slow ] || sleep 2
if [ "$flaw" = broken ]; then
    echo "warning: the following units failed: flaw.service" >&2
    exit 4
fi
control() { supervisorctl -c /etc/supervisor/supervisord.conf "$@"; }
case "$changed" in *firewall.nft*) /etc/gen-topology/gen-topology node load-firewall ;; esac
case "$changed" in *haproxy/*) control signal USR2 haproxy ;; esac
case "$changed" in *keepalived/*) control signal HUP keepalived ;; esac
case "$changed" in *nginx/*) control signal HUP nginx ;; esac
case "$changed" in *gunicorn/*)
    for instance in $(control avail | awk '/^gunicorn-/ { print $1 }'); do
        control restart "$instance"
        socket=/run/gen-topology/gunicorn-${instance##*-}.sock
        for _ in $(seq 100); do
            [ -S "$socket" ] && break
            sleep 0.1
        done
    done ;;
esac
case "$changed" in *mongod.conf*) control restart mongod ;; esac
exit 0
"#;

/// `systemctl stop|start UNIT`, of supervisord's programs.
const UNITS: &str = r#"#!/bin/sh
[ "$2" = supervisord ] && set -- "$1" "gunicorn-0 gunicorn-1"
[ "$1" = stop ] || [ "$1" = start ] || exit 1
# As the units' ConditionPathExists does.
[ "$1" = start ] && [ -e /var/lib/gen-topology/away ] && exit 0
supervisorctl -c /etc/supervisor/supervisord.conf "$1" ${2%.service} | grep -v 'not running\|already started' >&2
exit 0
"#;

/// A lab whose nodes are machines.
pub(crate) struct Machines {
    pub(crate) bench: Bench,
    anchor: String,
}

impl Machines {
    /// The nodes of a shipped topology as machines, or none where that can't be.
    pub(crate) fn new(test: &str, topology: &str) -> Option<Self> {
        if let Some(why) = unable() {
            not_run(&format!("{test}: {why}"));
            return None;
        }
        let bench = Bench::new(test, topology)?;
        let text = fs::read_to_string(bench.topology()).expect("the topology");
        fs::write(
            bench.topology(),
            text.replace("\"web-stack\"", "\"machines\""),
        )
        .expect("the topology");
        // An app that a test may change.
        let app = bench.directory.path().join("app");
        let shipped = Path::new(super::REPOSITORY).join("app");
        run(Command::new("cp").arg("-r").arg(&shipped).arg(&app));
        let text = fs::read_to_string(bench.topology()).expect("the topology");
        fs::write(
            bench.topology(),
            text.replace(&shipped.display().to_string(), "./app"),
        )
        .expect("the topology");

        bench.expect(&["lab", "up", "--wait"], 0);
        let anchor = bench.anchor("machines").expect("the lab's anchor");
        let machines = Self { bench, anchor };
        machines.furnish();
        Some(machines)
    }

    pub(crate) fn room(&self) -> PathBuf {
        self.bench.directory.path().join("deployer")
    }

    /// Where the deployer puts ssh's sockets.
    pub(crate) fn temporary(&self) -> PathBuf {
        // Short: the path of a socket may have 107 bytes.
        self.bench.directory.path().join("t")
    }

    /// ssh's masters that work for the deployer, with their command lines.
    pub(crate) fn masters(&self) -> Vec<(String, String)> {
        let begin = format!("ssh: {}/gt-", self.temporary().display());
        let masters = super::lab::processes().into_iter();
        masters
            .filter(|(_, line)| line.starts_with(&begin))
            .collect()
    }

    fn furnish(&self) {
        fs::create_dir(self.temporary()).expect("a directory");
        let ssh = self.room().join("home/.ssh");
        fs::create_dir_all(&ssh).expect("a directory");
        fs::set_permissions(&ssh, fs::Permissions::from_mode(0o700)).expect("permissions");
        fs::create_dir_all(self.room().join("nix-conf")).expect("a directory");
        fs::write(self.room().join("nix-conf/nix.conf"), NIX_CONF).expect("a file");
        key(&ssh.join("id_ed25519"));
        for node in self.addresses().into_keys() {
            self.serve(&node);
        }
    }

    /// The nodes of the topology: name and address.
    fn addresses(&self) -> BTreeMap<String, String> {
        let text = fs::read_to_string(self.bench.topology()).expect("the topology");
        let topology: Value = serde_json::from_str(&text).expect("JSON");
        let nodes = topology["nodes"].as_object().expect("nodes");
        let address = |node: &Value| node["address"].as_str().expect("an address").to_owned();
        nodes
            .iter()
            .map(|(name, node)| (name.clone(), address(node)))
            .collect()
    }

    /// Starts a node's sshd, with a host key that the deployer knows.
    pub(crate) fn serve(&self, node: &str) {
        let etc = self
            .bench
            .labs()
            .join("machines/nodes")
            .join(node)
            .join("etc");
        let ssh = etc.join("ssh");
        fs::create_dir_all(&ssh).expect("a directory");
        fs::create_dir_all(etc.join("nix")).expect("a directory");
        fs::write(etc.join("nix/nix.conf"), NIX_CONF).expect("a file");
        fs::write(etc.join("shadow"), "root:none:19000:0:99999:7:::\n").expect("a file");
        fs::write(ssh.join("sshd_config"), SSHD_CONFIG).expect("a file");
        let own = self.room().join("home/.ssh");
        fs::copy(own.join("id_ed25519.pub"), ssh.join("authorized_keys")).expect("a key");
        let host = ssh.join("host_key");
        key(&host);
        let public = fs::read_to_string(ssh.join("host_key.pub")).expect("a key");
        let known = own.join("known_hosts");
        let mut text = fs::read_to_string(&known).unwrap_or_default();
        text.push_str(&format!("{} {public}", self.addresses()[node]));
        fs::write(known, text).expect("a file");
        self.inside(node, SSHD);
    }

    /// Runs a script in a node, past ssh, and returns what it wrote.
    #[track_caller]
    pub(crate) fn inside(&self, node: &str, script: &str) -> String {
        self.bench
            .expect(&["lab", "exec", node, "--", "sh", "-c", script], 0)
    }

    /// Any command in the deployer's place.
    pub(crate) fn beside(&self, argv: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--target={}", self.anchor))
            .args([
                "--net",
                "--",
                "unshare",
                "--mount",
                "--propagation=private",
                "--",
            ])
            .args(["sh", "-c", BESIDE, "sh"])
            .arg(self.room())
            .arg(self.bench.directory.path())
            .args(argv)
            .env("NIX_CONF_DIR", self.room().join("nix-conf"))
            .env("HOME", "/root")
            .env("TMPDIR", self.temporary())
            .env("NO_COLOR", "1")
            .stdin(Stdio::null());
        command
    }

    /// The program in the deployer's place.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        self.beside(&[&[PROGRAM], arguments].concat())
    }

    /// Runs, demands an exit code, and returns both outputs.
    #[track_caller]
    pub(crate) fn expect(&self, arguments: &[&str], code: i32) -> String {
        let output = self.command(arguments).output().expect("the program");
        let said = said(&output);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}:\n{said}");
        assert!(!said.contains("panicked at"), "{said}");
        said
    }

    /// Ends the deployer as a power failure would: every process that works for it.
    pub(crate) fn end(&self, deployer: &std::process::Child) {
        let mut pids = vec![deployer.id().to_string()];
        let mut at = 0;
        while let Some(pid) = pids.get(at).cloned() {
            let tasks = format!("/proc/{pid}/task/{pid}/children");
            let children = fs::read_to_string(tasks).unwrap_or_default();
            pids.extend(children.split_whitespace().map(str::to_owned));
            at += 1;
        }
        // ssh's masters have left the family; their command line names the socket.
        pids.extend(self.masters().into_iter().map(|(pid, _)| pid));
        run(Command::new("kill").arg("-KILL").args(&pids));
    }

    /// Renders the topology, builds each node's system and returns the file that names them.
    /// `flaws`: node → what is wrong with its system.
    pub(crate) fn systems(&self, flaws: &[(&str, &str)]) -> String {
        self.bench.expect(&["generate"], 0);
        let hosts = self.bench.directory.path().join("hosts");
        let stage = self.room().join("stage");
        let _ = fs::remove_dir_all(&stage);
        fs::create_dir_all(&stage).expect("a directory");
        for (name, text) in [("system.nix", SYSTEM), ("switch", SWITCH), ("units", UNITS)] {
            fs::write(stage.join(name), text).expect("a file");
        }
        let mut closures = BTreeMap::new();
        for node in self.addresses().into_keys() {
            let files = stage.join(&node);
            run(Command::new("cp")
                .arg("-r")
                .arg(hosts.join(&node).join("etc"))
                .arg(&files));
            fs::create_dir_all(files.join("gen-topology")).expect("a directory");
            fs::copy(
                hosts.join(&node).join("node.json"),
                files.join("gen-topology/node.json"),
            )
            .expect("facts");
            let facts = fs::read_to_string(files.join("gen-topology/node.json")).expect("facts");
            let facts: Value = serde_json::from_str(&facts).expect("JSON");
            let secrets = facts["app"]["secrets"].as_array().into_iter().flatten();
            let secrets: Vec<String> = secrets
                .filter_map(|name| {
                    Some(format!(
                        "/var/lib/gen-topology/secrets/app/{}\n",
                        name.as_str()?
                    ))
                })
                .collect();
            if !secrets.is_empty() {
                let list = files.join("gen-topology/secrets-of-app");
                fs::write(list, secrets.concat()).expect("a file");
            }
            let is_app = files.join("gunicorn").exists();
            let flaw = flaws
                .iter()
                .find(|(name, _)| *name == node)
                .map_or("", |(_, flaw)| flaw);
            let app = if is_app { "../../app" } else { "\"\"" };
            let call = format!(
                "import ./system.nix {{ name = \"{node}\"; files = ./{node}; app = {app}; switch = ./switch; units = ./units; flaw = \"{flaw}\"; }}"
            );
            let file = stage.join(format!("{node}.nix"));
            fs::write(&file, call).expect("a file");
            let built = self
                .beside(&["nix-build", "--no-out-link", &file.display().to_string()])
                .output();
            let built = built.expect("nix-build");
            assert!(built.status.success(), "{}", said(&built));
            closures.insert(
                node,
                String::from_utf8_lossy(&built.stdout).trim().to_owned(),
            );
        }
        let file = self.room().join("systems.json");
        fs::write(&file, serde_json::to_string(&closures).expect("JSON")).expect("a file");
        file.display().to_string()
    }
}

pub(crate) fn said(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

fn key(path: &Path) {
    let _ = fs::remove_file(path);
    run(Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", "test", "-f"])
        .arg(path));
}

fn run(command: &mut Command) {
    let output = command.output().expect("a program");
    assert!(output.status.success(), "{command:?}: {}", said(&output));
}

/// Why there can't be machines here, if so.
fn unable() -> Option<&'static str> {
    let has = |program: &str| gen_topology::exec::find(program).is_some();
    if !has("sshd") || !has("ssh") {
        return Some("sshd is not here; scripts/install-tools installs it");
    }
    if !has("nix-store") {
        return Some("nix is not here; scripts/install-tools installs it");
    }
    if gen_topology::exec::find("haproxy").is_some_and(|path| {
        path.canonicalize()
            .is_ok_and(|path| path.starts_with("/nix"))
    }) {
        return Some("the daemons are in /nix, which each machine has of its own here");
    }
    (!rustix::process::geteuid().is_root()).then_some("sshd needs root")
}
