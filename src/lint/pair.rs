//! Traps that only show when the files of several load balancers are compared.

use super::keepalived::{place, router_id_clash, weight_place, weights};
use super::{Bases, Code, Cost, Finding, Findings, Spot};
use crate::native::keepalived::{Block, Config, Instance, State};

/// An instance, and the node whose configuration it is in.
#[derive(Clone, Copy)]
struct Node<'c> {
    number: usize,
    bases: &'c Bases,
    config: &'c Config,
    instance: &'c Instance,
}

impl Node<'_> {
    fn spot(&self, word: &str) -> Spot {
        self.bases.spot(place(self.instance, word))
    }

    fn has(&self, address: &str) -> bool {
        self.instance.moving().any(|own| own.address == address)
    }
}

/// Compares the configurations of each two nodes.
pub(super) fn all(configs: &[Config], findings: &mut Findings<'_>) {
    let bases = findings.bases;
    let nodes: Vec<Node<'_>> = configs
        .iter()
        .enumerate()
        .flat_map(|(number, config)| {
            config.instances.iter().map(move |instance| Node {
                number,
                bases,
                config,
                instance,
            })
        })
        .collect();
    for (at, one) in nodes.iter().enumerate() {
        for other in nodes[at + 1..]
            .iter()
            .filter(|other| other.number != one.number)
        {
            two(*one, *other, &mut findings.found);
        }
    }
}

fn two(one: Node<'_>, other: Node<'_>, found: &mut Vec<Finding>) {
    let (a, b) = (one.instance, other.instance);
    let shared = a
        .moving()
        .find(|address| !address.address.contains('$') && other.has(&address.address));
    let same_id = a.virtual_router_id.is_some() && a.virtual_router_id == b.virtual_router_id;
    match shared {
        Some(_) if same_id => group(one, other, found),
        Some(address) if a.virtual_router_id.is_some() && b.virtual_router_id.is_some() => {
            let message = format!(
                "{} is in two groups: virtual_router_id {} here and {} there",
                address.address,
                id(a),
                id(b)
            );
            let at = other.spot("virtual_router_id");
            let finding = Finding::new(
                Code::RouterIdDiffers,
                at,
                message,
                "give both nodes the same number",
            )
            .related(one.spot("virtual_router_id"), "the other one")
            .costs(Cost::endless("both nodes have the virtual IP"));
            found.push(finding);
        }
        None if same_id
            && a.interface == b.interface
            && !a.interface.contains('$')
            && a.is_ipv6() == b.is_ipv6()
            && !a.addresses.is_empty()
            && !b.addresses.is_empty() =>
        {
            let finding = router_id_clash(other.spot("virtual_router_id"), a, b);
            found.push(finding.related(one.spot("virtual_router_id"), "also here"));
        }
        _ => {}
    }
}

fn id(instance: &Instance) -> String {
    instance
        .virtual_router_id
        .map_or("none".into(), |id| id.to_string())
}

/// Two nodes of one group.
fn group(one: Node<'_>, other: Node<'_>, found: &mut Vec<Finding>) {
    let (a, b) = (one.instance, other.instance);
    let known = [a, b].iter().all(|instance| instance.knows("priority"));
    if known && a.priority == b.priority {
        found.push(
            Finding::new(
                Code::EqualPriorities,
                other.spot("priority"),
                format!("both nodes have priority {}", a.priority),
                "give each its own, high and apart: 254, 244, 234",
            )
            .related(one.spot("priority"), "the other one"),
        );
    }
    if a.state == State::Master && b.state == State::Master {
        found.push(
            Finding::new(
                Code::TwoMasters,
                other.spot("state"),
                "both nodes begin as MASTER",
                "`state BACKUP` on every node; priorities decide",
            )
            .related(one.spot("state"), "the other one"),
        );
    }
    let mut missing = a.moving().filter(|address| !other.has(&address.address));
    let mut surplus = b.moving().filter(|address| !one.has(&address.address));
    let different = missing.next().or_else(|| surplus.next());
    if let Some(address) = different.filter(|address| !address.address.contains('$')) {
        found.push(
            Finding::new(
                Code::AddressesDiffer,
                other.spot("virtual_ipaddress"),
                format!("only one of the two nodes lists {}", address.address),
                "give all nodes of a group the same list",
            )
            .related(one.spot("virtual_ipaddress"), "the other list")
            .costs(Cost::endless(format!("{} after a move", address.address))),
        );
    }
    disagreement(one, other, found);
    unheard(one, other, found);
    unheard(other, one, found);
    if !known {
        return;
    }
    if a.priority > b.priority {
        stuck(one, other, found);
    } else if b.priority > a.priority {
        stuck(other, one, found);
    }
}

