//! Faults of the network: rules in a node's own nftables table, which goes when it is made whole.

use crate::exec;
use crate::lab::{Lab, net};

/// Name of the nftables table with the rules of a fault.
pub(super) const TABLE: &str = "gen_topology_faults";

/// Keeps a node from hearing the others, by their hardware addresses.
pub(super) fn separate(lab: &Lab, node: &str, others: &[String]) -> anyhow::Result<()> {
    let mut rules = format!(
        "table inet {TABLE} {{ chain heard {{ type filter hook prerouting priority -300; policy accept;\n"
    );
    for other in others.iter().filter(|other| *other != node) {
        let address = lab.planned(other)?.address;
        rules.push_str(&format!("ether saddr {} drop\n", net::hardware(address)));
    }
    rules.push_str("}\n}\n");
    load(lab, node, &rules)
}

/// Loses packets, in percent, in both directions.
pub(super) fn lose(lab: &Lab, node: &str, percent: u8) -> anyhow::Result<()> {
    let chain = |hook: &str, interface: &str| {
        format!(
            "chain {hook} {{ type filter hook {hook} priority -300; policy accept;\n\
             {interface} != \"lo\" numgen random mod 100 < {percent} drop\n}}\n"
        )
    };
    let (heard, said) = (chain("prerouting", "iifname"), chain("output", "oifname"));
    load(
        lab,
        node,
        &format!("table inet {TABLE} {{\n{heard}{said}}}\n"),
    )
}

/// Keeps a node from connecting to anybody at this port.
pub(super) fn close(lab: &Lab, node: &str, port: u16) -> anyhow::Result<()> {
    let rules = format!(
        "table inet {TABLE} {{ chain output {{ type filter hook output priority -300;\n\
         tcp dport {port} reject with tcp reset\n}}\n}}\n"
    );
    load(lab, node, &rules)
}

fn load(lab: &Lab, node: &str, rules: &str) -> anyhow::Result<()> {
    let argv = ["nft", "-f", "-"].map(str::to_owned);
    exec::run(&mut lab.command(node, &argv)?, Some(rules)).map(drop)
}
