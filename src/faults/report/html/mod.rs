//! A run as one page for a browser that needs nothing else: no script, no font, no picture from
//! elsewhere. It is well-formed XML too, so that a test can read it.

mod numbers;

use anyhow::anyhow;
use serde::Serialize;
use tera::{Context, Tera};

use self::numbers::{Cell, Cost, both, costs_of, counted, grouped, seconds, time};
use super::drawing::{self, Drawing, Names};
use super::{Row, Run, Spread, Verdict, costs, worst};
use crate::faults::bound::{Limit, Loss};
use crate::faults::fault::Fault;
use crate::faults::trial::Trial;
use crate::topology::Tier;

/// The name decides that every value is escaped for HTML.
const PAGE: &str = "page.html";

const TEMPLATES: [(&str, &str); 3] = [
    (PAGE, include_str!("../templates/page.html.tera")),
    (
        "drawing.html",
        include_str!("../templates/drawing.html.tera"),
    ),
    ("style.css", include_str!("../templates/style.css.tera")),
];

/// The page of a run.
///
/// # Errors
/// Only if the template and what it is given disagree, which is a bug.
pub fn page(run: &Run) -> anyhow::Result<String> {
    let mut tera = Tera::new();
    tera.add_raw_templates(TEMPLATES)
        .and_then(|()| tera.render(PAGE, &Context::from_serialize(&Page::of(run))?))
        .map_err(|error| anyhow!("{PAGE}: {error}"))
        .map(|page| page.replace(is_forbidden, "\u{fffd}"))
}

/// Characters that XML and HTML can't have, not even escaped.
fn is_forbidden(c: char) -> bool {
    (c.is_control() && !matches!(c, '\n' | '\t')) || matches!(c, '\u{fffe}' | '\u{ffff}')
}

/// Everything on the page, as words.
#[derive(Serialize)]
struct Page {
    stack: String,
    program: String,
    sizes: String,
    rate: String,
    seed: u64,
    budget: Vec<String>,
    when: Option<String>,
    machine: Option<String>,
    command: Option<String>,
    sentence: String,
    verdict: Verdict,
    numbers: Vec<Headline>,
    remarks: Vec<String>,
    faults: Vec<Told>,
    not_run: Vec<Untried>,
}

/// One of the numbers that a reader looks for first.
#[derive(Serialize)]
struct Headline {
    value: String,
    label: String,
    is_over: bool,
}

/// A fault that was tried.
#[derive(Serialize)]
struct Told {
    name: String,
    tier: &'static str,
    breaks: &'static str,
    visitors: &'static str,
    undo: &'static str,
    repeats: usize,
    rate: String,
    verdict: Verdict,
    word: String,
    /// For the table of all faults.
    cells: Vec<Cell>,
    /// Until it was whole again.
    whole: String,
    lost: String,
    may_be_lost: String,
    too_many_lost: bool,
    missing: String,
    /// For the fault's own table.
    costs: Vec<Cost>,
    losses: Vec<String>,
    trials: Vec<Tried>,
    drawing: Drawing,
    drawn: String,
}

/// One trial.
#[derive(Serialize)]
struct Tried {
    number: usize,
    nodes: String,
    verdict: Verdict,
    gap: String,
    write_gap: String,
    slowest: String,
    noticed: String,
    lost: String,
    whole: String,
    sentences: Vec<String>,
    is_drawn: bool,
}

/// A fault that was not.
#[derive(Serialize)]
struct Untried {
    name: String,
    breaks: &'static str,
    why: String,
    failed: bool,
}

