//! Changes to a topology's text that keep everything else as it is: order,
//! layout, the addresses of other nodes. An edit is text in, text out; the caller
//! checks the result like any other topology before it writes it.

use std::collections::{BTreeMap, HashSet};
use std::net::Ipv4Addr;

use jsonc_parser::cst::{CstInputValue, CstObject, CstRootNode};

use super::allocate::Allocator;
use super::raw::RawTopology;
use super::values::Name;
use super::{Tier, did_you_mean, document};

/// A changed text and what was changed in it.
#[derive(Debug, PartialEq, Eq)]
pub struct Edit {
    /// The new text of the file.
    pub text: String,
    /// Nodes that it has and the old one had not.
    pub added: Vec<Addition>,
    /// Nodes that the old one had.
    pub removed: Vec<(String, Tier)>,
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
    /// All addresses are in use.
    #[error("no address of {subnet} is free for another {}; widen `network.subnet`", tier.noun(1))]
    SubnetFull {
        /// The subnet.
        subnet: ipnet::Ipv4Net,
        /// The tier that should have grown.
        tier: Tier,
    },
    /// A tier would have no node left.
    #[error("this would leave no {}; a stack needs at least one", .0.noun(1))]
    WouldEmptyTier(Tier),
}

/// Adds `count` nodes of `tier`, the first of them called `name` if one is given.
pub fn add(text: &str, tier: Tier, name: Option<&str>, count: usize) -> Result<Edit, EditError> {
    let (raw, root) = read(text)?;
    let nodes = root.object_value().and_then(|root| root.object_value("nodes"));
    let nodes = nodes.ok_or(EditError::Unreadable)?;
    let mut names: HashSet<String> = raw.nodes.keys().cloned().collect();
    let mut addresses = Allocator::new(&raw, &[]);
    let mut added = Vec::with_capacity(count);
    for index in 0..count {
        let name = match name.filter(|_| index == 0) {
            Some(name) if names.contains(name) => return Err(EditError::NameTaken(name.into())),
            Some(name) => match name.parse::<Name>() {
                Ok(name) => name.to_string(),
                Err(why) => return Err(EditError::BadName { name: name.into(), why }),
            },
            None => next_name(&raw, tier, &names),
        };
        let subnet = raw.network.subnet;
        let address = addresses.next(tier).ok_or(EditError::SubnetFull { subnet, tier })?;
        names.insert(name.clone());
        added.push(Addition { name, tier, address });
    }
    insert(&raw, &nodes, &added);
    Ok(Edit {
        text: root.to_string(),
        added,
        removed: Vec::new(),
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
    let nodes = root.object_value().and_then(|root| root.object_value("nodes"));
    let nodes = nodes.ok_or(EditError::Unreadable)?;
    let gone: HashSet<&str> = removed.iter().map(|(name, _)| name.as_str()).collect();
    for property in nodes.properties() {
        if property.decoded_name().is_some_and(|name| gone.contains(name.as_str())) {
            property.remove();
        }
    }
    Ok(Edit {
        text: root.to_string(),
        added: Vec::new(),
        removed,
    })
}

/// Adds or removes nodes until each tier has as many as `wanted` says. Nodes that
/// were added last leave first.
pub fn scale(text: &str, wanted: &BTreeMap<Tier, usize>) -> Result<Edit, EditError> {
    let (raw, _) = read(text)?;
    let mut edit = Edit {
        text: text.to_owned(),
        added: Vec::new(),
        removed: Vec::new(),
    };
    for (tier, wanted) in wanted {
        let members: Vec<&String> = raw.nodes.iter().filter(|(_, n)| n.tier == *tier).map(|(name, _)| name).collect();
        if *wanted == 0 {
            return Err(EditError::WouldEmptyTier(*tier));
        }
        if *wanted > members.len() {
            let step = add(&edit.text, *tier, None, wanted - members.len())?;
            edit.text = step.text;
            edit.added.extend(step.added);
        } else if *wanted < members.len() {
            let last: Vec<String> = members[*wanted..].iter().rev().map(|name| (*name).clone()).collect();
            let step = remove(&edit.text, &last)?;
            edit.text = step.text;
            edit.removed.extend(step.removed);
        }
    }
    Ok(edit)
}

fn read(text: &str) -> Result<(RawTopology, CstRootNode), EditError> {
    let raw = serde_json::from_str(text).map_err(|_| EditError::Unreadable)?;
    let root = CstRootNode::parse(text, &document::strict()).map_err(|_| EditError::Unreadable)?;
    Ok((raw, root))
}

/// A name after the fashion of the tier's last node: `app-3` after `app-2`. The
/// number is one more than any node with the same beginning has, so that
/// `node-6` follows `node-5` whatever its tier.
fn next_name(raw: &RawTopology, tier: Tier, taken: &HashSet<String>) -> String {
    let split = |name: &str| {
        let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
        let number = name[stem.len()..].parse::<u64>().ok()?;
        Some((stem.to_owned(), number))
    };
    let last = raw.nodes.iter().rev().find(|(_, node)| node.tier == tier);
    let stem = last.and_then(|(name, _)| split(name)).map(|(stem, _)| stem);
    let stem = stem.unwrap_or_else(|| format!("{}-", tier.stem()));
    let highest = taken.iter().filter_map(|name| split(name)).filter(|(other, _)| *other == stem).map(|(_, n)| n).max();
    format!("{stem}{}", highest.unwrap_or(0) + 1)
}

/// Writes the new nodes behind the last one of their tier, on one line each when
/// that is how the neighbours are written.
fn insert(raw: &RawTopology, nodes: &CstObject, added: &[Addition]) {
    let Some(first) = added.first() else { return };
    let neighbour = raw.nodes.values().rposition(|node| node.tier == first.tier);
    let mut index = neighbour.map_or(raw.nodes.len(), |at| at + 1);
    let sample = nodes.properties().first().map(ToString::to_string).unwrap_or_default();
    let one_line = !sample.contains('\n');
    for node in added {
        let (tier, address) = (node.tier.name(), node.address.to_string());
        if one_line {
            // A string literal carries its raw text, which may be any JSON.
            let property = nodes.insert(index, &node.name, CstInputValue::String(String::new()));
            let literal = property.value().and_then(|value| value.as_string_lit());
            if let Some(literal) = literal {
                literal.set_raw_value(format!("{{ \"tier\": \"{tier}\", \"address\": \"{address}\" }}"));
            }
        } else {
            let text = |value: &str| CstInputValue::String(value.to_owned());
            let members = vec![("tier".to_owned(), text(tier)), ("address".to_owned(), text(&address))];
            nodes.insert(index, &node.name, CstInputValue::Object(members));
        }
        index += 1;
    }
}
