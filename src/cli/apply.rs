//! `lab apply`: a running lab brought to the edited topology, step by step behind
//! gates, and `plan --against lab`, which only tells.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args as ClapArgs;

use super::args::{ChoiceArgs, Format, PlanArgs};
use super::request::{ApplyOrder, Purpose, Request};
use super::rollout::{self, Words};
use super::ui::Ui;
use super::{generate, interrupts, lab_up, lab_way, plan_text, requirements, source};
use crate::deploy::journal::{self, Unfinished};
use crate::deploy::{self, Choice, Engine, Now, Options};
use crate::failure::{Failure, Outcome};
use crate::lab::site::{LabSite, fleet};
use crate::lab::{Lab, LabPlan, Place, RunningLab, enter, supplies};
use crate::sink::Sink as _;
use crate::site;
use crate::topology::{Millis, Selector, Tier};

#[derive(Debug, ClapArgs)]
pub(super) struct ApplyArgs {
    #[command(flatten)]
    pub choice: ChoiceArgs,
    /// How long the app servers of `--canary` are watched
    #[arg(long, value_name = "TIME", default_value = "10s")]
    pub bake: Millis,
    /// Go on after an apply that was interrupted or killed
    #[arg(long, conflicts_with = "on")]
    pub resume: bool,
    /// Print what would be done and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// How to print
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub format: Format,
}

/// How a roll-out in the lab is spoken of.
const WORDS: Words = Words {
    command: "lab apply",
    logs: "lab logs",
    waiting: "`gen-topology lab up --wait` waits until every node is well",
};

/// `plan --against lab`.
pub(super) fn plan(file: Option<&Path>, args: &PlanArgs, ui: &mut Ui) -> Outcome {
    let order = ApplyOrder {
        canary: args.choice.canary,
        max_unavailable: args.choice.max_unavailable,
        bake_ms: 0,
        on: args.choice.on.as_ref().map(Selector::to_string),
        purpose: Purpose::Show {
            exit_code: args.exit_code,
        },
        json: args.format == Format::Json,
    };
    outside(file, args.lab.as_deref(), &order, ui)
}

/// `lab apply`.
pub(super) fn run(
    file: Option<&Path>,
    lab: Option<&str>,
    args: &ApplyArgs,
    ui: &mut Ui,
) -> Outcome {
    let order = ApplyOrder {
        canary: args.choice.canary,
        max_unavailable: args.choice.max_unavailable,
        bake_ms: args.bake.get(),
        on: args.choice.on.as_ref().map(Selector::to_string),
        purpose: if args.dry_run {
            Purpose::Show { exit_code: false }
        } else {
            Purpose::Do {
                resume: args.resume,
            }
        },
        json: args.format == Format::Json,
    };
    outside(file, lab, &order, ui)
}

fn outside(file: Option<&Path>, name: Option<&str>, order: &ApplyOrder, ui: &mut Ui) -> Outcome {
    let interrupted = interrupts::listen_for_interrupts()?;
    let (source, topology) = source::load(file, ui)?;
    let name = name.map_or_else(|| topology.name().to_string(), str::to_owned);
    let place = Place::of(&name)?;
    let running = lab_way::running(&place)?;
    let path = std::path::absolute(&source.path).context("finding the topology file")?;
    let rendered = generate::rendered(&topology)?;
    requirements::refuse(&source, &topology)?;
    let supplies = supplies::gather(&topology, &source.base, &place, &mut |line| ui.say(&line))?;
    let plan = LabPlan::of(&topology, &rendered, &supplies, &name);
    let _lock = if order.only_shows() {
        None
    } else {
        let lock = place.lock()?;
        place.claim(&path)?;
        lab_up::install_program(&place)?;
        supplies.keep_app()?;
        Some(lock)
    };
    let mut child = interrupts::apart(&mut inner(&running, order, ui)?)
        .stdin(Stdio::piped())
        .spawn()
        .context("entering the lab")?;
    if let Some(mut pipe) = child.stdin.take() {
        // If the inner command ended early its status says why.
        let _ = pipe.write_all(&serde_json::to_vec(&plan)?);
    }
    let status = interrupts::wait_for(&mut child, &interrupted)?;
    if interrupted.load(Ordering::SeqCst) && status.code().is_none() {
        // It was ended before it listened, and it listens before it touches anything.
        return Err(Failure::Interrupted("nothing was touched".into()));
    }
    lab_way::imitate(status)
}