fn disagreement(one: Node<'_>, other: Node<'_>, found: &mut Vec<Finding>) {
    let (a, b) = (one.instance, other.instance);
    let (word, what) = if a.version != b.version {
        (
            "version",
            format!("versions {} and {}", a.version, b.version),
        )
    } else if a.version == 2 && (a.advert_interval() - b.advert_interval()).abs() > 1e-6 {
        let (a, b) = (a.advert_interval(), b.advert_interval());
        ("advert_int", format!("advert intervals of {a} s and {b} s"))
    } else {
        return;
    };
    found.push(
        Finding::new(
            Code::InstancesDisagree,
            other.spot(word),
            format!("nodes of one group have {what}, and drop each other's adverts"),
            "give all nodes of a group the same values",
        )
        .related(one.spot(word), "the other one")
        .costs(Cost::endless("both nodes have the virtual IP")),
    );
}

/// Whether `to` is not told by `from`.
fn unheard(from: Node<'_>, to: Node<'_>, found: &mut Vec<Finding>) {
    let (a, b) = (from.instance, to.instance);
    let silent = if a.unicast_peers.is_empty() {
        // Multicast: a node that speaks unicast does not listen to it.
        (!b.unicast_peers.is_empty())
            .then(|| "sends multicast, and the other node listens to unicast".to_owned())
    } else {
        let address = b.unicast_src_ip.as_deref();
        let address =
            address.filter(|address| a.unicast_peers.iter().all(|peer| peer.address != *address));
        address.map(|address| {
            format!("does not send its adverts to {address}, the other node of its group")
        })
    };
    if let Some(what) = silent {
        found.push(
            Finding::new(
                Code::PeerMissing,
                from.spot("unicast_peer"),
                format!("this node {what}"),
                "name every other node of the group in `unicast_peer`, on all of them",
            )
            .related(to.spot("unicast_src_ip"), "the other node")
            .costs(Cost::endless("both nodes have the virtual IP")),
        );
    }
}

/// Tracks of `high` that leave it above `low` when they fail.
fn stuck(high: Node<'_>, low: Node<'_>, found: &mut Vec<Finding>) {
    // FAULT comes on top of weights, and backups with `nopreempt` have a finding of their own.
    if !low.instance.preempts() {
        return;
    }
    let best = (i32::from(low.instance.priority) + bonus_of_backup(low)).clamp(1, 254);
    for (track, weight) in weights(high.config, high.instance) {
        let before = i32::from(high.instance.priority) + bonus(high);
        let failed = (before - weight.abs()).clamp(1, 254);
        if weight == 0 || failed < best {
            continue;
        }
        found.push(
            Finding::new(
                Code::WeightBelowGap,
                high.bases.spot(weight_place(high.config, track)),
                format!(
                    "when `{}` fails this node still has priority {failed}, the other one {best}: the virtual IP stays",
                    track.name
                ),
                "leave the weight out, so that a failed check is FAULT",
            )
            .related(high.spot("priority"), "this priority")
            .related(low.spot("priority"), "and the other one")
            .costs(Cost::endless(format!("{before} - {} = {failed}, not below {best}", weight.abs()))),
        );
    }
}

/// What passed checks add to the priority of a node.
fn bonus(node: Node<'_>) -> i32 {
    let weights = weights(node.config, node.instance);
    weights.iter().map(|(_, weight)| (*weight).max(0)).sum()
}

/// The same while it is a backup: none, where it stops haproxy when it becomes one.
fn bonus_of_backup(node: Node<'_>) -> i32 {
    let group = node.config.sync_group(node.instance);
    let blocks = [Some(&node.instance.block), group.map(|group| &group.block)];
    if blocks.into_iter().flatten().any(stops_haproxy) {
        0
    } else {
        bonus(node)
    }
}

/// Whether a script that runs when the node becomes a backup ends haproxy.
fn stops_haproxy(block: &Block) -> bool {
    block.children.iter().any(|child| {
        let command = child.head.words[1..].join(" ").to_lowercase();
        child.head.word(0) == "notify_backup"
            && command.contains("haproxy")
            && ["stop", "kill"].iter().any(|word| command.contains(word))
    })
}
