//! Machines as a place where nodes run: asked by their own gen-topology, over ssh, and
//! brought to other systems.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

use super::closures::Closures;
use super::look::{Machine, System, look};
use super::ssh::{Ssh, Unreachable};
use super::units::units;
use crate::config::{Action, NodeFacts, PREVIOUS_SYSTEM, PROGRAM};
use crate::exec::in_parallel;
use crate::health::http::{Answer, Entrance};
use crate::site::{FACTS_FILE, Fleet, Host, NodeId, NodeState, Presence, Site, State};
use crate::topology::Tier;

/// How long a machine that went back by itself may take to be reached again.
const RETURN: Duration = Duration::from_secs(60);
/// Marks a machine whose daemons were stopped because it left the stack. `modules/unit.nix` keeps
/// them from starting there.
const AWAY: &str = "/var/lib/gen-topology/away";

/// Machines, to be asked.
pub struct MachineSite<'s> {
    ssh: &'s Ssh,
    /// Systems whose gen-topology is asked, where a node has one in its store; else that of
    /// the system that runs.
    wanted: &'s Closures,
    /// Every node, as one of them has to ask for another.
    nodes: Vec<NodeId>,
}

impl<'s> MachineSite<'s> {
    /// These machines.
    pub fn new(ssh: &'s Ssh, wanted: &'s Closures, nodes: Vec<NodeId>) -> Self {
        Self { ssh, wanted, nodes }
    }

    /// Our program on a node.
    fn program(&self, node: &str) -> String {
        let system = self.wanted.get(node).map_or("", String::as_str);
        format!("{system}{PROGRAM}")
    }
}

impl Site for MachineSite<'_> {
    fn reachable(&self, node: &str) -> anyhow::Result<()> {
        self.ssh.run(node, &["true"], None).map(drop)
    }

    fn run(&self, node: &str, argv: &[&str], input: Option<&str>) -> anyhow::Result<String> {
        let program = self.program(node);
        let argv: Vec<&str> = argv
            .iter()
            .map(|word| {
                if *word == PROGRAM {
                    program.as_str()
                } else {
                    word
                }
            })
            .collect();
        self.ssh.run(node, &argv, input)
    }

    fn haproxy(&self, node: &str, command: &str) -> anyhow::Result<String> {
        self.run(node, &[PROGRAM, "node", "haproxy", command], None)
    }

    /// From a load balancer, the only ones that all doors are open for; the node itself is asked
    /// where there is no other.
    fn visit(&self, entrance: Entrance, path: &str) -> anyhow::Result<Answer> {
        let (address, port) = (entrance.address, entrance.port.to_string());
        let mut last = None;
        let others = self
            .nodes
            .iter()
            .filter(|node| node.tier == Tier::LoadBalancer && node.address != address);
        let itself = self.nodes.iter().filter(|node| node.address == address);
        for place in others.chain(itself) {
            let shown = address.to_string();
            let mut argv = vec![PROGRAM, "node", "get", &shown, &port, path];
            argv.extend(entrance.tls.then_some("--tls"));
            match self.run(&place.name, &argv, None) {
                Ok(text) => return serde_json::from_str(&text).context("reading an answer"),
                Err(error) if error.is::<Unreachable>() => last = Some(error),
                Err(error) => return Err(error),
            }
        }
        Err(last.with_context(|| format!("no node is there to ask {address}"))?)
    }

    fn presences(&self, nodes: &[NodeId]) -> Vec<Presence> {
        in_parallel(nodes, self.at_once(), |node| {
            match look(self.ssh, &node.name, &[]) {
                Ok(machine) => presence(&machine),
                Err(error) => Presence {
                    notes: vec![format!("{error:#}")],
                    ..Presence::of(State::Unreachable)
                },
            }
        })
    }
}

fn presence(machine: &Machine) -> Presence {
    let state = match &machine.system.facts {
        None => State::NotOurs,
        Some(_) if machine.is_away => State::OutOfService,
        Some(_) => State::Ready,
    };
    let mut notes = Vec::new();
    if machine.boots_other_kernel {
        notes.push(
            "its system has another kernel than the one that runs: reboot it when it suits".into(),
        );
    }
    let system = machine.system.path.clone();
    Presence {
        system: system.map(|system| (system, machine.generation)),
        notes,
        ..Presence::of(state)
    }
}

/// Machines that are to get the systems that were copied to them.
pub struct MachineHost<'h> {
    /// How they are asked.
    pub site: MachineSite<'h>,
    /// What runs.
    pub old: &'h Fleet,
    /// What shall run.
    pub new: &'h Fleet,
    /// Nodes that leave and can't be reached: taken as gone.
    pub gone: &'h BTreeSet<String>,
    /// Nodes at which the last roll-out was interrupted.
    pub unfinished: &'h BTreeSet<String>,
    /// How long a changed machine waits for a new connection.
    pub confirm_within: Duration,
    /// Nodes that this roll-out has added.
    pub added: Mutex<BTreeSet<String>>,
}

