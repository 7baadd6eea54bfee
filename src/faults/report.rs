//! What a run of faults has shown: every trial, what could not be tried and why, and
//! for each fault the median and the worst of its trials.

use serde::{Deserialize, Serialize};

use super::bound::{Bound, Loss};
use super::trial::{Measured, Trial};
use crate::topology::Slo;

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

/// All trials of one fault.
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
    /// From the end of the fault until all was as before, in milliseconds.
    pub redundant: Spread,
    /// Requests of all trials.
    pub sent: usize,
    /// Requests without a good answer, in all trials.
    pub lost: usize,
    /// Acknowledged writes of all trials, and those of them that are missing.
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
        self.broken.is_empty() && self.void < self.repeats
    }
}

impl Run {
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
        let trials: Vec<&Trial> = self
            .trials
            .iter()
            .filter(|trial| trial.fault == fault)
            .collect();
        let spread = |of: fn(&Measured) -> f64| Spread::of(trials.iter().map(|t| of(&t.measured)));
        let ledgers = || {
            trials
                .iter()
                .filter_map(|trial| trial.measured.ledger.as_ref())
        };
        Some(Row {
            fault,
            repeats: trials.len(),
            bound: &trials.last()?.bound,
            gap: spread(|m| m.requests.longest_gap_ms)?,
            write_gap: spread(|m| m.requests.longest_write_gap_ms)
                .filter(|_| ledgers().next().is_some()),
            slowest: spread(|m| m.requests.slowest_ms)?,
            detect: Spread::of(trials.iter().filter_map(|trial| trial.measured.detect_ms)),
            recover: spread(|m| m.recover_ms)?,
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
                .flat_map(|trial| trial.broken.iter().map(String::as_str))
                .collect(),
            void: trials.iter().filter(|trial| trial.void.is_some()).count(),
        })
    }

    /// Whether every trial kept its bound.
    pub fn is_kept(&self) -> bool {
        self.trials.iter().all(Trial::is_kept)
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
