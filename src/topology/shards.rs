//! Changing how many shards a stack has and how large they are. Nodes are added to a set or
//! leave it; none ever moves to another. Like every edit, text in and text out.

use std::cmp::Ordering;

use super::edit::{Edit, EditError, add_to_set, read, remove};
use super::raw::RawTopology;
use super::replica_sets::{CONFIG_SET, set_of, shard};
use super::{Tier, set};

/// How a sharded stack should be; what is not said stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShardSizes {
    /// How many shards.
    pub shards: Option<u16>,
    /// Databases of each shard.
    pub members: Option<u16>,
    /// Config servers.
    pub config_servers: Option<u16>,
}

/// Adds or removes databases until the shards and the config servers are as `sizes` says. With
/// `shards` the replica set of a stack that is not sharded becomes the first shard.
///
/// Whether a shard that leaves still has data is not known here: who removes the nodes asks.
///
/// # Errors
/// If sizes are given for a stack without shards, or something would be left without a node.
pub fn scale_shards(text: &str, sizes: ShardSizes) -> Result<Edit, EditError> {
    let (raw, _) = read(text)?;
    let mut edit = Edit {
        text: text.to_owned(),
        ..Edit::default()
    };
    let now = match (&raw.database.sharding, sizes.shards) {
        (Some(now), _) => [now.shards, now.members, now.config_servers],
        (None, None) => return Err(EditError::NotSharded),
        (None, Some(_)) => {
            edit.text = say_set(&edit.text, &raw)?;
            let databases = raw.nodes.values().filter(|n| n.tier == Tier::Database);
            let members = u16::try_from(databases.count()).unwrap_or(u16::MAX);
            [1, sizes.members.unwrap_or(members), 3]
        }
    };
    let shards = sizes.shards.unwrap_or(now[0]);
    let members = sizes.members.unwrap_or(now[1]);
    let config_servers = sizes.config_servers.unwrap_or(now[2]);
    if shards == 0 || members == 0 || config_servers == 0 {
        return Err(EditError::WouldEmptyTier(Tier::Database));
    }
    for (key, value) in [
        ("shards", shards),
        ("members", members),
        ("config_servers", config_servers),
    ] {
        let path = format!("database.sharding.{key}");
        edit.text = set::set(&edit.text, &path, Some(&value.to_string()))?.text;
    }
    let first = raw.database.replica_set.as_str();
    for number in 1..=shards {
        resize(&mut edit, &shard(first, number), members)?;
    }
    for number in (shards + 1..=now[0]).rev() {
        resize(&mut edit, &shard(first, number), 0)?;
    }
    resize(&mut edit, CONFIG_SET, config_servers)?;
    Ok(edit)
}

/// Lets each database that is there say its set, which so far was the only one.
fn say_set(text: &str, raw: &RawTopology) -> Result<String, EditError> {
    let mut text = text.to_owned();
    for (name, node) in &raw.nodes {
        if node.tier == Tier::Database && node.replica_set.is_none() {
            let path = format!("nodes.{name}.replica_set");
            text = set::set(&text, &path, Some(raw.database.replica_set.as_str()))?.text;
        }
    }
    Ok(text)
}

/// Gives a set as many databases as it should have. Those that were added last leave first.
fn resize(edit: &mut Edit, set: &str, wanted: u16) -> Result<(), EditError> {
    let (raw, _) = read(&edit.text)?;
    let wanted = usize::from(wanted);
    let members: Vec<String> = raw
        .nodes
        .iter()
        .filter(|(_, node)| node.tier == Tier::Database && set_of(&raw, node) == set)
        .map(|(name, _)| name.clone())
        .collect();
    let step = match wanted.cmp(&members.len()) {
        Ordering::Equal => return Ok(()),
        Ordering::Greater => add_to_set(&edit.text, set, None, wanted - members.len())?,
        Ordering::Less => {
            let last: Vec<String> = members[wanted..].iter().rev().cloned().collect();
            remove(&edit.text, &last)?
        }
    };
    edit.text = step.text;
    edit.added.extend(step.added);
    edit.removed.extend(step.removed);
    Ok(())
}
