//! A plan as people and scripts read it.

use super::args::Format;
use super::ui::{Tone, Ui, paint, table};
use crate::deploy::{self, Plan, Step};
use crate::failure::{Failure, Outcome};
use crate::sink::Sink as _;

/// Exit code 2 where something would change and somebody wants to know.
pub(super) fn verdict(plan: &Plan, exit_code: bool) -> Outcome {
    if exit_code && !plan.is_empty() {
        return Err(Failure::Differs);
    }
    Ok(())
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
