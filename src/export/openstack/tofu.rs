//! `OpenTofu`: what the Heat template makes, in the words of the provider for OpenStack. As JSON, which
//! `OpenTofu` reads beside its own language, so that a serializer writes it.

use serde_json::{Map, Value, json};

use super::security::{self, Source};
use super::{gateway, under};
use crate::export::text::{MARK, fill, readme};
use crate::export::{Files, Format, README, Refusal, Stack};
use crate::flows::{self, Flow, Party, Protocol};
use crate::topology::{Node, Tier, Topology};

const PAGE: &str = include_str!("README-opentofu.md");

/// `OpenTofu`.
#[derive(Debug)]
pub(in crate::export) struct OpenTofu;

impl Format for OpenTofu {
    fn name(&self) -> &'static str {
        "opentofu"
    }

    fn summary(&self) -> &'static str {
        "OpenTofu (or Terraform) for OpenStack: the machines, network and groups of the format openstack"
    }

    fn files(&self, stack: &Stack<'_>) -> Result<Files, Refusal> {
        let text = serde_json::to_string_pretty(&configuration(stack.topology))
            .map_err(anyhow::Error::from)?;
        Ok(Files::from([
            ("main.tf.json".into(), text + "\n"),
            (README.into(), page(stack)),
        ]))
    }
}

/// Resources by type and name.
#[derive(Default)]
struct Resources(Map<String, Value>);

impl Resources {
    fn add(&mut self, kind: &str, name: &str, arguments: Value) {
        let all = self.0.entry(format!("openstack_{kind}"));
        all.or_insert_with(|| json!({}))[name] = arguments;
    }
}

/// The identifier of another resource.
fn id(kind: &str, name: &str) -> String {
    format!("${{openstack_{kind}.{name}.id}}")
}

fn variable(name: &str) -> String {
    format!("${{var.{name}}}")
}

fn configuration(topology: &Topology) -> Value {
    let mut resources = Resources::default();
    network(topology, &mut resources);
    for tier in topology.tiers() {
        group(topology, tier, &mut resources);
    }
    for node in topology.nodes() {
        machine(topology, node, &mut resources);
    }
    let outside = json!({ "name": variable("external_network") });
    json!({
        // The only remark that JSON has there.
        "//": MARK,
        "terraform": { "required_providers": { "openstack": {
            "source": "terraform-provider-openstack/openstack",
            "version": "~> 3.0",
        } } },
        // The template's parameters, which are written the same way.
        "variable": super::parameters(topology),
        "data": { "openstack_networking_network_v2": { "external": outside } },
        "resource": resources.0,
        "output": outputs(topology),
    })
}

fn network(topology: &Topology, resources: &mut Resources) {
    let network = topology.network();
    let name = topology.name().as_str();
    let inside = id("networking_network_v2", "stack");
    resources.add("networking_network_v2", "stack", json!({ "name": name }));
    let subnet = json!({
        "name": name,
        "network_id": inside,
        "cidr": network.subnet.to_string(),
        "ip_version": 4,
        "gateway_ip": gateway(topology),
    });
    resources.add("networking_subnet_v2", "stack", subnet);
    let router = json!({
        "name": name,
        "external_network_id": "${data.openstack_networking_network_v2.external.id}",
    });
    resources.add("networking_router_v2", "stack", router);
    let interface = json!({
        "router_id": id("networking_router_v2", "stack"),
        "subnet_id": id("networking_subnet_v2", "stack"),
    });
    resources.add("networking_router_interface_v2", "stack", interface);
    // No machine has this port: it keeps the address from being given away, and the floating IP leads to it.
    let virtual_ip = port(Tier::LoadBalancer, network.virtual_ip);
    resources.add("networking_port_v2", "virtual_ip", virtual_ip);
    let floating = json!({
        "pool": variable("external_network"),
        "port_id": id("networking_port_v2", "virtual_ip"),
        // The router has to lead to the network before a floating IP can.
        "depends_on": ["openstack_networking_router_interface_v2.stack"],
    });
    resources.add("networking_floatingip_v2", "page", floating);
}

fn port(tier: Tier, address: std::net::Ipv4Addr) -> Value {
    json!({
        "network_id": id("networking_network_v2", "stack"),
        "fixed_ip": [{
            "subnet_id": id("networking_subnet_v2", "stack"),
            "ip_address": address.to_string(),
        }],
        "security_group_ids": [id("networking_secgroup_v2", &under(tier.name()))],
    })
}

