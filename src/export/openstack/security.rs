//! Security groups from the stack's flows.

use serde_json::{Value, json};

use super::{resource, under};
use crate::export::flows::{self, Flow, From, What};
use crate::topology::{Tier, Topology};

/// Name of a tier's group in the template.
pub(super) fn group_name(tier: Tier) -> String {
    format!("{}_security", under(tier.name()))
}

/// A tier's group: what may come in.
pub(super) fn group(topology: &Topology, tier: Tier) -> Value {
    let ssh = json!({
        "direction": "ingress",
        "ethertype": "IPv4",
        "protocol": "tcp",
        "port_range_min": 22,
        "port_range_max": 22,
        "remote_mode": "remote_ip_prefix",
        "remote_ip_prefix": { "get_param": "admin_network" },
    });
    let flows = flows::of(topology)
        .into_iter()
        .filter(|flow| flow.to == tier);
    let mut rules = vec![ssh];
    rules.extend(flows.map(|flow| rule(topology, flow)));
    let properties = json!({
        "name": format!("{}-{}", topology.name(), tier.name()),
        "rules": rules,
    });
    resource("OS::Neutron::SecurityGroup", properties)
}

fn rule(topology: &Topology, flow: Flow) -> Value {
    let mut rule = json!({ "direction": "ingress", "ethertype": "IPv4" });
    match flow.what {
        What::Tcp(port) => {
            rule["protocol"] = json!("tcp");
            rule["port_range_min"] = json!(port);
            rule["port_range_max"] = json!(port);
        }
        What::Udp(port) => {
            rule["protocol"] = json!("udp");
            rule["port_range_min"] = json!(port);
            rule["port_range_max"] = json!(port);
        }
        What::Vrrp => rule["protocol"] = json!("112"),
    }
    match flow.from {
        From::Anyone => {
            rule["remote_mode"] = json!("remote_ip_prefix");
            rule["remote_ip_prefix"] = json!("0.0.0.0/0");
        }
        // Groups that name each other would be a circle for Heat: the tier's addresses instead.
        From::Tier(tier) if tier != flow.to => {
            rule["remote_mode"] = json!("remote_ip_prefix");
            rule["remote_ip_prefix"] = json!(topology.network().subnet.to_string());
        }
        // Without a group's name it is the group that the rule stands in.
        From::Tier(_) => rule["remote_mode"] = json!("remote_group_id"),
    }
    rule
}
