//! One step on one node, and undoing it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, ensure};

use super::ask::Asker;
use super::terms::{Step, What};
use crate::config::{
    Action, FIREWALL_FILE, Member, NodeFacts, PROGRAM, ReplicaSet, SetRole, is_quiet,
};
use crate::flows::Party;
use crate::health::mongo::Role;
use crate::site::NodeState;
use crate::topology::Tier;

/// How long a node may take to be well after it was started or changed.
const READY: Duration = Duration::from_secs(45);
/// How long requests at hand may take to end.
const SESSIONS: Duration = Duration::from_secs(30);
/// How long haproxy may take to start a new process.
const RELOAD: Duration = Duration::from_secs(10);
/// How long a mongod may take to start and to have what it missed.
const CAUGHT_UP: Duration = Duration::from_secs(120);
/// How long a new database may take to copy the data.
const COPIED: Duration = Duration::from_secs(30 * 60);

/// Why a step is not done.
#[derive(Debug)]
pub(super) enum Stopped {
    /// Something is not as it should be.
    Closed(anyhow::Error),
    /// Somebody wants it to end, and nothing was changed.
    Interrupted,
    /// Somebody wants it to end, and what was begun has to be undone.
    HalfWay,
}

impl From<anyhow::Error> for Stopped {
    fn from(error: anyhow::Error) -> Self {
        Stopped::Closed(error)
    }
}

/// Does steps, and knows who is there at the moment.
pub(super) struct Worker<'w> {
    pub asker: &'w Asker<'w>,
    interrupted: &'w (dyn Fn() -> bool + Sync),
    /// Replica set → the members that it has.
    members: Mutex<BTreeMap<String, Vec<Member>>>,
    balancers: Mutex<Vec<String>>,
    /// App servers that were drained because they leave, and still run.
    leaving: Mutex<BTreeSet<String>>,
    /// App servers whose page failed before they were touched.
    failing: Mutex<BTreeSet<String>>,
}

impl<'w> Worker<'w> {
    pub(super) fn new(
        asker: &'w Asker<'w>,
        interrupted: &'w (dyn Fn() -> bool + Sync),
        members: BTreeMap<String, Vec<Member>>,
        balancers: Vec<String>,
    ) -> Self {
        Self {
            asker,
            interrupted,
            members: Mutex::new(members),
            balancers: Mutex::new(balancers),
            leaving: Mutex::default(),
            failing: Mutex::default(),
        }
    }

    /// The members that a database's replica set has; none where it is new.
    fn members(&self, name: &str) -> anyhow::Result<Vec<Member>> {
        let set = self.set(name)?;
        let members = held(&self.members).get(&set.name).cloned();
        Ok(members.unwrap_or_default())
    }

