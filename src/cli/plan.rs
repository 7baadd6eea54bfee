//! `plan`: what would change on which node, in which order, and what visitors notice.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Context as _;
use clap::{Args as ClapArgs, ValueEnum};

use super::args::{ChoiceArgs, FileArg, Format, WayArgs};
use super::ui::{Tone, Ui, paint, table};
use super::{Failure, Outcome, apply, deploy as machine_plan, generate, source};
use crate::deploy::{self, Choice, Fleet, NodeState, Now, Plan, Step};
use crate::hosts;
use crate::render::Rendered;
use crate::topology::{Selector, Tier, Topology};

#[derive(Debug, ClapArgs)]
pub(super) struct PlanArgs {
    #[command(flatten)]
    pub file: FileArg,
    /// What to compare the topology with
    #[arg(long, value_name = "WHAT", default_value = "hosts")]
    pub against: Against,
    /// Name of the lab, with `--against lab` [default: the topology's name]
    #[arg(long, value_name = "NAME", env = "GEN_TOPOLOGY_LAB")]
    pub lab: Option<String>,
    #[command(flatten)]
    pub choice: ChoiceArgs,
    #[command(flatten)]
    pub way: WayArgs,
    /// Exit with 2 if something would change
    #[arg(long)]
    pub exit_code: bool,
    /// How to print
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Against {
    /// The files in hosts/
    Hosts,
    /// The running lab
    Lab,
    /// The machines, by ssh
    Machines,
}

/// `plan`.
pub(super) fn run(file: Option<&Path>, args: &PlanArgs, ui: &mut Ui) -> Outcome {
    match args.against {
        Against::Lab => return apply::plan(file, args, ui),
        Against::Machines => return machine_plan::plan(file, args, ui),
        Against::Hosts => {}
    }
    let (source, topology) = source::load(file, ui)?;
    let rendered = generate::rendered(&topology)?;
    let choice = Choice {
        on: args
            .choice
            .on
            .as_ref()
            .map(|on| select(on, &topology))
            .transpose()?,
        max_unavailable: args.choice.max_unavailable,
        canary: args.choice.canary,
    };
    let plan = against(&generate::beside(&source), &rendered, &choice)?;
    show(&plan, args.format, ui)?;
    verdict(&plan, args.exit_code)
}

/// Exit code 2 where something would change and somebody wants to know.
pub(super) fn verdict(plan: &Plan, exit_code: bool) -> Outcome {
    if exit_code && !plan.is_empty() {
        return Err(Failure::Differs);
    }
    Ok(())
}

/// The plan from what `directory` holds to what was rendered.
pub(super) fn against(
    directory: &Path,
    rendered: &[Rendered],
    choice: &Choice,
) -> anyhow::Result<Plan> {
    let new = Fleet::rendered(rendered)?;
    let old = committed(directory)?;
    // Nobody has been asked; the first load balancer has the virtual IP when all is well.
    let first = old.tier(Tier::LoadBalancer).max_by_key(|node| {
        let settings = node.facts.load_balancer.as_ref();
        settings.map_or(0, |settings| settings.lower_priority.len())
    });
    let now = Now {
        owner: first.map(|node| node.name().to_owned()),
        ..Now::default()
    };
    Ok(deploy::plan(&old, &new, &now, choice))
}

/// The nodes of a directory of rendered hosts.
fn committed(directory: &Path) -> anyhow::Result<Fleet> {
    let mut nodes = Vec::new();
    for (file, text) in hosts::facts(directory)? {
        let node = NodeState::of_facts(&text);
        nodes.push(node.with_context(|| format!("reading {}", file.display()))?);
    }
    Ok(Fleet::of(nodes))
}

/// The names that a selector means; at least one.
pub(super) fn select(selector: &Selector, topology: &Topology) -> anyhow::Result<BTreeSet<String>> {
    let nodes = selector.nodes(topology)?;
    Ok(nodes.iter().map(|node| node.name.to_string()).collect())
}

/// Prints a plan as data.
pub(super) fn show(plan: &Plan, format: Format, ui: &mut Ui) -> Outcome {
    match format {
        Format::Json => ui.json(plan),
        Format::Table if plan.is_empty() && plan.obstacles.is_empty() => {
            ui.say("nothing to do: everything is as the topology says");
            Ok(())
        }
        Format::Table => ui.data(&text(plan)),
    }
}

/// A plan as a table, and what it means.
pub(super) fn text(plan: &Plan) -> String {
    let rows: Vec<Vec<String>> = plan.steps.chunk_by(is_alike).map(row).collect();
    let mut text = String::new();
    if !rows.is_empty() {
        text = table(&["STEP", "", "NODE", "WHAT", "WHY"], &rows) + "\n";
    }
    let [added, changed, removed] = plan.counts();
    text.push_str(&format!(
        "{added} to add, {changed} to change, {removed} to remove; {}\n",
        plan.impact.sentence()
    ));
    for notice in &plan.impact.noticed {
        text.push_str(&format!(
            "{} {notice}\n",
            paint(Tone::Warning, "visitors notice:")
        ));
    }
    for obstacle in &plan.obstacles {
        text.push_str(&format!(
            "{} {obstacle}\n",
            paint(Tone::Bad, "can't be applied:")
        ));
    }
    text
}

/// Whether two steps that follow each other say the same about two nodes.
fn is_alike(one: &Step, other: &Step) -> bool {
    one.tier == other.tier && one.what == other.what && one.reason == other.reason
}

fn row(steps: &[Step]) -> Vec<String> {
    let (Some(first), Some(last)) = (steps.first(), steps.last()) else {
        return Vec::new();
    };
    let nodes = match steps.len() {
        1 => first.node.clone(),
        2 => format!("{}, {}", first.node, last.node),
        many => format!("{} … {} ({many})", first.node, last.node),
    };
    let waves = if first.wave == last.wave {
        first.wave.to_string()
    } else {
        format!("{}–{}", first.wave, last.wave)
    };
    let sign = match first.what {
        deploy::What::Add => paint(Tone::Good, "+"),
        deploy::What::Remove => paint(Tone::Bad, "-"),
        deploy::What::Change { .. } | deploy::What::Drain => paint(Tone::Warning, "~"),
    };
    vec![waves, sign, nodes, first.words(), first.reason.clone()]
}
