//! What survives on paper: which services a topology still offers after nodes have
//! failed, and which failures it can't bear.
//!
//! Everything follows from [`Requirement`]s: "writing needs 2 of these 3 nodes". A
//! service survives while each of its requirements is met. Nodes that stand in the
//! same requirements are alike, so that one failure of each kind, and one pair of
//! each two kinds, speaks for all of them. A sharded cluster has the requirements of each of
//! its replica sets, the config servers' among them: without a majority of those, routers go on
//! for a while, but none can start and no data can move.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Serialize, Serializer};

use crate::topology::{
    CONFIG_SET, DatabaseName, FurtherApp, Name, Node, ReplicaSet, SetRole, Tier, Topology,
};

/// What visitors want of the stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Service {
    /// The page is answered through the virtual IP, with or without what is stored.
    Page,
    /// What is stored can be read, possibly a little old.
    Reading,
    /// Something can be stored, and is on a majority of the databases when it is acknowledged.
    Writing,
}

impl Service {
    /// Every service, the least demanding first.
    pub const ALL: [Service; 3] = [Service::Page, Service::Reading, Service::Writing];

    /// Those of a stack: without a database there is nothing stored.
    pub fn of(topology: &Topology) -> &'static [Service] {
        match topology.database() {
            Some(_) => &Self::ALL,
            None => &[Service::Page],
        }
    }

    /// In a table's head.
    pub fn name(self) -> &'static str {
        match self {
            Service::Page => "page",
            Service::Reading => "reading",
            Service::Writing => "writing",
        }
    }
}

/// Services need at least so many of certain nodes.
#[derive(Clone, Debug)]
struct Requirement {
    services: &'static [Service],
    /// Which nodes, by their place in the topology.
    nodes: Vec<usize>,
    least: usize,
    /// One of the nodes, and several of them, in a sentence.
    noun: [String; 2],
}

/// What a topology's services require of its nodes.
fn requirements(topology: &Topology) -> Vec<Requirement> {
    let places = |wanted: &dyn Fn(&Node) -> bool| -> Vec<usize> {
        let nodes = topology.nodes().iter().enumerate();
        nodes
            .filter(|(_, node)| wanted(node))
            .map(|(place, _)| place)
            .collect()
    };
    let any = |tier: Tier, services| Requirement {
        services,
        nodes: places(&|node| node.tier == tier),
        least: 1,
        noun: [tier.noun(1).into(), tier.noun(2).into()],
    };
    let services = Service::of(topology);
    let mut all = vec![any(Tier::LoadBalancer, services), any(Tier::App, services)];
    // An application on chosen nodes is gone with those; one on all of them is with the tier.
    for further in topology.apps() {
        let nodes = places(&|node| further.nodes.contains(&node.name));
        if nodes.len() < topology.tier(Tier::App).count() {
            let noun = |count| format!("{} with {}", Tier::App.noun(count), further.name);
            all.push(Requirement {
                services,
                nodes,
                least: 1,
                noun: [1, 2].map(noun),
            });
        }
    }
    for set in topology.replica_sets() {
        let is_in = |node: &Node| set.nodes.iter().any(|member| member.name == node.name);
        let voters = places(&|node| is_in(node) && node.voting == Some(true));
        let noun = |count| noun(set.role, &set.name, count);
        all.push(Requirement {
            services: &[Service::Reading, Service::Writing],
            nodes: places(&is_in),
            least: 1,
            noun: [1, 2].map(noun),
        });
        all.push(Requirement {
            services: &[Service::Writing],
            least: voters.len() / 2 + 1,
            nodes: voters,
            noun: [1, 2].map(|count| format!("voting {}", noun(count))),
        });
    }
    all
}

/// What databases of a set are called.
fn noun(role: Option<SetRole>, set: &str, count: usize) -> String {
    let database = Tier::Database.noun(count);
    match (role, count) {
        (None, _) => database.to_owned(),
        (Some(SetRole::Shard), _) => format!("{database} of {set}"),
        (Some(SetRole::Config), 1) => "config server".to_owned(),
        (Some(SetRole::Config), _) => "config servers".to_owned(),
    }
}

/// How much of a tier is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Capacity {
    /// Nodes that work.
    pub left: usize,
    /// Nodes that it has.
    pub of: usize,
}