impl Page {
    fn of(run: &Run) -> Self {
        let [balancers, apps, databases] = run.sizes;
        let slo = run.slo;
        let budget = [
            ("longest gap", slo.longest_gap),
            ("longest gap between writes", slo.longest_write_gap),
        ];
        let mut rows = run.rows();
        // What was broken first, then what says nothing; otherwise in the order of the run.
        rows.sort_by_key(|row| match row.verdict() {
            Verdict::Broken => 0,
            Verdict::Void => 1,
            Verdict::Kept => 2,
        });
        let names = Names::of(&run.trials);
        let (verdict, sentence) = conclusion(run, &rows);
        let interrupted = run
            .interrupted
            .then(|| "The run was interrupted: faults are missing.".to_owned());
        Self {
            stack: run.stack.clone(),
            program: run.program.clone(),
            sizes: [
                counted(balancers, "load balancer"),
                counted(apps, "app server"),
                counted(databases, "database"),
            ]
            .join(", "),
            rate: grouped(run.rate as usize),
            seed: run.seed,
            budget: budget
                .into_iter()
                .filter_map(|(what, most)| Some(format!("{what} ≤ {}", most?)))
                .collect(),
            when: run.origin.when.clone(),
            machine: run.origin.machine.clone(),
            command: run.origin.command.clone(),
            verdict,
            sentence,
            numbers: headlines(&rows),
            remarks: interrupted.into_iter().collect(),
            faults: rows
                .iter()
                .filter_map(|row| Told::of(run, row, &names))
                .collect(),
            not_run: run
                .not_run
                .iter()
                .map(|not_run| Untried {
                    name: not_run.fault.clone(),
                    breaks: Fault::named(&not_run.fault).map_or("", |fault| fault.breaks),
                    why: not_run.why.clone(),
                    failed: not_run.failed,
                })
                .collect(),
        }
    }
}

/// Worst gap, requests lost, acknowledged writes missing.
fn headlines(rows: &[Row]) -> Vec<Headline> {
    let worst = rows
        .iter()
        .max_by(|a, b| a.gap.worst.total_cmp(&b.gap.worst));
    let gap = worst.map(|row| Headline {
        value: time(row.gap.worst),
        label: format!("longest gap, {}", row.fault),
        is_over: Cell::of(row, Some(row.gap), row.bound.gap.as_ref()).is_over,
    });
    let sum = |of: fn(&Row) -> usize| rows.iter().map(of).sum::<usize>();
    let lost = Headline {
        value: grouped(sum(|row| row.lost)),
        label: format!("of {} requests lost", grouped(sum(|row| row.sent))),
        is_over: false,
    };
    let missing = sum(|row| row.missing);
    let acknowledged = grouped(sum(|row| row.acknowledged));
    let missing = Headline {
        value: grouped(missing),
        label: format!("of {acknowledged} acknowledged writes missing"),
        is_over: missing > 0,
    };
    gap.into_iter().chain([lost, missing]).collect()
}

/// The whole run in a sentence.
fn conclusion(run: &Run, rows: &[Row]) -> (Verdict, String) {
    let count = |verdict| rows.iter().filter(|row| row.verdict() == verdict).count();
    let sent: usize = rows.iter().map(|row| row.sent).sum();
    let lost: usize = rows.iter().map(|row| row.lost).sum();
    let missing: usize = rows.iter().map(|row| row.missing).sum();
    let acknowledged: usize = rows.iter().map(|row| row.acknowledged).sum();
    let void = run
        .trials
        .iter()
        .filter(|trial| trial.void.is_some())
        .count();
    let mut said = vec![match (count(Verdict::Broken), count(Verdict::Kept)) {
        (0, 0) => "Nothing was measured that says something about the stack.".to_owned(),
        (0, kept) => format!("{}: none cost more than predicted.", counted(kept, "fault")),
        (broken, _) => format!(
            "{broken} of {} cost more than predicted.",
            counted(rows.len(), "fault")
        ),
    }];
    said.push(format!(
        "{} of {} requests had no good answer.",
        grouped(lost),
        grouped(sent)
    ));
    if acknowledged > 0 {
        said.push(format!(
            "Of {} acknowledged writes {} missing.",
            grouped(acknowledged),
            if missing == 1 {
                "1 is".into()
            } else {
                format!("{} are", grouped(missing))
            }
        ));
    }
    if void > 0 {
        said.push(format!(
            "{} said nothing: the machine was too busy.",
            counted(void, "trial")
        ));
    }
    if !run.not_run.is_empty() {
        said.push(format!(
            "{} not tried.",
            counted(run.not_run.len(), "fault")
        ));
    }
    let verdict = match (count(Verdict::Broken), count(Verdict::Kept)) {
        (0, 0) => Verdict::Void,
        (0, _) => Verdict::Kept,
        _ => Verdict::Broken,
    };
    (verdict, said.join(" "))
}

