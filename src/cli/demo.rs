//! `demo`: the stack up, broken in seven ways, and what visitors noticed.

use std::path::Path;

use clap::Args as ClapArgs;

use super::args::FileArg;
use super::request::{FaultsOrder, Request};
use super::runs::OutputArgs;
use super::ui::{Tone, Ui, paint};
use super::{faults_run, lab_up, lab_way, source};
use crate::failure::{Failure, Outcome};
use crate::faults::report::Run;
use crate::faults::{tour, trial};
use crate::lab::Lab;
use crate::sink::Sink as _;

#[derive(Debug, ClapArgs)]
pub(super) struct DemoArgs {
    #[command(flatten)]
    pub file: FileArg,
    /// Leave the lab running afterwards
    #[arg(long)]
    pub keep: bool,
    #[command(flatten)]
    pub output: OutputArgs,
    /// Requests a second
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=2000))]
    pub rate: u32,
}

/// `demo`, from outside: a lab of its own name, so that one that runs is left alone.
pub(super) fn run(file: Option<&Path>, args: &DemoArgs, ui: &mut Ui) -> Outcome {
    args.output.check()?;
    let (_, topology) = source::load(file, ui)?;
    let name = format!("{}-demo", topology.name());
    lab_up::up(file, Some(&name), [true, false, false], ui)?;
    let outcome = tour_of(file, &name, args, ui);
    if args.keep {
        ui.say(&format!(
            "the lab goes on; `gen-topology lab down --lab {name}` ends it"
        ));
    } else {
        lab_up::down(file, Some(&name), ui)?;
    }
    let run = outcome?;
    faults_run::conclude(&run, true, &args.output, ui)
}

fn tour_of(file: Option<&Path>, name: &str, args: &DemoArgs, ui: &mut Ui) -> Result<Run, Failure> {
    lab_way::pass(file, Some(name), &Request::Look, false, ui)?;
    let order = FaultsOrder {
        faults: tour::FAULTS.map(str::to_owned).to_vec(),
        repeat: 1,
        pace: trial::Pace {
            rate: args.rate,
            seed: 1,
            patience_ms: 0,
        },
        slo: crate::topology::Slo::default(),
        retry: true,
        soak: None,
    };
    faults_run::try_faults(file, Some(name), order, ui)
}

/// The first look, inside the lab.
pub(super) fn look(lab: &Lab, ui: &mut Ui) -> Outcome {
    for sentence in tour::look(lab, &|| false)? {
        ui.say(&format!("{} {sentence}", paint(Tone::Good, "✓")));
    }
    Ok(())
}