impl Capacity {
    /// Between 0 and 1.
    #[expect(clippy::cast_precision_loss, reason = "nobody has 2^52 nodes")]
    pub fn fraction(self) -> f64 {
        self.left as f64 / self.of.max(1) as f64
    }
}

/// What is left of the stack.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Outcome {
    /// Services that no longer work, each with why.
    pub lost: BTreeMap<Service, String>,
    /// Tiers of which no node is left.
    pub gone: Vec<Tier>,
    /// Whether no majority of voting databases is left.
    pub quorum_lost: bool,
    /// What each tier has left.
    #[serde(serialize_with = "by_tier")]
    pub capacity: [Capacity; 3],
}

impl Outcome {
    /// Whether every service works.
    pub fn is_whole(&self) -> bool {
        self.lost.is_empty()
    }
}

fn by_tier<S: Serializer>(capacity: &[Capacity; 3], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(Tier::ALL.map(Tier::name).into_iter().zip(capacity))
}

/// Nodes of which the loss of one is as bad as that of another.
#[derive(Clone, Debug, Serialize)]
pub struct Kind {
    /// Their tier.
    pub tier: Tier,
    /// Databases only: whether they vote.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub voting: Option<bool>,
    /// Databases of a sharded stack only: the set that they are members of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replica_set: Option<DatabaseName>,
    /// The nodes, in file order.
    pub nodes: Vec<Name>,
    /// What tells app servers apart that run different applications: ` with api`.
    #[serde(skip)]
    apart: String,
    #[serde(skip)]
    places: Vec<usize>,
}

/// What tells a node from others of its tier by the applications that it runs.
fn apart(topology: &Topology, node: &Node) -> String {
    let all = topology.tier(Tier::App).count();
    let apps = topology.apps().iter();
    let chosen: Vec<_> = apps.filter(|app| app.nodes.len() < all).collect();
    if node.tier != Tier::App || chosen.is_empty() {
        return String::new();
    }
    let (with, without): (Vec<_>, Vec<_>) = chosen
        .into_iter()
        .partition(|app| app.nodes.contains(&node.name));
    let named = |apps: Vec<&FurtherApp>| {
        let names: Vec<&str> = apps.iter().map(|app| app.name.as_str()).collect();
        names.join(" and ")
    };
    if with.is_empty() {
        return format!(" without {}", named(without));
    }
    format!(" with {}", named(with))
}

impl Kind {
    /// What `count` of them are called.
    pub fn noun(&self, count: usize) -> String {
        let noun = match self.replica_set.as_ref().map(DatabaseName::as_str) {
            None => format!("{}{}", self.tier.noun(count), self.apart),
            Some(CONFIG_SET) => noun(Some(SetRole::Config), CONFIG_SET, count),
            Some(set) => noun(Some(SetRole::Shard), set, count),
        };
        match self.voting {
            Some(false) => format!("non-voting {noun}"),
            _ => noun,
        }
    }
}

/// A failure of one or two nodes, by their kinds, and what is left after it.
#[derive(Clone, Debug, Serialize)]
pub struct Case {
    /// One kind, or two, which may be the same.
    #[serde(skip)]
    pub kinds: Vec<usize>,
    /// How many choices of nodes this speaks for.
    pub count: usize,
    /// What is left.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// Whether it breaks something that none of its nodes breaks alone.
    pub breaks: bool,
}

/// The requirements of one topology, to be asked about failures.
#[derive(Debug)]
pub struct Survival<'t> {
    topology: &'t Topology,
    requirements: Vec<Requirement>,
    kinds: Vec<Kind>,
}

