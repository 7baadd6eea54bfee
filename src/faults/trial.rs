//! One fault, tried: the lab under load, something broken, what visitors noticed, and
//! the lab whole again.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde::{Deserialize, Serialize};

use super::bound::{Bound, Limit, Loss};
use super::fault::{Action, Fault, Target};
use super::inject;
use super::ledger::{self, Ledger, Witness};
use super::load::{self, Load, Sample, Shape, Summary, milliseconds, summary};
use super::noise::{Noise, Pulse};
use super::predict::DARK;
use super::soak::Second;
use super::timeline::Timeline;
use super::timing::{NodeFiles, Timing};
use super::watch::{self, Change, Subject};
use crate::config::NodeFacts;
use crate::lab::{Lab, NodePlan};
use crate::topology::{Millis, Slo, Tier};

/// Load before something is broken, so that a gap at the start is seen as one.
const WARM_UP: Duration = Duration::from_secs(1);
/// Load after everything is well again.
const COOL_DOWN: Duration = Duration::from_millis(1500);
/// How long a fault lasts beyond what it may cost.
const BEYOND: Duration = Duration::from_millis(1500);
/// How long visitors have to be served without trouble until it counts as over.
const CALM: Duration = Duration::from_secs(3);
/// Time between two looks whether all is as before.
const LOOK: Duration = Duration::from_millis(100);
/// How long a fault lasts at most: what takes longer is as good as not noticed.
const LONGEST: f64 = 120.0;
/// How long anything may take to be as before.
const PATIENCE: Duration = Duration::from_secs(60);

/// How faults are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pace {
    /// Requests a second.
    pub rate: u32,
    /// Decides which of several nodes is hit, and when between two health checks.
    pub seed: u64,
    /// How much longer than predicted a fault may last until visitors are served again, in
    /// milliseconds.
    pub patience_ms: u64,
}

/// What was measured, as seen from a client's place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// The requests of the whole time, from the first to the last.
    pub requests: Summary,
    /// Until whoever has to act knew: the virtual IP moved, haproxy saw the server down, another
    /// primary was elected. In milliseconds; none if nobody had to act.
    pub detect_ms: Option<f64>,
    /// Until the last request that failed or was slow, while the fault lasted. In milliseconds.
    pub recover_ms: f64,
    /// From the end of the fault until every request was answered well again. In milliseconds.
    pub restored_ms: f64,
    /// From the end of the fault until every node was as before. In milliseconds.
    pub redundant_ms: f64,
    /// How often the virtual IP changed hands.
    pub moves: usize,
    /// How often another database became primary.
    pub elections: usize,
    /// What became of the entries; none if the application takes none.
    pub ledger: Option<Ledger>,
}

/// A fault that was tried once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// Which fault.
    pub fault: String,
    /// Nodes that were hit.
    pub nodes: Vec<String>,
    /// Requests a second.
    pub rate: u32,
    /// What it may cost.
    pub bound: Bound,
    /// What it did cost.
    pub measured: Measured,
    /// What was not as promised, a sentence each.
    pub broken: Vec<String>,
    /// Whether some of that is a loss, and not only a time.
    #[serde(default)]
    pub is_loss: bool,
    /// Why this says nothing about the stack, if it does not.
    pub void: Option<String>,
    /// How busy the machine was.
    #[serde(default)]
    pub noise: Noise,
    /// What went wrong the first time, if this is the second attempt.
    #[serde(default)]
    pub first_attempt: Option<String>,
    /// Everything on one axis of time.
    pub timeline: Timeline,
}

impl Trial {
    /// Whether it cost no more than it may.
    pub fn is_kept(&self) -> bool {
        self.broken.is_empty() && self.void.is_none()
    }

    /// Whether a second attempt may show that the machine was the cause: nothing was lost.
    pub fn may_be_noise(&self) -> bool {
        !self.is_kept() && !self.is_loss
    }

    /// Holds it to the budget that the topology sets, too.
    pub fn hold_to(&mut self, slo: Slo) {
        let times = over_budget(self, slo);
        self.judge(times);
    }

    /// Adds limits of time that were broken. If the machine was too busy to tell, they make it void.
    fn judge(&mut self, times: Vec<String>) {
        if times.is_empty() {
            return;
        }
        match self.noise.excuse().filter(|_| self.broken.is_empty()) {
            Some(why) => {
                let why = format!(
                    "{}; {why}: that says nothing about the stack",
                    times.join("; ")
                );
                self.void.get_or_insert(why);
            }
            None => self.broken.extend(times),
        }
    }
}

