//! Requests at a fixed rate, whatever becomes of them. A request is due when the
//! clock says so, not when the one before it is answered; what it waits counts as
//! its latency. So a stall of one second at 200 requests a second is seen by 200
//! requests (no coordinated omission).
//!
//! Half of the requests open a connection of their own, half go over connections
//! that are kept alive; one in ten stores an entry with an id of its own.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde::Serialize;
use ureq::Agent;

use crate::health::http;

/// Why a request failed whose answer ended before it was complete.
pub const CUT_SHORT: &str = "unexpected end of file";
/// How long a client waits for an answer before it gives up.
const PATIENCE: Duration = Duration::from_secs(10);
/// Connections that are kept alive.
const LANES: usize = 8;
/// One in so many requests stores an entry.
const WRITES: u64 = 10;

/// Where requests go.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// The virtual IP.
    pub address: Ipv4Addr,
    /// Its port.
    pub port: u16,
}

/// What became of a request.
#[derive(Clone, Debug)]
pub struct Sample {
    /// When it was due, since the load began.
    pub due: Duration,
    /// When it was answered or given up, since the load began.
    pub done: Duration,
    /// Whether it went over a kept-alive connection.
    pub kept_alive: bool,
    /// Id of the entry that it should store, if it is a write.
    pub entry: Option<String>,
    /// The app node that answered, or why nobody did.
    pub outcome: Result<Option<String>, String>,
}

/// A load that is running.
#[derive(Debug)]
pub struct Load {
    target: Target,
    begun: Instant,
    stop: Arc<AtomicBool>,
    pacer: JoinHandle<()>,
    samples: Receiver<Sample>,
}

/// What a load has seen in a stretch of time.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Summary {
    /// Requests that were due.
    pub sent: usize,
    /// Requests without a good answer, by reason.
    pub failed: BTreeMap<String, usize>,
    /// The first of them, for whoever wants to know more.
    pub failures: Vec<Lost>,
    /// Longest time between two good answers, in milliseconds.
    pub longest_gap_ms: f64,
    /// Slowest good answer, in milliseconds from when it was due.
    pub slowest_ms: f64,
    /// Half of the good answers were faster, in milliseconds.
    pub median_ms: f64,
    /// Good answers by app node.
    pub by_node: BTreeMap<String, usize>,
}

/// A request without a good answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
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
}

impl Load {
    /// Begins to send `rate` requests a second. `name` begins every entry's id.
    pub fn start(target: Target, rate: u32, name: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let begun = Instant::now();
        let (sender, samples) = channel();
        let (ending, name) = (Arc::clone(&stop), name.to_owned());
        let pacer = thread::spawn(move || pace(target, rate, &name, begun, &ending, &sender));
        Self {
            target,
            begun,
            stop,
            pacer,
            samples,
        }
    }

    /// Time since the load began, to mark what happens when.
    pub fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Where its requests go.
    pub fn target(&self) -> Target {
        self.target
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

fn pace(
    target: Target,
    rate: u32,
    name: &str,
    begun: Instant,
    stop: &AtomicBool,
    sender: &Sender<Sample>,
) {
    thread::scope(|scope| {
        let lanes: Vec<Sender<Request>> = (0..LANES)
            .map(|_| {
                let (due, requests) = channel::<Request>();
                let sender = sender.clone();
                scope.spawn(move || {
                    let client = http::keeping_client(PATIENCE);
                    requests
                        .iter()
                        .for_each(|request| request.send(&client, target, begun, &sender));
                });
                due
            })
            .collect();
        let period = Duration::from_secs(1) / rate;
        for number in 0_u32.. {
            if stop.load(Ordering::SeqCst) {
                break;
            }
            let due = period * number;
            thread::sleep(due.saturating_sub(begun.elapsed()));
            let number = u64::from(number);
            // Writes and reads alternate over both kinds of connection.
            let kept_alive = (number / WRITES + number) % 2 == 1;
            let entry = (number % WRITES == 0).then(|| format!("{name}-{number}"));
            let request = Request {
                due,
                kept_alive,
                entry,
            };
            if kept_alive {
                let lane = usize::try_from(number / 2).unwrap_or(0) % LANES;
                let _ = lanes[lane].send(request);
            } else {
                let sender = sender.clone();
                let builder = thread::Builder::new().stack_size(256 << 10);
                let started = builder.spawn_scoped(scope, move || {
                    request.send(&http::client(PATIENCE), target, begun, &sender);
                });
                drop(started);
            }
        }
    });
}

struct Request {
    due: Duration,
    kept_alive: bool,
    entry: Option<String>,
}

impl Request {
    fn send(self, client: &Agent, target: Target, begun: Instant, sender: &Sender<Sample>) {
        let answer = match &self.entry {
            None => http::get(client, target.address, target.port, "/"),
            Some(id) => {
                let body = serde_json::json!({ "id": id, "text": id }).to_string();
                http::post(
                    client,
                    target.address,
                    target.port,
                    "/api/entries",
                    "application/json",
                    &body,
                )
            }
        };
        let wanted = if self.entry.is_some() { 201 } else { 200 };
        let outcome = match answer {
            Ok(answer) if answer.status == wanted => Ok(answer.node),
            Ok(answer) => Err(format!("HTTP {}", answer.status)),
            Err(error) => Err(reason(&error)),
        };
        // Nobody listens when the load was dropped; then nobody wants to know.
        let _ = sender.send(Sample {
            due: self.due,
            done: begun.elapsed(),
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
        match &sample.outcome {
            Ok(node) => {
                latencies.push(milliseconds(sample.done.saturating_sub(sample.due)));
                *summary
                    .by_node
                    .entry(node.clone().unwrap_or_else(|| "?".into()))
                    .or_default() += 1;
            }
            Err(why) => {
                *summary.failed.entry(why.clone()).or_default() += 1;
                if summary.failures.len() < TOLD {
                    summary.failures.push(Lost {
                        due_ms: milliseconds(sample.due),
                        took_ms: milliseconds(sample.done.saturating_sub(sample.due)),
                        kept_alive: sample.kept_alive,
                        write: sample.entry.is_some(),
                        why: why.clone(),
                    });
                }
            }
        }
    }
    let mut good: Vec<Duration> = samples
        .iter()
        .filter(|s| s.outcome.is_ok())
        .map(|s| s.done)
        .filter(|done| (from..to).contains(done))
        .collect();
    good.push(from);
    good.push(to);
    good.sort();
    summary.longest_gap_ms = good
        .windows(2)
        .map(|pair| milliseconds(pair[1].saturating_sub(pair[0])))
        .fold(0.0, f64::max);
    latencies.sort_by(f64::total_cmp);
    summary.slowest_ms = latencies.last().copied().unwrap_or(0.0);
    summary.median_ms = latencies.get(latencies.len() / 2).copied().unwrap_or(0.0);
    summary
}

fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 10_000.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(due: u64, done: u64, outcome: Result<&str, &str>) -> Sample {
        Sample {
            due: Duration::from_millis(due),
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
