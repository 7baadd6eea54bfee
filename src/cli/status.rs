//! A stack's state as people and scripts read it: the same for a lab and for machines.

use std::net::Ipv4Addr;

use serde::Serialize;

use super::args::Format;
use super::ui::{Tone, Ui, paint, table};
use crate::failure::{Failure, Outcome};
use crate::sink::Sink as _;
use crate::site::{NodeStatus, State, Status};

/// Whose state it is.
#[derive(Debug, Serialize)]
pub(super) struct Stack<'s> {
    /// Its name; that of the lab, if it is one.
    pub stack: &'s str,
    /// Its virtual IP.
    pub virtual_ip: Ipv4Addr,
}

#[derive(Serialize)]
struct Whole<'s> {
    #[serde(flatten)]
    stack: &'s Stack<'s>,
    #[serde(flatten)]
    status: &'s Status,
}

/// Prints it, and ends with 1 when something is not well. `is_whole`: every node was asked.
pub(super) fn show(
    stack: &Stack<'_>,
    status: &Status,
    is_whole: bool,
    format: Format,
    ui: &mut Ui,
) -> Outcome {
    let has_no_owner = is_whole && status.has_no_owner();
    match format {
        Format::Json => ui.json(&Whole { stack, status })?,
        Format::Table => {
            ui.data(&states(&status.nodes))?;
            if has_no_owner {
                ui.say(&paint(Tone::Bad, "no load balancer has the virtual IP"));
            }
            if status.owners.len() > 1 {
                let owners = status.owners.join(", ");
                let line = format!("{owners} all have the virtual IP");
                ui.say(&paint(Tone::Bad, &line));
            }
        }
    }
    if status.is_well() && !has_no_owner {
        Ok(())
    } else {
        Err(Failure::Status(1))
    }
}

/// A row for each node, tier by tier.
pub(super) fn states(nodes: &[NodeStatus]) -> String {
    let mut nodes: Vec<&NodeStatus> = nodes.iter().collect();
    nodes.sort_by_key(|node| node.tier);
    let rows: Vec<Vec<String>> = nodes.into_iter().map(row).collect();
    table(&["NODE", "TIER", "ADDRESS", "STATE", ""], &rows)
}

fn row(node: &NodeStatus) -> Vec<String> {
    let tone = match node.state {
        State::Ready => Tone::Good,
        State::NotReady => Tone::Warning,
        _ => Tone::Bad,
    };
    let generation = node.generation.map(|number| format!("generation {number}"));
    let notes: Vec<String> = node.notes.iter().cloned().chain(generation).collect();
    vec![
        node.name.clone(),
        node.tier.to_string(),
        node.address.to_string(),
        paint(tone, node.state.word()),
        notes.join("; "),
    ]
}
