//! Faults tried in a lab, from outside and inside.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, anyhow};

use super::request::{FaultsOrder, Request};
use super::runs::OutputArgs;
use super::ui::{Tone, Ui, paint};
use super::{findings, interrupts, lab_way, runs, source};
use crate::failure::{Failure, Outcome};
use crate::faults::catalogue::CATALOGUE;
use crate::faults::fault::Fault;
use crate::faults::report::{self, NotRun, Origin, Run, Verdict};
use crate::faults::soak::{self, Second, Soak};
use crate::faults::timing::Timing;
use crate::faults::trial::Trial;
use crate::faults::{inject, trial};
use crate::lab::{Lab, Place};
use crate::sink::Sink as _;

/// Tries faults in a lab that runs, and keeps what was found.
pub(super) fn try_faults(
    file: Option<&Path>,
    lab: Option<&str>,
    mut order: FaultsOrder,
    ui: &mut Ui,
) -> Result<Run, Failure> {
    let place = lab_way::place(file, lab)?;
    // The budget is the topology's; a lab whose topology is gone has none.
    if let Ok((_, topology)) = source::load(file, ui) {
        order.slo = topology.slo();
    }
    let run = try_in(&place, &order, ui)?;
    let number = runs::keep(&run)?;
    ui.say(&format!(
        "kept as run {number} of {}; `gen-topology faults report {number}` shows it again",
        run.stack
    ));
    if run.interrupted {
        return Err(Failure::Interrupted(format!(
            "{} trials were finished, and the lab is whole again",
            run.trials.len()
        )));
    }
    Ok(run)
}

/// Tries faults in a lab that runs.
pub(super) fn try_in(place: &Place, order: &FaultsOrder, ui: &mut Ui) -> Result<Run, Failure> {
    let running = lab_way::running(place)?;
    let _lock = place.lock()?;
    let interrupted = interrupts::listen_for_interrupts()?;
    let result = place.directory.join(RESULT);
    // What an earlier run left is not what this one found.
    let _ = std::fs::remove_file(&result);
    let request = Request::Faults(order.clone());
    let mut child = interrupts::apart(&mut lab_way::inner(&running, &request, ui)?)
        .spawn()
        .context("entering the lab")?;
    lab_way::imitate(interrupts::wait_for(&mut child, &interrupted)?)?;
    let text = std::fs::read_to_string(&result).context("reading what was found")?;
    Ok(Run::parse(text.as_bytes()).context("reading what was found")?)
}

/// File in a lab's directory in which the inner command leaves what it found.
const RESULT: &str = "faults.json";

/// Faults are tried, inside the lab.
pub(super) fn inside(place: &Place, order: &FaultsOrder, ui: &mut Ui) -> Outcome {
    let lab = Lab::open(place)?;
    let flag = interrupts::inside()?;
    let interrupted = || flag.load(Ordering::SeqCst);
    let mut run = Run {
        version: report::VERSION,
        stack: lab.plan().name.clone(),
        program: env!("CARGO_PKG_VERSION").to_owned(),
        sizes: crate::topology::Tier::ALL.map(|tier| lab.plan().tier(tier).count()),
        rate: order.pace.rate,
        seed: order.pace.seed,
        slo: order.slo,
        trials: Vec::new(),
        not_run: Vec::new(),
        interrupted: false,
        origin: origin(order),
    };
    // Somebody may have left the lab broken.
    inject::make_whole(&lab)?;
    let timing = trial::timing(&lab, order.pace.rate)?;
    if let Some(time) = order.soak {
        soaked(&lab, &timing, time, order, &interrupted, &mut run, ui)?;
    }
    for name in &order.faults {
        let fault = Fault::named(name).context("an unknown fault")?;
        let why = fault
            .lacks(&timing)
            .or_else(|| inject::unable(&lab, fault.action).map(str::to_owned));
        if let Some(why) = why {
            ui.say(&format!(
                "{} {name}: not run: {why}",
                paint(Tone::Warning, "-")
            ));
            run.not_run.push(NotRun {
                fault: name.clone(),
                why,
                failed: false,
            });
            continue;
        }
        for repeat in 0..order.repeat {
            if interrupted() {
                break;
            }
            let trial = Attempt {
                fault,
                second: None,
                number: repeat,
                of: order.repeat,
            };
            try_one(&lab, trial, order, &interrupted, &mut run, ui)?;
        }
    }
    run.interrupted = interrupted();
    let text = serde_json::to_string(&run)?;
    std::fs::write(place.directory.join(RESULT), text).context("writing what was found")?;
    Ok(())
}

/// When, where and how the run is made.
fn origin(order: &FaultsOrder) -> Origin {
    let system = rustix::system::uname();
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let kernel = system.release().to_string_lossy();
    let all = order.faults.len() == CATALOGUE.len();
    let names = if all {
        String::new()
    } else {
        format!(" {}", order.faults.join(" "))
    };
    let retry = if order.retry { " --retry" } else { "" };
    let way = match order.soak {
        Some(soak) => format!("soak --trials {}", soak.trials),
        None => format!("run{names} --repeat {}{retry}", order.repeat),
    };
    Origin {
        when: mongodb::bson::DateTime::now().try_to_rfc3339_string().ok(),
        machine: Some(format!("{processors} processors, Linux {kernel}")),
        command: Some(format!(
            "gen-topology faults {way} --rate {} --seed {}",
            order.pace.rate, order.pace.seed
        )),
    }
}

