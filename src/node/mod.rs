//! What a node's own services call, in the lab and on NixOS alike.

pub mod database;
pub mod load_balancer;

use std::path::Path;

use anyhow::Context as _;

use crate::config::NodeFacts;

/// Reads what a node knows about itself.
///
/// # Errors
/// If the file is not there or not ours.
pub fn facts(path: &Path) -> anyhow::Result<NodeFacts> {
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("reading {}", path.display()))
}
