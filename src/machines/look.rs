//! What a machine runs, asked by one script of the shell, so that it works on machines
//! that have nothing of ours yet, and for systems that are only there to be switched to.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;

use super::Ssh;

/// What `sh` is told to look at: `$1` is the root of a system, the rest are files below its `/etc`.
/// Lines of a word and a value; the node's facts at the end.
const LOOK: &str = include_str!("look.sh");

/// One system, running or not, by its files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct System {
    /// Its path in the Nix store; none where the machine runs no NixOS.
    pub path: Option<String>,
    /// Its `node.json`, if it has one.
    pub facts: Option<String>,
    /// Files below `/etc` → SHA-256, of those that were asked for and are there.
    pub files: BTreeMap<String, String>,
    /// Where the app's code and its Python are.
    pub app: Option<String>,
    /// What is the same as long as no daemon of ours has to be restarted for more than its files.
    pub shell: String,
    /// App servers that its haproxy sends requests to, with their addresses.
    pub servers: Vec<(String, Ipv4Addr)>,
}

/// A machine at the moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// What it runs.
    pub system: System,
    /// Generation of its system profile, such as 42.
    pub generation: Option<u64>,
    /// The system of the generation before, if it is still there.
    pub before: Option<String>,
    /// Free space of the file system that holds `/nix/store`, in bytes.
    pub free: u64,
    /// How far its clock is ahead of ours, in milliseconds.
    pub clock_ahead_ms: i64,
    /// Whether it has Nix.
    pub has_nix: bool,
    /// Whether its daemons were stopped because it left the stack.
    pub is_away: bool,
    /// What the kernel it booted is, where that is not the one of its system.
    pub boots_other_kernel: bool,
}

/// Asks a machine what it runs; `files` are below `/etc`.
///
/// # Errors
/// If it can't be reached.
pub fn look(ssh: &Ssh, node: &str, files: &[&str]) -> anyhow::Result<Machine> {
    // Connecting takes longer than the question, and the clock is the first thing that is told.
    ssh.run(node, &["true"], None)?;
    let begun = now();
    let text = ssh.script(node, LOOK, &[&["/"], files].concat())?;
    machine(&text, begun).with_context(|| format!("reading what {node} says of itself"))
}

/// Asks a machine about a system that is in its store.
///
/// # Errors
/// If it can't be reached.
pub fn system(ssh: &Ssh, node: &str, path: &str, files: &[&str]) -> anyhow::Result<System> {
    let text = ssh.script(node, LOOK, &[&[path], files].concat())?;
    Ok(machine(&text, Duration::ZERO)?.system)
}

fn now() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

fn machine(text: &str, asked: Duration) -> anyhow::Result<Machine> {
    let mut machine = Machine::default();
    let (lines, facts) = text.split_once("\nfacts\n").unwrap_or((text, ""));
    let system = &mut machine.system;
    system.facts = Some(facts.to_owned()).filter(|facts| !facts.trim().is_empty());
    for line in lines.lines() {
        let (word, value) = line.split_once(' ').unwrap_or((line, ""));
        let value = value.trim();
        let given = Some(value.to_owned()).filter(|value| !value.is_empty());
        match word {
            "system" => system.path = given,
            "app" => system.app = given,
            "shell" => system.shell.push_str(&format!("{value}\n")),
            "sum" => {
                let (sum, path) = value.split_once(' ').context("a sum without a file")?;
                let path = path.trim().trim_start_matches("./");
                system.files.insert(path.to_owned(), sum.to_owned());
            }
            "server" => {
                let (name, address) = value.split_once(' ').context("a server without address")?;
                let address = address.split(':').next().unwrap_or_default().parse();
                system
                    .servers
                    .extend(address.ok().map(|address| (name.to_owned(), address)));
            }
            "generation" => {
                machine.generation = value.split('-').nth(1).and_then(|n| n.parse().ok());
            }
            "before" => machine.before = given,
            "free" => machine.free = value.parse::<u64>().unwrap_or_default() * 1024,
            "clock" => {
                let theirs: i64 = value.parse().context("its clock")?;
                let ours = i64::try_from(asked.as_millis()).unwrap_or_default();
                machine.clock_ahead_ms = theirs - ours;
            }
            "nix" => machine.has_nix = given.is_some(),
            "away" => machine.is_away = true,
            "kernel" => machine.boots_other_kernel = true,
            _ => {}
        }
    }
    Ok(machine)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_a_machine_says() {
        let text = "clock 5000\nsystem /nix/store/x-nixos\ngeneration system-42-link\nbefore /nix/store/w-nixos\n\
                    free 2048\nnix /usr/bin/nix-store\napp \nshell a b\nshell c\n\
                    sum abc  ./haproxy/haproxy.cfg\nserver app-1 10.20.0.64:80\nfacts\n{\n}\n";
        let seen = machine(text, Duration::from_secs(4)).unwrap();
        assert_eq!(seen.system.path.as_deref(), Some("/nix/store/x-nixos"));
        assert_eq!(seen.system.shell, "a b\nc\n");
        assert_eq!(seen.system.app, None);
        assert_eq!(seen.system.files["haproxy/haproxy.cfg"], "abc");
        assert_eq!(
            seen.system.servers,
            [("app-1".into(), Ipv4Addr::new(10, 20, 0, 64))]
        );
        assert_eq!(
            (seen.generation, seen.free, seen.clock_ahead_ms),
            (Some(42), 2 << 20, 1000)
        );
        assert!(seen.has_nix && !seen.is_away);
        assert_eq!(seen.system.facts.as_deref(), Some("{\n}\n"));
        assert_eq!(
            machine("clock 1\n", Duration::ZERO).unwrap().system,
            System::default()
        );
    }
}
