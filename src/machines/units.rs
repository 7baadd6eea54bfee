//! The services of a node, by their names in systemd.

use crate::topology::Tier;

/// The services of a tier, in the order in which they are stopped.
pub fn units(tier: Tier) -> &'static [&'static str] {
    match tier {
        Tier::LoadBalancer => &["keepalived", "haproxy"],
        Tier::App => &["supervisord", "nginx"],
        Tier::Database => &["reconcile-database", "mongod"],
    }
}