impl<'t> Survival<'t> {
    /// Prepares to answer questions about `topology`.
    pub fn of(topology: &'t Topology) -> Self {
        let requirements = requirements(topology);
        // For each node, the requirements it stands in.
        let mut member = vec![Vec::new(); topology.nodes().len()];
        for (index, requirement) in requirements.iter().enumerate() {
            for place in &requirement.nodes {
                member[*place].push(index);
            }
        }
        let mut kinds: Vec<(Vec<usize>, Kind)> = Vec::new();
        for (place, node) in topology.nodes().iter().enumerate() {
            let at = kinds
                .iter()
                .position(|(of, kind)| *of == member[place] && kind.tier == node.tier);
            let at = at.unwrap_or_else(|| {
                let (tier, voting) = (node.tier, node.voting);
                let kind = Kind {
                    tier,
                    voting,
                    replica_set: node.replica_set.clone(),
                    nodes: Vec::new(),
                    apart: apart(topology, node),
                    places: Vec::new(),
                };
                kinds.push((member[place].clone(), kind));
                kinds.len() - 1
            });
            kinds[at].1.nodes.push(node.name.clone());
            kinds[at].1.places.push(place);
        }
        let mut kinds: Vec<Kind> = kinds.into_iter().map(|(_, kind)| kind).collect();
        kinds.sort_by_key(|kind| kind.tier);
        Self {
            topology,
            requirements,
            kinds,
        }
    }

    /// The kinds of nodes, in the order of the tiers.
    pub fn kinds(&self) -> &[Kind] {
        &self.kinds
    }

    /// What is left when `failed` have failed.
    pub fn without(&self, failed: &[&Node]) -> Outcome {
        self.outcome(&self.marks(failed))
    }

