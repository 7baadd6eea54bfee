//! The services of a node, by their names in systemd.

use crate::config::NodeFacts;
use crate::topology::Tier;

/// The services of a node, in the order in which they are stopped. An app server of a sharded stack
/// has a router as well.
pub fn units(facts: &NodeFacts) -> &'static [&'static str] {
    match facts.tier {
        Tier::LoadBalancer => &["keepalived", "haproxy"],
        Tier::App if facts.is_router() => &["supervisord", "nginx", "mongos"],
        Tier::App => &["supervisord", "nginx"],
        Tier::Database => &["reconcile-database", "mongod"],
    }
}

/// The services of a tier that have something to log. The journal says nothing of those that a node
/// does not have.
pub fn that_log(tier: Tier) -> &'static [&'static str] {
    match tier {
        Tier::LoadBalancer => &["keepalived", "haproxy", "renew-certificates"],
        Tier::App => &["supervisord", "nginx", "mongos", "watch-database"],
        Tier::Database => &[
            "reconcile-database",
            "mongod",
            "watch-database",
            "backup-database",
        ],
    }
}
