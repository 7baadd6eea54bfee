//! The firewall of a node: its tier's doors, from the [`crate::flows`] of the stack. It is the
//! same on each node of a tier, and as many rules however many nodes there are.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use serde::Serialize;

use crate::flows::{self, Flow, Party, Protocol, Target};
use crate::topology::{Tier, Topology};

/// Which packets reach a node.
#[derive(Clone, Debug, Serialize)]
pub struct Firewall {
    /// Address that visitors use.
    pub virtual_ip: Ipv4Addr,
    /// Addresses that doors are open for, by name.
    pub sets: Vec<AddressSet>,
    /// Networks of the administration.
    pub administration: Vec<String>,
    /// Ports that the administration may ask.
    pub administered: Vec<u16>,
    /// What is let in.
    pub doors: Vec<Door>,
    /// Whether connection tracking follows TCP: only where open connections are handed over.
    pub tracks_tcp: bool,
}

/// The nodes of a party.
#[derive(Clone, Debug, Serialize)]
pub struct AddressSet {
    /// Name of the party.
    pub name: &'static str,
    /// Addresses of its nodes.
    pub addresses: BTreeSet<Ipv4Addr>,
}

/// Packets that are let in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Door {
    /// Name of the set that they have to come from; none: any address.
    pub from: Option<&'static str>,
    /// Whether they go to the virtual IP instead of the node's own address.
    pub to_virtual_ip: bool,
    /// Whether it is the last one to the virtual IP: everything else there is dropped.
    pub closes_virtual_ip: bool,
    /// `tcp`, `udp` or `vrrp`.
    pub protocol: &'static str,
    /// Port; none: VRRP.
    pub port: Option<u16>,
    /// What they are for.
    pub why: &'static str,
}

impl Firewall {
    /// The firewall of the nodes of `tier`.
    pub(super) fn of(topology: &Topology, tier: Tier) -> Self {
        let needed = flows::flows(topology);
        let needed: Vec<&Flow> = needed
            .iter()
            .filter(|flow| flow.to.tier() == tier)
            .collect();
        let nodes = |flow: &&&Flow| Party::NODES.contains(&flow.from);
        let parties: BTreeSet<Party> = needed.iter().filter(nodes).map(|flow| flow.from).collect();
        let sets = parties.into_iter().map(|party| AddressSet {
            name: party.name(),
            addresses: party.addresses(topology).into_iter().collect(),
        });
        let administered = flows::administered(topology).into_iter();
        let administered = administered.filter_map(|(of, port)| (of == tier).then_some(port));
        let mut doors: Vec<Door> = needed.into_iter().filter_map(door).collect();
        if let Some(last) = doors.iter_mut().rfind(|door| door.to_virtual_ip) {
            last.closes_virtual_ip = true;
        }
        let administration = &topology.network().administration;
        Self {
            virtual_ip: topology.network().virtual_ip,
            sets: sets.collect(),
            administration: administration.iter().map(ToString::to_string).collect(),
            administered: std::iter::once(flows::SSH).chain(administered).collect(),
            doors,
            tracks_tcp: tier == Tier::LoadBalancer,
        }
    }
}

/// What lets a flow in. The administration's flows have a chain of their own.
fn door(flow: &Flow) -> Option<Door> {
    let from = match flow.from {
        Party::Administration => return None,
        Party::Anywhere => None,
        party => Some(party.name()),
    };
    Some(Door {
        from,
        to_virtual_ip: flow.to == Target::VirtualIp,
        closes_virtual_ip: false,
        protocol: match flow.protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Vrrp => "vrrp",
        },
        port: flow.port,
        why: flow.why,
    })
}
