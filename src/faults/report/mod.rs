//! What a run of faults has shown: every trial, what could not be tried and why, and
//! for each fault the median and the worst of its trials. [`html`] and [`junit`] tell it
//! to people and to machines; [`difference`] holds two runs against each other.

pub mod difference;
mod drawing;
pub mod html;
pub mod junit;

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};

use super::bound::{Bound, Limit, Loss};
use super::ledger::Ledger;
use super::trial::{Measured, Trial};
use crate::topology::Slo;

/// Version of the layout of a [`Run`] that this program writes and reads.
pub const VERSION: u32 = 1;

/// A run: faults that were tried one after another on one lab.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Version of this layout.
    pub version: u32,
    /// Name of the stack.
    pub stack: String,
    /// Version of the program.
    pub program: String,
    /// Load balancers, app servers, databases.
    pub sizes: [usize; 3],
    /// Requests a second.
    pub rate: u32,
    /// Number that decided what was left to choice.
    pub seed: u64,
    /// The budget that the topology sets.
    pub slo: Slo,
    /// What was tried, in order.
    pub trials: Vec<Trial>,
    /// What was not.
    pub not_run: Vec<NotRun>,
    /// Whether Ctrl-C ended it early.
    pub interrupted: bool,
    /// Where it comes from.
    #[serde(default)]
    pub origin: Origin,
}

/// When, where and how a run was made; runs of earlier versions don't say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Date and time, UTC.
    pub when: Option<String>,
    /// Processors and kernel.
    pub machine: Option<String>,
    /// Command that repeats it.
    pub command: Option<String>,
}

/// A fault that was not tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotRun {
    /// Which.
    pub fault: String,
    /// Why.
    pub why: String,
    /// Whether it should have been possible: something went wrong on the way.
    pub failed: bool,
}

/// What a trial says about the stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Nothing: the load could not be made.
    Void,
    /// It cost no more than it may.
    Kept,
    /// It cost more.
    Broken,
}

impl Verdict {
    /// Of one trial.
    pub fn of(trial: &Trial) -> Self {
        match (&trial.void, trial.broken.is_empty()) {
            (Some(_), _) => Self::Void,
            (None, true) => Self::Kept,
            (None, false) => Self::Broken,
        }
    }
}

/// What a trial has cost in milliseconds and may cost, in the order of [`Bound::limits`].
/// None where nothing was measured: nobody had to notice, nothing was written.
pub fn costs(trial: &Trial) -> [(&'static str, Option<f64>, Option<&Limit>); 5] {
    let (bound, measured) = (&trial.bound, &trial.measured);
    let requests = &measured.requests;
    let written = measured.ledger.as_ref();
    [
        (
            "longest gap",
            Some(requests.longest_gap_ms),
            bound.gap.as_ref(),
        ),
        (
            "longest gap between writes",
            written.map(|_| requests.longest_write_gap_ms),
            bound.write_gap.as_ref(),
        ),
        (
            "slowest answer",
            Some(requests.slowest_ms),
            bound.slowest.as_ref(),
        ),
        ("time to notice", measured.detect_ms, bound.detect.as_ref()),
        (
            "time to restore",
            Some(measured.restored_ms),
            bound.restored.as_ref(),
        ),
    ]
}

/// The worst of these trials: one that broke its bound before one that did not, and then the
/// one that came closest to a limit. None if there are none.
pub fn worst<'t>(trials: &[&'t Trial]) -> Option<&'t Trial> {
    let used = |trial: &Trial| {
        let parts = costs(trial).into_iter();
        parts
            .filter_map(|(_, seen, limit)| Some(seen? / limit?.ms))
            .fold(0.0, f64::max)
    };
    let is_worse = |one: &Trial, other: &Trial| {
        let verdicts = Verdict::of(one).cmp(&Verdict::of(other));
        let gaps = [one, other].map(|trial| trial.measured.requests.longest_gap_ms);
        verdicts
            .then(used(one).total_cmp(&used(other)))
            .then(gaps[0].total_cmp(&gaps[1]))
            .is_gt()
    };
    trials
        .iter()
        .copied()
        .reduce(|worst, trial| if is_worse(trial, worst) { trial } else { worst })
}

