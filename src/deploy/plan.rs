//! From what nodes run and what they should run to steps in order. Pure.
//!
//! Databases that join come first, then app servers, then load balancers; what leaves
//! goes the other way round. So nobody learns of a node that is not there yet, and
//! nobody still counts on one that is gone:
//!
//! 1. databases make the replica sets that are new, and join the others, one at a time
//! 2. databases change, one at a time, config servers first, the primary of each set last
//! 3. app servers are booted
//! 4. app servers change, each drained first
//! 5. app servers that leave are drained
//! 6. load balancers leave: before the others forget them, or both would own the virtual IP
//! 7. load balancers change, the owner of the virtual IP last
//! 8. load balancers join: after the others know them, or both would own the virtual IP
//! 9. app servers stop
//! 10. databases leave their replica set, one at a time, the primary last

use std::collections::BTreeSet;

use serde::Serialize;

use super::impact::{Impact, impact};
use super::obstacle::obstacles;
use super::terms::{Choice, Now, Step, What};
use crate::config::{Action, SetRole, actions, is_quiet};
use crate::site::{FACTS_FILE, Fleet, NodeState};
use crate::topology::Tier;

/// App servers that are booted at the same time.
const BOOT_WAVE: usize = 4;

/// Everything that has to be done, in order.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    /// The steps. Steps of one wave are done at the same time.
    pub steps: Vec<Step>,
    /// What it means for visitors.
    pub impact: Impact,
    /// Why it can't be done like this; with one of them nothing is touched.
    pub obstacles: Vec<String>,
}

impl Plan {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// The steps in waves.
    pub fn waves(&self) -> impl Iterator<Item = &[Step]> {
        self.steps.chunk_by(|one, other| one.wave == other.wave)
    }

    /// Nodes that are added, changed and removed.
    pub fn counts(&self) -> [usize; 3] {
        let count = |is: fn(&What) -> bool| self.steps.iter().filter(|step| is(&step.what)).count();
        [
            count(|what| *what == What::Add),
            count(|what| matches!(what, What::Change { .. })),
            count(|what| *what == What::Remove),
        ]
    }
}

/// What has to be done to bring `old` to `new`.
pub fn plan(old: &Fleet, new: &Fleet, now: &Now, choice: &Choice) -> Plan {
    let mut planner = Planner::new(old, new, now, choice);
    let added = |tier: Tier| {
        new.tier(tier)
            .filter(|node| old.node(node.name()).is_none())
    };
    let left = |tier: Tier| {
        old.tier(tier)
            .filter(|node| new.node(node.name()).is_none())
    };
    let [balancers, apps, databases] = [Tier::LoadBalancer, Tier::App, Tier::Database];

    for members in planner.new_sets() {
        planner.add(members.into_iter(), usize::MAX);
    }
    let joining: Vec<&NodeState> = added(databases)
        .filter(|node| !planner.makes_set(node))
        .collect();
    planner.add(joining.into_iter(), 1);
    planner.change_databases();
    planner.add(added(apps), BOOT_WAVE);
    planner.change(apps, choice.max_unavailable.max(1));
    let somebody_stays = new.tier(apps).any(|node| old.node(node.name()).is_some());
    if somebody_stays {
        planner.each(left(apps), usize::MAX, |_| What::Drain);
    }
    planner.remove(left(balancers), 1);
    planner.change(balancers, 1);
    planner.add(added(balancers), 1);
    planner.remove(left(apps), usize::MAX);
    planner.remove(left(databases), 1);

    let steps = planner.steps;
    Plan {
        impact: impact(&steps, old, new, now),
        obstacles: obstacles(&steps, old, new, choice),
        steps,
    }
}

/// Name of the replica set that a node is a member of.
fn set_of(node: &NodeState) -> Option<&str> {
    node.set().map(|set| set.name.as_str())
}

/// Config servers come before the shards that they know.
fn rank(node: &NodeState) -> (bool, Option<&str>) {
    let set = node.set();
    let is_config = set.is_some_and(|set| set.role == Some(SetRole::Config));
    (!is_config, set_of(node))
}

struct Planner<'p> {
    old: &'p Fleet,
    new: &'p Fleet,
    now: &'p Now,
    choice: &'p Choice,
    /// Replica sets that are there.
    sets: BTreeSet<String>,
    steps: Vec<Step>,
    waves: usize,
    reasons: Reasons,
}

impl<'p> Planner<'p> {
    fn new(old: &'p Fleet, new: &'p Fleet, now: &'p Now, choice: &'p Choice) -> Self {
        Self {
            old,
            new,
            now,
            choice,
            sets: old.sets().into_keys().collect(),
            steps: Vec::new(),
            waves: 0,
            reasons: Reasons::of(old, new),
        }
    }

