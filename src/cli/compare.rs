//! `faults compare`: the load balancers that people copy and ours, broken in the same way.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use super::args::Format;
use super::lab_up::{self, Goal};
use super::request::FaultsOrder;
use super::ui::{Tone, Ui, paint, table};
use super::{faults_run, interrupts, source};
use crate::config;
use crate::failure::{Failure, Outcome};
use crate::faults::report::{Row, Run};
use crate::faults::trial::Pace;
use crate::render::recipes::{self, RECIPES, Recipe};
use crate::sink::Sink as _;
use crate::topology::Slo;

/// What is broken unless something else is said.
pub(super) const FAULTS: [&str; 5] = [
    "haproxy-dead",
    "lb-power-off",
    "lb-reboot",
    "gunicorn-stop",
    "app-power-off",
];

/// How ours is called.
const OURS: &str = "gen-topology";

/// `faults compare`.
pub(super) fn run(
    file: Option<&Path>,
    names: &[String],
    pace: Pace,
    format: Format,
    ui: &mut Ui,
) -> Outcome {
    let mut runs: BTreeMap<&str, Run> = BTreeMap::new();
    for recipe in RECIPES.iter().map(Some).chain([None]) {
        let name = recipe.map_or(OURS, |recipe| recipe.recipe);
        let about = recipe.map_or("this stack", |recipe| recipe.about);
        ui.say(&format!("{}: {about}", paint(Tone::Strong, name)));
        let run = measured(file, recipe, names, pace, ui)?;
        if run.interrupted {
            return Err(Failure::Interrupted("nothing is left of the labs".into()));
        }
        runs.insert(name, run);
    }
    if format == Format::Json {
        return ui.json(&runs);
    }
    let columns: Vec<&str> = [OURS]
        .into_iter()
        .chain(RECIPES.iter().map(|r| r.recipe))
        .collect();
    let rows: Vec<Vec<String>> = names
        .iter()
        .map(|fault| {
            let cells = columns.iter().map(|column| {
                let rows = runs.get(column).map(Run::rows).unwrap_or_default();
                let row = rows.iter().find(|row| row.fault == fault);
                row.map_or("not run".into(), cell)
            });
            [fault.clone()].into_iter().chain(cells).collect()
        })
        .collect();
    let header: Vec<&str> = ["LONGEST GAP, LOST"]
        .into_iter()
        .chain(columns.iter().copied())
        .collect();
    ui.data(&table(&header, &rows))
}

fn cell(row: &Row) -> String {
    format!(
        "{:.2} s, {} of {}",
        row.gap.worst / 1000.0,
        row.lost,
        row.sent
    )
}

/// A lab of its own, up, broken, and down again.
fn measured(
    file: Option<&Path>,
    recipe: Option<&Recipe>,
    names: &[String],
    pace: Pace,
    ui: &mut Ui,
) -> Result<Run, Failure> {
    let (source, topology) = source::load(file, ui)?;
    let ending = recipe.map_or("ours", |recipe| recipe.recipe);
    let name = format!("{}-{ending}", topology.name());
    let begun = Instant::now();
    let interrupted = interrupts::listen_for_interrupts()?;
    let (place, supplies, mut plan) = lab_up::planned(&source, &topology, Some(&name), ui)?;
    if let Some(recipe) = recipe {
        let files = recipes::files(*recipe, &config::resolve(&topology))?;
        plan.balance_by(&files, &supplies);
    }
    let order = FaultsOrder {
        faults: names.to_vec(),
        repeat: 1,
        pace,
        slo: Slo::default(),
        retry: false,
        soak: None,
    };
    let goal = Goal {
        topology: &source.path,
        supplies: &supplies,
        plan: &plan,
    };
    let found = lab_up::up_to(&place, &goal, true, begun, &interrupted, ui)
        .and_then(|()| faults_run::try_in(&place, &order, ui));
    lab_up::down(file, Some(&name), ui)?;
    found
}
