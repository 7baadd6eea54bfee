//! `faults …`: what can be broken, what it may cost, and what it does cost in the lab.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::{Args as ClapArgs, Subcommand};
use serde_json::json;

use super::args::{Format, FormatArgs};
use super::request::{FaultsOrder, Request};
use super::runs::OutputArgs;
use super::ui::{Tone, Ui, paint, table};
use super::{compare, faults_run, generate, lab_way, runs, source};
use crate::failure::{Failure, Outcome};
use crate::faults::catalogue::CATALOGUE;
use crate::faults::fault::Fault;
use crate::faults::soak::Soak;
use crate::faults::timing::{NodeFiles, Timing};
use crate::faults::{report, trial};
use crate::sink::Sink as _;
use crate::topology::{Slo, Topology, did_you_mean};

#[derive(Debug, ClapArgs)]
#[command(disable_help_subcommand = true)]
pub(super) struct FaultsArgs {
    /// Topology file; `-` is standard input [default: topology.json here or in a directory above]
    #[arg(short, long, value_name = "FILE", global = true)]
    pub file: Option<PathBuf>,
    /// Name of the lab [default: the topology's]
    #[arg(long, global = true, value_name = "NAME")]
    pub lab: Option<String>,
    #[command(subcommand)]
    pub command: FaultsCommand,
}

#[derive(Debug, Subcommand)]
pub(super) enum FaultsCommand {
    /// List every fault: what it breaks, what visitors see, what it may cost, how it is undone
    List(FormatArgs),
    /// Compute from the rendered files what each fault costs at most; needs no lab
    Predict {
        /// Requests a second
        #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=5000))]
        rate: u32,
        #[command(flatten)]
        format: FormatArgs,
    },
    /// Try faults in the lab under load, and measure what visitors notice
    ///
    /// Exit code 6 if a fault costs more than was predicted, or than the topology's `slo` allows.
    Run {
        /// Faults, such as `lb-power-off` or `db-*` [default: all]
        names: Vec<String>,
        /// How often each is tried
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
        repeat: u32,
        /// Requests a second
        #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=5000))]
        rate: u32,
        /// Decides which of several nodes is hit and when; the same number does the same again
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Try a fault once more if it broke a time, and don't fail for what a busy machine explains
        #[arg(long)]
        retry: bool,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Try random faults, one or two at a time, for a while
    ///
    /// Single faults are held to what is predicted for them. Of two at a time nothing is promised
    /// but that no acknowledged write is lost. Exit code 6 if something was lost that should not have been;
    /// what a busy machine explains is no failure.
    Soak {
        /// At most so many trials
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        trials: u32,
        /// No trial begins later than this
        #[arg(long, value_name = "MINUTES", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=10_000))]
        minutes: u64,
        /// Requests a second
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=5000))]
        rate: u32,
        /// Decides what is broken; the same number does the same again
        #[arg(long, default_value_t = 1)]
        seed: u64,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Break the load balancers that people copy, and ours, in the same way
    ///
    /// Brings up a lab of its own for each recipe, one after another.
    Compare {
        /// Faults [default: haproxy-dead lb-power-off lb-reboot gunicorn-stop app-power-off]
        names: Vec<String>,
        /// Requests a second
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=5000))]
        rate: u32,
        /// How many seconds visitors may wait before the fault is undone for them; kubeadm's
        /// recipe needs 32
        #[arg(long, value_name = "SECONDS", default_value_t = 40, value_parser = clap::value_parser!(u32).range(1..=600))]
        patience: u32,
        #[command(flatten)]
        format: FormatArgs,
    },
    /// List the runs that were kept
    Runs(FormatArgs),
    /// Show a run that was kept, or hold it against another one
    Report {
        /// Its number [default: the last one]
        run: Option<u32>,
        /// Tell instead what became worse or better since this run
        #[arg(long, value_name = "RUN")]
        against: Option<u32>,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Undo every fault in the lab, after a run that was killed
    Undo,
}

