//! What can't be done step by step while visitors are served. Pure.

use std::collections::BTreeMap;

use super::terms::{Choice, Step, What};
use crate::site::{Fleet, NodeState};
use crate::topology::{SetRole, Tier};

/// Why these steps can't be done, in sentences that say what to do instead.
pub(super) fn obstacles(steps: &[Step], old: &Fleet, new: &Fleet, choice: &Choice) -> Vec<String> {
    let mut found = Vec::new();
    for node in new.nodes() {
        if let Some(before) = old.node(node.name()) {
            found.extend(moved(before, node));
        }
    }
    found.extend(sets(old, new));
    found.extend(whole_stack(old, new));
    found.extend(
        new.nodes()
            .iter()
            .filter_map(|node| in_the_place_of(node, old, new)),
    );
    found.extend(nobody_stays(
        Tier::LoadBalancer.noun(1),
        old.tier(Tier::LoadBalancer),
        new,
    ));
    if choice.on.is_some() {
        found.extend(left_out(steps, old, new));
    }
    found
}

/// Whether nobody of a group is there from the beginning to the end.
fn nobody_stays<'n>(
    who: &str,
    mut before: impl Iterator<Item = &'n NodeState>,
    new: &Fleet,
) -> Option<String> {
    let first = before.next()?;
    let stays = |node: &NodeState| new.node(node.name()).is_some();
    (!stays(first) && !before.any(stays)).then(|| {
        format!(
            "no {who} of before stays: add the new ones and apply, then remove the old ones and apply again"
        )
    })
}

/// Replica sets that become something else, or go with all that they hold.
fn sets(old: &Fleet, new: &Fleet) -> Vec<String> {
    let roles = |fleet: &Fleet| -> BTreeMap<String, Option<SetRole>> {
        let sets = fleet.nodes().iter().filter_map(NodeState::set);
        sets.map(|set| (set.name.clone(), set.role)).collect()
    };
    let (before, after) = (roles(old), roles(new));
    let is_shard = |role: &&Option<SetRole>| **role == Some(SetRole::Shard);
    let shards = after.values().filter(is_shard).count();
    let mut found = Vec::new();
    for (name, role) in &before {
        match after.get(name) {
            _ if after.is_empty() && has_no_database(new) => found.push(format!(
                "the topology has no database any more, and {name} would leave with all data: take a copy, stop the \
                 whole stack, and start it again without"
            )),
            _ if after.is_empty() => {}
            Some(then) if then == role => {
                let who = match role {
                    None => Tier::Database.noun(1).to_owned(),
                    Some(_) => format!("{} of {name}", Tier::Database.noun(1)),
                };
                let is_in = |node: &&NodeState| node.set().is_some_and(|set| set.name == *name);
                found.extend(nobody_stays(&who, old.nodes().iter().filter(is_in), new));
            }
            // The way of "A running replica set becomes the first shard" in docs/database.md.
            Some(Some(SetRole::Shard)) if role.is_none() && shards == 1 => {}
            Some(Some(SetRole::Shard)) if role.is_none() => found.push(format!(
                "{name} becomes one shard of {shards}, and visitors may only go through mongos when there are several: \
                 `gen-topology scale shards=1` and apply first, then the others"
            )),
            Some(_) => found.push(format!(
                "{name} was a part of a sharded cluster, and there is no way back but a backup: see \"Backups\" in \
                 docs/database.md"
            )),
            None if role.is_some() => found.push(format!(
                "{name} leaves with the data that it has: follow \"Taking a shard away\" in docs/database.md first"
            )),
            None => found.push(format!(
                "the replica set {name} gives way to {}: nodes with the old and with the new one would not work \
                 together, so this needs a stop of the whole stack",
                after.keys().cloned().collect::<Vec<_>>().join(", ")
            )),
        }
    }
    found
}

/// Whether the application is one that does without.
fn has_no_database(fleet: &Fleet) -> bool {
    let mut apps = fleet.nodes().iter();
    apps.any(|node| {
        let app = node.facts.app.as_ref();
        app.is_some_and(|app| app.without_database)
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
    if let (Some(before), Some(after)) = (old.set(), new.set())
        && before.name != after.name
    {
        let (before, after) = (&before.name, &after.name);
        return Some(format!(
            "{name} moves from the replica set {before} to {after}: give the new one another name"
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
    let settings: [(&str, Tier, Setting); 4] = [
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
    ];
    let changed = settings.into_iter().filter_map(|(name, tier, what)| {
        let (before, after) = (common(old, tier, what)?, common(new, tier, what)?);
        (before != after).then_some((name, before, after))
    });
    let told = |name: &str, before: &str, after: &str| {
        format!(
            "{name} changes from {before} to {after}: nodes with the old and with the new one would not work \
             together, so this needs a stop of the whole stack"
        )
    };
    let ports = further_ports(new);
    let moved = further_ports(old).into_iter().filter_map(|(name, before)| {
        let after = *ports.get(name).filter(|after| **after != before)?;
        Some((format!("`apps.{name}.port`"), before, after))
    });
    let moved =
        moved.map(|(name, before, after)| told(&name, &before.to_string(), &after.to_string()));
    changed
        .map(|(name, before, after)| told(name, &before, &after))
        .chain(moved)
        .collect()
}

/// The port of each further application.
fn further_ports(fleet: &Fleet) -> BTreeMap<&str, u16> {
    let facts = fleet
        .nodes()
        .iter()
        .filter_map(|node| node.facts.app.as_ref());
    let further = facts.flat_map(|facts| &facts.further);
    further.map(|app| (app.name.as_str(), app.port)).collect()
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
        Tier::App => other != Tier::App,
        Tier::Database => other != Tier::LoadBalancer,
    }
}
