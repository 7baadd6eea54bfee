//! Requests at a fixed rate, whatever becomes of them. A request is due when the
//! clock says so, not when the one before it is answered; what it waits counts as
//! its latency. So a stall of one second at 200 requests a second is seen by 200
//! requests (no coordinated omission).
//!
//! Half of the requests open a connection of their own, half go over connections
//! that are kept alive; one in ten stores an entry with an id of its own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use ureq::Agent;

use crate::health::http;

/// Why a request failed whose answer ended before it was complete.
pub const CUT_SHORT: &str = "unexpected end of file";
/// How long a client waits for an answer before it gives up.
const PATIENCE: Duration = Duration::from_secs(10);
/// Connections that are kept alive.
pub const LANES: usize = 8;
/// One in so many requests stores an entry.
pub const WRITES: u32 = 10;
/// A request that is sent later than this after it was due is late, which is the
/// generator's fault and not the stack's.
const LATE: Duration = Duration::from_millis(50);
/// A generator that is so late gives up: more requests would only make it later.
const HOPELESS: Duration = Duration::from_secs(1);
/// An answer that takes longer than this is slow.
pub const SLOW: Duration = Duration::from_millis(250);

/// Where requests go.
pub use crate::health::http::Entrance as Target;

/// What became of a request.
#[derive(Clone, Debug)]
pub struct Sample {
    /// When it was due, since the load began.
    pub due: Duration,
    /// When the generator got round to it. On a kept-alive connection it may still
    /// have waited for the answer before it.
    pub handed: Duration,
    /// When it was answered or given up, since the load began.
    pub done: Duration,
    /// Whether it went over a kept-alive connection.
    pub kept_alive: bool,
    /// Id of the entry that it should store, if it is a write.
    pub entry: Option<String>,
    /// The app node that answered, or why nobody did.
    pub outcome: Result<Option<String>, String>,
}

impl Sample {
    /// From when it was due until it was answered or given up.
    pub fn latency(&self) -> Duration {
        self.done.saturating_sub(self.due)
    }

    /// Whether it was answered, and not slowly.
    pub fn is_well(&self) -> bool {
        self.outcome.is_ok() && self.latency() <= SLOW
    }
}

/// What to send.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Requests a second.
    pub rate: u32,
    /// Whether one in [`WRITES`] stores an entry; an application of one's own may not take them.
    pub writes: bool,
}

/// A load that is running.
#[derive(Debug)]
pub struct Load {
    target: Target,
    begun: Instant,
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicUsize>,
    mood: Arc<Mood>,
    pacer: JoinHandle<()>,
    samples: Receiver<Sample>,
}

/// What a running load knows of itself.
#[derive(Debug, Default)]
struct Mood {
    /// Requests on their way.
    in_hand: AtomicUsize,
    /// When a request last failed or was slow, in milliseconds since the load began.
    trouble_ms: AtomicU64,
}

/// What a load has seen in a stretch of time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Requests that were due.
    pub sent: usize,
    /// Requests without a good answer, by reason.
    pub failed: BTreeMap<String, usize>,
    /// Those of them that should have stored something.
    pub writes_failed: usize,
    /// The first of them, for whoever wants to know more.
    pub failures: Vec<Lost>,
    /// Requests with a good answer that took longer than [`SLOW`].
    pub slow: usize,
    /// Requests that the generator sent late: beyond one in a hundred, what was measured says
    /// more about this machine than about the stack.
    pub late: usize,
    /// Longest time between two good answers, in milliseconds.
    pub longest_gap_ms: f64,
    /// Longest time between two writes that were acknowledged, in milliseconds.
    pub longest_write_gap_ms: f64,
    /// Slowest good answer, in milliseconds from when it was due.
    pub slowest_ms: f64,
    /// Half of the good answers were faster, in milliseconds.
    pub median_ms: f64,
    /// Good answers by app node.
    pub by_node: BTreeMap<String, usize>,
}

/// A request without a good answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lost {
    /// When it was due, in milliseconds since the load began.
    pub due_ms: f64,
    /// How long it took to fail, in milliseconds.
    pub took_ms: f64,
    /// Whether it went over a kept-alive connection.
    pub kept_alive: bool,
    /// Whether it should have stored something.
    pub write: bool,
    /// Why.
    pub why: String,
}

/// Failures that a summary tells in full.
const TOLD: usize = 20;

impl Summary {
    /// Requests without a good answer.
    pub fn lost(&self) -> usize {
        self.failed.values().sum()
    }

    /// Whether the generator kept its rate.
    pub fn is_on_time(&self) -> bool {
        self.late * 100 <= self.sent
    }
}

