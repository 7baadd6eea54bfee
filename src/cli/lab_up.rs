//! `lab up` and `lab down`: a lab brought to a plan, and removed.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::Context as _;

use super::interrupts::{apart, listen_for_interrupts, wait_for};
use super::lab_way::{imitate, inner, place as lab_place};
use super::request::Request;
use super::ui::{Tone, Ui, paint};
use super::{generate, requirements, source};
use crate::failure::{Failure, Outcome};
use crate::files;
use crate::lab::supplies::{self, Supplies};
use crate::lab::{LabPlan, Place, enter};
use crate::sink::Sink as _;
use crate::topology::{Source, Topology};

pub(super) fn up(
    file: Option<&Path>,
    lab: Option<&str>,
    [wait, databases, dry_run]: [bool; 3],
    ui: &mut Ui,
) -> Outcome {
    let begun = Instant::now();
    let interrupted = listen_for_interrupts()?;
    let (source, topology) = source::load(file, ui)?;
    let (place, supplies, mut plan) = planned(&source, &topology, lab, ui)?;
    if databases {
        if topology.database().is_none() {
            return Err(anyhow::anyhow!("this stack has no database to start").into());
        }
        plan.keep_databases();
    }
    if dry_run {
        return ui.json(&plan);
    }
    let goal = Goal {
        topology: &source.path,
        supplies: &supplies,
        plan: &plan,
    };
    up_to(&place, &goal, wait, begun, &interrupted, ui)
}

/// The lab of a topology: where it is, what it needs from outside and what it consists of.
pub(super) fn planned(
    source: &Source,
    topology: &Topology,
    lab: Option<&str>,
    ui: &mut Ui,
) -> Result<(Place, Supplies, LabPlan), Failure> {
    let name = lab.map_or_else(|| topology.name().to_string(), str::to_owned);
    requirements::refuse(source, topology)?;
    let place = Place::of(&name)?;
    let rendered = generate::rendered(topology)?;
    let supplies = supplies::gather(topology, &source.base, &place, &mut |line| {
        ui.say(&line);
    })?;
    let plan = LabPlan::of(topology, &rendered, &supplies, &name);
    Ok((place, supplies, plan))
}

/// Brings a lab to a plan. One that could not be started leaves nothing behind.
pub(super) fn up_to(
    place: &Place,
    goal: &Goal,
    wait: bool,
    begun: Instant,
    interrupted: &AtomicBool,
    ui: &mut Ui,
) -> Outcome {
    goal.supplies.suffice(goal.plan)?;
    let _lock = place.lock()?;
    let fresh = place.anchor().is_none();
    let outcome = bring_up(place, goal, wait, begun, interrupted, ui);
    if interrupted.load(Ordering::SeqCst) {
        if fresh {
            remove(place)?;
            return Err(Failure::Interrupted("nothing is left of the lab".into()));
        }
        return Err(Failure::Interrupted(
            "the lab goes on as far as it was; `gen-topology lab up` continues".into(),
        ));
    }
    if let Err(error) = &outcome
        && fresh
        && !matches!(error, Failure::Status(1))
    {
        // What could not even be started is not worth looking at, and its directory would be in the way.
        remove(place)?;
        ui.say("nothing is left of the lab");
    }
    // The inner command's code for "not usable" is between the two of us.
    outcome.map_err(|error| match error {
        Failure::Status(_) => Failure::Status(1),
        other => other,
    })
}

/// What a lab is brought to.
pub(super) struct Goal<'g> {
    /// The topology file it is made from.
    pub topology: &'g Path,
    /// What it needs from outside.
    pub supplies: &'g supplies::Supplies,
    /// What it consists of.
    pub plan: &'g LabPlan,
}

fn bring_up(
    place: &Place,
    goal: &Goal<'_>,
    wait: bool,
    begun: Instant,
    interrupted: &AtomicBool,
    ui: &mut Ui,
) -> Outcome {
    place.claim(&std::path::absolute(goal.topology).context("finding the topology file")?)?;
    install_program(place)?;
    goal.supplies.keep_app()?;
    let lab = match place.running() {
        Some(lab) => lab,
        None => enter::start_anchor(place)?,
    };
    let spent_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    let mut command = inner(&lab, &Request::Up { wait, spent_ms }, ui)?;
    let mut child = apart(&mut command)
        .stdin(Stdio::piped())
        .spawn()
        .context("entering the lab")?;
    if let Some(mut pipe) = child.stdin.take() {
        // If the inner command ended early its status says why.
        let _ = pipe.write_all(&serde_json::to_vec(goal.plan)?);
    }
    let status = wait_for(&mut child, interrupted)?;
    if status.success() && !wait {
        ui.say(&format!(
            "next: {} or {}",
            paint(Tone::Strong, "gen-topology lab status"),
            paint(Tone::Strong, "gen-topology lab forward")
        ));
    }
    imitate(status)
}

/// Copies this program to where the lab's nodes run it, unless the same is there.
pub(super) fn install_program(place: &Place) -> anyhow::Result<()> {
    let own = std::env::current_exe().context("finding this program")?;
    let target = place.program();
    let new = fs::read(&own).with_context(|| format!("reading {}", own.display()))?;
    if fs::read(&target).is_ok_and(|old| old == new) {
        return Ok(());
    }
    let directory = target.parent().context("the lab has no directory")?;
    fs::create_dir_all(directory).with_context(|| format!("creating {}", directory.display()))?;
    let temporary = directory.join(".new");
    fs::copy(&own, &temporary)
        .and_then(|_| fs::rename(&temporary, &target))
        .with_context(|| format!("copying this program to {}", target.display()))
}

/// Ends a lab and removes its directory.
fn remove(place: &Place) -> anyhow::Result<()> {
    enter::end(place)?;
    files::remove_directory(&place.directory)
        .with_context(|| format!("removing {}", place.directory.display()))
}

pub(super) fn down(file: Option<&Path>, lab: Option<&str>, ui: &mut Ui) -> Outcome {
    let begun = Instant::now();
    if lab.is_none() && Place::all()?.is_empty() {
        ui.say("there is no lab; nothing to do");
        return Ok(());
    }
    let place = lab_place(file, lab)?;
    let _lock = place.lock()?;
    if place.anchor().is_none() && !place.directory.exists() {
        place.forget_lock();
        ui.say(&format!("there is no lab {}; nothing to do", place.name));
        return Ok(());
    }
    remove(&place)?;
    place.forget_lock();
    ui.say(&format!(
        "{} is down in {:.2} s; nothing is left of it",
        place.name,
        begun.elapsed().as_secs_f64()
    ));
    Ok(())
}
