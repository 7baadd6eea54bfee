//! `plan`: what would change on which node, in which order, and what visitors notice.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Context as _;

use super::args::{Against, PlanArgs};
use super::ui::Ui;
use super::{apply, deploy as machine_plan, generate, plan_text, source};
use crate::deploy::{self, Choice, Now, Plan};
use crate::failure::Outcome;
use crate::hosts;
use crate::render::Rendered;
use crate::site::{Fleet, NodeState};
use crate::topology::{Selector, Tier, Topology};

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
    plan_text::show(&plan, args.format, ui)?;
    plan_text::verdict(&plan, args.exit_code)
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