impl Load {
    /// Begins to send. `name` begins every entry's id.
    pub fn start(target: Target, shape: Shape, name: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let begun = Instant::now();
        let (sender, samples) = channel();
        let acknowledged = Arc::new(AtomicUsize::new(0));
        let mood = Arc::new(Mood::default());
        let (ending, name) = (Arc::clone(&stop), name.to_owned());
        let telling = Telling {
            target,
            begun,
            acknowledged: Arc::clone(&acknowledged),
            mood: Arc::clone(&mood),
            sender,
        };
        let pacer = thread::spawn(move || pace(shape, &name, &ending, &telling));
        Self {
            target,
            begun,
            stop,
            acknowledged,
            mood,
            pacer,
            samples,
        }
    }

    /// Whether for `time` no request has failed, was slow or is waiting for long.
    pub fn is_calm(&self, time: Duration) -> bool {
        let trouble = Duration::from_millis(self.mood.trouble_ms.load(Ordering::SeqCst));
        // Few are on their way when all are answered at once, and many when some hang.
        self.now() > trouble + time && self.mood.in_hand.load(Ordering::SeqCst) <= LANES
    }

    /// Time since the load began, to mark what happens when.
    pub fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Where its requests go.
    pub fn target(&self) -> Target {
        self.target
    }

    /// Counts the writes that were acknowledged so far.
    pub fn acknowledged(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.acknowledged)
    }

    /// Sends no more, waits for what is still on its way, and returns every request in the order they were due.
    pub fn finish(self) -> Vec<Sample> {
        self.stop.store(true, Ordering::SeqCst);
        // A pacer that panicked would lose its samples: pass the panic on.
        if let Err(panic) = self.pacer.join() {
            std::panic::resume_unwind(panic);
        }
        let mut samples: Vec<Sample> = self.samples.iter().collect();
        samples.sort_by_key(|sample| sample.due);
        samples
    }
}

/// Where requests go and who is told what became of them.
#[derive(Clone)]
struct Telling {
    target: Target,
    begun: Instant,
    acknowledged: Arc<AtomicUsize>,
    mood: Arc<Mood>,
    sender: Sender<Sample>,
}

impl Telling {
    fn tell(&self, sample: Sample) {
        if sample.entry.is_some() && sample.outcome.is_ok() {
            self.acknowledged.fetch_add(1, Ordering::SeqCst);
        }
        if !sample.is_well() {
            let now = u64::try_from(sample.done.as_millis()).unwrap_or(u64::MAX);
            self.mood.trouble_ms.fetch_max(now, Ordering::SeqCst);
        }
        self.mood.in_hand.fetch_sub(1, Ordering::SeqCst);
        // Nobody listens when the load was dropped; then nobody wants to know.
        let _ = self.sender.send(sample);
    }
}

fn pace(shape: Shape, name: &str, stop: &AtomicBool, telling: &Telling) {
    thread::scope(|scope| {
        let lanes: Vec<Sender<Request>> = (0..LANES)
            .map(|_| {
                let (due, requests) = channel::<Request>();
                let telling = telling.clone();
                scope.spawn(move || {
                    let client = http::keeping_client(PATIENCE);
                    requests
                        .iter()
                        .for_each(|request| request.send(&client, &telling));
                });
                due
            })
            .collect();
        let period = Duration::from_secs(1) / shape.rate;
        for number in 0_u32.. {
            if stop.load(Ordering::SeqCst) {
                break;
            }
            let due = period * number;
            thread::sleep(due.saturating_sub(telling.begun.elapsed()));
            let handed = telling.begun.elapsed();
            if handed.saturating_sub(due) > HOPELESS {
                break;
            }
            let request = Request {
                due,
                handed,
                // Writes and reads alternate over both kinds of connection.
                kept_alive: (number / WRITES + number) % 2 == 1,
                entry: (shape.writes && number % WRITES == 0).then(|| format!("{name}-{number}")),
            };
            telling.mood.in_hand.fetch_add(1, Ordering::SeqCst);
            if request.kept_alive {
                let lane = usize::try_from(number / 2).unwrap_or(0) % LANES;
                let _ = lanes[lane].send(request);
            } else {
                let telling = telling.clone();
                let builder = thread::Builder::new().stack_size(256 << 10);
                let started = builder.spawn_scoped(scope, move || {
                    request.send(&http::client(PATIENCE), &telling);
                });
                drop(started);
            }
        }
    });
}

struct Request {
    due: Duration,
    handed: Duration,
    kept_alive: bool,
    entry: Option<String>,
}

impl Request {
    fn send(self, client: &Agent, telling: &Telling) {
        let target = telling.target;
        let answer = match &self.entry {
            None => http::visit(client, target, "/"),
            Some(id) => {
                let body = serde_json::json!({ "id": id, "text": id }).to_string();
                http::hand_in(client, target, "/api/entries", "application/json", &body)
            }
        };
        let wanted = if self.entry.is_some() { 201 } else { 200 };
        let outcome = match answer {
            Ok(answer) if answer.status == wanted => Ok(answer.node),
            Ok(answer) => Err(format!("HTTP {}", answer.status)),
            Err(error) => Err(reason(&error)),
        };
        telling.tell(Sample {
            due: self.due,
            handed: self.handed,
            done: telling.begun.elapsed(),
            kept_alive: self.kept_alive,
            entry: self.entry,
            outcome,
        });
    }
}

