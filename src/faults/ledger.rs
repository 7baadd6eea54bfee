//! Whether anything was lost. A ledger knows which entries were acknowledged, and
//! looks for each of them afterwards; its witness asks all the while how many there
//! are, and never may be told of fewer than were acknowledged before it asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};

use super::load::{Load, Sample, Target};
use crate::health::http;

/// Time between two questions of the witness.
const PAUSE: Duration = Duration::from_millis(100);
/// How long a question may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What became of the entries of one load.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// Writes that were acknowledged.
    pub acknowledged: usize,
    /// Of those, the ones that are not there. Never more than 0.
    pub missing: usize,
    /// Entries more than were ever sent. Never more than 0.
    pub doubled: usize,
    /// Writes that failed for the client and are there all the same: nobody knew.
    pub unconfirmed: usize,
    /// Answers to the witness that missed an entry which was acknowledged before it asked,
    /// or counted fewer than an answer before. Never more than 0.
    pub backwards: usize,
    /// Answers to the witness.
    pub witnessed: usize,
}

impl Ledger {
    /// Whether nothing was lost, doubled or taken back.
    pub fn balances(&self) -> bool {
        self.missing == 0 && self.doubled == 0 && self.backwards == 0
    }
}

/// Somebody who counts while the load runs.
#[derive(Debug)]
pub struct Witness {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<(usize, usize)>,
}

impl Witness {
    /// Begins to count the entries of `load`, whose ids begin with `name`.
    pub fn start(load: &Load, name: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (target, acknowledged) = (load.target(), load.acknowledged());
        let (ending, path) = (Arc::clone(&stop), count_path(name));
        let thread = thread::spawn(move || watch(target, &path, &acknowledged, &ending));
        Self { stop, thread }
    }

    /// Answers, and those of them that were wrong.
    fn finish(self) -> (usize, usize) {
        self.stop.store(true, Ordering::SeqCst);
        self.thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

fn watch(
    target: Target,
    path: &str,
    acknowledged: &AtomicUsize,
    stop: &AtomicBool,
) -> (usize, usize) {
    let client = http::client(PATIENCE);
    let (mut answers, mut wrong, mut most) = (0, 0, 0);
    while !stop.load(Ordering::SeqCst) {
        let at_least = acknowledged.load(Ordering::SeqCst).max(most);
        // No answer is the load's matter, a wrong one is ours.
        if let Ok(count) = count(&client, target, path) {
            answers += 1;
            wrong += usize::from(count < at_least);
            most = most.max(count);
        }
        thread::sleep(PAUSE);
    }
    (answers, wrong)
}

/// Looks for every entry of a load that has ended.
///
/// # Errors
/// If the entries can't be asked for.
pub fn settle(
    target: Target,
    name: &str,
    samples: &[Sample],
    witness: Witness,
) -> anyhow::Result<Ledger> {
    let client = http::client(PATIENCE);
    let (witnessed, backwards) = witness.finish();
    let mut ledger = Ledger {
        backwards,
        witnessed,
        ..Ledger::default()
    };
    let mut there = 0;
    for sample in samples {
        let Some(id) = &sample.entry else { continue };
        let path = format!("/api/entries/{id}");
        let found = match http::visit(&client, target, &path)?.status {
            200 => true,
            404 => false,
            other => bail!("asking for the entry {id} gave HTTP {other}"),
        };
        there += usize::from(found);
        match (sample.outcome.is_ok(), found) {
            (true, found) => {
                ledger.acknowledged += 1;
                ledger.missing += usize::from(!found);
            }
            (false, true) => ledger.unconfirmed += 1,
            (false, false) => {}
        }
    }
    let counted = count(&client, target, &count_path(name))?;
    ledger.doubled = counted.saturating_sub(there);
    Ok(ledger)
}

/// Whether the application takes entries, as the one that is shipped does.
///
/// # Errors
/// If nobody answers.
pub fn is_kept_by(target: Target) -> anyhow::Result<bool> {
    let client = http::client(PATIENCE);
    let answer = http::visit(&client, target, &count_path("none"))?;
    // An application may answer 200 to any path.
    Ok(answer.status == 200 && serde_json::from_str::<Count>(&answer.body).is_ok())
}

fn count_path(name: &str) -> String {
    format!("/api/count?prefix={name}-")
}

#[derive(Deserialize)]
struct Count {
    count: usize,
}

fn count(client: &ureq::Agent, target: Target, path: &str) -> anyhow::Result<usize> {
    let answer = http::visit(client, target, path)?;
    if answer.status != 200 {
        bail!("counting the entries gave HTTP {}", answer.status);
    }
    let Count { count } = serde_json::from_str(&answer.body).context("counting the entries")?;
    Ok(count)
}