/// `faults …`.
pub(super) fn run(file: Option<&Path>, args: FaultsArgs, ui: &mut Ui) -> Outcome {
    let lab = args.lab.as_deref();
    match args.command {
        FaultsCommand::List(format) => list(file, format.format, ui),
        FaultsCommand::Predict { rate, format } => predict(file, rate, format.format, ui),
        FaultsCommand::Run {
            names,
            repeat,
            rate,
            seed,
            retry,
            output,
        } => {
            output.check()?;
            let order = FaultsOrder {
                faults: chosen(&names)?
                    .iter()
                    .map(|fault| fault.name.to_owned())
                    .collect(),
                repeat,
                pace: trial::Pace {
                    rate,
                    seed,
                    patience_ms: 0,
                },
                slo: Slo::default(),
                retry,
                soak: None,
            };
            let run = faults_run::try_faults(file, lab, order, ui)?;
            faults_run::conclude(&run, retry, &output, ui)
        }
        FaultsCommand::Soak {
            trials,
            minutes,
            rate,
            seed,
            output,
        } => {
            output.check()?;
            let soak = Soak {
                trials,
                seconds: minutes * 60,
            };
            let order = FaultsOrder {
                faults: Vec::new(),
                repeat: 1,
                pace: trial::Pace {
                    rate,
                    seed,
                    patience_ms: 0,
                },
                slo: Slo::default(),
                retry: true,
                soak: Some(soak),
            };
            let run = faults_run::try_faults(file, lab, order, ui)?;
            faults_run::conclude(&run, true, &output, ui)
        }
        FaultsCommand::Compare { .. } if lab.is_some() => Err(Failure::Usage(
            "`faults compare` brings up a lab of its own for each recipe; leave out --lab".into(),
        )),
        FaultsCommand::Compare {
            names,
            rate,
            patience,
            format,
        } => {
            let names = if names.is_empty() {
                compare::FAULTS.map(str::to_owned).to_vec()
            } else {
                chosen(&names)?
                    .iter()
                    .map(|fault| fault.name.to_owned())
                    .collect()
            };
            let pace = trial::Pace {
                rate,
                seed: 1,
                patience_ms: u64::from(patience) * 1000,
            };
            compare::run(file, &names, pace, format.format, ui)
        }
        FaultsCommand::Runs(format) => runs::list(&runs::Whose { file, lab }, format.format, ui),
        FaultsCommand::Report {
            run,
            against,
            output,
        } => runs::report(&runs::Whose { file, lab }, run, against, &output, ui),
        FaultsCommand::Undo => lab_way::pass(file, lab, &Request::UndoFaults, true, ui),
    }
}

/// The faults that are meant: names, or beginnings of names before a `*`; all if there are none.
fn chosen(names: &[String]) -> Result<Vec<&'static Fault>, Failure> {
    if names.is_empty() {
        return Ok(CATALOGUE.iter().collect());
    }
    let mut found = Vec::new();
    for name in names {
        let is_meant = |fault: &&Fault| match name.strip_suffix('*') {
            Some(start) => fault.name.starts_with(start),
            None => fault.name == name,
        };
        let before = found.len();
        found.extend(CATALOGUE.iter().filter(is_meant));
        if found.len() == before {
            let known = CATALOGUE.iter().map(|fault| fault.name);
            let hint = match did_you_mean(name, known) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => "`gen-topology faults list` lists them".into(),
            };
            return Err(Failure::Usage(format!(
                "there is no fault `{name}`; {hint}"
            )));
        }
    }
    Ok(found)
}

/// The times in the files that the topology is rendered to.
fn timing(topology: &Topology, rate: u32) -> anyhow::Result<Timing> {
    let rendered = generate::rendered(topology)?;
    let mut nodes = Vec::new();
    for (node, files) in topology.nodes().iter().zip(&rendered) {
        let below = |path: &str| match path {
            crate::render::FACTS => Some("gen-topology/node.json".to_owned()),
            path => path.strip_prefix("etc/").map(str::to_owned),
        };
        let etc: BTreeMap<String, String> = files
            .files
            .iter()
            .filter_map(|(path, text)| Some((below(path)?, text.to_string())))
            .collect();
        nodes.push((node.tier, etc));
    }
    let files: Vec<NodeFiles> = nodes
        .iter()
        .map(|(tier, etc)| NodeFiles { tier: *tier, etc })
        .collect();
    Timing::read(&files, rate)
}

