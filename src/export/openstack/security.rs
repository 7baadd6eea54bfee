//! Security groups from the stack's flows.

use ipnet::Ipv4Net;
use serde_json::{Value, json};

use super::{resource, under};
use crate::flows::{self, Flow, Party, Protocol};
use crate::topology::{Tier, Topology};

/// Name of a tier's group in the template.
pub(super) fn group_name(tier: Tier) -> String {
    format!("{}_security", under(tier.name()))
}

/// A tier's group: what may come in.
pub(super) fn group(topology: &Topology, tier: Tier) -> Value {
    let flows = flows::flows(topology);
    let flows = flows.iter().filter(|flow| flow.to.tier() == tier);
    let rules: Vec<Value> = flows.flat_map(|flow| rules(topology, flow)).collect();
    let properties = json!({
        "name": format!("{}-{}", topology.name(), tier.name()),
        "rules": rules,
    });
    resource("OS::Neutron::SecurityGroup", properties)
}

/// What lets a flow in: a rule for each place that it comes from.
fn rules(topology: &Topology, flow: &Flow) -> Vec<Value> {
    let sources = sources(topology, flow).into_iter();
    let rule = |source: Value| {
        let mut rule = json!({ "direction": "ingress", "ethertype": "IPv4" });
        rule["protocol"] = json!(match flow.protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Vrrp => "112",
        });
        if let Some(port) = flow.port {
            rule["port_range_min"] = json!(port);
            rule["port_range_max"] = json!(port);
        }
        match source {
            // Without a group's name it is the group that the rule stands in.
            Value::Null => rule["remote_mode"] = json!("remote_group_id"),
            prefix => {
                rule["remote_mode"] = json!("remote_ip_prefix");
                rule["remote_ip_prefix"] = prefix;
            }
        }
        rule
    };
    sources.map(rule).collect()
}

/// Prefixes that a flow comes from; null is the tier's own group.
fn sources(topology: &Topology, flow: &Flow) -> Vec<Value> {
    let administration = &topology.network().administration;
    match flow.from {
        Party::Anywhere if flow.port == Some(flows::SSH) => {
            vec![json!({ "get_param": "admin_network" })]
        }
        Party::Anywhere => vec![json!("0.0.0.0/0")],
        Party::Administration => administration
            .iter()
            .map(|from| json!(from.subnet().to_string()))
            .collect(),
        party if party == Party::of(flow.to.tier()) => vec![Value::Null],
        // Groups that name each other would be a circle for Heat: the nodes' addresses instead.
        // As few prefixes as cover them and nobody else.
        party => {
            let addresses = party.addresses(topology).into_iter();
            let nets: Vec<Ipv4Net> = addresses.map(Ipv4Net::from).collect();
            let nets = Ipv4Net::aggregate(&nets).into_iter();
            nets.map(|net| json!(net.to_string())).collect()
        }
    }
}
