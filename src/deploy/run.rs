//! Doing what a plan says: wave after wave, with a gate behind each. A gate that
//! stays closed undoes its wave and ends the apply.

use std::time::{Duration, Instant};

use super::ask::Asker;
use super::journal::{Ending, Entry, Journal};
use super::plan::Plan;
use super::step::{Stopped, Worker};
use super::terms::{Step, What};
use crate::config::is_quiet;
use crate::exec;
use crate::site::{Fleet, Host, NodeState};
use crate::topology::Tier;

/// How long the way through the stack may take to be open after a step.
const GATE: Duration = Duration::from_secs(10);
/// How long a new stack may take to answer, when all its nodes are well.
const ANSWER: Duration = Duration::from_secs(45);
/// Nodes that are worked on at the same time: they share the machine they are worked on from.
const AT_ONCE: usize = 16;
/// Share of errors by which a changed app server may exceed the others while it is watched.
const MORE_ERRORS: f64 = 0.02;

/// How an apply is done.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// App servers that change first, and are watched before the others follow; 0: none.
    pub canary: usize,
    /// How long they are watched.
    pub bake: Duration,
}

/// Something that happened, for whoever watches.
#[derive(Clone, Debug)]
pub enum Event<'e> {
    /// Steps begin, at the same time.
    Begin(&'e [Step]),
    /// They are done, and the gate behind them is open.
    Done(&'e [Step], Spent),
    /// A gate is closed; the steps are being undone.
    Undoing(&'e [Step], &'e str),
    /// The first app servers are watched.
    Watching(usize, Duration),
}

/// Where the time of a wave went.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spent {
    /// All of it.
    pub all: Duration,
    /// What the nodes needed: daemons that end and start, health that has to come.
    pub nodes: Duration,
}

/// How far a gate looks, besides at the nodes that were touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Look {
    /// No farther: the stack does not serve yet.
    Nodes,
    /// Through the virtual IP to an app server.
    App,
    /// There, and whether each replica set has a primary.
    Database,
}

/// Why an apply did not come to its end.
#[derive(Debug)]
pub enum Failure {
    /// Nothing was touched, for these reasons.
    Refused(Vec<String>),
    /// A gate stayed closed, and the steps before it were undone.
    RolledBack {
        /// The nodes.
        nodes: Vec<String>,
        /// Why the gate was closed.
        why: String,
    },
    /// A gate stayed closed, and undoing failed, too.
    Stuck {
        /// The nodes.
        nodes: Vec<String>,
        /// Why the gate was closed.
        why: String,
        /// Why it could not be undone.
        undo: String,
    },
    /// Somebody wanted it to end; what was begun is done or undone.
    Interrupted {
        /// Steps that were done.
        done: usize,
        /// Steps that there were.
        steps: usize,
    },
    /// The journal could not be written, or something as unlikely.
    Failed(anyhow::Error),
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Failure::Failed(error)
    }
}

/// An apply.
pub struct Engine<'e> {
    /// Where the nodes run.
    pub host: &'e dyn Host,
    /// What they run.
    pub old: &'e Fleet,
    /// What they shall run.
    pub new: &'e Fleet,
    /// What has to be done.
    pub plan: &'e Plan,
    /// How.
    pub options: Options,
    /// Whether somebody wants it to end.
    pub interrupted: &'e (dyn Fn() -> bool + Sync),
}