/// Why there was no answer, in one or two words that can be counted.
fn reason(error: &anyhow::Error) -> String {
    let io = error
        .chain()
        .find_map(|cause| match cause.downcast_ref::<ureq::Error>() {
            Some(ureq::Error::Io(io)) => Some(io.kind()),
            Some(ureq::Error::Timeout(_)) => Some(std::io::ErrorKind::TimedOut),
            _ => cause
                .downcast_ref::<std::io::Error>()
                .map(std::io::Error::kind),
        });
    match io {
        Some(kind) => kind.to_string(),
        None => error.root_cause().to_string(),
    }
}

/// What the requests that were due between `from` and `to` have seen. The gap is
/// measured between good answers in that time, and from its borders.
pub fn summary(samples: &[Sample], from: Duration, to: Duration) -> Summary {
    let due = || {
        samples
            .iter()
            .filter(|sample| (from..to).contains(&sample.due))
    };
    let mut summary = Summary::default();
    let mut latencies: Vec<f64> = Vec::new();
    for sample in due() {
        summary.sent += 1;
        summary.late += usize::from(sample.handed.saturating_sub(sample.due) > LATE);
        match &sample.outcome {
            Ok(node) => {
                latencies.push(milliseconds(sample.latency()));
                summary.slow += usize::from(!sample.is_well());
                *summary
                    .by_node
                    .entry(node.clone().unwrap_or_else(|| "?".into()))
                    .or_default() += 1;
            }
            Err(why) => {
                *summary.failed.entry(why.clone()).or_default() += 1;
                summary.writes_failed += usize::from(sample.entry.is_some());
                if summary.failures.len() < TOLD {
                    summary.failures.push(Lost {
                        due_ms: milliseconds(sample.due),
                        took_ms: milliseconds(sample.latency()),
                        kept_alive: sample.kept_alive,
                        write: sample.entry.is_some(),
                        why: why.clone(),
                    });
                }
            }
        }
    }
    summary.longest_gap_ms = longest_gap(samples.iter(), from, to);
    summary.longest_write_gap_ms =
        longest_gap(samples.iter().filter(|s| s.entry.is_some()), from, to);
    latencies.sort_by(f64::total_cmp);
    summary.slowest_ms = latencies.last().copied().unwrap_or(0.0);
    summary.median_ms = latencies.get(latencies.len() / 2).copied().unwrap_or(0.0);
    summary
}

/// Longest time between two good answers, in milliseconds. Both borders count as one.
fn longest_gap<'s>(samples: impl Iterator<Item = &'s Sample>, from: Duration, to: Duration) -> f64 {
    let mut good: Vec<Duration> = samples
        .filter(|sample| sample.outcome.is_ok())
        .map(|sample| sample.done)
        .filter(|done| (from..to).contains(done))
        .chain([from, to])
        .collect();
    good.sort();
    good.windows(2)
        .map(|pair| milliseconds(pair[1].saturating_sub(pair[0])))
        .fold(0.0, f64::max)
}

/// A time in milliseconds, to a tenth.
pub(super) fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 10_000.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(due: u64, done: u64, outcome: Result<&str, &str>) -> Sample {
        Sample {
            due: Duration::from_millis(due),
            handed: Duration::from_millis(due),
            done: Duration::from_millis(done),
            kept_alive: false,
            entry: None,
            outcome: outcome
                .map(|node| Some(node.to_owned()))
                .map_err(str::to_owned),
        }
    }

    #[test]
    fn a_stall_is_seen_by_every_request_that_was_due() {
        let mut samples: Vec<Sample> = (0..10)
            .map(|n| sample(n * 10, n * 10 + 1, Ok("a")))
            .collect();
        samples.extend((10..20).map(|n| sample(n * 10, 301, Ok("b"))));
        samples.push(sample(200, 250, Err("reset")));
        let seen = summary(&samples, Duration::ZERO, Duration::from_millis(310));
        assert_eq!(seen.sent, 21);
        assert_eq!(seen.lost(), 1);
        assert!(
            (seen.longest_gap_ms - 210.0).abs() < 0.01,
            "{}",
            seen.longest_gap_ms
        );
        assert!(
            (seen.slowest_ms - 201.0).abs() < 0.01,
            "{}",
            seen.slowest_ms
        );
        assert_eq!(seen.by_node.get("b"), Some(&10));
    }

    #[test]
    fn silence_until_the_end_is_a_gap() {
        let seen = summary(
            &[sample(0, 1, Ok("a"))],
            Duration::ZERO,
            Duration::from_millis(500),
        );
        assert!(
            (seen.longest_gap_ms - 499.0).abs() < 0.01,
            "{}",
            seen.longest_gap_ms
        );
    }
}