/// The median and the worst of a few values.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// The middle one; of an even number the upper of the two.
    pub median: f64,
    /// The largest.
    pub worst: f64,
}

impl Spread {
    /// Of these values; none if there are none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        Some(Self {
            median: *values.get(values.len() / 2)?,
            worst: *values.last()?,
        })
    }
}

/// All trials of one fault. Trials that say nothing are only counted, unless there is no other.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row<'r> {
    /// Which fault.
    pub fault: &'r str,
    /// How often it was tried.
    pub repeats: usize,
    /// What it may cost.
    pub bound: &'r Bound,
    /// Longest time without a good answer, in milliseconds.
    pub gap: Spread,
    /// Longest time without an acknowledged write, in milliseconds; none if nothing was written.
    pub write_gap: Option<Spread>,
    /// Slowest good answer, in milliseconds.
    pub slowest: Spread,
    /// Until it was noticed, in milliseconds.
    pub detect: Option<Spread>,
    /// Until the last request that failed or was slow, in milliseconds.
    pub recover: Spread,
    /// From the end of the fault until every request was answered well again, in milliseconds.
    pub restored: Spread,
    /// From the end of the fault until all was as before, in milliseconds.
    pub redundant: Spread,
    /// Requests of the trials that count.
    pub sent: usize,
    /// Requests without a good answer, in these trials.
    pub lost: usize,
    /// Acknowledged writes of these trials.
    pub acknowledged: usize,
    /// Acknowledged writes that are missing.
    pub missing: usize,
    /// What was not as promised, in any trial.
    pub broken: Vec<&'r str>,
    /// Trials that say nothing, because the load could not be made.
    pub void: usize,
}

impl Row<'_> {
    /// Whether every trial that counts kept its bound, and at least one counts.
    pub fn is_kept(&self) -> bool {
        self.verdict() == Verdict::Kept
    }

    /// The worst that any trial says; nothing if all are void.
    pub fn verdict(&self) -> Verdict {
        match (self.broken.is_empty(), self.void == self.repeats) {
            (false, _) => Verdict::Broken,
            (true, true) => Verdict::Void,
            (true, false) => Verdict::Kept,
        }
    }
}

impl Run {
    /// A run as it was kept.
    ///
    /// # Errors
    /// If it has another layout than this program knows, or none.
    pub fn parse(text: &[u8]) -> anyhow::Result<Self> {
        #[derive(Deserialize)]
        struct Layout {
            version: u32,
            program: String,
        }
        let Layout { version, program } =
            serde_json::from_slice(text).context("this is no run of `faults run`")?;
        if version != VERSION {
            let how = if version > VERSION { "newer" } else { "older" };
            bail!(
                "the run was kept by version {program} of gen-topology in a {how} layout, {version}; \
                 this version reads layout {VERSION}: use the other version, or run the faults again"
            );
        }
        Ok(serde_json::from_slice(text)?)
    }

    /// The trials of a fault, in order.
    pub fn trials_of(&self, fault: &str) -> Vec<&Trial> {
        self.trials
            .iter()
            .filter(|trial| trial.fault == fault)
            .collect()
    }