/// One trial of several.
#[derive(Clone, Copy)]
struct Attempt {
    fault: &'static Fault,
    second: Option<Second>,
    /// Which, from 0.
    number: u32,
    of: u32,
}

/// Random faults.
fn soaked(
    lab: &Lab,
    timing: &Timing,
    time: Soak,
    order: &FaultsOrder,
    interrupted: &dyn Fn() -> bool,
    run: &mut Run,
    ui: &mut Ui,
) -> anyhow::Result<()> {
    let candidates = soak::candidates(timing, &|action| inject::unable(lab, action).is_none());
    let begun = Instant::now();
    for number in 0..time.trials {
        if interrupted() || begun.elapsed() > Duration::from_secs(time.seconds) {
            break;
        }
        let (fault, second) = soak::choose(&candidates, order.pace.seed, number)
            .context("this stack can't have any fault")?;
        let trial = Attempt {
            fault,
            second,
            number,
            of: time.trials,
        };
        try_one(lab, trial, order, interrupted, run, ui)?;
    }
    Ok(())
}

fn try_one(
    lab: &Lab,
    trial: Attempt,
    order: &FaultsOrder,
    interrupted: &dyn Fn() -> bool,
    run: &mut Run,
    ui: &mut Ui,
) -> anyhow::Result<()> {
    let fault = trial.fault;
    announce(trial, ui);
    let pace = trial::Pace {
        seed: order.pace.seed.wrapping_add(u64::from(trial.number)),
        ..order.pace
    };
    let attempt = || {
        let mut trial = trial::run(lab, fault, trial.second, pace, &entries(), interrupted)?;
        trial.hold_to(order.slo);
        Ok(trial)
    };
    let tried = attempt().and_then(|first| {
        // Of many random ones each counts once.
        let retry = order.retry && order.soak.is_none();
        if !retry || !first.may_be_noise() || interrupted() {
            return Ok(first);
        }
        again(first, attempt, ui)
    });
    match tried {
        Ok(trial) => {
            ui.say(&findings::line(&trial));
            run.trials.push(trial);
            Ok(())
        }
        Err(_) if interrupted() => Ok(()),
        Err(error) => {
            // The others may still be possible; if the lab can't be mended they are not.
            run.not_run.push(NotRun {
                fault: fault.name.to_owned(),
                why: format!("{error:#}"),
                failed: true,
            });
            ui.error(&error.context(format!("{} could not be tried", fault.name)));
            trial::wait_until_whole(lab, interrupted)
        }
    }
}

fn announce(trial: Attempt, ui: &mut Ui) {
    let count = if trial.of > 1 {
        format!(" {}/{}", trial.number + 1, trial.of)
    } else {
        String::new()
    };
    let second = trial.second.map_or_else(String::new, |second| {
        format!("; {} ms later {}", second.after_ms, second.fault.breaks)
    });
    ui.say(&format!(
        "{} {}{count}: {}{second}",
        paint(Tone::Quiet, "…"),
        trial.fault.name,
        trial.fault.breaks
    ));
}

/// Tries a fault once more.
fn again(
    first: Trial,
    attempt: impl Fn() -> anyhow::Result<Trial>,
    ui: &mut Ui,
) -> anyhow::Result<Trial> {
    ui.say(&findings::line(&first));
    ui.say(&format!(
        "{} {}: once more, because nothing was lost and a busy machine may be the cause",
        paint(Tone::Quiet, "…"),
        first.fault
    ));
    let why: Vec<String> = first.broken.into_iter().chain(first.void).collect();
    let first_attempt = Some(why.join("; "));
    attempt().map(|second| Trial {
        first_attempt,
        ..second
    })
}

/// Beginning of the ids of a load's entries, different from those of every other load.
fn entries() -> String {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    format!("fault-{}", since.as_millis())
}

/// Makes the lab whole, inside it.
pub(super) fn undo(place: &Place, ui: &mut Ui) -> Outcome {
    let lab = Lab::open(place)?;
    inject::make_whole(&lab)?;
    inject::clean_up(&lab)?;
    trial::wait_until_whole(&lab, &|| false)?;
    ui.say(&format!("{} is whole", lab.plan().name));
    Ok(())
}

/// Tells what a run has shown. `lenient`: trials that say nothing are no failure.
pub(super) fn conclude(run: &Run, lenient: bool, output: &OutputArgs, ui: &mut Ui) -> Outcome {
    runs::present(run, output, ui)?;
    let count = |verdict| {
        let rows = run.rows();
        rows.iter().filter(|row| row.verdict() == verdict).count()
    };
    let sent: usize = run
        .trials
        .iter()
        .map(|trial| trial.measured.requests.sent)
        .sum();
    let lost: usize = run
        .trials
        .iter()
        .map(|trial| trial.measured.requests.lost())
        .sum();
    ui.say(&format!(
        "{} trials, {sent} requests, {lost} without an answer; {} faults cost more than predicted, {} say nothing, {} not run",
        run.trials.len(),
        count(Verdict::Broken),
        count(Verdict::Void),
        run.not_run.len()
    ));
    if let Some(writes) = run.written() {
        ui.say(&writes);
    }
    let failed = run.not_run.iter().filter(|not_run| not_run.failed).count();
    let is_kept = run.is_kept() || lenient && count(Verdict::Broken) == 0;
    match (is_kept, failed) {
        (false, _) => Err(Failure::Budget),
        (true, 0) => Ok(()),
        (true, _) => Err(anyhow!("{failed} faults could not be tried").into()),
    }
}
