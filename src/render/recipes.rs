//! The load balancers of other people: haproxy and keepalived as the recipes have them
//! that are copied most, for `faults compare`. Nothing here is deployed.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Files, HAPROXY, KEEPALIVED, Renderer};
use crate::config::{Haproxy, Keepalived, NodeConfig, Role};

/// What a recipe has of its own.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Recipe {
    /// What it is called.
    pub recipe: &'static str,
    /// Where it is from.
    #[serde(skip)]
    pub about: &'static str,
    /// Seconds between two checks of haproxy.
    pub interval: u32,
    /// Failed checks until one counts.
    pub fall: u32,
    /// Good checks until one counts.
    pub rise: u32,
    /// What a check adds to the priority or takes from it; none: a failed check is FAULT.
    pub weight: Option<i32>,
    /// Priority of the first load balancer, and how much less each next one has.
    #[serde(skip)]
    pub priorities: (u8, u8),
}

/// The recipes.
pub const RECIPES: [Recipe; 3] = [
    Recipe {
        recipe: "kubeadm",
        about: "kubeadm's considerations for high availability: a check every 3 s, 10 in a row, weight -2",
        interval: 3,
        fall: 10,
        rise: 2,
        weight: Some(-2),
        priorities: (101, 1),
    },
    Recipe {
        recipe: "blog",
        about: "the usual one: a check every 2 s, 2 in a row, adverts every second",
        interval: 2,
        fall: 2,
        rise: 2,
        weight: None,
        priorities: (101, 1),
    },
    Recipe {
        recipe: "weight-2",
        about: "a check that weighs less than the gap between priorities: acassen/keepalived#2599",
        interval: 2,
        fall: 2,
        rise: 2,
        weight: Some(2),
        priorities: (103, 3),
    },
];

#[derive(Serialize)]
struct KeepalivedOf<'k> {
    #[serde(flatten)]
    ours: &'k Keepalived,
    #[serde(flatten)]
    recipe: Recipe,
    state: &'static str,
    priority: u8,
}

/// haproxy.cfg and keepalived.conf of each load balancer by a recipe: node → path → text.
///
/// # Errors
/// Only when a template and its struct disagree, which is a bug of this program.
pub fn files(recipe: Recipe, nodes: &[NodeConfig]) -> anyhow::Result<BTreeMap<String, Files>> {
    let renderer = Renderer::new()?;
    let balancers: Vec<(&str, &Haproxy, &Keepalived)> = nodes
        .iter()
        .filter_map(|node| match &node.role {
            Role::LoadBalancer {
                haproxy,
                keepalived,
            } => Some((
                node.facts.name.as_str(),
                haproxy.as_ref(),
                keepalived.as_ref(),
            )),
            _ => None,
        })
        .collect();
    let mut all = BTreeMap::new();
    let (mut priority, step) = recipe.priorities;
    for (position, (name, haproxy, keepalived)) in balancers.into_iter().enumerate() {
        let keepalived = KeepalivedOf {
            ours: keepalived,
            recipe,
            state: if position == 0 { "MASTER" } else { "BACKUP" },
            priority,
        };
        priority = priority.saturating_sub(step).max(1);
        let (_, haproxy) = renderer.file("recipes/haproxy.cfg", haproxy)?;
        let (_, keepalived) = renderer.file("recipes/keepalived.conf", &keepalived)?;
        let files = Files::from([(HAPROXY.into(), haproxy), (KEEPALIVED.into(), keepalived)]);
        all.insert(name.to_owned(), files);
    }
    Ok(all)
}
