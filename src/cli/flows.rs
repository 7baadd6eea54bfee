//! `show flows`: which connections the stack needs, and nothing else is let in.

use serde_json::{Value, json};

use super::ui::table;
use crate::flows::{Flow, Party, Protocol, Target, flows};
use crate::topology::Topology;

/// Every flow, as rows of a table.
pub(super) fn as_table(topology: &Topology) -> String {
    let rows: Vec<Vec<String>> = flows(topology)
        .iter()
        .map(|flow| {
            vec![
                flow.from.noun().to_owned(),
                target(topology, flow.to),
                service(flow),
                flow.why.to_owned(),
            ]
        })
        .collect();
    table(&["FROM", "TO", "WHAT", "FOR"], &rows)
}

/// Every flow with the addresses of both ends.
pub(super) fn as_json(topology: &Topology) -> Value {
    let list = flows(topology).into_iter().map(|flow| {
        let to = match flow.to {
            Target::VirtualIp => vec![topology.network().virtual_ip.to_string()],
            Target::Nodes { tier } => strings(&Party::of(tier).addresses(topology)),
        };
        let from = match flow.from {
            Party::Anywhere => vec!["0.0.0.0/0".to_owned()],
            Party::Administration => strings(&topology.network().administration),
            party => strings(&party.addresses(topology)),
        };
        json!({
            "from": { "party": flow.from, "addresses": from },
            "to": { "party": target_name(flow.to), "addresses": to },
            "protocol": flow.protocol,
            "port": flow.port,
            "why": flow.why,
        })
    });
    json!({ "flows": list.collect::<Vec<_>>() })
}

/// The flows as a picture for Graphviz.
pub(super) fn as_dot(topology: &Topology) -> String {
    let mut text = String::from("digraph flows {\n  rankdir=LR;\n  node [shape=box];\n");
    for flow in flows(topology) {
        text.push_str(&format!(
            "  {:?} -> {:?} [label={:?}, tooltip={:?}];\n",
            flow.from.noun(),
            target_name(flow.to),
            service(&flow),
            flow.why
        ));
    }
    text + "}\n"
}

fn strings(values: &[impl ToString]) -> Vec<String> {
    values.iter().map(ToString::to_string).collect()
}

fn target_name(target: Target) -> &'static str {
    match target {
        Target::VirtualIp => "virtual IP",
        Target::Nodes { tier } => Party::of(tier).noun(),
    }
}

fn target(topology: &Topology, target: Target) -> String {
    match target {
        Target::VirtualIp => format!("virtual IP {}", topology.network().virtual_ip),
        nodes @ Target::Nodes { .. } => target_name(nodes).to_owned(),
    }
}

fn service(flow: &Flow) -> String {
    match (flow.protocol, flow.port) {
        (Protocol::Udp, Some(port)) => format!("udp {port}"),
        (Protocol::Tcp, Some(port)) => format!("tcp {port}"),
        (Protocol::Vrrp, _) | (_, None) => "vrrp".to_owned(),
    }
}
