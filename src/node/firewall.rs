//! The node's firewall, as rendered, in the kernel: loaded in one step, and so that nobody who
//! comes or goes is cut off on the way.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;

use anyhow::Context as _;
use serde::Deserialize;

use crate::config::{FIREWALL_PASSING, FIREWALL_TABLE};
use crate::exec;

/// How long a door stays open for nodes that the rules do not name any more: longer than a node
/// that leaves takes to end what it has begun.
const AFTER: &str = "10m";
/// How long a door is open for nodes that the rules do not name yet: longer than a database takes
/// to copy the data.
const BEFORE: &str = "1h";

/// Addresses by the name of their set.
pub type Sets = BTreeMap<String, Vec<Ipv4Addr>>;

/// Loads the rules of `file` in place of those that are there. Nodes that had a door before keep
/// it for [`AFTER`].
///
/// # Errors
/// If `nft` is missing or refuses the rules; then those that were there stay.
pub fn load(file: &Path) -> anyhow::Result<()> {
    let rules = std::fs::read_to_string(file);
    let mut batch = rules.with_context(|| format!("reading {}", file.display()))?;
    for (name, addresses) in loaded()? {
        let is_known = batch.contains(&format!("set {FIREWALL_PASSING}{name} {{"));
        if is_known {
            batch.push_str(&admit(&name, &addresses, AFTER));
        }
    }
    nft(&["-f", "-"], Some(&batch)).map(drop)
}

/// Opens the doors of the loaded rules for nodes that are about to join, for [`BEFORE`].
///
/// # Errors
/// If `nft` is missing or refuses.
pub fn open(newcomers: &Sets) -> anyhow::Result<()> {
    // A party that has no door here has no set.
    let known = loaded()?;
    let sets = newcomers
        .iter()
        .filter(|(name, _)| known.contains_key(*name));
    let batch: String = sets.map(|(name, who)| admit(name, who, BEFORE)).collect();
    nft(&["-f", "-"], Some(&batch)).map(drop)
}

fn admit(set: &str, addresses: &[Ipv4Addr], time: &str) -> String {
    let elements: Vec<String> = addresses
        .iter()
        .map(|address| format!("{address} timeout {time}"))
        .collect();
    if elements.is_empty() {
        return String::new();
    }
    let elements = elements.join(", ");
    format!("add element inet {FIREWALL_TABLE} {FIREWALL_PASSING}{set} {{ {elements} }}\n")
}

/// What `nft --json` says, as far as it matters.
#[derive(Deserialize)]
struct Listing {
    nftables: Vec<Object>,
}

#[derive(Deserialize)]
struct Object {
    table: Option<Table>,
    set: Option<Set>,
}

#[derive(Deserialize)]
struct Table {
    name: String,
}

#[derive(Deserialize)]
struct Set {
    name: String,
    #[serde(default)]
    elem: Vec<serde_json::Value>,
}

/// The sets of nodes in the kernel, without those that only pass.
fn loaded() -> anyhow::Result<Sets> {
    let tables: Listing = serde_json::from_str(&nft(&["--json", "list", "tables"], None)?)?;
    let is_ours = |object: &Object| {
        let table = object.table.as_ref();
        table.is_some_and(|table| table.name == FIREWALL_TABLE)
    };
    if !tables.nftables.iter().any(is_ours) {
        return Ok(Sets::new());
    }
    let listing = nft(&["--json", "list", "table", "inet", FIREWALL_TABLE], None)?;
    let listing: Listing = serde_json::from_str(&listing).context("reading what nft lists")?;
    let sets = listing.nftables.into_iter().filter_map(|object| object.set);
    let nodes = sets.filter(|set| !set.name.starts_with(FIREWALL_PASSING));
    Ok(nodes.map(|set| (set.name, addresses(&set.elem))).collect())
}

/// Networks are no nodes.
fn addresses(elements: &[serde_json::Value]) -> Vec<Ipv4Addr> {
    let texts = elements.iter().filter_map(serde_json::Value::as_str);
    texts.filter_map(|text| text.parse().ok()).collect()
}

fn nft(arguments: &[&str], input: Option<&str>) -> anyhow::Result<String> {
    let nft = exec::find("nft").context("nft is missing (Debian package nftables)")?;
    exec::run(Command::new(nft).args(arguments), input)
}
