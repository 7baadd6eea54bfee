//! What a trial looks like on one axis of time, small enough to be kept and drawn.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::load::{Sample, milliseconds};
use super::watch::Change;

/// Time that one point of the drawing stands for.
const STEP: Duration = Duration::from_millis(50);

/// The requests that were due in one step of time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Requests with a good answer.
    pub good: usize,
    /// Requests without.
    pub bad: usize,
    /// The slowest good answer, in milliseconds.
    pub slowest_ms: f64,
}

/// A trial on one axis of time. All times in milliseconds since the load began.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Timeline {
    /// Time that one point stands for.
    pub step_ms: f64,
    /// The requests, by the time at which they were due; the first point is at 0.
    pub points: Vec<Point>,
    /// Who had the virtual IP, what haproxy saw, who was primary: every change.
    pub changes: Vec<Change>,
    /// When it was broken.
    pub broken_ms: f64,
    /// When it was undone.
    pub undone_ms: f64,
    /// When everything was as before.
    pub whole_ms: f64,
    /// When the load ended.
    pub end_ms: f64,
}

impl Timeline {
    /// Of these requests and changes; `moments` are when it was broken, undone, whole, and the end.
    pub fn of(samples: &[Sample], changes: Vec<Change>, moments: [Duration; 4]) -> Self {
        let index = |at: Duration| at.as_millis() / STEP.as_millis();
        let mut by_step: BTreeMap<u128, Point> = BTreeMap::new();
        for sample in samples {
            let point = by_step.entry(index(sample.due)).or_default();
            if sample.outcome.is_ok() {
                point.good += 1;
                point.slowest_ms = point.slowest_ms.max(milliseconds(sample.latency()));
            } else {
                point.bad += 1;
            }
        }
        let [broken_ms, undone_ms, whole_ms, end_ms] = moments.map(milliseconds);
        let points = (0..=index(moments[3]))
            .map(|step| by_step.remove(&step).unwrap_or_default())
            .collect();
        Self {
            step_ms: milliseconds(STEP),
            points,
            changes,
            broken_ms,
            undone_ms,
            whole_ms,
            end_ms,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_has_a_point() {
        let sample = |due: u64, took: u64, good: bool| Sample {
            due: Duration::from_millis(due),
            handed: Duration::from_millis(due),
            done: Duration::from_millis(due + took),
            kept_alive: false,
            entry: None,
            outcome: if good { Ok(None) } else { Err("reset".into()) },
        };
        let samples = [
            sample(0, 2, true),
            sample(49, 9, true),
            sample(120, 1, false),
        ];
        let moments = [50, 100, 150, 190].map(Duration::from_millis);
        let line = Timeline::of(&samples, Vec::new(), moments);
        let counts: Vec<(usize, usize)> = line.points.iter().map(|p| (p.good, p.bad)).collect();
        assert_eq!(counts, [(2, 0), (0, 0), (0, 1), (0, 0)]);
        assert!((line.points[0].slowest_ms - 9.0).abs() < 0.01);
    }
}