impl Engine<'_> {
    /// Makes sure that the stack is well and that the new files are accepted, without
    /// touching anything. `unfinished` nodes may be in any state.
    ///
    /// # Errors
    /// Everything that is wrong.
    pub fn preflight(&self, unfinished: &[&str]) -> Result<(), Failure> {
        if !self.plan.obstacles.is_empty() {
            return Err(Failure::Refused(self.plan.obstacles.clone()));
        }
        let asker = Asker::new(self.host, self.old, self.new);
        let problems = self.problems(&asker, unfinished);
        if !problems.is_empty() {
            return Err(Failure::Refused(problems));
        }
        let gets_files = |step: &&Step| matches!(step.what, What::Add | What::Change { .. });
        let nodes: Vec<&str> = self
            .plan
            .steps
            .iter()
            .filter(gets_files)
            .map(|step| step.node.as_str())
            .collect();
        let refused = self.host.validate(&nodes)?;
        if refused.is_empty() {
            Ok(())
        } else {
            Err(Failure::Refused(refused))
        }
    }

    /// What is not well before anything is touched.
    fn problems(&self, asker: &Asker<'_>, unfinished: &[&str]) -> Vec<String> {
        if self.old.nodes().is_empty() {
            return Vec::new();
        }
        // A node that leaves may be gone already.
        let matters = |name: &str| self.new.node(name).is_some() && !unfinished.contains(&name);
        let mut problems = Vec::new();
        let mut say = |problem: anyhow::Result<()>| {
            if let Err(error) = problem {
                problems.push(format!("{error:#}"));
            }
        };
        let nodes = self.old.nodes().iter().map(NodeState::name);
        let nodes: Vec<&str> = nodes.filter(|name| matters(name)).collect();
        let reached = exec::in_parallel(&nodes, AT_ONCE, |node| self.host.reachable(node));
        let all_reachable = reached.iter().all(Result::is_ok);
        reached.into_iter().for_each(&mut say);
        if !all_reachable {
            return problems;
        }
        let balancers: Vec<String> = names(self.old, Tier::LoadBalancer);
        let apps = self.old.tier(Tier::App).map(NodeState::name);
        let apps: Vec<&str> = apps.filter(|name| matters(name)).collect();
        for node in self
            .old
            .tier(Tier::LoadBalancer)
            .filter(|node| matters(node.name()))
        {
            say(asker.is_alive(&node.facts));
            say(asker.are_used(node.name(), &apps));
        }
        if unfinished.is_empty() {
            for members in self.old.sets().values() {
                if members.iter().all(|member| matters(&member.name)) {
                    say(asker.primary(members).map(drop));
                }
            }
            if self.is_whole() {
                say(asker.owner(&balancers).map(drop));
                say(asker.end_to_end());
            }
        }
        problems
    }

    /// Does everything, and says what happens.
    ///
    /// # Errors
    /// See [`Failure`].
    pub fn run(
        &self,
        journal: &mut Journal,
        report: &mut dyn FnMut(Event<'_>),
    ) -> Result<(), Failure> {
        let asker = Asker::new(self.host, self.old, self.new);
        let worker = Worker::new(
            &asker,
            self.interrupted,
            self.old.sets(),
            names(self.old, Tier::LoadBalancer),
        );
        let look = self.look(&worker);
        let outcome = self.waves(&worker, look, journal, report);
        let ending = match &outcome {
            Ok(()) => Ending::Done,
            Err(Failure::Interrupted { .. }) => Ending::Interrupted,
            Err(Failure::RolledBack { .. }) => Ending::RolledBack,
            // Left open: the next apply has to know.
            Err(_) => return outcome,
        };
        journal.write(&Entry::End { outcome: ending })?;
        outcome
    }

    /// Whether there is a node of each tier, so that the stack can serve. Without databases
    /// it can if the application does not know any.
    fn is_whole(&self) -> bool {
        let has = |tier: Tier| self.old.tier(tier).next().is_some();
        let mut apps = self.old.tier(Tier::App);
        let needs_none = apps.all(|node| {
            let app = node.facts.app.as_ref();
            app.is_some_and(|app| app.without_database)
        });
        has(Tier::LoadBalancer) && has(Tier::App) && (has(Tier::Database) || needs_none)
    }

    /// How far gates can look. A stack that is new, or that was interrupted before it served,
    /// is asked for an answer at the end.
    fn look(&self, worker: &Worker<'_>) -> Look {
        let asker = worker.asker;
        let serves = || asker.end_to_end();
        if serves().is_err() && (!self.is_whole() || asker.wait(GATE, serves).is_err()) {
            return Look::Nodes;
        }
        match worker.sets_have_primaries() {
            Ok(()) => Look::Database,
            Err(_) => Look::App,
        }
    }

    fn waves(
        &self,
        worker: &Worker<'_>,
        look: Look,
        journal: &mut Journal,
        report: &mut dyn FnMut(Event<'_>),
    ) -> Result<(), Failure> {
        let mut done = 0;
        let mut canaries: Vec<Step> = Vec::new();
        let mut watched = self.options.canary == 0;
        for wave in self.plan.waves() {
            let interrupted = || Failure::Interrupted {
                done,
                steps: self.plan.steps.len(),
            };
            if (self.interrupted)() {
                return Err(interrupted());
            }
            report(Event::Begin(wave));
            let spent = match self::wave(worker, wave, look, journal) {
                Ok(spent) => spent,
                Err(Stopped::Interrupted) => {
                    self.undone(wave, "interrupted", journal)?;
                    return Err(interrupted());
                }
                Err(Stopped::HalfWay) => {
                    return Err(
                        match self.undo(worker, wave, "interrupted", look, journal, report) {
                            Failure::RolledBack { .. } => interrupted(),
                            other => other,
                        },
                    );
                }
                Err(Stopped::Closed(error)) => {
                    return Err(self.undo(
                        worker,
                        wave,
                        &format!("{error:#}"),
                        look,
                        journal,
                        report,
                    ));
                }
            };
            report(Event::Done(wave, spent));
            done += wave.len();
            canaries.extend(wave.iter().filter(|step| is_canary(step)).cloned());
            if !watched && canaries.len() >= self.options.canary {
                watched = true;
                report(Event::Watching(canaries.len(), self.options.bake));
                if let Err(error) = self.watch(worker, &canaries, look) {
                    return Err(self.undo(
                        worker,
                        &canaries,
                        &format!("{error:#}"),
                        look,
                        journal,
                        report,
                    ));
                }
            }
            for step in wave.iter().filter(|step| watched || !is_canary(step)) {
                self.settle(step, &What::Remove)?;
            }
        }
        for step in &canaries {
            self.settle(step, &What::Remove)?;
        }
        self.verify(worker, look)
    }

    /// Watches app servers that were changed: the gate has to stay open, and their
    /// share of errors must not be larger than that of the others.
    fn watch(&self, worker: &Worker<'_>, canaries: &[Step], look: Look) -> anyhow::Result<()> {
        let asker = worker.asker;
        let balancers = worker.balancers();
        let is_one = |name: &str| canaries.iter().any(|step| step.node == name);
        let count = || {
            let mut counts = [(0, 0); 2];
            for node in self.new.tier(Tier::App) {
                let (answers, errors) = asker.answers(&balancers, node.name());
                let of = &mut counts[usize::from(is_one(node.name()))];
                *of = (of.0 + answers, of.1 + errors);
            }
            counts
        };
        let before = count();
        let deadline = Instant::now() + self.options.bake;
        while Instant::now() < deadline && !(self.interrupted)() {
            asker.patiently(|| {
                std::thread::sleep(Duration::from_millis(500).min(self.options.bake));
            });
            asker.wait(GATE, || through(worker, look))?;
            let now = count();
            let [others, ours] = [0, 1].map(|of| {
                let answers = now[of].0.saturating_sub(before[of].0);
                let errors = now[of].1.saturating_sub(before[of].1);
                (errors, share(errors, answers))
            });
            anyhow::ensure!(
                ours.0 < 3 || ours.1 <= others.1 + MORE_ERRORS,
                "{:.1} % of the answers of the changed app servers are errors, and {:.1} % of the others'",
                ours.1 * 100.0,
                others.1 * 100.0
            );
        }
        Ok(())
    }

    fn undo(
        &self,
        worker: &Worker<'_>,
        steps: &[Step],
        why: &str,
        look: Look,
        journal: &mut Journal,
        report: &mut dyn FnMut(Event<'_>),
    ) -> Failure {
        report(Event::Undoing(steps, why));
        let nodes: Vec<String> = steps.iter().map(|step| step.node.clone()).collect();
        let why = why.to_owned();
        let undone = each(steps, |step| worker.undo(step).map_err(Stopped::Closed))
            .and_then(|()| worker.keep_those_that_leave().map_err(Stopped::Closed))
            .and_then(|()| gate(worker, steps, look.min(Look::App)).map_err(Stopped::Closed));
        if let Err(Stopped::Closed(error)) = undone {
            let undo = format!("{error:#}");
            return Failure::Stuck { nodes, why, undo };
        }
        match self.undone(steps, &why, journal) {
            Ok(()) => Failure::RolledBack { nodes, why },
            Err(error) => Failure::Failed(error),
        }
    }

    fn undone(&self, steps: &[Step], why: &str, journal: &mut Journal) -> anyhow::Result<()> {
        for step in steps {
            self.settle(step, &What::Add)?;
            journal.write(&Entry::Undone {
                node: step.node.clone(),
                why: why.to_owned(),
            })?;
        }
        Ok(())
    }

    /// There is no way back any more. A node is gone for good where its step was `gone`:
    /// one that was removed, or one that was added and this was undone.
    fn settle(&self, step: &Step, gone: &What) -> anyhow::Result<()> {
        if step.what == *gone {
            self.host.forget(&step.node)
        } else {
            self.host.settle(&step.node)
        }
    }

    /// Success is claimed only when each node that was touched runs what was planned.
    fn verify(&self, worker: &Worker<'_>, look: Look) -> Result<(), Failure> {
        let touched = self
            .plan
            .steps
            .iter()
            .filter(|step| self.new.node(&step.node).is_some());
        let touched: Vec<Step> = touched.cloned().collect();
        let asker = worker.asker;
        let answers = || asker.wait(ANSWER, || asker.end_to_end());
        each(
            &touched,
            |step| Ok(asker.runs_what_was_planned(&step.node)?),
        )
        .and_then(|()| match look {
            // Nobody has asked it yet.
            Look::Nodes => Ok(answers()?),
            Look::App | Look::Database => Ok(()),
        })
        .map_err(|stopped| match stopped {
            Stopped::Closed(error) => Failure::Failed(error.context("everything was done, but")),
            Stopped::Interrupted | Stopped::HalfWay => Failure::Interrupted {
                done: self.plan.steps.len(),
                steps: self.plan.steps.len(),
            },
        })
    }
}

/// All steps of a wave at the same time, and the gate behind them.
fn wave(
    worker: &Worker<'_>,
    wave: &[Step],
    look: Look,
    journal: &mut Journal,
) -> Result<Spent, Stopped> {
    let begun = Instant::now();
    let waited = worker.asker.waited();
    for step in wave {
        journal.write(&Entry::Start {
            node: step.node.clone(),
            what: step.what.kind(),
        })?;
    }
    each(wave, |step| worker.step(step))?;
    gate(worker, wave, look)?;
    let all = begun.elapsed();
    let took_ms = u64::try_from(all.as_millis()).unwrap_or(u64::MAX);
    for step in wave {
        journal.write(&Entry::Done {
            node: step.node.clone(),
            took_ms,
        })?;
    }
    Ok(Spent {
        all,
        nodes: worker.asker.waited().saturating_sub(waited),
    })
}

/// The way through the stack, and the health of what the steps were about.
fn gate(worker: &Worker<'_>, wave: &[Step], look: Look) -> anyhow::Result<()> {
    let has = |tier: Tier| wave.iter().any(|step| step.tier == tier);
    let asker = worker.asker;
    asker.wait(GATE, || {
        if has(Tier::LoadBalancer) {
            asker.owner(&worker.balancers())?;
        }
        for step in wave.iter().filter(|step| step.tier == Tier::Database) {
            worker.set_is_well(&step.node)?;
        }
        through(worker, look)
    })
}

fn through(worker: &Worker<'_>, look: Look) -> anyhow::Result<()> {
    match look {
        Look::Nodes => Ok(()),
        Look::App => worker.asker.end_to_end(),
        Look::Database => {
            worker.asker.end_to_end()?;
            worker.sets_have_primaries()
        }
    }
}

/// Does the same for all steps at the same time; the first error counts, and any
/// other error more than an interruption.
fn each(steps: &[Step], work: impl Fn(&Step) -> Result<(), Stopped> + Sync) -> Result<(), Stopped> {
    if let [step] = steps {
        return work(step);
    }
    let done = exec::in_parallel(steps, AT_ONCE, work);
    let mut errors: Vec<Stopped> = done.into_iter().filter_map(Result::err).collect();
    errors.sort_by_key(|error| match error {
        Stopped::Closed(_) => 0,
        Stopped::HalfWay => 1,
        Stopped::Interrupted => 2,
    });
    match errors.into_iter().next() {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

/// An app server that gets something new which visitors could notice.
fn is_canary(step: &Step) -> bool {
    let touches = |how: &[_]| !is_quiet(how);
    step.tier == Tier::App && matches!(&step.what, What::Change { how, .. } if touches(how))
}

fn names(fleet: &Fleet, tier: Tier) -> Vec<String> {
    fleet
        .tier(tier)
        .map(|node| node.name().to_owned())
        .collect()
}

#[expect(clippy::cast_precision_loss, reason = "a share, not an account")]
fn share(part: u64, all: u64) -> f64 {
    if all == 0 {
        0.0
    } else {
        part as f64 / all as f64
    }
}