fn list(file: Option<&Path>, format: Format, ui: &mut Ui) -> Outcome {
    let (_, topology) = source::load(file, ui)?;
    let timing = timing(&topology, DEFAULT_RATE)?;
    if format == Format::Json {
        let all: Vec<_> = CATALOGUE
            .iter()
            .map(|fault| {
                json!({
                    "name": fault.name,
                    "tier": fault.tier,
                    "breaks": fault.breaks,
                    "visitors": fault.visitors,
                    "undo": fault.undo,
                    "bound": fault.costs(&timing),
                    "lacks": fault.lacks(&timing),
                })
            })
            .collect();
        return ui.json(&all);
    }
    let mut text = String::new();
    for fault in CATALOGUE {
        let bound = fault.costs(&timing);
        text.push_str(&format!("{}\n", paint(Tone::Strong, fault.name)));
        text.push_str(&format!("  what      {}\n", fault.breaks));
        text.push_str(&format!("  visitors  {}\n", fault.visitors));
        for (what, limit) in bound.limits() {
            text.push_str(&format!(
                "  bound     {what} ≤ {} = {} = {:.0} ms\n",
                limit.formula, limit.values, limit.ms
            ));
        }
        text.push_str(&format!("  lost      {}\n", bound.lost.words()));
        text.push_str(&format!("  undone    {}\n", fault.undo));
        if let Some(lacks) = fault.lacks(&timing) {
            text.push_str(&format!(
                "  {}\n",
                paint(Tone::Warning, &format!("this stack can't have it: {lacks}"))
            ));
        }
        text.push('\n');
    }
    ui.data(text.trim_end())
}

/// Requests a second unless something else is said.
pub(super) const DEFAULT_RATE: u32 = 200;

fn predict(file: Option<&Path>, rate: u32, format: Format, ui: &mut Ui) -> Outcome {
    let (_, topology) = source::load(file, ui)?;
    let timing = timing(&topology, rate)?;
    let predictions: Vec<_> = CATALOGUE
        .iter()
        .map(|fault| {
            let bound = fault.costs(&timing);
            let lacks = fault.lacks(&timing);
            let over = match lacks {
                None => report::over_budget(&bound, topology.slo()),
                Some(_) => Vec::new(),
            };
            (fault, bound, lacks, over)
        })
        .collect();
    if format == Format::Json {
        let all: Vec<_> = predictions
            .iter()
            .map(|(fault, bound, lacks, over)| json!({ "fault": fault.name, "bound": bound, "lacks": lacks, "over_budget": over }))
            .collect();
        ui.json(&all)?;
    } else {
        let ms = |limit: &Option<crate::faults::bound::Limit>| {
            limit
                .as_ref()
                .map_or("-".into(), |limit| format!("{:.0} ms", limit.ms))
        };
        let rows: Vec<Vec<String>> = predictions
            .iter()
            .map(|(fault, bound, lacks, over)| {
                if let Some(lacks) = lacks {
                    return vec![fault.name.to_owned(), paint(Tone::Quiet, lacks)];
                }
                let tone = if over.is_empty() {
                    Tone::Strong
                } else {
                    Tone::Bad
                };
                let longest = bound.write_gap.as_ref().or(bound.gap.as_ref());
                vec![
                    paint(tone, fault.name),
                    ms(&bound.gap),
                    ms(&bound.write_gap),
                    ms(&bound.slowest),
                    ms(&bound.detect),
                    bound.lost.words(),
                    longest.map_or("-", |limit| &limit.formula).to_owned(),
                ]
            })
            .collect();
        ui.data(&table(
            &[
                "FAULT",
                "GAP",
                "OF WRITES",
                "SLOWEST",
                "NOTICED",
                "LOST",
                "LONGEST GAP IS",
            ],
            &rows,
        ))?;
    }
    let over: Vec<String> = predictions
        .iter()
        .flat_map(|(fault, _, _, over)| {
            over.iter()
                .map(move |what| format!("{}: {what}", fault.name))
        })
        .collect();
    for sentence in &over {
        ui.warn(&format!("{} {sentence}", paint(Tone::Bad, "over budget:")));
    }
    if over.is_empty() {
        Ok(())
    } else {
        Err(Failure::Budget)
    }
}
