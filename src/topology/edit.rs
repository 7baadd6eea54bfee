//! Changes to a topology's text that keep everything else as it is: order,
//! layout, the addresses of other nodes. An edit is text in, text out; the caller
//! checks the result like any other topology before it writes it.

use std::collections::{BTreeMap, HashSet};
use std::net::Ipv4Addr;
use std::ops::Range;

use jsonc_parser::ast::{Object, ObjectProp};
use jsonc_parser::common::Ranged as _;
use jsonc_parser::cst::CstRootNode;

use super::allocate::Allocator;
use super::raw::{RawNode, RawTopology};
use super::values::Name;
use super::{Tier, did_you_mean, document, replica_sets};

/// A changed text and what was changed in it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Edit {
    /// The new text of the file.
    pub text: String,
    /// Nodes that it has and the old one had not.
    pub added: Vec<Addition>,
    /// Nodes that the old one had.
    pub removed: Vec<(String, Tier)>,
    /// Nodes that have another name now: the old one, the new one.
    pub renamed: Vec<(String, String, Tier)>,
}

/// A node that an edit adds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addition {
    /// Its name.
    pub name: String,
    /// Its tier.
    pub tier: Tier,
    /// The address it was given.
    pub address: Ipv4Addr,
    /// The replica set that it says to be in; only a database of a sharded stack says one.
    pub replica_set: Option<String>,
}

/// Why an edit can't be made; the text is left as it was.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// The text is not a topology; `check` says why.
    #[error("the topology has problems; `gen-topology check` shows them")]
    Unreadable,
    /// No node of that name.
    #[error("there is no node `{name}`{}", meant.as_ref().map(|m| format!("; did you mean `{m}`?")).unwrap_or_default())]
    NoSuchNode {
        /// What was asked for.
        name: String,
        /// What was probably meant.
        meant: Option<String>,
    },
    /// The name is taken.
    #[error("there is a node `{0}` already")]
    NameTaken(String),
    /// The name can't be a host name.
    #[error("`{name}` can't be a node's name: {why}")]
    BadName {
        /// What was asked for.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// Nothing can stand under that name.
    #[error("{}", no_such_key(at, key, meant.as_deref(), keys))]
    NoSuchKey {
        /// Path of the object, empty for the whole.
        at: String,
        /// What was asked for.
        key: String,
        /// What was probably meant.
        meant: Option<String>,
        /// Keys that there are.
        keys: Vec<String>,
    },
    /// The value can't stand there.
    #[error("`{value}` is no value for `{path}`: write a number, `true`, `false` or JSON")]
    NoValue {
        /// Where.
        path: String,
        /// What was given.
        value: String,
    },
    /// All addresses are in use.
    #[error("no address of {subnet} is free for another {}; widen `network.subnet`", tier.noun(1))]
    SubnetFull {
        /// The subnet.
        subnet: ipnet::Ipv4Net,
        /// The tier that should have grown.
        tier: Tier,
    },
    /// Databases of a sharded stack belong to a certain set.
    #[error("{}", of_which_set(sets))]
    Sharded {
        /// The sets that there are.
        sets: Vec<String>,
    },
    /// There is no set of that name.
    #[error("there is no replica set `{name}`; {}", of_sets(sets))]
    NoSuchSet {
        /// What was asked for.
        name: String,
        /// The sets that there are.
        sets: Vec<String>,
    },
    /// Sizes of shards for a stack that has none.
    #[error(
        "this stack is not sharded: `gen-topology scale shards=1` makes its replica set the first shard"
    )]
    NotSharded,
    /// A tier would have no node left.
    #[error("this would leave no {}; {}", .0.noun(1), needs_one(*.0))]
    WouldEmptyTier(Tier),
}

fn no_such_key(at: &str, key: &str, meant: Option<&str>, keys: &[String]) -> String {
    let place = if at.is_empty() {
        "the topology".to_owned()
    } else {
        format!("`{at}`")
    };
    let help = match meant {
        Some(meant) => format!("; did you mean `{meant}`?"),
        None if keys.is_empty() => " below it: it is a single value".to_owned(),
        None => format!("; there are {}", keys.join(", ")),
    };
    format!("{place} has no key `{key}`{help}")
}

fn needs_one(tier: Tier) -> &'static str {
    match tier {
        Tier::Database => {
            "for a stack without one, remove the databases and the key `database` from the file by hand"
        }
        _ => "a stack needs at least one",
    }
}