impl MachineHost<'_> {
    fn facts(&self, node: &str) -> anyhow::Result<&NodeFacts> {
        let state = self.new.node(node).or_else(|| self.old.node(node));
        let state = state.with_context(|| format!("there is no node {node}"))?;
        Ok(&state.facts)
    }

    fn tier(&self, node: &str) -> anyhow::Result<Tier> {
        Ok(self.facts(node)?.tier)
    }

    /// What has to end in order before the system changes, as its daemons would otherwise
    /// be restarted in any order, or only reloaded.
    fn stopped_before(&self, node: &str, how: &[Action]) -> anyhow::Result<Vec<&'static str>> {
        Ok(match self.tier(node)? {
            Tier::LoadBalancer
                if how
                    .iter()
                    .any(|it| matches!(it, Action::Boot | Action::RestartLoadBalancer)) =>
            {
                units(self.facts(node)?).to_vec()
            }
            Tier::LoadBalancer if how.contains(&Action::RestartKeepalived) => vec!["keepalived"],
            _ => Vec::new(),
        })
    }

    /// Switches a node to a system, and confirms it over a new connection.
    fn switch(&self, node: &str, system: &str, stop: &[&str], resume: bool) -> anyhow::Result<()> {
        let program = self.site.program(node);
        let patience = format!("{}ms", self.confirm_within.as_millis());
        let mut argv = vec![
            program.as_str(),
            "node",
            "switch",
            system,
            "--confirm-within",
            &patience,
        ];
        argv.extend(stop.iter().flat_map(|unit| ["--stop", *unit]));
        if resume {
            argv.push("--resume");
        }
        match self.site.ssh.run(node, &argv, None) {
            // The connection may end with the change; the machine goes on.
            Err(error) if !error.is::<Unreachable>() => return Err(error),
            _ => {}
        }
        self.confirm(node, &program, system)
    }

    fn confirm(&self, node: &str, program: &str, system: &str) -> anyhow::Result<()> {
        let deadline = Instant::now() + self.confirm_within;
        loop {
            match self
                .site
                .ssh
                .run_fresh(node, &[program, "node", "confirm", system])
            {
                Ok(_) => return Ok(()),
                Err(error) if error.is::<Unreachable>() && Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(200));
                }
                Err(error) if error.is::<Unreachable>() => {
                    let why = "it can't be reached over a new connection after the change, so it rolls itself back";
                    return Err(error.context(why));
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn systemctl(&self, node: &str, what: &str) -> anyhow::Result<()> {
        let mut units: Vec<&str> = units(self.facts(node)?).to_vec();
        if what == "start" {
            units.reverse();
        }
        for unit in units {
            // What is not there has stopped: a machine that went back to a system without the stack (exit code 5).
            let script = match what {
                "stop" => format!("systemctl stop {unit} || [ $? -eq 5 ]"),
                _ => format!("systemctl {what} {unit}"),
            };
            self.site.ssh.run(node, &["sh", "-c", &script], None)?;
        }
        Ok(())
    }

    fn mark(&self, node: &str, away: bool) -> anyhow::Result<()> {
        let script = if away {
            format!(
                "mkdir -p {} && : > {AWAY}",
                AWAY.rsplit_once('/').map_or("/", |(parent, _)| parent)
            )
        } else {
            format!("rm -f {AWAY}")
        };
        self.site
            .ssh
            .run(node, &["sh", "-c", &script], None)
            .map(drop)
    }

    fn was_added(&self, node: &str) -> bool {
        let added = self.added.lock().unwrap_or_else(PoisonError::into_inner);
        added.contains(node)
    }

    /// Puts the system of before in place again, unless the machine has done so by itself.
    fn go_back(&self, node: &str, stop: &[&str]) -> anyhow::Result<()> {
        let script = format!("readlink {PREVIOUS_SYSTEM}; readlink /run/current-system");
        let over = [&self.site.program(node), "node", "switch-over"];
        let deadline = Instant::now() + self.confirm_within + RETURN;
        // It may be out of reach until it has gone back.
        while let Err(error) = self.site.ssh.run_fresh(node, &over) {
            if !error.is::<Unreachable>() || Instant::now() >= deadline {
                return Err(error);
            }
            std::thread::sleep(Duration::from_millis(500));
        }
        let links = self.site.ssh.run_fresh(node, &["sh", "-c", &script])?;
        match links.lines().collect::<Vec<_>>().as_slice() {
            [previous, current] if previous == current => Ok(()),
            [previous, _] => self.switch(node, previous, stop, true),
            _ => bail!("{node} had no system before; it stays as it is"),
        }
    }
}

impl Site for MachineHost<'_> {
    fn reachable(&self, node: &str) -> anyhow::Result<()> {
        ensure!(!self.gone.contains(node), "{node} is gone");
        self.site.reachable(node)
    }

    fn run(&self, node: &str, argv: &[&str], input: Option<&str>) -> anyhow::Result<String> {
        self.site.run(node, argv, input)
    }

    fn haproxy(&self, node: &str, command: &str) -> anyhow::Result<String> {
        if self.gone.contains(node) {
            // Nobody has to be told, and nothing comes from there.
            return Ok(String::new());
        }
        self.site.haproxy(node, command)
    }

    fn visit(&self, entrance: Entrance, path: &str) -> anyhow::Result<Answer> {
        self.site.visit(entrance, path)
    }

    fn presences(&self, nodes: &[NodeId]) -> Vec<Presence> {
        self.site.presences(nodes)
    }
}

