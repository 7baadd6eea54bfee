//! Keepalived on a load balancer: who has the virtual IP.

use std::net::Ipv4Addr;

use serde::Serialize;

use super::{HAPROXY_STATE, PROGRAM};
use crate::topology::{Node, Tier, Topology};

/// Keepalived's configuration.
#[derive(Clone, Debug, Serialize)]
pub struct Keepalived {
    /// Name of this node.
    pub router_id: String,
    /// Interface on which the virtual IP lives.
    pub interface: String,
    /// VRRP virtual router id.
    pub virtual_router_id: u8,
    /// Priority of this node, 1 to 254; the first load balancer has the highest.
    pub priority: u8,
    /// Time between two adverts, in seconds.
    pub advert_interval: f64,
    /// Whether a node of higher priority takes the virtual IP from one of lower.
    pub preempt: bool,
    /// This node's own address.
    pub address: Ipv4Addr,
    /// The other load balancers.
    pub peers: Vec<Ipv4Addr>,
    /// Address that moves.
    pub virtual_ip: Ipv4Addr,
    /// File that tells whether haproxy is there.
    pub haproxy_state: &'static str,
    /// Program that asks haproxy whether it is well.
    pub program: &'static str,
}

impl Keepalived {
    pub(super) fn of(topology: &Topology, node: &Node) -> Self {
        let network = topology.network();
        let group: Vec<&Node> = topology.tier(Tier::LoadBalancer).collect();
        let position = group.iter().position(|other| other.name == node.name);
        Self {
            router_id: node.name.to_string(),
            interface: network.interface.to_string(),
            virtual_router_id: network.virtual_router_id,
            priority: priority(position.unwrap_or_default(), group.len()),
            advert_interval: topology.load_balancer().advert_interval.seconds(),
            preempt: topology.load_balancer().preempt,
            address: node.address,
            peers: group
                .iter()
                .map(|other| other.address)
                .filter(|a| *a != node.address)
                .collect(),
            virtual_ip: network.virtual_ip,
            haproxy_state: HAPROXY_STATE,
            program: PROGRAM,
        }
    }
}

/// VRRP priority of the load balancer at `position` of `count`: 254, 244, 234 …, closer together
/// where there are more than 26. High, because a backup waits (256 - priority) / 256 of an
/// advert longer than three adverts (RFC 9568); apart, so that the next one in
/// line hears the new master before its own patience ends.
fn priority(position: usize, count: usize) -> u8 {
    let gaps = count.saturating_sub(1).max(1);
    let step = (253 / gaps).clamp(1, 10);
    u8::try_from(254_usize.saturating_sub(position * step))
        .unwrap_or(1)
        .max(1)
}

#[cfg(test)]
mod tests {
    use super::priority;

    #[test]
    fn priorities_are_high_and_apart() {
        let two: Vec<u8> = (0..2).map(|at| priority(at, 2)).collect();
        assert_eq!(two, [254, 244]);
        for count in 1..=254 {
            let all: Vec<u8> = (0..count).map(|at| priority(at, count)).collect();
            assert!(
                all.windows(2).all(|pair| pair[0] > pair[1]),
                "{count}: {all:?}"
            );
            assert!(all.iter().all(|priority| (1..=254).contains(priority)));
        }
    }
}