    /// The replica set that a database is or was a member of.
    fn set(&self, name: &str) -> anyhow::Result<&'w ReplicaSet> {
        let set = self.asker.node(name)?.set();
        set.with_context(|| format!("{name} is no database"))
    }

    /// Whether every member of a database's replica set is well and close behind the primary.
    pub(super) fn set_is_well(&self, name: &str) -> anyhow::Result<()> {
        let members = self.members(name)?;
        if members.is_empty() {
            // It was to be new, and that was undone.
            return Ok(());
        }
        self.asker.primary(&members).map(drop)
    }

    /// Whether each replica set that is there has a primary.
    pub(super) fn sets_have_primaries(&self) -> anyhow::Result<()> {
        let sets = held(&self.members).clone();
        sets.iter()
            .try_for_each(|(set, members)| self.asker.has_primary(set, members))
    }

    /// The load balancers that run.
    pub(super) fn balancers(&self) -> Vec<String> {
        held(&self.balancers).clone()
    }

    pub(super) fn step(&self, step: &Step) -> Result<(), Stopped> {
        let name = step.node.as_str();
        if step.what == What::Add {
            self.admit(name)?;
        }
        match (&step.what, step.tier) {
            (What::Add, Tier::Database) => self.add_database(name)?,
            (What::Add, Tier::App) => {
                self.host(|| self.asker.host.add(name))?;
                self.serves(name)?;
            }
            (What::Add, Tier::LoadBalancer) => {
                self.host(|| self.asker.host.add(name))?;
                held(&self.balancers).push(name.to_owned());
                self.balances(name)?;
            }
            (What::Change { how, .. }, _) if is_quiet(how) => {
                self.asker.host.change(name, how)?;
                self.asker.runs_what_was_planned(name)?;
            }
            (What::Change { how, .. }, Tier::App) => {
                self.drain(name)?;
                let fails = self.asker.page_fails(&self.asker.node(name)?.facts);
                if fails {
                    held(&self.failing).insert(name.to_owned());
                }
                self.host(|| self.asker.host.change(name, how))?;
                self.serves(name)?;
                self.asker.runs_what_was_planned(name)?;
                self.undrain(name)?;
            }
            (What::Change { how, .. }, Tier::LoadBalancer) => {
                self.reloading(name, how, || self.asker.host.change(name, how))?;
                self.balances(name)?;
                self.asker.runs_what_was_planned(name)?;
            }
            (What::Change { how, .. }, Tier::Database) => {
                if step.interrupts() {
                    self.step_down(name)?;
                }
                self.host(|| self.asker.host.change(name, &without_set(how)))?;
                self.asker.wait(CAUGHT_UP, || self.set_is_well(name))?;
                self.asker.runs_what_was_planned(name)?;
                if how.contains(&Action::ConfigureSet) {
                    self.configure(name, &self.members(name)?, None)?;
                }
            }
            (What::Drain, _) => {
                self.drain(name)?;
                held(&self.leaving).insert(name.to_owned());
            }
            (What::Remove, Tier::App) => {
                self.host(|| self.asker.host.remove(name))?;
                held(&self.leaving).remove(name);
            }
            (What::Remove, Tier::LoadBalancer) => {
                self.host(|| self.asker.host.remove(name))?;
                held(&self.balancers).retain(|other| other != name);
            }
            (What::Remove, Tier::Database) => self.remove_database(name)?,
        }
        Ok(())
    }

    /// Brings a node back to what it was before [`Self::step`], however far that came.
    pub(super) fn undo(&self, step: &Step) -> anyhow::Result<()> {
        let name = step.node.as_str();
        let host = self.asker.host;
        match (&step.what, step.tier) {
            (What::Add, Tier::Database) => {
                if self.is_in_new_set(name)? {
                    let set = &self.set(name)?.name;
                    held(&self.members).remove(set);
                } else {
                    self.configure(name, &self.without(name)?, None)?;
                }
                self.host(|| host.remove(name))
            }
            (What::Add, tier) => {
                if tier == Tier::LoadBalancer {
                    held(&self.balancers).retain(|other| other != name);
                }
                self.host(|| host.remove(name))
            }
            (What::Change { how, .. }, _) if is_quiet(how) => host.revert(name, how),
            (What::Change { how, .. }, Tier::App) => {
                self.host(|| host.revert(name, how))?;
                self.serves(name)?;
                self.undrain(name)
            }
            (What::Change { how, .. }, Tier::LoadBalancer) => {
                self.reloading(name, how, || host.revert(name, how))?;
                self.balances(name)
            }
            (What::Change { how, .. }, Tier::Database) => {
                self.host(|| host.revert(name, &without_set(how)))?;
                self.asker.wait(CAUGHT_UP, || self.set_is_well(name))
            }
            (What::Drain, _) => self.undrain(name),
            (What::Remove, Tier::App) => {
                self.host(|| host.restore(name))?;
                self.serves(name)
            }
            (What::Remove, Tier::LoadBalancer) => {
                self.host(|| host.restore(name))?;
                held(&self.balancers).push(name.to_owned());
                self.balances(name)
            }
            (What::Remove, Tier::Database) => {
                self.host(|| host.restore(name))?;
                self.join(name, &|| false).map_err(|stopped| match stopped {
                    Stopped::Closed(error) => error,
                    Stopped::Interrupted | Stopped::HalfWay => anyhow!("interrupted"),
                })
            }
        }
    }

    /// App servers that were to leave are used again, as it ends before they did.
    pub(super) fn keep_those_that_leave(&self) -> anyhow::Result<()> {
        let leaving = std::mem::take(&mut *held(&self.leaving));
        leaving.iter().try_for_each(|app| self.undrain(app))
    }

    /// Opens the doors of all that stay for a node that is about to join. Their own files
    /// name it sooner or later; until then it must not knock in vain.
    fn admit(&self, name: &str) -> anyhow::Result<()> {
        let facts = &self.asker.node(name)?.facts;
        let mut newcomers = BTreeMap::from([(Party::of(facts.tier).name(), [facts.address])]);
        if facts.database.as_ref().and_then(|set| set.role) == Some(SetRole::Config) {
            newcomers.insert(Party::ConfigServers.name(), [facts.address]);
        }
        let newcomers = serde_json::to_string(&newcomers)?;
        let (old, new) = (self.asker.old, self.asker.new);
        let staying = old.nodes().iter().filter(|node| {
            let after = new.node(node.name());
            // Where the firewall stays as it is, it has no door for the newcomer.
            after.is_some_and(|after| {
                after.files.get(FIREWALL_FILE) != node.files.get(FIREWALL_FILE)
            })
        });
        for node in staying.filter(|node| node.files.contains_key(FIREWALL_FILE)) {
            let argv = [PROGRAM, "node", "open-firewall"];
            self.asker.host.run(node.name(), &argv, Some(&newcomers))?;
        }
        Ok(())
    }

    /// Something that takes the nodes' time, not the engine's.
    fn host(&self, work: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
        self.asker.patiently(work)
    }

    /// Sends an app server no new requests, on every load balancer, and waits for those at hand.
    fn drain(&self, app: &str) -> Result<(), Stopped> {
        let balancers = self.balancers();
        for balancer in &balancers {
            self.set_state(balancer, app, "drain")?;
        }
        let deadline = Instant::now() + SESSIONS;
        let busy = || {
            let asked = balancers
                .iter()
                .map(|balancer| self.asker.sessions(balancer, app));
            asked.sum::<anyhow::Result<u64>>()
        };
        while busy()? > 0 && Instant::now() < deadline {
            if (self.interrupted)() {
                for balancer in &balancers {
                    self.set_state(balancer, app, "ready")?;
                }
                return Err(Stopped::Interrupted);
            }
            self.asker
                .patiently(|| std::thread::sleep(Duration::from_millis(20)));
        }
        Ok(())
    }

    /// Sends an app server requests again, and waits until every load balancer does.
    fn undrain(&self, app: &str) -> anyhow::Result<()> {
        let balancers = self.balancers();
        for balancer in &balancers {
            self.set_state(balancer, app, "ready")?;
        }
        self.asker.wait(READY, || {
            balancers
                .iter()
                .try_for_each(|balancer| self.asker.is_used(balancer, app))
        })
    }

    /// haproxy says nothing when it agrees. One that does not know the server has nothing to drain.
    fn set_state(&self, balancer: &str, app: &str, state: &str) -> anyhow::Result<()> {
        for backend in self.asker.backends(app) {
            let command = format!("set server {backend}/{app} state {state}");
            let answer = self.asker.host.haproxy(balancer, &command)?;
            let answer = answer.trim();
            ensure!(
                answer.is_empty() || answer.starts_with("No such "),
                "{balancer}: `{command}`: {answer}"
            );
        }
        Ok(())
    }

    /// Waits until an app server can serve, three times in a row.
    fn serves(&self, name: &str) -> anyhow::Result<()> {
        let facts = &self.asker.node(name)?.facts;
        let failed_before = held(&self.failing).contains(name);
        self.asker.wait(READY, || {
            (0..3).try_for_each(|_| self.asker.can_serve(facts, failed_before))
        })
    }

    /// Waits until a load balancer answers, uses every app server, and takes part. One
    /// that is to have the virtual IP has it before the next step.
    fn balances(&self, name: &str) -> anyhow::Result<()> {
        let facts = &self.asker.node(name)?.facts;
        let settings = facts.load_balancer.as_ref();
        let settings = settings.with_context(|| format!("{name} is no load balancer"))?;
        self.asker.wait(READY, || {
            self.asker.is_alive(facts)?;
            self.asker.uses_all(name)?;
            let report = self.asker.report(name)?.load_balancer;
            let takes_part = report.as_ref().is_some_and(|report| report.takes_part);
            ensure!(
                takes_part,
                "{name} does not take part in the choice of who has the virtual IP"
            );
            let is_first = self.asker.new.tier(Tier::LoadBalancer).next();
            let is_first = is_first.is_some_and(|first| first.name() == name);
            let takes_over = is_first && settings.preempt;
            let has_it = report.is_some_and(|report| report.has_virtual_ip);
            ensure!(
                !takes_over || has_it,
                "{name} has not taken the virtual IP yet"
            );
            Ok(())
        })
    }

    /// A reload that haproxy refuses leaves the old process in charge, and nobody would know.
    fn reloading(
        &self,
        name: &str,
        how: &[Action],
        work: impl FnOnce() -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let process = || -> anyhow::Result<String> {
            let info = self.asker.host.haproxy(name, "show info")?;
            let pid = info.lines().find_map(|line| line.strip_prefix("Pid: "));
            Ok(pid
                .context("haproxy does not tell its process id")?
                .to_owned())
        };
        if !how.contains(&Action::ReloadHaproxy) {
            return self.host(work);
        }
        let before = process()?;
        self.host(work)?;
        self.asker.wait(RELOAD, || {
            ensure!(
                process()? != before,
                "haproxy of {name} has not taken its new file"
            );
            Ok(())
        })
    }

    fn add_database(&self, name: &str) -> Result<(), Stopped> {
        self.host(|| self.asker.host.add(name))?;
        self.asker.wait(READY, || {
            let answers = self.asker.report(name)?.database.is_some();
            ensure!(answers, "mongod of {name} does not answer");
            Ok(())
        })?;
        if self.is_in_new_set(name)? {
            return Ok(self.make_set(name)?);
        }
        self.join(name, self.interrupted)
    }

    /// Whether nobody was a member of a database's replica set before.
    fn is_in_new_set(&self, name: &str) -> anyhow::Result<bool> {
        let set = self.set(name)?;
        Ok(!self.asker.old.sets().contains_key(&set.name))
    }

    /// Waits until the members of a new replica set have made it, which they do by themselves.
    fn make_set(&self, name: &str) -> anyhow::Result<()> {
        let set = self.set(name)?;
        self.asker
            .wait(CAUGHT_UP, || self.asker.primary(&set.members).map(drop))?;
        held(&self.members).insert(set.name.clone(), set.members.clone());
        Ok(())
    }

    /// The set takes a member in, which then copies the data.
    fn join(&self, name: &str, interrupted: &dyn Fn() -> bool) -> Result<(), Stopped> {
        let mut with = self.without(name)?;
        let (_, me) = self.asker.node(name)?.facts.membership()?;
        with.push(me.clone());
        self.configure(name, &with, Some(name))?;
        self.asker.wait(COPIED, || {
            if interrupted() {
                return Ok(());
            }
            let role = self.asker.report(name)?.database.map(|member| member.role);
            let is_in = matches!(role, Some(Role::Primary | Role::Secondary));
            ensure!(is_in, "{name} has not copied the data yet");
            self.set_is_well(name)
        })?;
        if interrupted() && self.set_is_well(name).is_err() {
            return Err(Stopped::HalfWay);
        }
        Ok(())
    }

    fn remove_database(&self, name: &str) -> anyhow::Result<()> {
        // One that is gone already can't be asked, nor be primary.
        if self.asker.host.reachable(name).is_ok() {
            self.step_down(name)?;
        }
        self.configure(name, &self.without(name)?, None)?;
        self.host(|| self.asker.host.remove(name))
    }

    /// The primary of a database's set and the addresses of that, by its own account; asked
    /// until somebody says that it is primary.
    fn primary(&self, name: &str) -> anyhow::Result<(String, Vec<String>)> {
        let mut found = None;
        self.asker.wait(READY, || {
            let members = self.members(name)?;
            found = members.iter().find_map(|member| {
                let report = self.asker.report(&member.name).ok()?.database?;
                (report.role == Role::Primary).then(|| (member.name.clone(), report.members))
            });
            ensure!(found.is_some(), "no database is primary");
            Ok(())
        })?;
        found.context("no database is primary")
    }

    fn without(&self, name: &str) -> anyhow::Result<Vec<Member>> {
        let mut members = self.members(name)?;
        members.retain(|member| member.name != name);
        Ok(members)
    }

    /// The primary hands its part over; the only member has nobody to hand it to.
    fn step_down(&self, name: &str) -> anyhow::Result<()> {
        if self.members(name)?.len() < 2 {
            return Ok(());
        }
        let host = self.asker.host;
        self.host(|| {
            host.run(name, &[PROGRAM, "node", "step-down"], None)
                .map(drop)
        })
    }

    /// The primary brings the set of the database `name` to `members`, with the planned settings. Who is in the set
    /// is what the set says: of `members` only those that are in it already, and the one
    /// that is `joining`. (A database that was booted brings the set to its own facts, by
    /// which others may have left earlier.)
    fn configure(
        &self,
        name: &str,
        members: &[Member],
        joining: Option<&str>,
    ) -> anyhow::Result<()> {
        let (primary, there) = &self.primary(name)?;
        let node = self.asker.node(primary)?;
        let own = self.set(primary)?;
        let mut planned = self.asker.new.nodes().iter().filter_map(NodeState::set);
        let set = planned.find(|set| set.name == own.name).unwrap_or(own);
        // Votes as planned, for those that stay.
        let as_planned = |member: &Member| {
            let planned = set.members.iter().find(|other| other.name == member.name);
            planned.unwrap_or(member).clone()
        };
        let members: Vec<Member> = members
            .iter()
            .filter(|member| there.contains(&member.host) || joining == Some(&member.name))
            .map(as_planned)
            .collect();
        ensure!(
            members.iter().any(|member| member.name == *primary),
            "{primary} is primary and can't take itself out"
        );
        let is_kept = |host: &&String| members.iter().any(|member| member.host == **host);
        let fewer = there.iter().filter(|host| !is_kept(host)).count();
        ensure!(
            fewer <= 1,
            "the replica set would lose {fewer} members at once"
        );
        let facts = NodeFacts {
            database: Some(Arc::new(ReplicaSet {
                members: members.clone(),
                ..set.clone()
            })),
            ..node.facts.clone()
        };
        let argv = [
            PROGRAM,
            "node",
            "--facts",
            "/dev/stdin",
            "reconcile-database",
        ];
        let facts = serde_json::to_string(&facts)?;
        self.host(|| self.asker.host.run(primary, &argv, Some(&facts)).map(drop))?;
        held(&self.members).insert(set.name.clone(), members);
        Ok(())
    }
}

fn without_set(how: &[Action]) -> Vec<Action> {
    let is_own = |action: &&Action| **action != Action::ConfigureSet;
    how.iter().filter(is_own).copied().collect()
}

/// What a lock holds, even if somebody panicked with it in hand.
fn held<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}
