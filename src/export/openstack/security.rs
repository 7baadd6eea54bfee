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
    let rule = |source: Source| {
        let mut rule = json!({ "direction": "ingress", "ethertype": "IPv4" });
        rule["protocol"] = json!(protocol(flow));
        if let Some(port) = flow.port {
            rule["port_range_min"] = json!(port);
            rule["port_range_max"] = json!(port);
        }
        let prefix = match source {
            // Without a group's name it is the group that the rule stands in.
            Source::Own => {
                rule["remote_mode"] = json!("remote_group_id");
                return rule;
            }
            Source::Administrators => json!({ "get_param": "admin_network" }),
            Source::Prefix(prefix) => json!(prefix),
        };
        rule["remote_mode"] = json!("remote_ip_prefix");
        rule["remote_ip_prefix"] = prefix;
        rule
    };
    sources.map(rule).collect()
}

/// Where a flow comes from.
pub(super) enum Source {
    /// The tier's own group.
    Own,
    /// Whoever administers, as the cloud is told when the stack is made.
    Administrators,
    /// An address with a mask.
    Prefix(String),
}

/// Name of a flow's protocol, as Neutron has it.
pub(super) fn protocol(flow: &Flow) -> &'static str {
    match flow.protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Vrrp => "112",
    }
}

/// The places that a flow comes from.
pub(super) fn sources(topology: &Topology, flow: &Flow) -> Vec<Source> {
    let administration = &topology.network().administration;
    match flow.from {
        Party::Anywhere if flow.port == Some(flows::SSH) => vec![Source::Administrators],
        Party::Anywhere => vec![Source::Prefix("0.0.0.0/0".into())],
        Party::Administration => administration
            .iter()
            .map(|from| Source::Prefix(from.subnet().to_string()))
            .collect(),
        party if party == Party::of(flow.to.tier()) => vec![Source::Own],
        // Groups that name each other would be a circle for Heat: the nodes' addresses instead.
        // As few prefixes as cover them and nobody else.
        party => {
            let addresses = party.addresses(topology).into_iter();
            let nets: Vec<Ipv4Net> = addresses.map(Ipv4Net::from).collect();
            let nets = Ipv4Net::aggregate(&nets).into_iter();
            nets.map(|net| Source::Prefix(net.to_string())).collect()
        }
    }
}