    /// Whether a database is one of a replica set that nobody is a member of yet.
    fn makes_set(&self, node: &NodeState) -> bool {
        set_of(node).is_some_and(|set| !self.sets.contains(set))
    }

    /// The databases of each such set. They can only make it together.
    fn new_sets(&self) -> Vec<Vec<&'p NodeState>> {
        let nodes = self.new.tier(Tier::Database);
        let mut nodes: Vec<&NodeState> = nodes.filter(|node| self.makes_set(node)).collect();
        nodes.sort_by_key(|node| rank(node));
        let sets = nodes.chunk_by(|one, other| set_of(one) == set_of(other));
        sets.map(<[_]>::to_vec).collect()
    }

    fn add<'n>(&mut self, nodes: impl Iterator<Item = &'n NodeState>, wave: usize) {
        self.each(nodes, wave, |_| What::Add);
    }

    /// Those with a part that others would have to take over leave last.
    fn remove<'n>(&mut self, nodes: impl Iterator<Item = &'n NodeState>, wave: usize) {
        let mut nodes: Vec<&NodeState> = nodes.collect();
        nodes.sort_by_key(|node| (rank(node), self.has_a_part(node)));
        self.each(nodes.into_iter(), wave, |_| What::Remove);
    }

    /// One step for each node, `size` of them at a time.
    fn each<'n>(
        &mut self,
        nodes: impl Iterator<Item = &'n NodeState>,
        size: usize,
        what: impl Fn(&NodeState) -> What,
    ) {
        let chosen: Vec<&NodeState> = nodes.filter(|node| self.is_chosen(node)).collect();
        for wave in chosen.chunks(size.min(chosen.len()).max(1)) {
            self.waves += 1;
            for node in wave {
                let what = what(node);
                let step = Step {
                    wave: self.waves,
                    node: node.name().to_owned(),
                    tier: node.tier(),
                    reason: self.reason(node, &what),
                    what,
                };
                self.steps.push(step);
            }
        }
    }

    /// First the nodes of which no daemon is touched, all at once, then the others.
    fn change(&mut self, tier: Tier, wave: usize) {
        let changes = self.changes(tier);
        let of = |name: &str| changes.iter().find(|(node, _)| node.name() == name);
        let what = |node: &NodeState| of(node.name()).map_or(What::Drain, |(_, what)| what.clone());
        let touches = |what: &What| matches!(what, What::Change { how, .. } if !is_quiet(how));
        let (touched, quiet): (Vec<_>, Vec<_>) =
            changes.iter().partition(|(_, what)| touches(what));
        self.each(quiet.into_iter().map(|(node, _)| *node), usize::MAX, what);
        let first = if tier == Tier::App {
            self.choice.canary
        } else {
            0
        };
        let (first, others) = touched.split_at(first.min(touched.len()));
        for group in [first, others] {
            self.each(group.iter().map(|(node, _)| *node), wave, what);
        }
    }

    /// Each set is configured once, by the last of them: the primary, or whoever is it by then.
    fn change_databases(&mut self) {
        let before = self.steps.len();
        self.change(Tier::Database, 1);
        let mut seen = BTreeSet::new();
        for step in self.steps[before..].iter_mut().rev() {
            let set = self.new.node(&step.node).and_then(set_of);
            if let What::Change { how, .. } = &mut step.what
                && how.contains(&Action::ConfigureSet)
                && !seen.insert(set)
            {
                how.retain(|action| *action != Action::ConfigureSet);
            }
        }
    }

    /// Nodes of a tier that stay and differ, those with a part last.
    fn changes(&self, tier: Tier) -> Vec<(&'p NodeState, What)> {
        let staying = self.new.tier(tier).filter_map(|node| {
            let what = self.difference(self.old.node(node.name())?, node)?;
            Some((node, what))
        });
        let mut changes: Vec<(&NodeState, What)> = staying.collect();
        if tier == Tier::LoadBalancer {
            // Lowest priority first: the higher one is, the sooner it has to serve.
            changes.reverse();
        }
        changes.sort_by_key(|(node, _)| (rank(node), self.has_a_part(node)));
        changes
    }

    fn difference(&self, old: &NodeState, new: &NodeState) -> Option<What> {
        let mut files = new.changed_files(old);
        if self.now.unfinished.contains(new.name()) {
            files = new.files.keys().cloned().collect();
        }
        if old.shell != new.shell || self.now.down.contains(new.name()) {
            let how = vec![Action::Boot];
            return Some(What::Change { files, how });
        }
        if files.is_empty() {
            return None;
        }
        let mut how = actions(&old.facts, &new.facts, &files);
        if self.is_outranked(new) {
            // It would lose the virtual IP without having drained.
            for action in &mut how {
                if *action == Action::ReloadKeepalived {
                    *action = Action::RestartKeepalived;
                }
            }
        }
        Some(What::Change { files, how })
    }

    /// Whether this is the owner of the virtual IP, and another will have priority over it.
    fn is_outranked(&self, node: &NodeState) -> bool {
        let first = self.new.tier(Tier::LoadBalancer).next();
        let preempts = |node: &NodeState| {
            let settings = node.facts.load_balancer.as_ref();
            settings.is_some_and(|settings| settings.preempt)
        };
        self.now.owner.as_deref() == Some(node.name())
            && first.is_some_and(|first| first.name() != node.name() && preempts(first))
            && self.old.tier(Tier::LoadBalancer).count() > 1
    }

    fn has_a_part(&self, node: &NodeState) -> bool {
        match node.tier() {
            Tier::LoadBalancer => self.now.owner.as_deref() == Some(node.name()),
            Tier::Database => self.now.primaries.contains(node.name()),
            Tier::App => false,
        }
    }

    fn is_chosen(&self, node: &NodeState) -> bool {
        let on = self.choice.on.as_ref();
        on.is_none_or(|names| names.contains(node.name()))
    }

    fn reason(&self, node: &NodeState, what: &What) -> String {
        let (why, order) = match what {
            What::Add if self.makes_set(node) && !self.sets.is_empty() => {
                let set = set_of(node).unwrap_or_default();
                (format!("its replica set {set} is new in the topology"), "")
            }
            What::Add => ("it is new in the topology".to_owned(), ""),
            What::Drain | What::Remove => ("it is no longer in the topology".to_owned(), ""),
            What::Change { files, how } => {
                let last = match (node.tier(), how.is_empty()) {
                    (Tier::App, _) | (_, true) => "",
                    (Tier::LoadBalancer, _) => "; after the others, as it has the virtual IP",
                    (Tier::Database, _) => "; after the others, as it is primary",
                };
                (self.why(node, files), last)
            }
        };
        let order = if self.has_a_part(node) { order } else { "" };
        format!("{why}{order}")
    }

    fn why(&self, node: &NodeState, files: &[String]) -> String {
        let mut why = Vec::new();
        if self.now.unfinished.contains(node.name()) {
            return "the last apply was interrupted here".into();
        }
        let is_there = |file: &str| files.iter().any(|path| path == file);
        if is_there("gen-topology/app") {
            why.push("the app's code changed".to_owned());
        }
        if is_there("gen-topology/app-secrets") {
            why.push("a secret of the app was set".to_owned());
        }
        for path in files {
            if let Some(app) = path.strip_prefix("gen-topology/apps/") {
                why.push(format!("the code of {app} changed"));
            }
        }
        why.extend(self.reasons.of_tier(node.tier()));
        if why.is_empty() {
            let names = files
                .iter()
                .filter(|path| *path != FACTS_FILE || files.len() == 1);
            let names: Vec<&str> = names
                .map(|path| path.rsplit('/').next().unwrap_or(path))
                .collect();
            why.push(format!("{} changed", names.join(", ")));
        }
        why.join("; ")
    }
}

