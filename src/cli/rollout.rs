//! Carrying a plan out and talking about it: the same for the lab and for machines.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use serde_json::json;

use super::ui::{Tone, Ui, paint};
use crate::deploy::journal::{Journal, Unfinished};
use crate::deploy::{self, Engine, Event, Plan};
use crate::failure::{Failure, Outcome};
use crate::sink::Sink as _;
use crate::site::Fleet;
use crate::topology::Selector;

/// How a roll-out is spoken of where it happens.
pub(super) struct Words {
    /// The command that does it, and goes on.
    pub command: &'static str,
    /// The command that shows a node's logs.
    pub logs: &'static str,
    /// What to do while not all is well yet.
    pub waiting: &'static str,
}

impl Words {
    /// What stands between nodes on the command line for logs.
    fn between(&self) -> &'static str {
        if self.logs == "logs" { "," } else { " " }
    }
}

/// Everything but the plan: looks whether all is well, does it, and says what happens.
pub(super) fn carry_out(
    engine: &Engine<'_>,
    path: &Path,
    unfinished: &Unfinished,
    json: bool,
    words: &Words,
    ui: &mut Ui,
) -> Outcome {
    let begun = Instant::now();
    let nodes: Vec<&str> = unfinished.nodes.keys().map(String::as_str).collect();
    engine
        .preflight(&nodes)
        .map_err(|failure| failed(failure, path, words))?;
    if (engine.interrupted)() {
        return Err(Failure::Interrupted("nothing was touched".into()));
    }
    let mut journal = Journal::begin(path, engine.plan.steps.len(), unfinished)?;
    let mut times = Vec::new();
    let outcome = engine.run(&mut journal, &mut |event| {
        tell(&event, engine.plan, &mut times, ui);
    });
    if json {
        ui.json(&json!({
            "done": outcome.is_ok(),
            "seconds": begun.elapsed().as_secs_f64(),
            "waves": times,
            "impact": engine.plan.impact,
            "journal": path,
        }))?;
    }
    outcome.map_err(|failure| failed(failure, path, words))?;
    ui.say(&format!(
        "{} in {:.1} s: {} steps, each node runs what was planned",
        paint(Tone::Good, "done"),
        begun.elapsed().as_secs_f64(),
        engine.plan.steps.len()
    ));
    Ok(())
}

/// A line for what happens, and the times for who wants to know.
fn tell(event: &Event<'_>, plan: &Plan, times: &mut Vec<serde_json::Value>, ui: &mut Ui) {
    let names = |steps: &[deploy::Step]| {
        let names: Vec<&str> = steps.iter().map(|step| step.node.as_str()).collect();
        names.join(", ")
    };
    let last = plan.steps.last().map_or(0, |step| step.wave);
    match event {
        Event::Begin(steps) => {
            if let Some(step) = steps.first() {
                ui.say(&format!(
                    "{} {}: {}",
                    paint(Tone::Quiet, &format!("[{}/{last}]", step.wave)),
                    names(steps),
                    step.words()
                ));
            }
        }
        Event::Done(steps, spent) => {
            ui.say(&format!(
                "      {} {} in {:.1} s",
                paint(Tone::Good, "✓"),
                names(steps),
                spent.all.as_secs_f64()
            ));
            times.push(json!({
                "nodes": steps.iter().map(|step| &step.node).collect::<Vec<_>>(),
                "words": steps.first().map(deploy::Step::words),
                "all_ms": millis(spent.all),
                "engine_ms": millis(spent.all.saturating_sub(spent.nodes)),
            }));
        }
        Event::Undoing(steps, why) => {
            ui.warn(&format!("      {} {why}", paint(Tone::Bad, "✗")));
            ui.warn(&format!("      {} goes back to what it was", names(steps)));
        }
        Event::Watching(count, time) => ui.say(&format!(
            "      watching {count} changed app servers for {:.0} s",
            time.as_secs_f64()
        )),
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The engine's failure as the command's, with what to do next.
fn failed(failure: deploy::Failure, journal: &Path, words: &Words) -> Failure {
    let logs = |nodes: &[String]| {
        format!(
            "see `gen-topology {} {}` and {}",
            words.logs,
            nodes.join(words.between()),
            journal.display()
        )
    };
    match failure {
        deploy::Failure::Refused(why) => Failure::Failed(anyhow!(
            "nothing was touched:\n  {}\n{}",
            why.join("\n  "),
            words.waiting
        )),
        deploy::Failure::RolledBack { nodes, why } => Failure::RolledBack(anyhow!(
            "{} went back to what it was and is well, what was done before stays: {why}; {}",
            nodes.join(", "),
            logs(&nodes)
        )),
        deploy::Failure::Stuck { nodes, why, undo } => Failure::Failed(anyhow!(
            "{}: {why}; going back failed, too: {undo}; {}",
            nodes.join(", "),
            logs(&nodes)
        )),
        deploy::Failure::Interrupted { done, steps } => Failure::Interrupted(format!(
            "{done} of {steps} steps are done, every node is whole; `gen-topology {} --resume` goes on",
            words.command
        )),
        deploy::Failure::Failed(error) => Failure::Failed(error),
    }
}

/// A roll-out that was killed in a step has to be picked up on purpose.
pub(super) fn resumable(
    unfinished: &Unfinished,
    resume: bool,
    words: &Words,
    ui: &mut Ui,
) -> Outcome {
    let steps: Vec<String> = unfinished
        .nodes
        .iter()
        .map(|(node, what)| format!("{what} {node}"))
        .collect();
    if !steps.is_empty() && !resume {
        return Err(anyhow!(
            "the last one was killed in a step ({}); look at it and say `gen-topology {} --resume`",
            steps.join(", "),
            words.command
        )
        .into());
    }
    if resume {
        if *unfinished == Unfinished::default() {
            ui.say("there is nothing to resume; the last one came to its end");
        } else {
            ui.say(&format!(
                "going on after {} of {} steps{}",
                unfinished.done,
                unfinished.steps,
                if steps.is_empty() {
                    String::new()
                } else {
                    format!("; done again: {}", steps.join(", "))
                }
            ));
        }
    }
    Ok(())
}

/// The nodes that `--on` means, those that leave among them.
pub(super) fn chosen(on: &Selector, old: &Fleet, new: &Fleet) -> Result<BTreeSet<String>, Failure> {
    let all = old.nodes().iter().chain(new.nodes());
    let meant: BTreeSet<String> = all
        .filter(|node| on.fits(node.name(), node.tier()))
        .map(|node| node.name().to_owned())
        .collect();
    if meant.is_empty() {
        return Err(Failure::Usage(format!("`--on {on}` means no node")));
    }
    Ok(meant)
}
