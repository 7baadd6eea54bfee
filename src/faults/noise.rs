//! What the machine did to a trial besides the fault: how late threads were woken, and how many
//! programs wanted to run at once. Times that were measured while the machine was too busy say nothing
//! about the stack. The rule stands in `docs/faults.md`.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::bound::MARGIN;
use super::load::{Sample, milliseconds};

/// Time between two beats of the pulse.
const BEAT: Duration = Duration::from_millis(10);
/// Programs that may want each processor at once, on average over a trial.
const CROWD: f64 = 2.0;

/// How busy the machine was during a trial.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Noise {
    /// Longest time by which a thread was woken too late, or a request was sent too late, in milliseconds.
    pub late_ms: f64,
    /// Threads that ran or wanted to run for each processor, on average.
    pub crowd: f64,
}

impl Noise {
    /// With the lateness of the requests.
    #[must_use]
    pub fn and_of(mut self, samples: &[Sample]) -> Self {
        let late = samples
            .iter()
            .map(|sample| sample.handed.saturating_sub(sample.due))
            .max();
        self.late_ms = self.late_ms.max(late.map_or(0.0, milliseconds));
        self
    }

    /// Why times of this trial say nothing about the stack, if they don't.
    pub fn excuse(&self) -> Option<String> {
        let (_, margin) = MARGIN;
        if self.late_ms > margin {
            return Some(format!(
                "this machine woke a thread {:.0} ms late, and bounds leave {margin:.0} ms for that",
                self.late_ms
            ));
        }
        (self.crowd > CROWD).then(|| {
            format!(
                "{:.1} threads wanted each processor of this machine, and bounds hold up to {CROWD:.0}",
                self.crowd
            )
        })
    }
}

/// A thread that measures how late it is woken, and counts the threads that can run.
#[derive(Debug)]
pub struct Pulse {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Noise>,
}

impl Pulse {
    /// Begins to measure.
    pub fn start() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let ending = Arc::clone(&stop);
        let thread = thread::spawn(move || beat(&ending));
        Self { stop, thread }
    }

    /// Ends it: what was seen since the start.
    pub fn finish(self) -> Noise {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.join().unwrap_or_default()
    }
}

fn beat(stop: &AtomicBool) -> Noise {
    let mut late = Duration::ZERO;
    let (mut beats, mut runnable) = (0.0, 0.0);
    while !stop.load(Ordering::SeqCst) {
        let before = Instant::now();
        thread::sleep(BEAT);
        late = late.max(before.elapsed().saturating_sub(BEAT));
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        if let Some(count) = running(&load) {
            // Without the one that reads.
            runnable += f64::from(count.saturating_sub(1));
            beats += 1.0;
        }
    }
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let processors = f64::from(u32::try_from(processors).unwrap_or(u32::MAX));
    let crowd = if beats > 0.0 {
        runnable / beats / processors
    } else {
        0.0
    };
    Noise {
        late_ms: milliseconds(late),
        crowd,
    }
}

/// Threads that run or want to, of `/proc/loadavg`: `0.20 0.18 0.12 3/80 11206`.
fn running(load: &str) -> Option<u32> {
    let (running, _) = load.split_whitespace().nth(3)?.split_once('/')?;
    running.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_beyond_the_margin_is_an_excuse() {
        assert_eq!(
            Noise {
                late_ms: 44.0,
                crowd: 1.9
            }
            .excuse(),
            None
        );
        let late = Noise {
            late_ms: 46.0,
            crowd: 0.1,
        }
        .excuse()
        .unwrap();
        assert!(late.contains("46 ms late"), "{late}");
        let crowded = Noise {
            late_ms: 1.0,
            crowd: 2.5,
        }
        .excuse()
        .unwrap();
        assert!(crowded.contains("2.5 threads"), "{crowded}");
    }

    #[test]
    fn a_request_that_was_sent_late_counts() {
        let sample = Sample {
            due: Duration::from_millis(100),
            handed: Duration::from_millis(170),
            done: Duration::from_millis(171),
            kept_alive: false,
            entry: None,
            outcome: Ok(None),
        };
        let noise = Noise::default().and_of(&[sample]);
        assert!((noise.late_ms - 70.0).abs() < 0.01 && noise.excuse().is_some());
    }

    #[test]
    fn the_kernels_count_is_read() {
        assert_eq!(running("0.20 0.18 0.12 3/80 11206\n"), Some(3));
        assert_eq!(running(""), None);
    }

    #[test]
    fn a_pulse_counts_those_who_want_to_run() {
        let stop = AtomicBool::new(false);
        let noise = thread::scope(|scope| {
            let pulse = Pulse::start();
            scope.spawn(|| {
                while !stop.load(Ordering::SeqCst) {
                    std::hint::spin_loop();
                }
            });
            thread::sleep(Duration::from_millis(300));
            stop.store(true, Ordering::SeqCst);
            pulse.finish()
        });
        assert!(noise.crowd > 0.0, "{noise:?}");
    }
}