    /// A row for each fault, in the order in which they were first tried.
    pub fn rows(&self) -> Vec<Row<'_>> {
        let mut names: Vec<&str> = Vec::new();
        for trial in &self.trials {
            if !names.contains(&trial.fault.as_str()) {
                names.push(&trial.fault);
            }
        }
        names
            .into_iter()
            .filter_map(|name| self.row(name))
            .collect()
    }

    fn row<'r>(&'r self, fault: &'r str) -> Option<Row<'r>> {
        let all = self.trials_of(fault);
        let void = all.iter().filter(|trial| trial.void.is_some()).count();
        let is_told = |trial: &&Trial| trial.void.is_none() || void == all.len();
        let trials: Vec<&Trial> = all.iter().copied().filter(is_told).collect();
        let spread = |of: fn(&Measured) -> f64| Spread::of(trials.iter().map(|t| of(&t.measured)));
        let ledgers = || {
            trials
                .iter()
                .filter_map(|trial| trial.measured.ledger.as_ref())
        };
        Some(Row {
            fault,
            repeats: all.len(),
            bound: &trials.last()?.bound,
            gap: spread(|m| m.requests.longest_gap_ms)?,
            write_gap: spread(|m| m.requests.longest_write_gap_ms)
                .filter(|_| ledgers().next().is_some()),
            slowest: spread(|m| m.requests.slowest_ms)?,
            detect: Spread::of(trials.iter().filter_map(|trial| trial.measured.detect_ms)),
            recover: spread(|m| m.recover_ms)?,
            restored: spread(|m| m.restored_ms)?,
            redundant: spread(|m| m.redundant_ms)?,
            sent: trials
                .iter()
                .map(|trial| trial.measured.requests.sent)
                .sum(),
            lost: trials
                .iter()
                .map(|trial| trial.measured.requests.lost())
                .sum(),
            acknowledged: ledgers().map(|ledger| ledger.acknowledged).sum(),
            missing: ledgers().map(|ledger| ledger.missing).sum(),
            broken: trials
                .iter()
                .filter(|trial| trial.void.is_none())
                .flat_map(|trial| trial.broken.iter().map(String::as_str))
                .collect(),
            void,
        })
    }

    /// Whether every trial kept its bound.
    pub fn is_kept(&self) -> bool {
        self.trials.iter().all(Trial::is_kept)
    }

    /// What became of the writes of all trials, as a sentence; none if nothing was written.
    pub fn written(&self) -> Option<String> {
        let ledgers = self.trials.iter();
        let ledgers: Vec<_> = ledgers
            .filter_map(|trial| trial.measured.ledger.as_ref())
            .collect();
        let sum = |count: fn(&Ledger) -> usize| ledgers.iter().copied().map(count).sum::<usize>();
        (!ledgers.is_empty()).then(|| {
            format!(
                "{} writes were acknowledged: {} of them lost, {} doubled, {} answers went backwards",
                sum(|ledger| ledger.acknowledged),
                sum(|ledger| ledger.missing),
                sum(|ledger| ledger.doubled),
                sum(|ledger| ledger.backwards)
            )
        })
    }
}

/// What a bound would break of the budget that the topology sets, a sentence each. A budget is for
/// the failure of a part; it says nothing about losing everything or a majority.
pub fn over_budget(bound: &Bound, slo: Slo) -> Vec<String> {
    if matches!(bound.lost, Loss::Everything | Loss::Writes | Loss::Answers) {
        return Vec::new();
    }
    let over = |what: &str, limit: Option<f64>, budget: Option<crate::topology::Millis>| {
        let (limit, budget) = (limit?, budget?);
        let most = budget.seconds() * 1000.0;
        (limit > most).then(|| format!("{what}: {limit:.0} ms, the budget is {budget}"))
    };
    let gap = bound.gap.as_ref().map(|limit| limit.ms);
    // Nothing is written while nothing is answered.
    let write_gap = bound.write_gap.as_ref().map(|limit| limit.ms).or(gap);
    [
        over("longest gap", gap, slo.longest_gap),
        over(
            "longest gap between writes",
            write_gap,
            slo.longest_write_gap,
        ),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_has_the_middle_and_the_worst() {
        let spread = |median, worst| Some(Spread { median, worst });
        assert_eq!(Spread::of([]), None);
        assert_eq!(Spread::of([3.0, 1.0, 2.0]), spread(2.0, 3.0));
        assert_eq!(Spread::of([4.0, 1.0, 2.0, 3.0]), spread(3.0, 4.0));
    }

    #[test]
    fn a_budget_is_held_against_the_bound() {
        let slo = Slo {
            longest_gap: Some(crate::topology::Millis::new(200)),
            longest_write_gap: None,
        };
        let bound = Bound::losing(Loss::None).gap(&[("pause", 201.0)]);
        assert_eq!(over_budget(&bound, slo).len(), 1);
        assert_eq!(over_budget(&bound, Slo::default()), Vec::<String>::new());
        let all = Bound::losing(Loss::Everything).gap(&[("pause", 201.0)]);
        assert_eq!(over_budget(&all, slo), Vec::<String>::new());
    }
}