fn of_which_set(sets: &[String]) -> String {
    format!(
        "this stack is sharded: say with `--replica-set` which set a database is for, or use \
         `scale` with shards, members or config-servers; {}",
        of_sets(sets)
    )
}

fn of_sets(sets: &[String]) -> String {
    match sets {
        [first, second, .., last] if sets.len() > 8 => {
            format!("there are {first}, {second}, … {last}")
        }
        _ => format!("there are {}", sets.join(", ")),
    }
}

/// Adds `count` nodes of `tier`, the first of them called `name` if one is given.
pub fn add(text: &str, tier: Tier, name: Option<&str>, count: usize) -> Result<Edit, EditError> {
    let (raw, _) = read(text)?;
    if tier == Tier::Database && raw.database.sharding.is_some() {
        return Err(EditError::Sharded { sets: sets(&raw) });
    }
    add_nodes(text, tier, None, name, count)
}

/// Adds `count` databases to a replica set of a sharded stack, the first of them called
/// `name` if one is given.
pub fn add_to_set(
    text: &str,
    set: &str,
    name: Option<&str>,
    count: usize,
) -> Result<Edit, EditError> {
    let (raw, _) = read(text)?;
    let sets = sets(&raw);
    if sets.iter().all(|known| known != set) {
        let name = set.to_owned();
        return Err(EditError::NoSuchSet { name, sets });
    }
    add_nodes(text, Tier::Database, Some(set), name, count)
}

/// Names of the replica sets.
fn sets(raw: &RawTopology) -> Vec<String> {
    let shards = raw.database.sharding.as_ref();
    let shards = shards.map(|sharding| sharding.shards);
    let names = replica_sets::names(raw.database.replica_set.as_str(), shards);
    names.into_iter().map(|(name, _)| name).collect()
}

fn add_nodes(
    text: &str,
    tier: Tier,
    set: Option<&str>,
    name: Option<&str>,
    count: usize,
) -> Result<Edit, EditError> {
    let (raw, _) = read(text)?;
    let mut names: HashSet<String> = raw.nodes.keys().cloned().collect();
    let mut addresses = Allocator::new(&raw, &[]);
    let mut numbers = Names::after(&raw, tier, set);
    let mut added = Vec::with_capacity(count);
    for index in 0..count {
        let name = match name.filter(|_| index == 0) {
            Some(name) if names.contains(name) => return Err(EditError::NameTaken(name.into())),
            Some(name) => match name.parse::<Name>() {
                Ok(name) => name.to_string(),
                Err(why) => {
                    return Err(EditError::BadName {
                        name: name.into(),
                        why,
                    });
                }
            },
            None => match numbers.next() {
                // Only when the numbers have reached their end.
                name if names.contains(&name) => return Err(EditError::NameTaken(name)),
                name => name,
            },
        };
        let subnet = raw.network.subnet;
        let address = addresses
            .next(tier)
            .ok_or(EditError::SubnetFull { subnet, tier })?;
        numbers.see(&name);
        names.insert(name.clone());
        added.push(Addition {
            name,
            tier,
            address,
            replica_set: set.map(str::to_owned),
        });
    }
    Ok(Edit {
        text: insert(text, &raw, &added).ok_or(EditError::Unreadable)?,
        added,
        ..Edit::default()
    })
}

/// Removes the nodes called `names`.
pub fn remove(text: &str, names: &[String]) -> Result<Edit, EditError> {
    let (raw, root) = read(text)?;
    let mut removed = Vec::new();
    for name in names {
        let Some(node) = raw.nodes.get(name) else {
            let meant = did_you_mean(name, raw.nodes.keys().map(String::as_str));
            return Err(EditError::NoSuchNode {
                name: name.clone(),
                meant: meant.map(str::to_owned),
            });
        };
        if removed.iter().all(|(other, _)| other != name) {
            removed.push((name.clone(), node.tier));
        }
    }
    for tier in Tier::ALL {
        let before = raw.nodes.values().filter(|node| node.tier == tier).count();
        let gone = removed.iter().filter(|(_, of)| *of == tier).count();
        if before > 0 && before == gone {
            return Err(EditError::WouldEmptyTier(tier));
        }
    }
    let nodes = root
        .object_value()
        .and_then(|root| root.object_value("nodes"));
    let nodes = nodes.ok_or(EditError::Unreadable)?;
    let gone: HashSet<&str> = removed.iter().map(|(name, _)| name.as_str()).collect();
    for property in nodes.properties() {
        if property
            .decoded_name()
            .is_some_and(|name| gone.contains(name.as_str()))
        {
            property.remove();
        }
    }
    Ok(Edit {
        text: root.to_string(),
        removed,
        ..Edit::default()
    })
}

