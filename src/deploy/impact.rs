//! What a plan means for visitors. Pure.

use std::collections::BTreeSet;

use serde::Serialize;

use super::terms::{Now, Step, What};
use crate::config::{Action, Member};
use crate::site::{Fleet, NodeState};
use crate::topology::Tier;

/// What visitors may notice of a plan.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Impact {
    /// Reloads of haproxy: no connection is dropped.
    pub haproxy_reloads: usize,
    /// Reloads of Keepalived: the virtual IP stays where it is.
    pub keepalived_reloads: usize,
    /// Times that the virtual IP moves; open connections are handed over.
    pub virtual_ip_moves: usize,
    /// App servers that are drained and used again.
    pub apps_restarted: usize,
    /// Databases that are restarted.
    pub databases_restarted: usize,
    /// Elections, at most: each is a pause of writes of a few milliseconds.
    pub elections: usize,
    /// App servers in use when they are fewest.
    pub apps_least: usize,
    /// App servers that visitors have before or afterwards, whichever are fewer.
    pub apps_usual: usize,
    /// What visitors do notice, if anything.
    pub noticed: Vec<String>,
}

impl Impact {
    /// The impact in one sentence.
    pub fn sentence(&self) -> String {
        let plural = |count: usize, one: &str, many: &str| {
            format!("{count} {}", if count == 1 { one } else { many })
        };
        let mut parts = vec![plural(
            self.haproxy_reloads,
            "haproxy reload",
            "haproxy reloads",
        )];
        if self.virtual_ip_moves > 0 {
            parts.push(plural(
                self.virtual_ip_moves,
                "handover of the virtual IP",
                "handovers of the virtual IP",
            ));
        }
        if self.noticed.is_empty() {
            parts.push("0 connections dropped".into());
        }
        parts.push(plural(self.elections, "election", "elections"));
        parts.push(format!(
            "capacity never below {}/{}",
            self.apps_least, self.apps_usual
        ));
        parts.join(", ")
    }
}

/// What `steps` mean.
pub(super) fn impact(steps: &[Step], old: &Fleet, new: &Fleet, now: &Now) -> Impact {
    let how = || {
        steps.iter().flat_map(|step| match &step.what {
            What::Change { how, .. } => how.as_slice(),
            _ => &[],
        })
    };
    let count = |action: Action| how().filter(|one| **one == action).count();
    let restarted = |tier: Tier| {
        let of_tier = |step: &&Step| step.tier == tier && matches!(step.what, What::Change { .. });
        steps
            .iter()
            .filter(of_tier)
            .filter(|step| step.interrupts())
            .count()
    };
    let [usual, least] = capacity(steps, old, new);
    Impact {
        haproxy_reloads: count(Action::ReloadHaproxy),
        keepalived_reloads: count(Action::ReloadKeepalived),
        virtual_ip_moves: moves(steps, old, new, now),
        apps_restarted: restarted(Tier::App),
        databases_restarted: restarted(Tier::Database),
        elections: elections(steps, old, now),
        apps_least: least,
        apps_usual: usual,
        noticed: noticed(steps, old, new, least),
    }
}

/// App servers in use, usually and when they are fewest.
fn capacity(steps: &[Step], old: &Fleet, new: &Fleet) -> [usize; 2] {
    let before = old.tier(Tier::App).count();
    let usual = before.min(new.tier(Tier::App).count());
    let leaving = steps.iter().filter(|step| step.what == What::Drain).count();
    let away = steps
        .chunk_by(|one, other| one.wave == other.wave)
        .map(|wave| {
            let apps = wave.iter().filter(|step| step.tier == Tier::App);
            apps.filter(|step| step.interrupts() && step.what != What::Remove)
                .count()
        });
    // App servers change before those that leave are drained.
    let least = before.saturating_sub(away.max().unwrap_or(0));
    [usual, least.min(before.saturating_sub(leaving)).min(usual)]
}

