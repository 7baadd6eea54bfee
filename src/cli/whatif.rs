//! `whatif`: which failures the stack survives, on paper.

use std::path::Path;

use anyhow::anyhow;
use clap::{Args as ClapArgs, ValueEnum};
use serde_json::json;

use super::args::{FileArg, Format};
use super::model::summary;
use super::source;
use super::ui::{Tone, Ui, paint, table};
use crate::failure::Outcome;
use crate::topology::{Name, Node, Selector, Tier, Topology};
use crate::whatif::{self, Capacity, Case, Service, Survival};

#[derive(Debug, ClapArgs)]
pub(super) struct WhatifArgs {
    #[command(flatten)]
    pub file: FileArg,
    /// Tell what is left when these fail together, such as `node-1,app-*,@database`
    #[arg(long, value_name = "NODES", conflicts_with = "require")]
    pub fail: Option<Selector>,
    /// End with 1 unless every service survives any one failure (n-1), or any two (n-2)
    #[arg(long, value_name = "N-K")]
    pub require: Option<Require>,
    /// How to print
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Require {
    #[value(name = "n-1")]
    One,
    #[value(name = "n-2")]
    Two,
}

/// `whatif`.
pub(super) fn run(file: Option<&Path>, args: &WhatifArgs, ui: &mut Ui) -> Outcome {
    let (_, topology) = source::load(file, ui)?;
    let survival = Survival::of(&topology);
    if let Some(selector) = &args.fail {
        return without(&topology, &survival, selector, args.format, ui);
    }
    match args.format {
        Format::Json => ui.json(&report(&topology, &survival))?,
        Format::Table => ui.data(&text(&topology, &survival))?,
    }
    let required = match args.require {
        Some(Require::One) => 1,
        Some(Require::Two) => 2,
        None => return Ok(()),
    };
    // Who survives any two survives any one, too: there is no service that comes back.
    if survival.survives_any(1) && survival.survives_any(required) {
        return Ok(());
    }
    Err(anyhow!(
        "{} is not n-{required}: {}",
        topology.name(),
        remedy(&survival, required)
    )
    .into())
}

/// The failure of certain nodes at the same time.
fn without(
    topology: &Topology,
    survival: &Survival<'_>,
    selector: &Selector,
    format: Format,
    ui: &mut Ui,
) -> Outcome {
    let failed = selector.nodes(topology)?;
    let outcome = survival.without(&failed);
    let next = survival.next_to_break(&failed);
    if format == Format::Json {
        let mut value = serde_json::to_value(&outcome)?;
        value["failed"] = json!(failed.iter().map(|node| &node.name).collect::<Vec<_>>());
        value["next_to_break"] = json!(next.iter().map(|node| &node.name).collect::<Vec<_>>());
        return ui.json(&value);
    }
    let mut text = format!("without {}:\n", listed(&failed));
    for service in Service::of(topology) {
        let verdict = match outcome.lost.get(service) {
            None => "works".to_owned(),
            Some(why) => format!("{}: {why}", paint(Tone::Bad, "LOST")),
        };
        text.push_str(&format!("  {:<9}{verdict}\n", service.name()));
    }
    let tiers = Tier::ALL.into_iter().zip(outcome.capacity);
    for (tier, capacity) in tiers.filter(|(_, capacity)| capacity.of > 0) {
        let percent = capacity.fraction() * 100.0;
        let noun = tier.noun(capacity.of);
        text.push_str(&format!(
            "  {} of {} {noun} left, {percent:.0} %\n",
            capacity.left, capacity.of
        ));
    }
    if next.is_empty() {
        text.push_str("no failure of one more node would end what still works\n");
    } else {
        let noun = if next.len() == 1 {
            "the failure of"
        } else {
            "the failure of any of"
        };
        text.push_str(&format!("{noun} {} would end more\n", listed(&next)));
    }
    ui.data(&text)
}

/// Everything, for people: a line for each kind of failure, then what it comes to.
fn text(topology: &Topology, survival: &Survival<'_>) -> String {
    let cases: Vec<Case> = survival
        .singles()
        .into_iter()
        .chain(survival.pairs())
        .collect();
    let services = Service::of(topology);
    let rows: Vec<Vec<String>> = cases
        .iter()
        .map(|case| row(survival, services, case))
        .collect();
    let names: Vec<String> = services
        .iter()
        .map(|service| service.name().to_uppercase())
        .collect();
    let mut head = vec!["WHAT FAILS"];
    head.extend(names.iter().map(String::as_str));
    head.push("WHAT IS LEFT");
    let mut text = format!(
        "{}  {}\n\n{}\n",
        paint(Tone::Strong, topology.name().as_str()),
        summary(topology),
        table(&head, &rows)
    );
    let points = survival.next_to_break(&[]);
    for node in &points {
        text.push_str(&single_point(survival, node));
    }
    for case in cases
        .iter()
        .filter(|case| case.kinds.len() == 2 && case.breaks)
    {
        text.push_str(&fatal_pairs(survival, case));
    }
    for count in [1, 2] {
        let nodes = if count == 1 { "one node" } else { "two nodes" };
        if survival.survives_any(1) && survival.survives_any(count) {
            let met = paint(Tone::Good, "met");
            text.push_str(&format!(
                "n-{count}: {met}, every service survives the failure of any {nodes}\n"
            ));
        } else {
            let not = paint(Tone::Bad, "not met");
            text.push_str(&format!("n-{count}: {not}; {}\n", remedy(survival, count)));
        }
    }
    text
}

fn row(survival: &Survival<'_>, services: &[Service], case: &Case) -> Vec<String> {
    let mut row = vec![what(survival, case)];
    row.extend(services.iter().map(|service| {
        if case.outcome.lost.contains_key(service) {
            paint(Tone::Bad, "LOST")
        } else {
            "works".into()
        }
    }));
    let touched = |tier: Tier| {
        case.kinds
            .iter()
            .any(|kind| survival.kinds()[*kind].tier == tier)
    };
    let left: Vec<String> = Tier::ALL
        .into_iter()
        .zip(case.outcome.capacity)
        .filter(|(tier, _)| touched(*tier))
        .map(|(tier, Capacity { left, of })| format!("{left} of {of} {}", tier.noun(of)))
        .collect();
    row.push(left.join(", "));
    row
}

/// What fails: "any of 2 load balancers", "2 app servers (3 pairs)", "a load balancer and an app server (6 pairs)".
fn what(survival: &Survival<'_>, case: &Case) -> String {
    let kind = |at: usize| &survival.kinds()[case.kinds[at]];
    match case.kinds[..] {
        [_] if case.count == 1 => format!("{}, the only {}", kind(0).nodes[0], kind(0).noun(1)),
        [_] => format!("any of {} {}", case.count, kind(0).noun(case.count)),
        [one, other] if one == other => format!("2 {}{}", kind(0).noun(2), pairs(case)),
        _ => format!(
            "{} and {}{}",
            article(&kind(0).noun(1)),
            article(&kind(1).noun(1)),
            pairs(case)
        ),
    }
}

fn pairs(case: &Case) -> String {
    match case.count {
        1 => String::new(),
        count => format!(" ({count} pairs)"),
    }
}

fn article(noun: &str) -> String {
    let article = if noun.starts_with('a') { "an" } else { "a" };
    format!("{article} {noun}")
}

fn single_point(survival: &Survival<'_>, node: &Node) -> String {
    let only = survival
        .kinds()
        .iter()
        .any(|kind| kind.nodes[..] == [node.name.clone()]);
    format!(
        "{} {}, {} {}: {}\n",
        paint(Tone::Bad, "single point of failure:"),
        node.name,
        if only { "the only" } else { "a" },
        node.tier.noun(1),
        end(&survival.without(&[node]))
    )
}

fn fatal_pairs(survival: &Survival<'_>, case: &Case) -> String {
    let pairs: Vec<String> = survival
        .names(case)
        .iter()
        .map(|pair| {
            pair.iter()
                .map(|name| name.as_str())
                .collect::<Vec<_>>()
                .join(" + ")
        })
        .collect();
    let noun = if pairs.len() == 1 {
        "fatal pair:"
    } else {
        "fatal pairs:"
    };
    format!(
        "{} {}: {}\n",
        paint(Tone::Warning, noun),
        pairs.join(", "),
        end(&case.outcome)
    )
}

/// What ends and why: "reading and writing end, because no database is left".
fn end(outcome: &whatif::Outcome) -> String {
    let services: Vec<&str> = outcome.lost.keys().map(|service| service.name()).collect();
    let services = match services[..] {
        [one] => format!("{one} ends"),
        [one, other] => format!("{one} and {other} end"),
        _ => "everything ends".into(),
    };
    let mut whys: Vec<&str> = outcome.lost.values().map(String::as_str).collect();
    whys.dedup();
    format!("{services}, because {}", whys.join(" and "))
}

/// What to do so that any `count` failures are survived.
fn remedy(survival: &Survival<'_>, count: usize) -> String {
    let sizes: Vec<String> = survival
        .advice(count)
        .iter()
        .map(|(what, size)| format!("{what}={size}"))
        .collect();
    format!("`gen-topology scale {}` makes it so", sizes.join(" "))
}

fn listed(nodes: &[&Node]) -> String {
    let names: Vec<&str> = nodes.iter().map(|node| node.name.as_str()).collect();
    match names[..] {
        [ref first @ .., last] if names.len() <= 8 && !first.is_empty() => {
            format!("{} and {last}", first.join(", "))
        }
        _ if names.len() > 8 => format!("{} and {} others", names[..7].join(", "), names.len() - 7),
        _ => names.join(", "),
    }
}

/// Everything, for scripts. Pairs are named where they break something.
fn report(topology: &Topology, survival: &Survival<'_>) -> serde_json::Value {
    let case = |case: &Case| {
        let mut value = json!(case);
        value["what"] = json!(what(survival, case));
        let tiers: Vec<Tier> = case
            .kinds
            .iter()
            .map(|kind| survival.kinds()[*kind].tier)
            .collect();
        value["tiers"] = json!(tiers);
        if case.breaks {
            value["nodes"] = json!(survival.names(case));
        }
        value
    };
    let points: Vec<&Name> = survival
        .next_to_break(&[])
        .iter()
        .map(|node| &node.name)
        .collect();
    let advice = |count| -> serde_json::Value {
        let sizes = survival.advice(count);
        sizes
            .iter()
            .map(|(what, size)| ((*what).to_owned(), json!(size)))
            .collect()
    };
    let one = survival.survives_any(1);
    json!({
        "stack": topology.name(),
        "singles": survival.singles().iter().map(case).collect::<Vec<_>>(),
        "pairs": survival.pairs().iter().map(case).collect::<Vec<_>>(),
        "single_points_of_failure": points,
        "survives": { "n-1": one, "n-2": one && survival.survives_any(2) },
        "scale_to": { "n-1": advice(1), "n-2": advice(2) },
    })
}
