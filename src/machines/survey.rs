//! All machines of a stack, looked at at once before anything is touched: those of the
//! topology, and those that they still count on and that the topology no longer has.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use anyhow::{Context as _, ensure};

use super::AT_ONCE;
use super::closures::Closures;
use super::host::state;
use super::look::{Machine, look as look_at};
use super::ssh::{Ssh, Target};
use crate::config::NodeFacts;
use crate::exec::in_parallel;
use crate::site::{Fleet, NodeState};
use crate::topology::{Tier, Topology};

/// How far a machine's clock may be from ours, in milliseconds: the lag between databases is
/// told by their clocks, and certificates are only valid by them.
const CLOCK: i64 = 5000;

/// What was found.
#[derive(Debug)]
pub struct Survey {
    /// What runs, nodes that leave among them.
    pub old: Fleet,
    /// Nodes that leave and can't be reached.
    pub gone: BTreeSet<String>,
    /// Every machine that can be reached.
    pub reached: Vec<String>,
    /// Free space for `/nix`, in bytes.
    pub free: BTreeMap<String, u64>,
    /// Node → the system that it had before the present one.
    before: BTreeMap<String, String>,
}

/// Looks at all machines. `files` are below `/etc`.
///
/// # Errors
/// Everything that is wrong, a sentence each.
pub fn survey(
    ssh: &mut Ssh,
    topology: &Topology,
    files: &BTreeSet<String>,
) -> Result<Survey, Vec<String>> {
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    let names: Vec<String> = topology
        .nodes()
        .iter()
        .map(|node| node.name.to_string())
        .collect();
    let machines = look(ssh, &names, &files);
    let mut problems = Vec::new();
    let mut survey = Survey {
        old: Fleet::default(),
        gone: BTreeSet::new(),
        reached: Vec::new(),
        free: BTreeMap::new(),
        before: BTreeMap::new(),
    };
    let mut states = Vec::new();
    let mut others = BTreeMap::new();
    for (name, machine) in names.iter().zip(machines) {
        let seen = machine.and_then(|machine| {
            is_fit(name, &machine)?;
            let state = state(&machine.system)?;
            let stack = state.as_ref().map(|state| state.facts.stack.as_str());
            ensure!(
                stack.is_none_or(|stack| stack == topology.name().to_string()),
                "{name} belongs to the stack `{}`, not to `{}`: take another machine, or install it anew",
                stack.unwrap_or_default(),
                topology.name()
            );
            Ok((machine, state))
        });
        match seen {
            Ok((machine, state)) => {
                for (address, who) in counted_on(&machine, state.as_ref()) {
                    // One that knows its name says more.
                    let known = others.entry(address).or_insert_with(|| who.clone());
                    if known.0.is_none() {
                        *known = who;
                    }
                }
                survey.note(name, &machine);
                states.extend(state.filter(|_| !machine.is_away));
            }
            Err(error) => problems.push(format!("{error:#}")),
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let known: BTreeSet<Ipv4Addr> = topology.nodes().iter().map(|node| node.address).collect();
    others.retain(|address, _| !known.contains(address));
    let leaving = survey.leaving(ssh, topology, &others, &files);
    states.extend(leaving.map_err(|error| vec![format!("{error:#}")])?);
    survey.old = Fleet::of(states);
    Ok(survey)
}

fn look(ssh: &Ssh, names: &[String], files: &[&str]) -> Vec<anyhow::Result<Machine>> {
    in_parallel(names, AT_ONCE, |name| look_at(ssh, name, files))
}

/// Whether a machine can be changed at all.
fn is_fit(name: &str, machine: &Machine) -> anyhow::Result<()> {
    ensure!(
        machine.has_nix,
        "{name} has no Nix: it has to run NixOS before systems can be rolled out"
    );
    let ahead = machine.clock_ahead_ms;
    ensure!(
        ahead.abs() <= CLOCK,
        "the clock of {name} is {:.1} s {}: `timedatectl` there tells whether it is synchronised",
        std::time::Duration::from_millis(ahead.unsigned_abs()).as_secs_f64(),
        if ahead > 0 { "ahead" } else { "behind" }
    );
    Ok(())
}

/// The other nodes that a node counts on: address → name, if it knows that, and tier.
fn counted_on(
    machine: &Machine,
    state: Option<&NodeState>,
) -> BTreeMap<Ipv4Addr, (Option<String>, Tier)> {
    let mut others = BTreeMap::new();
    let Some(state) = state.filter(|_| !machine.is_away) else {
        return others;
    };
    for (name, address) in &machine.system.servers {
        others.insert(*address, (Some(name.clone()), Tier::App));
    }
    let address = |host: &str| host.split(':').next()?.parse().ok();
    if let Some(set) = &state.facts.database {
        let shards = set
            .cluster
            .iter()
            .flat_map(|cluster| cluster.shards.values());
        for host in shards.flat_map(|shard| shard.rsplit('/').next().unwrap_or_default().split(','))
        {
            others.extend(address(host).map(|at| (at, (None, Tier::Database))));
        }
        for member in &set.members {
            let known = (Some(member.name.clone()), Tier::Database);
            others.extend(address(&member.host).map(|at| (at, known)));
        }
    }
    for peer in state
        .facts
        .load_balancer
        .iter()
        .flat_map(|settings| &settings.peers)
    {
        others.insert(*peer, (None, Tier::LoadBalancer));
    }
    others
}

impl Survey {
    fn note(&mut self, name: &str, machine: &Machine) {
        self.reached.push(name.to_owned());
        self.free.insert(name.to_owned(), machine.free);
        if let Some(before) = &machine.before {
            self.before.insert(name.to_owned(), before.clone());
        }
    }

    /// Nodes that leave, by their addresses. One that can't be reached is taken as gone.
    fn leaving(
        &mut self,
        ssh: &mut Ssh,
        topology: &Topology,
        others: &BTreeMap<Ipv4Addr, (Option<String>, Tier)>,
        files: &[&str],
    ) -> anyhow::Result<Vec<NodeState>> {
        let name = |address: &Ipv4Addr, name: &Option<String>| {
            name.clone().unwrap_or_else(|| address.to_string())
        };
        let target = |(address, (known, _)): (&Ipv4Addr, &(Option<String>, Tier))| Target {
            name: name(address, known),
            address: *address,
        };
        let targets: Vec<Target> = others.iter().map(target).collect();
        ssh.add(&targets)?;
        let names: Vec<String> = targets.iter().map(|target| target.name.clone()).collect();
        let mut states = Vec::new();
        for ((target, machine), (_, tier)) in targets
            .iter()
            .zip(look(ssh, &names, files))
            .zip(others.values())
        {
            let seen = machine.ok().filter(|machine| !machine.is_away);
            let is_ours = |state: &NodeState| state.facts.stack == topology.name().to_string();
            let found = match &seen {
                Some(machine) => state(&machine.system)?.filter(is_ours).zip(seen.as_ref()),
                None => None,
            };
            let Some((state, machine)) = found else {
                self.gone.insert(target.name.clone());
                states.push(gone(target, *tier)?);
                continue;
            };
            // A load balancer's peers know only its address.
            if state.name() != target.name {
                ssh.add(&[Target {
                    name: state.name().to_owned(),
                    address: target.address,
                }])?;
            }
            self.note(state.name(), machine);
            states.push(state);
        }
        Ok(states)
    }

    /// The systems that these nodes had before.
    ///
    /// # Errors
    /// If one has none.
    pub fn before(&self, nodes: &[String]) -> anyhow::Result<Closures> {
        let system = |node: &String| {
            let before = self.before.get(node).cloned();
            let before = before
                .with_context(|| format!("{node} has no generation before the present one"))?;
            Ok((node.clone(), before))
        };
        nodes.iter().map(system).collect()
    }
}

/// A node of which only others tell.
fn gone(target: &Target, tier: Tier) -> anyhow::Result<NodeState> {
    let facts = NodeFacts {
        generated: String::new(),
        stack: String::new(),
        name: target.name.clone(),
        tier,
        address: target.address,
        prefix_length: 0,
        interface: String::new(),
        virtual_ip: Ipv4Addr::UNSPECIFIED,
        load_balancer: None,
        app: None,
        database: None,
        files: BTreeMap::new(),
    };
    NodeState::of_facts(&serde_json::to_string(&facts)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_without_nix_or_with_another_time_is_refused() {
        let machine = Machine {
            has_nix: true,
            clock_ahead_ms: 4000,
            ..Machine::default()
        };
        assert!(is_fit("db-1", &machine).is_ok());
        let said = |machine: &Machine| is_fit("db-1", machine).unwrap_err().to_string();
        let behind = Machine {
            clock_ahead_ms: -61_500,
            ..machine.clone()
        };
        assert_eq!(
            said(&behind),
            "the clock of db-1 is 61.5 s behind: `timedatectl` there tells whether it is synchronised"
        );
        let bare = Machine {
            has_nix: false,
            ..machine
        };
        assert!(said(&bare).starts_with("db-1 has no Nix"));
    }
}