/// Whoever has the virtual IP hands it over before it is touched, to the first of the
/// others; and the first of all takes it, when it comes or is back.
fn moves(steps: &[Step], old: &Fleet, new: &Fleet, now: &Now) -> usize {
    let preempts = |node: &&NodeState| {
        let settings = node.facts.load_balancer.as_ref();
        settings.is_some_and(|settings| settings.preempt)
    };
    let balancers = || new.tier(Tier::LoadBalancer).map(NodeState::name);
    let first = new.tier(Tier::LoadBalancer).next().filter(preempts);
    let mut there: BTreeSet<&str> = old.tier(Tier::LoadBalancer).map(NodeState::name).collect();
    let mut owner = now.owner.as_deref();
    let mut moves = 0;
    for step in steps.iter().filter(|step| step.tier == Tier::LoadBalancer) {
        let name = step.node.as_str();
        if step.what == What::Add {
            there.insert(name);
        }
        if owner == Some(name) && step.interrupts() && there.len() > 1 {
            let mut heirs = balancers().filter(|heir| *heir != name && there.contains(heir));
            owner = heirs.next();
            moves += 1;
        }
        if step.what == What::Remove {
            there.remove(name);
        } else if (step.what == What::Add || step.interrupts())
            && owner != Some(name)
            && there.len() > 1
            && first.is_some_and(|first| first.name() == name)
        {
            owner = Some(name);
            moves += 1;
        }
    }
    moves
}

/// A primary steps down before it is touched. When nobody knows who it is, one of those touched may be it.
fn elections(steps: &[Step], old: &Fleet, now: &Now) -> usize {
    let is_touched = |member: &Member| {
        let mut of_node = steps.iter().filter(|step| step.node == member.name);
        of_node.any(Step::interrupts)
    };
    let steps_down = |members: &&Vec<Member>| {
        let is_primary = |member: &&Member| now.primaries.contains(&member.name);
        match members.iter().find(is_primary) {
            Some(primary) => is_touched(primary),
            None => members.iter().any(is_touched),
        }
    };
    let sets = old.sets();
    let several = sets.values().filter(|members| members.len() > 1);
    several.filter(steps_down).count()
}

fn noticed(steps: &[Step], old: &Fleet, new: &Fleet, least: usize) -> Vec<String> {
    let mut noticed = Vec::new();
    let interrupted = |tier: Tier| {
        let mut of_tier = steps.iter().filter(move |step| step.tier == tier);
        of_tier.find(|step| step.interrupts() && step.what != What::Remove)
    };
    let alone = |tier: Tier| old.tier(tier).count() == 1;
    if let Some(step) = interrupted(Tier::LoadBalancer).filter(|_| alone(Tier::LoadBalancer)) {
        noticed.push(format!(
            "{} is the only load balancer: nothing answers while it restarts",
            step.node
        ));
    }
    if let Some(step) = interrupted(Tier::App).filter(|_| least == 0) {
        noticed.push(format!(
            "no other app server is left while {} changes: visitors may see errors",
            step.node
        ));
    }
    for members in old.sets().values() {
        let voters = members.iter().filter(|member| member.voting).count();
        let is_touched = |step: &&Step| {
            let goes_away = step.interrupts() && step.what != What::Remove;
            goes_away && members.iter().any(|member| member.name == step.node)
        };
        if let Some(step) = steps.iter().find(is_touched).filter(|_| voters <= 2) {
            noticed.push(format!(
                "{voters} voting databases have no majority without {}: writes wait or fail while it restarts",
                step.node
            ));
        }
    }
    let port = |fleet: &Fleet| {
        let first = fleet.tier(Tier::LoadBalancer).next();
        first.and_then(|node| {
            node.facts
                .load_balancer
                .as_ref()
                .map(|settings| settings.port)
        })
    };
    let changes = steps.iter().any(|step| step.tier == Tier::LoadBalancer);
    if let (true, Some(before), Some(after)) = (changes, port(old), port(new))
        && before != after
    {
        noticed.push(format!(
            "port {before} of the virtual IP is answered no more, port {after} is"
        ));
    }
    noticed
}
