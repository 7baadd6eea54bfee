//! Two runs held against each other, fault by fault.

use serde::Serialize;

use super::{Run, Spread};
use crate::faults::trial::Trial;

/// A worst value is beyond noise if it exceeds the other run's worst by more than this factor …
pub const FACTOR: f64 = 1.2;
/// … and by more than so many milliseconds, or requests of a trial.
pub const LEAST_MS: f64 = 10.0;
/// The same for a number of lost requests.
pub const LEAST_LOST: f64 = 2.0;

/// How a value changed from the earlier run to the later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// Within noise.
    Same,
    /// Larger, beyond noise.
    Worse,
    /// Smaller, beyond noise.
    Better,
}

/// One value in both runs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Pair {
    /// In the run that is looked at.
    pub now: Spread,
    /// In the run that it is held against.
    pub then: Spread,
    /// What that means.
    pub change: Change,
}

impl Pair {
    /// Judges by the worst values: those of one run are the measure of what is noise in the other.
    fn of(now: Spread, then: Spread, least: f64) -> Self {
        let beyond = |one: Spread, other: Spread| {
            one.worst > other.worst * FACTOR && one.worst > other.worst + least
        };
        let change = match (beyond(now, then), beyond(then, now)) {
            (true, _) => Change::Worse,
            (false, true) => Change::Better,
            (false, false) => Change::Same,
        };
        Self { now, then, change }
    }
}

/// A fault in both runs. Trials that say nothing don't count.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Compared {
    /// Which.
    pub fault: String,
    /// Longest time without a good answer, in milliseconds.
    pub gap: Pair,
    /// Longest time without an acknowledged write, in milliseconds.
    pub write_gap: Option<Pair>,
    /// Slowest good answer, in milliseconds.
    pub slowest: Pair,
    /// Requests of a trial without a good answer.
    pub lost: Pair,
}

impl Compared {
    /// What became worse beyond noise.
    pub fn worse(&self) -> Vec<&'static str> {
        [
            ("gap", Some(self.gap)),
            ("write gap", self.write_gap),
            ("slowest", Some(self.slowest)),
            ("lost", Some(self.lost)),
        ]
        .into_iter()
        .filter(|(_, pair)| pair.is_some_and(|pair| pair.change == Change::Worse))
        .map(|(what, _)| what)
        .collect()
    }
}

/// A run against another.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// What makes the two hard to compare, a sentence each.
    pub remarks: Vec<String>,
    /// Faults that both runs have something to say about, in the order of the later one.
    pub faults: Vec<Compared>,
    /// Faults that only the run says something about.
    pub only_now: Vec<String>,
    /// Faults that only the other one says something about.
    pub only_then: Vec<String>,
}

impl Difference {
    /// Holds `now` against `then`.
    pub fn between(now: &Run, then: &Run) -> Self {
        let (new, old) = (told(now), told(then));
        let lacking = |all: &[&str], other: &[&str]| {
            let lacks = all.iter().filter(|fault| !other.contains(fault));
            lacks.map(|fault| (*fault).to_owned()).collect()
        };
        let both = new.iter().filter(|fault| old.contains(fault));
        Self {
            remarks: remarks(now, then),
            faults: both
                .filter_map(|fault| compared(fault, now, then))
                .collect(),
            only_now: lacking(&new, &old),
            only_then: lacking(&old, &new),
        }
    }
}

/// Faults with a trial that says something.
fn told(run: &Run) -> Vec<&str> {
    let rows = run.rows().into_iter();
    rows.filter(|row| row.void < row.repeats)
        .map(|row| row.fault)
        .collect()
}

fn compared(fault: &str, now: &Run, then: &Run) -> Option<Compared> {
    let pair = |of: fn(&Trial) -> Option<f64>, least: f64| {
        let spread = |run: &Run| {
            let trials = run.trials_of(fault).into_iter();
            Spread::of(trials.filter(|trial| trial.void.is_none()).filter_map(of))
        };
        Some(Pair::of(spread(now)?, spread(then)?, least))
    };
    let write_gap = |trial: &Trial| {
        let written = trial.measured.ledger.as_ref();
        written.map(|_| trial.measured.requests.longest_write_gap_ms)
    };
    let lost = |trial: &Trial| {
        let lost = u32::try_from(trial.measured.requests.lost());
        Some(lost.map_or(f64::INFINITY, f64::from))
    };
    Some(Compared {
        fault: fault.to_owned(),
        gap: pair(
            |trial| Some(trial.measured.requests.longest_gap_ms),
            LEAST_MS,
        )?,
        write_gap: pair(write_gap, LEAST_MS),
        slowest: pair(|trial| Some(trial.measured.requests.slowest_ms), LEAST_MS)?,
        lost: pair(lost, LEAST_LOST)?,
    })
}

fn remarks(now: &Run, then: &Run) -> Vec<String> {
    let nodes = |run: &Run| run.sizes.map(|size| size.to_string()).join(" + ");
    [
        ("rate", now.rate.to_string(), then.rate.to_string()),
        ("nodes", nodes(now), nodes(then)),
        ("program", now.program.clone(), then.program.clone()),
    ]
    .into_iter()
    .filter(|(_, now, then)| now != then)
    .map(|(what, now, then)| {
        format!("the runs differ in more than time: {what} {now} here, {then} there")
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spread(median: f64, worst: f64) -> Spread {
        Spread { median, worst }
    }

    #[test]
    fn noise_is_what_the_other_runs_worst_allows() {
        let change = |now, then| Pair::of(spread(0.0, now), spread(0.0, then), LEAST_MS).change;
        assert_eq!(change(300.0, 300.0), Change::Same);
        assert_eq!(change(359.0, 300.0), Change::Same, "less than 20 % more");
        assert_eq!(change(361.0, 300.0), Change::Worse);
        assert_eq!(change(300.0, 361.0), Change::Better);
        assert_eq!(change(20.0, 11.0), Change::Same, "less than 10 ms more");
        assert_eq!(change(22.0, 11.0), Change::Worse);
        assert_eq!(change(0.0, 0.0), Change::Same);
    }

    #[test]
    fn a_better_median_does_not_hide_a_worse_worst() {
        let pair = Pair::of(spread(10.0, 900.0), spread(290.0, 300.0), LEAST_MS);
        assert_eq!(pair.change, Change::Worse);
    }
}