    /// The nodes whose failure, after that of `failed`, would end a service that still works.
    pub fn next_to_break(&self, failed: &[&Node]) -> Vec<&'t Node> {
        let mut marks = self.marks(failed);
        let before = self.outcome(&marks).lost.len();
        let mut found = vec![false; marks.len()];
        for kind in &self.kinds {
            let standing: Vec<usize> = kind
                .places
                .iter()
                .copied()
                .filter(|place| !marks[*place])
                .collect();
            let Some(one) = standing.first().copied() else {
                continue;
            };
            marks[one] = true;
            if self.outcome(&marks).lost.len() > before {
                standing.iter().for_each(|place| found[*place] = true);
            }
            marks[one] = false;
        }
        let nodes = self.topology.nodes().iter().zip(found);
        nodes
            .filter(|(_, found)| *found)
            .map(|(node, _)| node)
            .collect()
    }

    /// For each node of the topology, whether it is one of `failed`.
    fn marks(&self, failed: &[&Node]) -> Vec<bool> {
        let names: BTreeSet<&Name> = failed.iter().map(|node| &node.name).collect();
        self.topology
            .nodes()
            .iter()
            .map(|node| names.contains(&node.name))
            .collect()
    }

    /// Every failure of one node, by kind.
    pub fn singles(&self) -> Vec<Case> {
        (0..self.kinds.len())
            .map(|kind| self.case(vec![kind]))
            .collect()
    }

    /// Every failure of two nodes, by kinds.
    pub fn pairs(&self) -> Vec<Case> {
        let count = self.kinds.len();
        let pairs = (0..count).flat_map(|one| (one..count).map(move |other| (one, other)));
        pairs
            .filter(|(one, other)| one != other || self.kinds[*one].nodes.len() > 1)
            .map(|(one, other)| self.case(vec![one, other]))
            .collect()
    }

    /// Whether every service survives the failure of any `count` nodes, for 1 and 2.
    pub fn survives_any(&self, count: usize) -> bool {
        let cases = if count == 1 {
            self.singles()
        } else {
            self.pairs()
        };
        cases.iter().all(|case| case.outcome.is_whole())
    }

    /// The names behind a case: each node, or each pair.
    pub fn names(&self, case: &Case) -> Vec<Vec<&'t Name>> {
        let names = |kind: usize| {
            let places = self.kinds[kind].places.iter();
            places
                .map(|place| &self.topology.nodes()[*place].name)
                .collect::<Vec<_>>()
        };
        match case.kinds[..] {
            [one, other] if one == other => {
                let names = names(one);
                let pairs = names.iter().enumerate();
                pairs
                    .flat_map(|(at, a)| names[at + 1..].iter().map(|b| vec![*a, *b]))
                    .collect()
            }
            [one, other] => {
                let others = names(other);
                names(one)
                    .iter()
                    .flat_map(|a| others.iter().map(|b| vec![*a, *b]))
                    .collect()
            }
            _ => case
                .kinds
                .iter()
                .flat_map(|kind| names(*kind))
                .map(|name| vec![name])
                .collect(),
        }
    }

    /// Sizes, as `scale` takes them, that would let every service survive the failure of any
    /// `count` nodes.
    pub fn advice(&self, count: usize) -> Vec<(&'static str, usize)> {
        let mut advice = Vec::new();
        for tier in [Tier::LoadBalancer, Tier::App] {
            if self.topology.tier(tier).count() <= count {
                advice.push((tier.name(), count + 1));
            }
        }
        let mut sizes: BTreeMap<Option<SetRole>, usize> = BTreeMap::new();
        for set in self.topology.replica_sets() {
            let largest = sizes.entry(set.role).or_default();
            *largest = (*largest).max(missing_voters(&set, count));
        }
        let sizes = sizes.into_iter().filter(|(_, wanted)| *wanted > 0);
        advice.extend(sizes.map(|(role, wanted)| match role {
            None => (Tier::Database.name(), wanted),
            Some(SetRole::Shard) => ("members", wanted),
            Some(SetRole::Config) => ("config-servers", wanted),
        }));
        advice
    }

    fn case(&self, kinds: Vec<usize>) -> Case {
        // The first node of each kind, and the second where a kind stands twice.
        let twice = kinds.len() == 2 && kinds[0] == kinds[1];
        let places: Vec<usize> = kinds
            .iter()
            .enumerate()
            .map(|(at, kind)| self.kinds[*kind].places[usize::from(twice && at == 1)])
            .collect();
        let without = |places: &[usize]| {
            let mut marks = vec![false; self.topology.nodes().len()];
            places.iter().for_each(|place| marks[*place] = true);
            self.outcome(&marks)
        };
        let outcome = without(&places);
        let alone: Vec<Outcome> = places.iter().map(|place| without(&[*place])).collect();
        let new = |service: &Service| {
            !alone
                .iter()
                .any(|outcome| outcome.lost.contains_key(service))
        };
        let sizes: Vec<usize> = kinds
            .iter()
            .map(|kind| self.kinds[*kind].nodes.len())
            .collect();
        let count = if twice {
            sizes[0] * (sizes[0] - 1) / 2
        } else {
            sizes.iter().product()
        };
        let breaks = if kinds.len() == 1 {
            !outcome.is_whole()
        } else {
            outcome.lost.keys().any(new)
        };
        Case {
            kinds,
            count,
            outcome,
            breaks,
        }
    }

    /// What is left when the nodes that are marked have failed.
    fn outcome(&self, failed: &[bool]) -> Outcome {
        let mut lost = BTreeMap::new();
        let mut quorum_lost = false;
        for requirement in &self.requirements {
            let left = requirement
                .nodes
                .iter()
                .filter(|place| !failed[**place])
                .count();
            if left >= requirement.least {
                continue;
            }
            quorum_lost |= requirement.services == [Service::Writing];
            let why = requirement.why(left);
            for service in requirement.services {
                lost.entry(*service).or_insert_with(|| why.clone());
            }
        }
        let mut capacity = [Capacity { left: 0, of: 0 }; 3];
        for (tier, capacity) in Tier::ALL.into_iter().zip(&mut capacity) {
            for (node, failed) in self.topology.nodes().iter().zip(failed) {
                capacity.of += usize::from(node.tier == tier);
                capacity.left += usize::from(node.tier == tier && !failed);
            }
        }
        let gone = Tier::ALL
            .into_iter()
            .zip(capacity)
            .filter(|(_, capacity)| capacity.left == 0 && capacity.of > 0);
        let gone = gone.map(|(tier, _)| tier).collect();
        Outcome {
            lost,
            gone,
            quorum_lost,
            capacity,
        }
    }
}

/// How many databases a set needs so that a majority outlives `count` failures; 0 if it has
/// them. That takes 2 × count + 1 votes; copies without a vote come on top.
fn missing_voters(set: &ReplicaSet<'_>, count: usize) -> usize {
    let voters = set.nodes.iter().filter(|node| node.voting == Some(true));
    match (2 * count + 1).saturating_sub(voters.count()) {
        0 => 0,
        more => set.nodes.len() + more,
    }
}

impl Requirement {
    fn why(&self, left: usize) -> String {
        let [one, several] = &self.noun;
        match left {
            0 => format!("no {one} is left"),
            _ => format!(
                "only {left} of {} {several} {} left, and {} are needed",
                self.nodes.len(),
                if left == 1 { "is" } else { "are" },
                self.least
            ),
        }
    }
}
