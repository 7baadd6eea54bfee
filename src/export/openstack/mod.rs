//! OpenStack: a Heat template. Machines boot the stack's own NixOS images.

mod security;
mod tofu;

pub(super) use tofu::OpenTofu;

use serde_json::{Map, Value, json};

use super::text::{fill, marked, readme, remark, yaml};
use super::{Files, Format, README, Refusal, Stack};
use crate::topology::{Node, Tier, Topology};

const PAGE: &str = include_str!("README.md");

/// OpenStack.
#[derive(Debug)]
pub(super) struct Openstack;

impl Format for Openstack {
    fn name(&self) -> &'static str {
        "openstack"
    }

    fn summary(&self) -> &'static str {
        "OpenStack Heat template for machines that boot the stack's NixOS images"
    }

    fn files(&self, stack: &Stack<'_>) -> Result<Files, Refusal> {
        let why = "Names of images are those that README.md gives them. A machine's changes are no change of\n\
                   this template: `gen-topology deploy` brings them.";
        let text = format!("{}{}", remark(why), yaml(&template(stack.topology))?);
        Ok(Files::from([
            ("stack.yaml".into(), marked(&text)),
            (README.into(), page(stack)),
        ]))
    }
}

fn template(topology: &Topology) -> Value {
    let mut resources = Map::new();
    network(topology, &mut resources);
    for tier in topology.tiers() {
        resources.insert(security::group_name(tier), security::group(topology, tier));
        let policies = json!({ "policies": ["soft-anti-affinity"] });
        resources.insert(
            server_group(tier),
            resource("OS::Nova::ServerGroup", policies),
        );
    }
    for node in topology.nodes() {
        machine(topology, node, &mut resources);
    }
    json!({
        "heat_template_version": "2018-08-31",
        "description": format!("The stack {}", topology.name()),
        "parameters": parameters(topology),
        "resources": resources,
        "outputs": outputs(topology),
    })
}

fn parameters(topology: &Topology) -> Value {
    let text = |description: &str, default: Option<&str>| {
        let mut parameter = json!({ "type": "string", "description": description });
        if let Some(default) = default {
            parameter["default"] = json!(default);
        }
        parameter
    };
    let mut parameters = json!({
        "external_network": text("Network that floating IPs come from", None),
        "key_name": text("Key pair of those who administer the machines", None),
        "admin_network": text("Network that may use SSH", Some("0.0.0.0/0")),
        "flavor_load_balancer": text("Flavor of load balancers", Some("m1.small")),
        "flavor_app": text("Flavor of app servers", Some("m1.small")),
        "flavor_database": text("Flavor of databases", Some("m1.medium")),
        "database_volume_size": {
            "type": "number",
            "description": "Size of each database's volume in GB",
            "default": 20,
        },
    });
    if let Some(all) = parameters.as_object_mut() {
        // The topology tells who administers.
        if !topology.network().administration.is_empty() {
            all.remove("admin_network");
        }
        if topology.database().is_none() {
            all.remove("flavor_database");
            all.remove("database_volume_size");
        }
    }
    parameters
}

#[expect(clippy::needless_pass_by_value, reason = "each is made for the call")]
fn resource(kind: &str, properties: Value) -> Value {
    json!({ "type": kind, "properties": properties })
}

fn reference(name: &str) -> Value {
    json!({ "get_resource": name })
}

/// The first address, which the topology's check keeps free for it.
fn gateway(topology: &Topology) -> String {
    let first = topology.network().subnet.network().to_bits() + 1;
    std::net::Ipv4Addr::from_bits(first).to_string()
}

fn network(topology: &Topology, resources: &mut Map<String, Value>) {
    let network = topology.network();
    let name = topology.name().as_str();
    let mut add = |name: &str, kind: &str, properties| {
        resources.insert(name.to_owned(), resource(kind, properties));
    };
    add("network", "OS::Neutron::Net", json!({ "name": name }));
    let subnet = json!({
        "name": name,
        "network": reference("network"),
        "cidr": network.subnet.to_string(),
        "ip_version": 4,
        "gateway_ip": gateway(topology),
    });
    add("subnet", "OS::Neutron::Subnet", subnet);
    let outside =
        json!({ "external_gateway_info": { "network": { "get_param": "external_network" } } });
    add("router", "OS::Neutron::Router", outside);
    let inside = json!({ "router": reference("router"), "subnet": reference("subnet") });
    add("router_interface", "OS::Neutron::RouterInterface", inside);
    // No machine has this port: it keeps the address from being given away, and the floating IP leads to it.
    let port = json!({
        "network": reference("network"),
        "fixed_ips": [{ "subnet": reference("subnet"), "ip_address": network.virtual_ip.to_string() }],
        "security_groups": [reference(&security::group_name(Tier::LoadBalancer))],
    });
    add("virtual_ip", "OS::Neutron::Port", port);
    let floating = json!({
        "floating_network": { "get_param": "external_network" },
        "port_id": reference("virtual_ip"),
    });
    add("floating_ip", "OS::Neutron::FloatingIP", floating);
    // The router has to lead to the network before a floating IP can.
    if let Some(floating) = resources.get_mut("floating_ip") {
        floating["depends_on"] = json!("router_interface");
    }
}

