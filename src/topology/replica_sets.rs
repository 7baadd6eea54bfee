//! Which replica sets a stack's databases form, and which database is in which: one set, or
//! those of a sharded cluster. A node says itself where it belongs, so that no edit of the
//! file ever moves another one to another set.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use super::raw::{RawNode, RawTopology};
use super::{Node, Tier, Topology};

/// Name of the set of config servers.
pub const CONFIG_SET: &str = "config";
/// Voting members that a replica set may have.
pub(super) const MAX_VOTERS: usize = 7;

/// What a replica set is in a sharded cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SetRole {
    /// It knows which shard has what.
    Config,
    /// It has a part of the data.
    Shard,
}

/// A replica set of a topology.
#[derive(Clone, Debug)]
pub struct ReplicaSet<'t> {
    /// Its name.
    pub name: String,
    /// What it is in a sharded cluster; none where the stack has no other set.
    pub role: Option<SetRole>,
    /// Its members, in file order.
    pub nodes: Vec<&'t Node>,
}

impl Topology {
    /// The replica sets of the databases: one, or the config servers and then each shard; none
    /// if the stack has no database.
    pub fn replica_sets(&self) -> Vec<ReplicaSet<'_>> {
        let Some(settings) = self.database() else {
            return Vec::new();
        };
        let first = settings.replica_set.as_str();
        let shards = settings.sharding.as_ref().map(|sharding| sharding.shards);
        let of_set = |(name, role): (String, Option<SetRole>)| {
            let is_member = |node: &&Node| {
                let own = node.replica_set.as_ref();
                own.map_or(first, |own| own.as_str()) == name
            };
            let nodes = self.tier(Tier::Database).filter(is_member).collect();
            ReplicaSet { name, role, nodes }
        };
        names(first, shards).into_iter().map(of_set).collect()
    }
}

/// Names of the sets, the config servers first, each with its role.
pub(super) fn names(first: &str, shards: Option<u16>) -> Vec<(String, Option<SetRole>)> {
    let Some(shards) = shards else {
        return vec![(first.to_owned(), None)];
    };
    let config = (CONFIG_SET.to_owned(), Some(SetRole::Config));
    let shards = (1..=shards).map(|number| (shard(first, number), Some(SetRole::Shard)));
    std::iter::once(config).chain(shards).collect()
}

/// Name of a shard by its number, from 1. The first keeps the name that it had when it was
/// the only set: a replica set can't be renamed.
pub(super) fn shard(first: &str, number: u16) -> String {
    match number {
        1 => first.to_owned(),
        number => format!("shard-{number}"),
    }
}

/// The set that a database says it is in.
pub(super) fn set_of<'r>(raw: &'r RawTopology, node: &'r RawNode) -> &'r str {
    let own = node.replica_set.as_ref();
    own.unwrap_or(&raw.database.replica_set).as_str()
}

/// For each database, whether it votes.
pub(super) fn votes(raw: &RawTopology) -> HashMap<String, bool> {
    let mut sets: BTreeMap<&str, Vec<(&String, Option<bool>)>> = BTreeMap::new();
    for (name, node) in &raw.nodes {
        if node.tier == Tier::Database {
            let set = sets.entry(set_of(raw, node)).or_default();
            set.push((name, node.voting));
        }
    }
    let mut votes = HashMap::new();
    for members in sets.into_values() {
        let voting = voting(members.iter().map(|(_, asked)| *asked));
        let names = members.into_iter().map(|(name, _)| name.clone());
        votes.extend(names.zip(voting));
    }
    votes
}

/// Which members of a set vote: those that ask to, and else the first ones, up to seven.
fn voting(asked: impl Iterator<Item = Option<bool>> + Clone) -> Vec<bool> {
    let mut left = MAX_VOTERS.saturating_sub(asked.clone().filter(|a| *a == Some(true)).count());
    asked
        .map(|asked| {
            asked.unwrap_or_else(|| {
                let votes = left > 0;
                left = left.saturating_sub(1);
                votes
            })
        })
        .collect()
}