/// Adds or removes nodes until each tier has as many as `wanted` says. Nodes that
/// were added last leave first.
pub fn scale(text: &str, wanted: &BTreeMap<Tier, usize>) -> Result<Edit, EditError> {
    let (raw, _) = read(text)?;
    let mut edit = Edit {
        text: text.to_owned(),
        ..Edit::default()
    };
    for (tier, wanted) in wanted {
        let members: Vec<&String> = raw
            .nodes
            .iter()
            .filter(|(_, n)| n.tier == *tier)
            .map(|(name, _)| name)
            .collect();
        if *wanted == 0 {
            return Err(EditError::WouldEmptyTier(*tier));
        }
        if *tier == Tier::Database && raw.database.sharding.is_some() {
            return Err(EditError::Sharded { sets: sets(&raw) });
        }
        if *wanted > members.len() {
            let step = add(&edit.text, *tier, None, wanted - members.len())?;
            edit.text = step.text;
            edit.added.extend(step.added);
        } else if *wanted < members.len() {
            let last: Vec<String> = members[*wanted..]
                .iter()
                .rev()
                .map(|name| (*name).clone())
                .collect();
            let step = remove(&edit.text, &last)?;
            edit.text = step.text;
            edit.removed.extend(step.removed);
        }
    }
    Ok(edit)
}

pub(super) fn read(text: &str) -> Result<(RawTopology, CstRootNode), EditError> {
    let raw = serde_json::from_str(text).map_err(|_| EditError::Unreadable)?;
    let root = CstRootNode::parse(text, &document::strict()).map_err(|_| EditError::Unreadable)?;
    Ok((raw, root))
}

/// Gives new nodes of a tier names after the fashion of its last node: `app-3`
/// after `app-2`, `web-010` after `web-009`. The number is one more than any node
/// with the same beginning has, so that `node-6` follows `node-5` whatever its tier.
struct Names {
    stem: String,
    /// Digits that a number has at least.
    width: usize,
    highest: u64,
}

impl Names {
    /// In a sharded stack the fashion is that of the set, else of another shard.
    fn after(raw: &RawTopology, tier: Tier, set: Option<&str>) -> Self {
        let is_config = |set: &str| set == replica_sets::CONFIG_SET;
        let rank = |node: &RawNode| match (set, replica_sets::set_of(raw, node)) {
            _ if node.tier != tier => None,
            (None, _) => Some(0),
            (Some(set), own) if set == own => Some(0),
            (Some(set), own) if !is_config(set) && !is_config(own) => Some(1),
            _ => None,
        };
        let nodes = raw.nodes.iter().rev();
        let last = nodes
            .filter_map(|(name, node)| Some((rank(node)?, name)))
            .min_by_key(|(rank, _)| *rank);
        let model = last.and_then(|(_, name)| numbered(name));
        let stem = match set {
            Some(set) if is_config(set) => "config",
            _ => tier.stem(),
        };
        let (stem, digits) = model.map_or_else(
            || (format!("{stem}-"), ""),
            |(stem, digits, _)| (stem.to_owned(), digits),
        );
        let width = if digits.starts_with('0') {
            digits.len()
        } else {
            0
        };
        let mut names = Self {
            stem,
            width,
            highest: 0,
        };
        raw.nodes.keys().for_each(|name| names.see(name));
        names
    }

    /// Makes sure that no later name has the number of `name`.
    fn see(&mut self, name: &str) {
        if let Some((stem, _, number)) = numbered(name)
            && stem == self.stem
        {
            self.highest = self.highest.max(number);
        }
    }

    fn next(&mut self) -> String {
        self.highest = self.highest.saturating_add(1);
        format!("{}{:0width$}", self.stem, self.highest, width = self.width)
    }
}

/// A name that ends with a number, as what is before it, its digits and its value.
fn numbered(name: &str) -> Option<(&str, &str, u64)> {
    let (stem, digits) = name.split_at(name.trim_end_matches(|c: char| c.is_ascii_digit()).len());
    Some((stem, digits, digits.parse().ok()?))
}