/// A tier's security group with its rules, and its machines' wish to be apart.
fn group(topology: &Topology, tier: Tier, resources: &mut Resources) {
    let name = under(tier.name());
    let full = format!("{}-{}", topology.name(), tier.name());
    let group = json!({ "name": full });
    resources.add("networking_secgroup_v2", &name, group);
    let apart = json!({ "name": full, "policies": ["soft-anti-affinity"] });
    resources.add("compute_servergroup_v2", &name, apart);
    for flow in flows::flows(topology) {
        if flow.to.tier() == tier {
            for (from, source) in sources(topology, &flow) {
                let rule = rule(&name, &flow, source);
                let name = format!("{name}_{}_from_{from}", port_name(&flow));
                resources.add("networking_secgroup_rule_v2", &name, rule);
            }
        }
    }
}

/// A flow's port and protocol, as part of a name.
fn port_name(flow: &Flow) -> String {
    match flow.protocol {
        Protocol::Tcp => flow.port.unwrap_or_default().to_string(),
        Protocol::Udp => format!("udp_{}", flow.port.unwrap_or_default()),
        Protocol::Vrrp => "vrrp".into(),
    }
}

/// Where a flow comes from, with a name for it. Names say where, so that a rule stays when others come and go; a
/// whole tier is its group, which rules may name each other's here: one more node changes no rule.
fn sources(topology: &Topology, flow: &Flow) -> Vec<(String, Value)> {
    let mut tiers = Tier::ALL.into_iter();
    if let Some(tier) = tiers.find(|tier| Party::of(*tier) == flow.from) {
        let group = under(tier.name());
        let from = json!({ "remote_group_id": id("networking_secgroup_v2", &group) });
        return vec![(group, from)];
    }
    let prefixes = security::sources(topology, flow).into_iter();
    let prefixes = prefixes.filter_map(|source| match source {
        Source::Own => None,
        Source::Administrators => Some(("administrators".into(), variable("admin_network"))),
        Source::Prefix(prefix) => {
            let name = prefix.replace(|c: char| !c.is_ascii_alphanumeric(), "_");
            Some((name, prefix))
        }
    });
    prefixes
        .map(|(name, prefix)| (name, json!({ "remote_ip_prefix": prefix })))
        .collect()
}

fn rule(group: &str, flow: &Flow, mut rule: Value) -> Value {
    rule["security_group_id"] = json!(id("networking_secgroup_v2", group));
    rule["description"] = json!(flow.why);
    rule["direction"] = json!("ingress");
    rule["ethertype"] = json!("IPv4");
    rule["protocol"] = json!(security::protocol(flow));
    if let Some(port) = flow.port {
        rule["port_range_min"] = json!(port);
        rule["port_range_max"] = json!(port);
    }
    rule
}

fn machine(topology: &Topology, node: &Node, resources: &mut Resources) {
    let name = under(node.name.as_str());
    let tier = under(node.tier.name());
    let mut port = port(node.tier, node.address);
    port["name"] = json!(node.name.as_str());
    if node.tier == Tier::LoadBalancer {
        let virtual_ip = topology.network().virtual_ip.to_string();
        port["allowed_address_pairs"] = json!([{ "ip_address": virtual_ip }]);
    }
    // `virtual_ip` is a name that no node has: theirs have a letter of their own before.
    let own = format!("node_{name}");
    resources.add("networking_port_v2", &own, port);
    let server = json!({
        "name": node.name.as_str(),
        "image_name": format!("{}-{}", topology.name(), node.name),
        "flavor_name": variable(&format!("flavor_{tier}")),
        "key_pair": variable("key_name"),
        "network": [{ "port": id("networking_port_v2", &own) }],
        "scheduler_hints": [{ "group": id("compute_servergroup_v2", &tier) }],
        // The machine's own changes are brought by `gen-topology deploy`.
        "lifecycle": { "ignore_changes": ["image_id", "image_name"] },
    });
    resources.add("compute_instance_v2", &own, server);
    if node.tier == Tier::Database {
        let volume = json!({
            "name": format!("{}-{}", topology.name(), node.name),
            "size": variable("database_volume_size"),
        });
        resources.add("blockstorage_volume_v3", &own, volume);
        let attachment = json!({
            "instance_id": id("compute_instance_v2", &own),
            "volume_id": id("blockstorage_volume_v3", &own),
        });
        resources.add("compute_volume_attach_v2", &own, attachment);
    }
}

fn outputs(topology: &Topology) -> Value {
    let (scheme, port) = super::entrance(topology);
    let address = "${openstack_networking_floatingip_v2.page.address}";
    json!({
        "page": {
            "description": "Where visitors go",
            "value": format!("{scheme}://{address}:{port}/"),
        },
        "virtual_ip": {
            "description": "The virtual IP inside of the network",
            "value": topology.network().virtual_ip.to_string(),
        },
    })
}

fn page(stack: &Stack<'_>) -> String {
    let words = super::words(stack);
    let words: Vec<(&str, &str)> = words
        .iter()
        .map(|(name, text)| (*name, text.as_str()))
        .collect();
    readme(OpenTofu.name(), &fill(PAGE, &words))
}
