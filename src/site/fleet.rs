//! What nodes run or should run, in a form that can be compared: facts, and for each
//! file what tells one content from another.

use std::collections::BTreeMap;

use anyhow::Context as _;

use super::node::NodeId;

use crate::config::{Member, NodeFacts, ReplicaSet};
use crate::render::{FACTS, Rendered};
use crate::topology::Tier;

/// Path of a node's facts below `/etc`.
pub const FACTS_FILE: &str = "gen-topology/node.json";

/// What one node runs, or should run.
#[derive(Clone, Debug)]
pub struct NodeState {
    /// What it knows about itself.
    pub facts: NodeFacts,
    /// Files and links below `/etc` → SHA-256, or where a link leads.
    pub files: BTreeMap<String, String>,
    /// What only a boot can change, in whatever words: compared, never read.
    pub shell: String,
}

impl NodeState {
    /// The state that a node's facts, the text of its `node.json`, tell of.
    ///
    /// # Errors
    /// If the text is not ours.
    pub fn of_facts(text: &str) -> anyhow::Result<Self> {
        let facts: NodeFacts = serde_json::from_str(text).context("reading node.json")?;
        let below_etc = |(path, sum): (&String, &String)| {
            Some((path.strip_prefix("etc/")?.to_owned(), sum.clone()))
        };
        let mut files: BTreeMap<String, String> =
            facts.files.iter().filter_map(below_etc).collect();
        // The facts without the sums: those change with every file, and are told there.
        let own = NodeFacts {
            files: BTreeMap::new(),
            ..facts.clone()
        };
        files.insert(FACTS_FILE.into(), serde_json::to_string(&own)?);
        let shell = format!(
            "{} {}/{} {}",
            facts.tier, facts.address, facts.prefix_length, facts.interface
        );
        Ok(Self {
            facts,
            files,
            shell,
        })
    }

    /// The state that rendered files make.
    ///
    /// # Errors
    /// Only when the renderer made no facts, which is a bug of this program.
    pub fn of(rendered: &Rendered) -> anyhow::Result<Self> {
        let text = rendered.files.get(FACTS);
        Self::of_facts(text.with_context(|| format!("{} has no facts", rendered.node))?)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.facts.name
    }

    /// What it does.
    pub fn tier(&self) -> Tier {
        self.facts.tier
    }

    /// What one has to know of it to ask it.
    pub fn id(&self) -> NodeId {
        NodeId {
            name: self.facts.name.clone(),
            tier: self.facts.tier,
            address: self.facts.address,
            set: None,
        }
    }

    /// The replica set that it is a member of; databases only.
    pub fn set(&self) -> Option<&ReplicaSet> {
        self.facts.database.as_deref()
    }

    /// Files that differ from those of `old`.
    pub fn changed_files(&self, old: &Self) -> Vec<String> {
        let both = old.files.keys().chain(self.files.keys());
        let mut paths: Vec<String> = both
            .filter(|path| old.files.get(*path) != self.files.get(*path))
            .cloned()
            .collect();
        paths.sort();
        paths.dedup();
        paths
    }
}

/// All nodes of a stack; the new ones in file order.
#[derive(Clone, Debug, Default)]
pub struct Fleet {
    nodes: Vec<NodeState>,
    by_name: BTreeMap<String, usize>,
}

impl Fleet {
    /// The fleet of these nodes.
    pub fn of(nodes: Vec<NodeState>) -> Self {
        let by_name = nodes
            .iter()
            .enumerate()
            .map(|(index, node)| (node.name().to_owned(), index))
            .collect();
        Self { nodes, by_name }
    }

    /// The fleet that rendered files make.
    ///
    /// # Errors
    /// Only when the renderer made no facts, which is a bug of this program.
    pub fn rendered(rendered: &[Rendered]) -> anyhow::Result<Self> {
        let nodes: anyhow::Result<Vec<NodeState>> = rendered.iter().map(NodeState::of).collect();
        nodes.map(Self::of)
    }

    /// Every node.
    pub fn nodes(&self) -> &[NodeState] {
        &self.nodes
    }

    /// The nodes of one tier.
    pub fn tier(&self, tier: Tier) -> impl Iterator<Item = &NodeState> {
        self.nodes.iter().filter(move |node| node.tier() == tier)
    }

    /// Each replica set's members that are there, as any of the fleet's databases knows them:
    /// after an interruption some know more than others.
    pub fn sets(&self) -> BTreeMap<String, Vec<Member>> {
        let mut sets: BTreeMap<String, Vec<Member>> = BTreeMap::new();
        for set in self.nodes.iter().filter_map(NodeState::set) {
            let members = sets.entry(set.name.clone()).or_default();
            for member in &set.members {
                let is_there = self.node(&member.name).is_some();
                if is_there && members.iter().all(|known| known.name != member.name) {
                    members.push(member.clone());
                }
            }
        }
        sets
    }

    /// The node called `name`.
    pub fn node(&self, name: &str) -> Option<&NodeState> {
        self.by_name.get(name).map(|index| &self.nodes[*index])
    }
}