/// What a trial has cost beyond the budget that the topology sets, a sentence each.
pub fn over_budget(trial: &Trial, slo: Slo) -> Vec<String> {
    if matches!(
        trial.bound.lost,
        Loss::Everything | Loss::Writes | Loss::Answers
    ) {
        return Vec::new();
    }
    let requests = &trial.measured.requests;
    let over = |what: &str, seen: f64, budget: Option<Millis>| {
        let budget = budget?;
        (seen > budget.seconds() * 1000.0)
            .then(|| format!("{what}: {seen:.0} ms, the budget is {budget}"))
    };
    let written = trial.measured.ledger.is_some();
    [
        over("longest gap", requests.longest_gap_ms, slo.longest_gap),
        over(
            "longest gap between writes",
            requests.longest_write_gap_ms,
            slo.longest_write_gap.filter(|_| written),
        ),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The times of the lab's own files.
///
/// # Errors
/// If they can't be read.
pub fn timing(lab: &Lab, rate: u32) -> anyhow::Result<Timing> {
    // The plan's order is that of starting; within a tier it is that of the topology.
    let files: Vec<NodeFiles> = lab
        .plan()
        .nodes
        .iter()
        .map(|node| NodeFiles {
            tier: node.tier,
            etc: &node.etc,
        })
        .collect();
    Timing::read(&files, rate)
}

/// Where visitors go.
pub fn target(lab: &Lab) -> load::Target {
    lab.plan().entrance()
}

/// Waits until nothing is missing: every node ready, every app server in use by every
/// load balancer, one owner of the virtual IP, one primary.
///
/// # Errors
/// If it takes longer than a minute, with what is missing.
pub fn wait_until_whole(lab: &Lab, interrupted: &dyn Fn() -> bool) -> anyhow::Result<()> {
    let preferred = lab
        .plan()
        .tier(Tier::LoadBalancer)
        .next()
        .filter(|node| takes_back(node));
    let begun = Instant::now();
    loop {
        if interrupted() {
            bail!("interrupted");
        }
        let back = preferred.is_none_or(|first| lab.owners() == [first.name.as_str()]);
        let missing = match lab.missing() {
            Some(missing) => missing,
            None if back => return Ok(()),
            None => "the virtual IP is not where it belongs".into(),
        };
        ensure!(
            begun.elapsed() < PATIENCE,
            "waited {} s in vain: {missing}",
            PATIENCE.as_secs()
        );
        // Asking costs time that the stack needs while it is measured.
        std::thread::sleep(LOOK);
    }
}

/// Whether a load balancer takes the virtual IP back when it is well again.
fn takes_back(node: &NodePlan) -> bool {
    let facts = node.etc.get("gen-topology/node.json");
    facts
        .and_then(|text| serde_json::from_str::<NodeFacts>(text).ok())
        .and_then(|facts| facts.load_balancer)
        .is_none_or(|settings| settings.preempt)
}

/// Tries a fault, and with `second` another one while it lasts. The lab has to be whole, and is so again afterwards, even if this fails.
///
/// # Errors
/// If the fault could not be made or undone, or Ctrl-C was pressed.
pub fn run(
    lab: &Lab,
    fault: &Fault,
    second: Option<Second>,
    pace: Pace,
    name: &str,
    interrupted: &dyn Fn() -> bool,
) -> anyhow::Result<Trial> {
    let outcome = inject::prepare(lab, fault.action)
        .and_then(|()| wait_until_whole(lab, interrupted))
        .and_then(|()| attempt(lab, fault, second, pace, name, interrupted));
    // Whatever happened: nobody else is to find a broken lab.
    let mended = inject::make_whole(lab).and_then(|()| inject::clean_up(lab));
    let trial = outcome?;
    mended?;
    Ok(trial)
}

/// The moments of a trial, since its load began.
struct Moments {
    broken: Duration,
    undone: Duration,
    whole: Duration,
    end: Duration,
}

fn attempt(
    lab: &Lab,
    fault: &Fault,
    second: Option<Second>,
    pace: Pace,
    name: &str,
    interrupted: &dyn Fn() -> bool,
) -> anyhow::Result<Trial> {
    let rate = pace.rate * fault.load_factor();
    let timing = timing(lab, rate)?;
    let (bound, lasts) = costs(fault, second, &timing);
    let target = target(lab);
    let writes = ledger::is_kept_by(target)?;
    let mut nodes = inject::targets(lab, fault.target, pace.seed)?;
    let mut tried = fault.name.to_owned();
    inject::set_up(lab, fault.action, &nodes)?;
    let pulse = Pulse::start();
    let load = Load::start(target, Shape { rate, writes }, name);
    let witness = writes.then(|| Witness::start(&load, name));
    let moments = watch::during(lab, Instant::now(), || {
        // Not always at the same time between two checks.
        rest(
            WARM_UP + Duration::from_millis(pace.seed * 379 % 1000),
            interrupted,
        );
        let broken = load.now();
        let held = inject::apply(lab, fault.action, &nodes)
            .with_context(|| format!("breaking {}", nodes.join(", ")))?;
        let also = match second {
            Some(second) => {
                rest(Duration::from_millis(second.after_ms), interrupted);
                inject::apply_beside(lab, second.fault, pace.seed, &nodes)?
            }
            None => None,
        };
        rest(lasts, interrupted);
        let more = Duration::from_millis(pace.patience_ms);
        rest(more, || load.is_calm(CALM) || interrupted());
        let undone = load.now();
        if let (Some(second), Some((_, hit))) = (second, &also) {
            tried = format!("{tried} + {}", second.fault.name);
            nodes.extend(hit.iter().cloned());
        }
        drop((held, also));
        inject::make_whole(lab)?;
        wait_until_whole(lab, interrupted)?;
        let whole = load.now();
        rest(COOL_DOWN, interrupted);
        Ok(Moments {
            broken,
            undone,
            whole,
            end: load.now(),
        })
    });
    let samples = load.finish();
    let noise = pulse.finish().and_of(&samples);
    let (moments, changes) = moments?;
    let ledger = match witness {
        Some(witness) => Some(ledger::settle(target, name, &samples, witness)?),
        None => None,
    };
    let measured = measure(fault, &nodes, &samples, &changes, &moments, ledger);
    let losses = losses(bound.lost, &measured, &samples);
    let times = times(&bound, &measured);
    // What was lost counts on a busy machine, too.
    let late = void(&measured.requests, rate).filter(|_| losses.is_empty());
    let mut trial = Trial {
        fault: tried,
        rate,
        is_loss: !losses.is_empty(),
        broken: losses,
        void: late,
        noise,
        first_attempt: None,
        timeline: Timeline::of(
            &samples,
            changes,
            [moments.broken, moments.undone, moments.whole, moments.end],
        ),
        nodes,
        bound,
        measured,
    };
    trial.judge(times);
    Ok(trial)
}

/// What the faults of a trial may cost, and how long they last.
fn costs(fault: &Fault, second: Option<Second>, timing: &Timing) -> (Bound, Duration) {
    let bound = fault.costs(timing);
    let lasts = duration(fault, &bound);
    match second {
        None => (bound, lasts),
        Some(second) => {
            let other = duration(second.fault, &second.fault.costs(timing));
            (Second::bound(), lasts.max(other))
        }
    }
}

/// How long a fault lasts: as long as it may be felt, and a little longer.
fn duration(fault: &Fault, bound: &Bound) -> Duration {
    if fault.target == Target::Everything {
        return Duration::from_secs_f64(DARK / 1000.0);
    }
    let longest = bound
        .limits()
        .filter(|(what, _)| *what != "time to restore")
        .map(|(_, limit)| limit.ms)
        .fold(0.0, f64::max);
    let least = match fault.action {
        // Nothing happens in a moment when answers are only slow or wrong.
        Action::Fail
        | Action::Dawdle(_)
        | Action::Lose(_)
        | Action::Throttle(_)
        | Action::Delay(_) => 5.0,
        _ => 1.5,
    };
    Duration::from_secs_f64((longest / 1000.0).max(least).min(LONGEST)) + BEYOND
}

fn rest(time: Duration, enough: impl Fn() -> bool) {
    let begun = Instant::now();
    while begun.elapsed() < time && !enough() {
        std::thread::sleep(Duration::from_millis(5).min(time.saturating_sub(begun.elapsed())));
    }
}

fn measure(
    fault: &Fault,
    nodes: &[String],
    samples: &[Sample],
    changes: &[Change],
    moments: &Moments,
    ledger: Option<Ledger>,
) -> Measured {
    let last_trouble = |from: Duration, to: Duration| {
        let troubled = samples
            .iter()
            .filter(|sample| (from..to).contains(&sample.due) && !sample.is_well());
        let last = troubled.map(|sample| sample.due).max();
        last.map_or(0.0, |last| milliseconds(last.saturating_sub(from)))
    };
    Measured {
        requests: summary(samples, Duration::ZERO, moments.end),
        detect_ms: detected(fault, nodes, changes, moments),
        recover_ms: last_trouble(moments.broken, moments.undone),
        restored_ms: last_trouble(moments.undone, moments.end),
        redundant_ms: milliseconds(moments.whole.saturating_sub(moments.undone)),
        moves: watch::moves(changes, &Subject::VirtualIp, moments.broken),
        elections: watch::moves(changes, &Subject::Primary, moments.broken),
        ledger,
    }
}

/// When whoever has to act has noticed, since the fault began.
fn detected(fault: &Fault, nodes: &[String], changes: &[Change], moments: &Moments) -> Option<f64> {
    let (from, to) = (milliseconds(moments.broken), milliseconds(moments.undone));
    // Only the load balancer that visitors come to counts; the others may notice earlier.
    let owner = changes
        .iter()
        .rfind(|change| change.subject == Subject::VirtualIp && change.at_ms <= from);
    let noticed = |change: &&Change| match (&change.subject, fault.tier) {
        (Subject::VirtualIp, Some(Tier::LoadBalancer))
        | (Subject::Primary, Some(Tier::Database)) => {
            !change.is.is_empty() && !nodes.contains(&change.is)
        }
        (Subject::Server { app, by }, Some(Tier::App) | None) => {
            nodes.contains(app)
                && !change.is.starts_with("UP")
                && owner.is_none_or(|owner| owner.is == *by)
        }
        _ => false,
    };
    let first = changes
        .iter()
        .filter(|change| (from..to).contains(&change.at_ms))
        .find(noticed)?;
    Some(first.at_ms - from)
}

fn void(seen: &Summary, rate: u32) -> Option<String> {
    (!seen.is_on_time()).then(|| {
        format!(
            "this machine could not send {rate} requests a second: {} of {} were sent late; use a lower --rate",
            seen.late, seen.sent
        )
    })
}

/// Limits of time that were broken, a sentence each.
fn times(bound: &Bound, measured: &Measured) -> Vec<String> {
    let requests = &measured.requests;
    let over = |what: &str, limit: &Option<Limit>, seen: f64| {
        let limit = limit.as_ref().filter(|limit| seen > limit.ms)?;
        let digits = usize::from(format!("{seen:.0}") == format!("{:.0}", limit.ms));
        Some(format!(
            "{what}: {seen:.digits$} ms, at most {:.digits$} ms were predicted",
            limit.ms
        ))
    };
    let mut broken: Vec<String> = [
        over("longest gap", &bound.gap, requests.longest_gap_ms),
        over(
            "longest gap between writes",
            &bound.write_gap,
            requests.longest_write_gap_ms,
        ),
        over("slowest answer", &bound.slowest, requests.slowest_ms),
        over("noticed", &bound.detect, measured.detect_ms.unwrap_or(0.0)),
        over("restored", &bound.restored, measured.restored_ms),
    ]
    .into_iter()
    .flatten()
    .collect();
    if bound.detect.is_some() && measured.detect_ms.is_none() {
        broken.push("no node noticed".into());
    }
    broken
}

/// What was lost and should not have been, a sentence each.
fn losses(may_lose: Loss, measured: &Measured, samples: &[Sample]) -> Vec<String> {
    let requests = may_lose.broken_by(&samples.iter().collect::<Vec<_>>());
    let ledger = measured.ledger.as_ref().filter(|ledger| !ledger.balances());
    let ledger = ledger.map(|ledger| {
        format!(
            "of {} acknowledged writes {} are missing; {} entries are doubled; {} answers went backwards",
            ledger.acknowledged, ledger.missing, ledger.doubled, ledger.backwards
        )
    });
    requests.into_iter().chain(ledger).collect()
}