/// This program inside the lab; a dry run leaves even the lab's copy of it as it is.
fn inner(running: &RunningLab, order: &ApplyOrder, ui: &Ui) -> anyhow::Result<Command> {
    let request = Request::Apply(order.clone());
    if !order.only_shows() {
        return lab_way::inner(running, &request, ui);
    }
    let own = std::env::current_exe().context("finding this program")?;
    let mut command = enter::command(running, &own);
    lab_way::with_request(&mut command, running, &request, ui)?;
    Ok(command)
}

/// The part inside the lab's namespaces.
pub(super) fn inside(place: &Place, order: &ApplyOrder, ui: &mut Ui) -> Outcome {
    let flag = interrupts::inside()?;
    let mut text = String::new();
    std::io::stdin()
        .read_to_string(&mut text)
        .context("reading the plan")?;
    let wanted: LabPlan = serde_json::from_str(&text).context("reading the plan")?;
    let lab = Lab::with(place, wanted.clone())?;
    let path = lab.journal();
    let unfinished = journal::unfinished(&path)?.unwrap_or_default();
    let before = as_it_is(&lab, &unfinished);
    let (old, new) = (fleet(&before)?, fleet(&wanted)?);
    let now = roles(place, before, &unfinished, &lab)?;
    let choice = Choice {
        max_unavailable: order.max_unavailable,
        canary: order.canary,
        on: order
            .on
            .as_deref()
            .map(|on| rollout::chosen(&on.parse().map_err(Failure::Usage)?, &old, &new))
            .transpose()?,
    };
    let plan = deploy::plan(&old, &new, &now, &choice);
    let resume = match order.purpose {
        Purpose::Do { resume } => resume,
        Purpose::Show { exit_code } => {
            let format = if order.json {
                Format::Json
            } else {
                Format::Table
            };
            plan_text::show(&plan, format, ui)?;
            return plan_text::verdict(&plan, exit_code);
        }
    };
    rollout::resumable(&unfinished, resume, &WORDS, ui)?;
    if plan.is_empty() && plan.obstacles.is_empty() {
        journal::forget(&path)?;
        lab.record()?;
        ui.say("nothing to do: everything is as the topology says");
        return Ok(());
    }
    ui.say(plan_text::text(&plan).trim_end());
    let host = LabSite::new(&lab);
    let engine = Engine {
        host: &host,
        old: &old,
        new: &new,
        plan: &plan,
        options: Options {
            canary: order.canary,
            bake: Duration::from_millis(order.bake_ms),
        },
        interrupted: &|| flag.load(Ordering::SeqCst),
    };
    rollout::carry_out(&engine, &path, &unfinished, order.json, &WORDS, ui)?;
    lab.forget_versions();
    Ok(())
}

/// The lab as it is. A node whose start was interrupted counts as not there yet.
fn as_it_is(lab: &Lab, unfinished: &Unfinished) -> LabPlan {
    let is_half_there =
        |name: &str| unfinished.is_half_there(name) && lab.plan().node(name).is_some();
    LabPlan {
        nodes: lab
            .present()
            .into_iter()
            .filter(|node| !is_half_there(&node.name))
            .collect(),
        ..lab.plan().clone()
    }
}

/// Who has which part at the moment.
fn roles(
    place: &Place,
    before: LabPlan,
    unfinished: &Unfinished,
    wanted: &Lab,
) -> anyhow::Result<Now> {
    let lab = Lab::with(place, before)?;
    let site = LabSite::new(&lab);
    let mut nodes = site.nodes();
    nodes.retain(|node| node.tier != Tier::App);
    let roles = site::roles(&site, &nodes);
    let unfinished: BTreeSet<String> = unfinished.nodes.keys().cloned().collect();
    Ok(Now {
        owner: roles.owners.into_iter().next(),
        primaries: roles.primaries,
        down: unfinished
            .iter()
            .filter(|name| wanted.pid(name).is_none())
            .cloned()
            .collect(),
        unfinished,
    })
}