impl Host for MachineHost<'_> {
    /// NixOS has given the files to the daemons' own checks when the systems were built, and each
    /// system was compared with the topology. What no system holds are secrets.
    fn validate(&self, nodes: &[&str]) -> anyhow::Result<Vec<String>> {
        let mut refused = Vec::new();
        for node in nodes {
            let Some(system) = self.site.wanted.get(*node) else {
                continue;
            };
            let list = format!("{system}/etc/gen-topology/secrets-of-app");
            let argv = ["sh", "-c", MISSING_SECRETS, "sh", &list];
            let missing = self.site.ssh.run(node, &argv, None)?;
            refused.extend(missing.lines().map(|path| {
                format!(
                    "{node}: the secret {path} is not there, and the application would not start"
                )
            }));
        }
        Ok(refused)
    }

    fn add(&self, node: &str) -> anyhow::Result<()> {
        let mut added = self.added.lock().unwrap_or_else(PoisonError::into_inner);
        added.insert(node.to_owned());
        drop(added);
        let system = self.site.wanted.get(node);
        let system = system.with_context(|| format!("there is no system for {node}"))?;
        self.switch(node, system, &[], self.unfinished.contains(node))?;
        // Only now: with the mark nothing of the stack starts, whatever system it goes back to.
        self.mark(node, false)?;
        self.systemctl(node, "start")
    }

    fn change(&self, node: &str, how: &[Action]) -> anyhow::Result<()> {
        let system = self.site.wanted.get(node);
        let system = system.with_context(|| format!("there is no system for {node}"))?;
        self.switch(
            node,
            system,
            &self.stopped_before(node, how)?,
            self.unfinished.contains(node),
        )
    }

    fn revert(&self, node: &str, how: &[Action]) -> anyhow::Result<()> {
        self.go_back(node, &self.stopped_before(node, how)?)
    }

    fn remove(&self, node: &str) -> anyhow::Result<()> {
        if self.gone.contains(node) {
            return Ok(());
        }
        self.systemctl(node, "stop")?;
        if self.was_added(node) {
            // Whatever it was before, it was no part of the stack.
            self.go_back(node, &[])?;
            self.systemctl(node, "stop")?;
        }
        self.mark(node, true)
    }

    fn restore(&self, node: &str) -> anyhow::Result<()> {
        self.mark(node, false)?;
        self.systemctl(node, "start")
    }

    fn settle(&self, node: &str) -> anyhow::Result<()> {
        if self.gone.contains(node) {
            return Ok(());
        }
        self.run(node, &[PROGRAM, "node", "settle"], None).map(drop)
    }

    fn forget(&self, _node: &str) -> anyhow::Result<()> {
        Ok(())
    }
}

/// What a system makes of its node; none where it is nothing of ours.
///
/// # Errors
/// If its facts are not ours to read.
pub fn state(system: &System) -> anyhow::Result<Option<NodeState>> {
    let Some(text) = &system.facts else {
        return Ok(None);
    };
    let mut state = NodeState::of_facts(text)?;
    for (path, sum) in state
        .files
        .iter_mut()
        .filter(|(path, _)| *path != FACTS_FILE)
    {
        *sum = system.files.get(path).cloned().unwrap_or_default();
    }
    if state.tier() == Tier::App {
        state
            .files
            .insert(APP_FILE.into(), system.app.clone().unwrap_or_default());
    }
    state
        .files
        .insert(SYSTEM_FILE.into(), system.path.clone().unwrap_or_default());
    state.shell.push_str(&format!("\n{}", system.shell));
    Ok(Some(state))
}

/// Prints the files of a list that are not there; no list names none.
const MISSING_SECRETS: &str =
    r#"[ -e "$1" ] || exit 0; while read -r path; do [ -e "$path" ] || echo "$path"; done <"$1""#;

/// The app's code among the files of a node.
const APP_FILE: &str = "gen-topology/app";
/// The system among the files of a node: whatever else it changes.
const SYSTEM_FILE: &str = "system";

/// What the topology makes of a node before its system is built: what only that would tell stays.
pub fn on_paper(mut planned: NodeState, now: Option<&NodeState>) -> NodeState {
    if let Some(now) = now {
        let mut kept: BTreeMap<String, String> = now.files.clone();
        kept.retain(|path, _| [APP_FILE, SYSTEM_FILE].contains(&path.as_str()));
        planned.files.extend(kept);
        let of_system = now.shell.split_once('\n').map_or("", |(_, rest)| rest);
        planned.shell.push_str(&format!("\n{of_system}"));
    }
    planned
}