/// Why nodes change that stay: who comes and goes, in words that many share.
struct Reasons {
    balancers: Option<String>,
    apps: Option<String>,
    databases: Option<String>,
}

impl Reasons {
    fn of(old: &Fleet, new: &Fleet) -> Self {
        let moved = |tier: Tier| {
            let joins = named(
                new.tier(tier)
                    .filter(|node| old.node(node.name()).is_none()),
                ["joins", "join"],
            );
            let leaves = named(
                old.tier(tier)
                    .filter(|node| new.node(node.name()).is_none()),
                ["leaves", "leave"],
            );
            let parts: Vec<String> = joins.into_iter().chain(leaves).collect();
            (!parts.is_empty()).then(|| parts.join(", "))
        };
        Self {
            balancers: moved(Tier::LoadBalancer),
            apps: moved(Tier::App),
            databases: moved(Tier::Database),
        }
    }

    fn of_tier(&self, tier: Tier) -> impl Iterator<Item = String> {
        let all = match tier {
            Tier::LoadBalancer => [&self.apps, &self.balancers],
            Tier::App => [&self.databases, &self.balancers],
            Tier::Database => [&self.databases, &self.apps],
        };
        all.into_iter().flatten().cloned()
    }
}

/// What nodes do, in as few words as it gets: `app-3 joins`, `app-3 to app-9 (7) join`.
fn named<'n>(nodes: impl Iterator<Item = &'n NodeState>, verbs: [&str; 2]) -> Option<String> {
    let names: Vec<&str> = nodes.map(NodeState::name).collect();
    let [one_does, they_do] = verbs;
    match names.as_slice() {
        [] => None,
        [one] => Some(format!("{one} {one_does}")),
        [one, other] => Some(format!("{one} and {other} {they_do}")),
        [first, .., last] => Some(format!("{first} to {last} ({}) {they_do}", names.len())),
    }
}