impl Told {
    fn of(run: &Run, row: &Row, names: &Names) -> Option<Self> {
        let trials = run.trials_of(row.fault);
        let drawn = worst(&trials)?;
        let fault = Fault::named(row.fault);
        let bound = row.bound;
        let tier = fault.and_then(|fault| fault.tier);
        let cell =
            |seen: Option<Spread>, limit: &Option<Limit>| Cell::of(row, seen, limit.as_ref());
        let number = trials
            .iter()
            .position(|trial| std::ptr::eq(*trial, drawn))?
            + 1;
        Some(Self {
            name: row.fault.to_owned(),
            tier: tier_in_words(tier),
            breaks: fault.map_or("", |fault| fault.breaks),
            visitors: fault.map_or("", |fault| fault.visitors),
            undo: fault.map_or("", |fault| fault.undo),
            repeats: row.repeats,
            rate: grouped(drawn.rate as usize),
            verdict: row.verdict(),
            word: word(row),
            cells: vec![
                cell(Some(row.gap), &bound.gap),
                cell(row.write_gap, &bound.write_gap),
                cell(Some(row.slowest), &bound.slowest),
                cell(row.detect, &bound.detect),
            ],
            whole: both(row, row.redundant, seconds),
            lost: format!("{} of {}", grouped(row.lost), grouped(row.sent)),
            may_be_lost: may_be_lost(bound.lost),
            too_many_lost: trials.iter().any(|trial| is_too_much_lost(trial)),
            missing: match row.acknowledged {
                0 => "–".into(),
                acknowledged => format!("{} of {}", grouped(row.missing), grouped(acknowledged)),
            },
            costs: costs_of(row),
            losses: losses(&trials),
            drawing: drawing::draw(drawn, names),
            drawn: match trials.len() {
                1 => format!("Hit: {}", drawn.nodes.join(", ")),
                all => format!(
                    "Trial {number} of {all}, the worst; hit: {}",
                    drawn.nodes.join(", ")
                ),
            },
            trials: trials
                .iter()
                .enumerate()
                .map(|(index, trial)| {
                    Tried::of(trial, index + 1, index + 1 == number && trials.len() > 1)
                })
                .collect(),
        })
    }
}

/// Whether a sentence of the verdict is about lost requests.
fn is_too_much_lost(trial: &Trial) -> bool {
    trial.void.is_none()
        && trial
            .broken
            .iter()
            .any(|sentence| sentence.contains("requests were lost"))
}

fn tier_in_words(tier: Option<Tier>) -> &'static str {
    match tier {
        Some(Tier::LoadBalancer) => "load balancer",
        Some(Tier::App) => "app server",
        Some(Tier::Database) => "database",
        None => "the whole stack",
    }
}

fn word(row: &Row) -> String {
    match row.verdict() {
        Verdict::Kept => "kept".into(),
        Verdict::Broken => "broken".into(),
        Verdict::Void => "void".into(),
    }
}

/// What a trial may lose, in words.
fn may_be_lost(lost: Loss) -> String {
    match lost {
        Loss::None => "none may be".into(),
        lost => lost.words(),
    }
}

/// What was lost, by kind.
fn losses(trials: &[&Trial]) -> Vec<String> {
    let mut kinds = std::collections::BTreeMap::<&str, usize>::new();
    for trial in trials {
        for (why, count) in &trial.measured.requests.failed {
            *kinds.entry(why).or_default() += count;
        }
    }
    kinds
        .into_iter()
        .map(|(why, count)| format!("{} × {why}", grouped(count)))
        .collect()
}

impl Tried {
    fn of(trial: &Trial, number: usize, is_drawn: bool) -> Self {
        let requests = &trial.measured.requests;
        let [gap, write_gap, slowest, noticed, _] =
            costs(trial).map(|(_, seen, _)| seen.map_or("–".into(), time));
        Self {
            number,
            nodes: trial.nodes.join(", "),
            verdict: Verdict::of(trial),
            gap,
            write_gap,
            slowest,
            noticed,
            lost: format!("{} of {}", grouped(requests.lost()), grouped(requests.sent)),
            whole: seconds(trial.measured.redundant_ms),
            // What was measured without a proper load breaks no promise.
            sentences: match &trial.void {
                Some(void) => vec![void.clone()],
                None => trial.broken.clone(),
            },
            is_drawn,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_template_turns_escaping_off() {
        for (name, text) in TEMPLATES {
            assert!(!text.contains("safe"), "{name}");
        }
    }
}
