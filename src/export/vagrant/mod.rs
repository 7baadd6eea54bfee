//! Vagrant: Debian boxes on a private network, provisioned by the playbook of [`super::ansible`].

use std::fmt::Write as _;

use anyhow::anyhow;

use super::ansible;
use super::text::{fill, marked, readme};
use super::{Files, Format, README, Refusal, Stack, refuse};
use crate::topology::{Interface, Tier, Topology};

const PAGE: &str = include_str!("README.md");
/// Vagrant's own way in is the first interface, whoever administers the stack.
const VAGRANT_DOOR: &str = "iifname \"eth0\" tcp dport 22 accept\n";

const FILE: &str = include_str!("Vagrantfile");

/// What a box calls the interface of its first private network.
const PRIVATE: &str = "eth1";

/// Vagrant.
#[derive(Debug)]
pub(super) struct Vagrant;

impl Format for Vagrant {
    fn name(&self) -> &'static str {
        "vagrant"
    }

    fn summary(&self) -> &'static str {
        "Vagrantfile for VirtualBox or libvirt, with the Ansible playbook that provisions the machines"
    }

    fn files(&self, stack: &Stack<'_>) -> Result<Files, Refusal> {
        refuse(ansible::obstacles(stack.topology))?;
        let interface: Interface = PRIVATE.parse().map_err(|why| anyhow!("{PRIVATE}: {why}"))?;
        let topology = stack.topology.on_interface(interface);
        let stack = Stack::of(&topology, stack.places.clone())?;
        let mut files = ansible::directory(&stack, "ansible.md")?;
        files.insert(ansible::PLATFORM.into(), marked(VAGRANT_DOOR));
        files.insert("Vagrantfile".into(), marked(&vagrantfile(&topology)));
        files.insert(README.into(), page(&stack));
        Ok(files)
    }
}

fn vagrantfile(topology: &Topology) -> String {
    let tiers = [Tier::Database, Tier::App, Tier::LoadBalancer];
    let mut nodes = String::new();
    let mut groups = String::new();
    for tier in tiers {
        let mut names = Vec::new();
        for node in topology.tier(tier) {
            let _ = writeln!(
                nodes,
                "  [\"{}\", \"{}\", {}],",
                node.name,
                node.address,
                memory(topology, tier)
            );
            names.push(format!("\"{}\"", node.name));
        }
        let group = tier.name().replace('-', "_");
        let _ = writeln!(groups, "  \"{group}\" => [{}],", names.join(", "));
    }
    let netmask = topology.network().subnet.netmask().to_string();
    fill(
        FILE,
        &[
            ("NODES", nodes.trim_end()),
            ("GROUPS", groups.trim_end()),
            ("NETMASK", &netmask),
            ("INTERFACE", PRIVATE),
        ],
    )
}

/// Megabytes of a machine: Debian, and what the daemons take.
fn memory(topology: &Topology, tier: Tier) -> u64 {
    match tier {
        Tier::Database => {
            let cache = topology
                .database()
                .map(|database| database.cache_size.get());
            768 + 2 * (cache.unwrap_or_default() >> 20)
        }
        _ => 768,
    }
}

fn page(stack: &Stack<'_>) -> String {
    let topology = stack.topology;
    let network = topology.network();
    let text = fill(
        PAGE,
        &[
            ("NAME", topology.name().as_str()),
            ("TOPOLOGY", &stack.places.topology),
            ("SUBNET", &network.subnet.to_string()),
            ("VIRTUAL_IP", &network.virtual_ip.to_string()),
            ("PORT", &topology.load_balancer().port.to_string()),
            ("INTERFACE", PRIVATE),
        ],
    );
    readme("vagrant", &text)
}