/// The text with the new nodes behind the last one of their tier, written as the
/// neighbours are: on one line each or over several, with the same blanks.
fn insert(text: &str, raw: &RawTopology, added: &[Addition]) -> Option<String> {
    let Some(first) = added.first() else {
        return Some(text.to_owned());
    };
    let tree = document::parse(text).ok()?;
    let nodes = tree.as_object()?.get_object("nodes")?;
    let set = first.replica_set.as_deref();
    let in_set = |node: &RawNode| set.is_none_or(|set| replica_sets::set_of(raw, node) == set);
    let nodes_of = |wanted: &dyn Fn(&RawNode) -> bool| raw.nodes.values().rposition(wanted);
    let neighbour = nodes_of(&|node| node.tier == first.tier && in_set(node))
        .or_else(|| nodes_of(&|node| node.tier == first.tier));
    let Some(neighbour) = nodes
        .properties
        .get(neighbour.unwrap_or(raw.nodes.len().saturating_sub(1)))
    else {
        let lines: Vec<String> = added.iter().map(one_line).collect();
        let (before, after) = text.split_at(nodes.range.start + 1);
        return Some(format!("{before} {} {after}", lines.join(", ")));
    };
    let separator = separator(text, nodes)?;
    let model = std::iter::once(neighbour)
        .chain(&nodes.properties)
        .find_map(|property| Model::of(text, property, set.is_some()));
    let (before, after) = text.split_at(neighbour.range.end);
    let mut changed = before.to_owned();
    for node in added {
        changed.push_str(&separator);
        changed.push_str(
            &model
                .as_ref()
                .map_or_else(|| one_line(node), |model| model.write(node)),
        );
    }
    Some(changed + after)
}

/// What stands between two nodes: the shortest, where blank lines part groups.
fn separator(text: &str, nodes: &Object<'_>) -> Option<String> {
    let between = nodes
        .properties
        .windows(2)
        .map(|pair| &text[pair[0].range.end..pair[1].range.start]);
    match between.min_by_key(|between| between.len()) {
        Some(shortest) => Some(shortest.to_owned()),
        None => Some(format!(
            ",{}",
            &text[nodes.range.start + 1..nodes.properties.first()?.range.start]
        )),
    }
}

fn one_line(node: &Addition) -> String {
    let set = node.replica_set.as_ref();
    let set = set.map(|set| format!(", \"replica_set\": \"{set}\""));
    format!(
        "\"{}\": {{ \"tier\": \"{}\", \"address\": \"{}\"{} }}",
        node.name,
        node.tier,
        node.address,
        set.unwrap_or_default()
    )
}

/// A node's text, and where in it the words are that another node has in their places.
struct Model<'t> {
    text: &'t str,
    /// In the order of the text.
    words: Vec<(Range<usize>, Word)>,
}

#[derive(Clone, Copy)]
enum Word {
    Name,
    Tier,
    Address,
    Set,
}

impl<'t> Model<'t> {
    /// Only of a node that has nothing but a tier and an address, and its replica set if the
    /// new one has one.
    fn of(text: &'t str, property: &ObjectProp<'_>, with_set: bool) -> Option<Self> {
        let start = property.range.start;
        let within = |range: jsonc_parser::common::Range| range.start - start..range.end - start;
        let mut words = vec![(within(property.name.range()), Word::Name)];
        for member in &property.value.as_object()?.properties {
            let word = match member.name.as_str() {
                "tier" => Word::Tier,
                "address" => Word::Address,
                "replica_set" => Word::Set,
                _ => return None,
            };
            words.push((within(member.value.range()), word));
        }
        let has_set = words.iter().any(|(_, word)| matches!(word, Word::Set));
        if has_set != with_set {
            return None;
        }
        Some(Self {
            text: &text[start..property.range.end],
            words,
        })
    }

    fn write(&self, node: &Addition) -> String {
        let mut text = self.text.to_owned();
        for (range, word) in self.words.iter().rev() {
            let word = match word {
                Word::Name => node.name.clone(),
                Word::Tier => node.tier.to_string(),
                Word::Address => node.address.to_string(),
                Word::Set => node.replica_set.clone().unwrap_or_default(),
            };
            text.replace_range(range.clone(), &format!("\"{word}\""));
        }
        text
    }
}