fn server_group(tier: Tier) -> String {
    format!("{}_apart", under(tier.name()))
}

/// Names of nodes have hyphens.
fn under(name: &str) -> String {
    name.replace('-', "_")
}

fn machine(topology: &Topology, node: &Node, resources: &mut Map<String, Value>) {
    let name = under(node.name.as_str());
    let mut port = json!({
        "network": reference("network"),
        "fixed_ips": [{ "subnet": reference("subnet"), "ip_address": node.address.to_string() }],
        "security_groups": [reference(&security::group_name(node.tier))],
    });
    if node.tier == Tier::LoadBalancer {
        let virtual_ip = topology.network().virtual_ip.to_string();
        port["allowed_address_pairs"] = json!([{ "ip_address": virtual_ip }]);
    }
    resources.insert(format!("{name}_port"), resource("OS::Neutron::Port", port));
    let server = json!({
        "name": node.name.as_str(),
        "image": format!("{}-{}", topology.name(), node.name),
        "flavor": { "get_param": format!("flavor_{}", under(node.tier.name())) },
        "key_name": { "get_param": "key_name" },
        "networks": [{ "port": reference(&format!("{name}_port")) }],
        "scheduler_hints": { "group": reference(&server_group(node.tier)) },
        // The machine's own changes are brought by `gen-topology deploy`.
        "image_update_policy": "REPLACE",
    });
    resources.insert(name.clone(), resource("OS::Nova::Server", server));
    if node.tier == Tier::Database {
        let size = json!({ "size": { "get_param": "database_volume_size" } });
        resources.insert(format!("{name}_data"), resource("OS::Cinder::Volume", size));
        let attachment = json!({
            "instance_uuid": reference(&name),
            "volume_id": reference(&format!("{name}_data")),
        });
        resources.insert(
            format!("{name}_attachment"),
            resource("OS::Cinder::VolumeAttachment", attachment),
        );
    }
}

/// How and at which port visitors come in.
fn entrance(topology: &Topology) -> (&'static str, u16) {
    let balancer = topology.load_balancer();
    match &balancer.tls {
        Some(tls) => ("https", tls.port),
        None => ("http", balancer.port),
    }
}

fn outputs(topology: &Topology) -> Value {
    let (scheme, port) = entrance(topology);
    let address = json!({ "get_attr": ["floating_ip", "floating_ip_address"] });
    json!({
        "page": {
            "description": "Where visitors go",
            "value": { "str_replace": {
                "template": format!("{scheme}://ADDRESS:{port}/"),
                "params": { "ADDRESS": address },
            } },
        },
        "virtual_ip": {
            "description": "The virtual IP inside of the network",
            "value": topology.network().virtual_ip.to_string(),
        },
    })
}

fn https(topology: &Topology) -> &'static str {
    match topology.load_balancer().tls {
        Some(_) => HTTPS,
        None => "",
    }
}

const HTTPS: &str = "\
- **HTTPS**: kept. Certificates are in no image and in no template: bring them to the load balancers, to
  /var/lib/gen-topology/secrets/certificates, as you do with other secrets.
";

fn page(stack: &Stack<'_>) -> String {
    let words = words(stack);
    let words: Vec<(&str, &str)> = words
        .iter()
        .map(|(name, text)| (*name, text.as_str()))
        .collect();
    readme("openstack", &fill(PAGE, &words))
}

/// What the pages say of the stack.
fn words(stack: &Stack<'_>) -> [(&'static str, String); 5] {
    let topology = stack.topology;
    let nodes: Vec<&str> = topology
        .nodes()
        .iter()
        .map(|node| node.name.as_str())
        .collect();
    [
        ("NAME", topology.name().to_string()),
        ("NODES", nodes.join(" ")),
        ("TOPOLOGY", stack.places.topology.clone()),
        ("GATEWAY", gateway(topology)),
        ("HTTPS", https(topology).to_owned()),
    ]
}
