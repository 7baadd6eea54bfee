//! What can't be done step by step while visitors are served. Pure.

use super::fleet::{Fleet, NodeState};
use super::plan::{Choice, Step, What};
use crate::topology::Tier;

/// Why these steps can't be done, in sentences that say what to do instead.
pub(super) fn obstacles(steps: &[Step], old: &Fleet, new: &Fleet, choice: &Choice) -> Vec<String> {
    let mut found = Vec::new();
    for node in new.nodes() {
        if let Some(before) = old.node(node.name()) {
            found.extend(moved(before, node));
        }
    }
    found.extend(sharded(old, new));
    found.extend(whole_stack(old, new));
    found.extend(
        new.nodes()
            .iter()
            .filter_map(|node| in_the_place_of(node, old, new)),
    );
    for tier in [Tier::LoadBalancer, Tier::Database] {
        let stays = old.tier(tier).any(|node| new.node(node.name()).is_some());
        if !stays && old.tier(tier).next().is_some() {
            found.push(format!(
                "no {} of before stays: add the new ones and apply, then remove the old ones and apply again",
                tier.noun(1)
            ));
        }
    }
    if choice.on.is_some() {
        found.extend(left_out(steps, old, new));
    }
    found
}

/// Step by step only one replica set can be changed so far.
fn sharded(old: &Fleet, new: &Fleet) -> Option<String> {
    let is_part = |node: &NodeState| {
        let set = node.facts.database.as_ref();
        set.is_some_and(|set| set.role.is_some())
    };
    let mut databases = old.tier(Tier::Database).chain(new.tier(Tier::Database));
    databases.any(is_part).then(|| {
        "the databases are sharded, and step by step only one replica set can be changed: in the lab \
         use `lab up`, on machines follow \"Growing\" in docs/database.md"
            .to_owned()
    })
}

/// A node that is another one than before under the same name.
fn moved(old: &NodeState, new: &NodeState) -> Option<String> {
    let name = new.name();
    if old.tier() != new.tier() {
        return Some(format!(
            "{name} was {} and becomes {}: give the new one another name",
            old.tier(),
            new.tier()
        ));
    }
    (old.facts.address != new.facts.address).then(|| {
        format!(
            "{name} moves from {} to {}: add a node with the new address and apply, then remove this one",
            old.facts.address, new.facts.address
        )
    })
}

/// How a setting is read from any node of its tier.
type Setting = fn(&NodeState) -> Option<String>;

/// A new node with the address of one that is still there: a node that was renamed.
fn in_the_place_of(node: &NodeState, old: &Fleet, new: &Fleet) -> Option<String> {
    if old.node(node.name()).is_some() {
        return None;
    }
    let same = |other: &&NodeState| {
        other.facts.address == node.facts.address && new.node(other.name()).is_none()
    };
    let other = old.nodes().iter().find(same)?;
    Some(format!(
        "{} has the address of {}, which leaves: remove {1} and apply, then add {0} and apply again",
        node.name(),
        other.name()
    ))
}

/// Settings that all nodes have to share at every moment.
fn whole_stack(old: &Fleet, new: &Fleet) -> Vec<String> {
    let common = |fleet: &Fleet, tier: Tier, what: Setting| fleet.tier(tier).next().and_then(what);
    let settings: [(&str, Tier, Setting); 5] = [
        ("the virtual IP", Tier::LoadBalancer, |node| {
            Some(node.facts.virtual_ip.to_string())
        }),
        ("the subnet's size", Tier::LoadBalancer, |node| {
            Some(format!("/{}", node.facts.prefix_length))
        }),
        ("`app.port`", Tier::App, |node| {
            node.facts.app.as_ref().map(|app| app.port.to_string())
        }),
        ("the databases' port", Tier::Database, |node| {
            let set = node.facts.database.as_ref();
            let member = set.and_then(|set| set.members.first());
            member.and_then(|member| Some(member.host.rsplit_once(':')?.1.to_owned()))
        }),
        ("the replica set's name", Tier::Database, |node| {
            node.facts.database.as_ref().map(|set| set.name.clone())
        }),
    ];
    let changed = settings.into_iter().filter_map(|(name, tier, what)| {
        let (before, after) = (common(old, tier, what)?, common(new, tier, what)?);
        (before != after).then(|| {
            format!(
                "{name} changes from {before} to {after}: nodes with the old and with the new one would not work \
                 together, so this needs a stop of the whole stack"
            )
        })
    });
    changed.collect()
}

/// Nodes that are chosen would learn of a change that is not.
fn left_out(steps: &[Step], old: &Fleet, new: &Fleet) -> Option<String> {
    let is_done = |name: &str| steps.iter().any(|step| step.node == name);
    let comes = new
        .nodes()
        .iter()
        .filter(|node| old.node(node.name()).is_none());
    let goes = old
        .nodes()
        .iter()
        .filter(|node| new.node(node.name()).is_none());
    let missing: Vec<&NodeState> = comes
        .chain(goes)
        .filter(|node| !is_done(node.name()))
        .collect();
    let learns = |step: &&Step| {
        let changes = matches!(step.what, What::Change { .. } | What::Add);
        changes && missing.iter().any(|node| refers(step.tier, node.tier()))
    };
    let step = steps.iter().find(learns)?;
    let node = missing.iter().find(|node| refers(step.tier, node.tier()))?;
    Some(format!(
        "{} would learn of {}, which `--on` leaves out: choose both, or neither",
        step.node,
        node.name()
    ))
}

/// Whether the files of one tier name the nodes of another.
fn refers(tier: Tier, other: Tier) -> bool {
    match tier {
        Tier::LoadBalancer => other != Tier::Database,
        Tier::App | Tier::Database => other == Tier::Database,
    }
}
