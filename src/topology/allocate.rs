//! Which address a new node gets. Each tier has a block of the subnet, so that an
//! address tells what it belongs to; a full block spills into the rest of the
//! subnet. Nothing is remembered: the file says what is taken.

use std::collections::{HashMap, HashSet};
use std::net::Ipv4Addr;
use std::ops::Range;

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
pub fn block(subnet: Ipv4Net, tier: Tier) -> Range<u32> {
    let size = subnet.hostmask().to_bits();
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
    /// Offset below which everything is taken, for each tier and for the whole subnet.
    passed: HashMap<Option<Tier>, u32>,
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
            passed: HashMap::new(),
        }
    }

    /// The next free address of the tier's block, else of the whole subnet.
    pub(super) fn next(&mut self, tier: Tier) -> Option<Ipv4Addr> {
        let last = self.subnet.hostmask().to_bits();
        self.first_free(Some(tier), block(self.subnet, tier))
            .or_else(|| self.first_free(None, 1..last))
    }

    fn first_free(&mut self, search: Option<Tier>, offsets: Range<u32>) -> Option<Ipv4Addr> {
        let base = self.subnet.network().to_bits();
        let last = self.subnet.hostmask().to_bits();
        let from = self
            .passed
            .get(&search)
            .map_or(offsets.start, |passed| offsets.start.max(*passed));
        let offset = (from..offsets.end.min(last))
            .find(|offset| !self.used.contains(&Ipv4Addr::from_bits(base + offset)));
        // Addresses are never given back, so the next search need not begin anew.
        self.passed
            .insert(search, offset.map_or(u32::MAX, |offset| offset + 1));
        let free = Ipv4Addr::from_bits(base + offset?);
        self.used.insert(free);
        Some(free)
    }
}
