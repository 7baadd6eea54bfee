//! Which address a new node gets. Each tier has a block of the subnet, so that an
//! address tells what it belongs to; a full block spills into the rest of the
//! subnet. Nothing is remembered: the file says what is taken.

use std::collections::HashSet;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::Tier;
use super::raw::RawTopology;

/// Number of addresses of `subnet` that a node can have.
pub(super) fn usable(subnet: Ipv4Net) -> u64 {
    let all = 1_u64 << (32 - subnet.prefix_len());
    all.saturating_sub(2)
}

/// The block of `tier`, as offsets into the subnet: load balancers have the
/// second sixteenth, databases the second eighth, app servers the last three
/// quarters. In 10.20.0.0/24 that is .16, .32 and .64; the first sixteenth is
/// left for the virtual IP and what else lives in the network.
pub fn block(subnet: Ipv4Net, tier: Tier) -> std::ops::Range<u32> {
    let size = u32::MAX >> subnet.prefix_len();
    let sixteenth = (size / 16 + 1).max(1);
    match tier {
        Tier::LoadBalancer => sixteenth..2 * sixteenth,
        Tier::Database => 2 * sixteenth..4 * sixteenth,
        Tier::App => 4 * sixteenth..size,
    }
}

/// The next free address for a node of `tier`, given that `taken` are promised already.
pub(super) fn next(raw: &RawTopology, tier: Tier, taken: &[Ipv4Addr]) -> Option<Ipv4Addr> {
    Allocator::new(raw, taken).next(tier)
}

/// Hands out addresses, each once.
pub(super) struct Allocator {
    subnet: Ipv4Net,
    used: HashSet<Ipv4Addr>,
}

impl Allocator {
    /// Everything that `raw` uses, and `taken`, is not handed out.
    pub(super) fn new(raw: &RawTopology, taken: &[Ipv4Addr]) -> Self {
        let mut used: HashSet<Ipv4Addr> = raw.nodes.values().map(|node| node.address).collect();
        used.insert(raw.network.virtual_ip);
        used.extend(taken);
        Self {
            subnet: raw.network.subnet,
            used,
        }
    }

    /// The next free address of the tier's block, else of the whole subnet.
    pub(super) fn next(&mut self, tier: Tier) -> Option<Ipv4Addr> {
        let base = self.subnet.network().to_bits();
        let last = u32::MAX >> self.subnet.prefix_len();
        let free = block(self.subnet, tier)
            .chain(1..last)
            .map(|offset| Ipv4Addr::from_bits(base + offset))
            .find(|address| !self.used.contains(address) && *address < self.subnet.broadcast())?;
        self.used.insert(free);
        Some(free)
    }
}
