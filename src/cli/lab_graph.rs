//! `lab graph`: the topology as a picture.

use clap::ValueEnum;

use super::ui::{Tone, paint};
use crate::topology::{Tier, Topology};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum GraphFormat {
    Text,
    Mermaid,
    Dot,
}

/// The topology as a picture: who sends requests to whom.
pub(super) fn graph(topology: &Topology, format: GraphFormat) -> String {
    let names = |tier: Tier| {
        topology
            .tier(tier)
            .map(|node| node.name.to_string())
            .collect::<Vec<_>>()
    };
    let [balancers, apps, databases] = Tier::ALL.map(names);
    let vip = format!(
        "{}:{}",
        topology.network().virtual_ip,
        topology.load_balancer().port
    );
    if format == GraphFormat::Text {
        let tiers = [
            ("haproxy, keepalived", &balancers),
            ("nginx, gunicorn", &apps),
            ("mongod", &databases),
        ];
        let mut text =
            format!("visitors\n   │\n   ▼\n{vip}  virtual IP, on one load balancer at a time\n");
        for (daemons, nodes) in tiers.into_iter().filter(|(_, nodes)| !nodes.is_empty()) {
            text.push_str(&format!(
                "   │\n   ▼\n{}  {}\n",
                nodes.join("  "),
                paint(Tone::Quiet, daemons)
            ));
        }
        return text;
    }
    let mut edges: Vec<(String, String)> = balancers
        .iter()
        .map(|to| ("vip".to_owned(), to.clone()))
        .collect();
    for (from, to) in [(&balancers, &apps), (&apps, &databases)] {
        edges.extend(
            from.iter()
                .flat_map(|from| to.iter().map(move |to| (from.clone(), to.clone()))),
        );
    }
    // Ids of both languages must not hold hyphens; labels may hold anything a name can.
    let id = |name: &str| name.replace('-', "_");
    let nodes: Vec<&String> = balancers.iter().chain(&apps).chain(&databases).collect();
    if format == GraphFormat::Mermaid {
        let mut text = format!("flowchart TD\n  vip([\"{vip}\"])\n");
        nodes
            .iter()
            .for_each(|name| text.push_str(&format!("  {}[\"{name}\"]\n", id(name))));
        edges
            .iter()
            .for_each(|(from, to)| text.push_str(&format!("  {} --> {}\n", id(from), id(to))));
        return text;
    }
    let mut text = format!(
        "digraph {} {{\n  vip [label=\"{vip}\", shape=oval];\n  node [shape=box];\n",
        id(topology.name().as_str())
    );
    nodes
        .iter()
        .for_each(|name| text.push_str(&format!("  n_{} [label=\"{name}\"];\n", id(name))));
    for (from, to) in &edges {
        let from = if from == "vip" {
            "vip".to_owned()
        } else {
            format!("n_{}", id(from))
        };
        text.push_str(&format!("  {from} -> n_{};\n", id(to)));
    }
    text.push_str("}\n");
    text
}
