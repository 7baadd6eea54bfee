//! Questions that the engine asks before, between and after steps. Each is an error
//! with a reason as long as the answer is not what it should be.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail, ensure};

use crate::config::{AppFacts, Member, NodeFacts, place};
use crate::health::haproxy::{self, ServerState};
use crate::health::http::Entrance;
use crate::health::mongo::Role;
use crate::health::report::Report;
use crate::site::{Fleet, Host, NodeState};
use crate::topology::Tier;
use crate::wait;

/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(20);
/// How long a virtual IP may take to be where it is seen: a move takes some 10 ms, and so does each question.
const MOVES: Duration = Duration::from_secs(1);
/// How far a secondary may be behind the primary, in milliseconds.
const LAG: i64 = 10_000;

/// Asks, and counts the time that is spent with waiting.
pub(super) struct Asker<'a> {
    pub host: &'a dyn Host,
    pub old: &'a Fleet,
    pub new: &'a Fleet,
    /// Time spent waiting for nodes, in microseconds.
    waited: AtomicU64,
}

impl<'a> Asker<'a> {
    pub(super) fn new(host: &'a dyn Host, old: &'a Fleet, new: &'a Fleet) -> Self {
        Self {
            host,
            old,
            new,
            waited: AtomicU64::new(0),
        }
    }

    /// Time spent waiting so far; of several nodes at the same time, the sum.
    pub(super) fn waited(&self) -> Duration {
        Duration::from_micros(self.waited.load(Ordering::Relaxed))
    }

    /// Does `work`, which is the nodes' own, and counts its time as waiting.
    pub(super) fn patiently<T>(&self, work: impl FnOnce() -> T) -> T {
        let begun = Instant::now();
        let done = work();
        let micros = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.waited.fetch_add(micros, Ordering::Relaxed);
        done
    }

    /// Asks until the answer is right, or `limit` is over.
    pub(super) fn wait(
        &self,
        limit: Duration,
        mut right: impl FnMut() -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let mut answer = right();
        if answer.is_ok() {
            return Ok(());
        }
        self.patiently(|| {
            let deadline = Instant::now() + limit;
            while answer.is_err() && Instant::now() < deadline {
                std::thread::sleep(PAUSE);
                answer = right();
            }
        });
        answer.with_context(|| format!("waited {} s", limit.as_secs()))
    }

    /// The node as it should be, or as it was if it leaves.
    pub(super) fn node(&self, name: &str) -> anyhow::Result<&'a NodeState> {
        let node = self.new.node(name).or_else(|| self.old.node(name));
        node.with_context(|| format!("there is no node {name}"))
    }

    pub(super) fn report(&self, name: &str) -> anyhow::Result<Report> {
        self.host.report(name)
    }

    /// Whether a node runs what was planned, by its own account.
    pub(super) fn runs_what_was_planned(&self, name: &str) -> anyhow::Result<()> {
        let planned = self.node(name)?;
        let report = self.report(name)?;
        ensure!(
            report.facts == serde_json::to_value(&planned.facts)?,
            "{name} has other facts than planned"
        );
        for (path, sum) in &report.files {
            ensure!(
                sum.as_ref() == planned.facts.files.get(path),
                "{name}: /{path} is not what was planned"
            );
        }
        for door in planned.facts.app.iter().flat_map(AppFacts::doors) {
            let version = planned
                .files
                .get(place::below_etc(&place::source(door.name)));
            let runs = match door.name {
                None => report.app.as_ref(),
                Some(app) => report.apps.get(app),
            };
            ensure!(
                version.is_none() || version == runs,
                "{name} has another version of {} than planned",
                door.name.unwrap_or("the app")
            );
        }
        Ok(())
    }

    /// Whether haproxy of a load balancer answers.
    pub(super) fn is_alive(&self, facts: &NodeFacts) -> anyhow::Result<()> {
        let settings = facts.load_balancer.as_ref();
        let port = settings.with_context(|| format!("{} is no load balancer", facts.name))?;
        let answer = self.host.get(facts.address, port.internal_port, "/alive")?;
        ensure!(
            answer.status == 200,
            "haproxy of {} answers {}",
            facts.name,
            answer.status
        );
        Ok(())
    }

    /// haproxy's backends that may give an app server requests, and check it: of the applications
    /// that it runs, or should run.
    pub(super) fn backends(&self, app: &str) -> BTreeSet<String> {
        let both = [self.old.node(app), self.new.node(app)];
        let facts = both
            .into_iter()
            .flatten()
            .filter_map(|node| node.facts.app.as_ref());
        facts
            .flat_map(AppFacts::doors)
            .map(|door| place::backend("app", door.name))
            .collect()
    }

    /// Whether an app server can serve, asked without haproxy: its health path, and that its
    /// page is no error, unless `page_fails` already.
    pub(super) fn can_serve(&self, facts: &NodeFacts, page_fails: bool) -> anyhow::Result<()> {
        let app = facts.app.as_ref();
        let app = app.with_context(|| format!("{} is no app server", facts.name))?;
        for door in app.doors() {
            let health = self.host.get(facts.address, door.port, door.health_path)?;
            ensure!(
                health.status == 200,
                "{} answers {} to {}{}",
                facts.name,
                health.status,
                door.health_path,
                door.name
                    .map_or_else(String::new, |name| format!(" of {name}"))
            );
        }
        ensure!(
            page_fails || !self.page_fails(facts),
            "{} answers its page with an error",
            facts.name
        );
        Ok(())
    }

    /// Whether an app server answers its page with an error of its own.
    pub(super) fn page_fails(&self, facts: &NodeFacts) -> bool {
        let port = facts.app.as_ref().map_or(80, |app| app.port);
        let page = self.host.get(facts.address, port, "/");
        page.map_or(true, |page| page.status >= 500)
    }

    /// The servers of the backends that are `wanted`.
    pub(super) fn servers(
        &self,
        balancer: &str,
        wanted: impl Fn(&str) -> bool,
    ) -> anyhow::Result<Vec<ServerState>> {
        let statistics = self.host.haproxy(balancer, "show stat")?;
        Ok(haproxy::parse(&statistics, wanted))
    }

    /// Whether a load balancer uses an app server, if it knows it.
    pub(super) fn is_used(&self, balancer: &str, app: &str) -> anyhow::Result<()> {
        self.are_used(balancer, &[app])
    }

    /// Whether a load balancer uses these app servers, as far as it knows them.
    pub(super) fn are_used(&self, balancer: &str, apps: &[&str]) -> anyhow::Result<()> {
        let servers = self.servers(balancer, haproxy::is_checked)?;
        // A load balancer may still know an application that the node runs no more.
        let runs = |it: &ServerState| {
            let node = self
                .node(&it.name)
                .ok()
                .and_then(|node| node.facts.app.as_ref());
            let mut doors = node.into_iter().flat_map(AppFacts::doors);
            doors.any(|door| place::backend("app", door.name) == it.backend)
        };
        let meant = servers.iter();
        let meant = meant.filter(|it| apps.contains(&it.name.as_str()) && runs(it));
        let down = meant.filter(|server| !server.is_up());
        let down: Vec<String> = down
            .map(|server| format!("{} is {} for {balancer}", server.label(), server.status))
            .collect();
        ensure!(down.is_empty(), "{}", down.join("; "));
        Ok(())
    }

    /// Whether a load balancer uses every app server that it knows, but those that leave.
    pub(super) fn uses_all(&self, balancer: &str) -> anyhow::Result<()> {
        let servers = self.servers(balancer, haproxy::is_checked)?;
        ensure!(!servers.is_empty(), "{balancer} knows no app server");
        let stays = |server: &&ServerState| self.new.node(&server.name).is_some();
        match servers.iter().filter(stays).find(|server| !server.is_up()) {
            Some(server) => bail!("{} is {} for {balancer}", server.label(), server.status),
            None => Ok(()),
        }
    }

    /// Requests that an app server works on, by the account of one load balancer.
    pub(super) fn sessions(&self, balancer: &str, app: &str) -> anyhow::Result<u64> {
        let servers = self.servers(balancer, haproxy::is_of_app)?;
        Ok(servers
            .iter()
            .filter(|server| server.name == app)
            .map(|server| server.sessions)
            .sum())
    }

    /// Answers of an app server and the errors among them, by the account of these load balancers.
    pub(super) fn answers(&self, balancers: &[String], app: &str) -> (u64, u64) {
        let statistics = balancers
            .iter()
            .filter_map(|name| self.host.haproxy(name, "show stat").ok());
        let servers: Vec<ServerState> = statistics
            .flat_map(|text| haproxy::parse(&text, haproxy::is_of_app))
            .filter(|server| server.name == app)
            .collect();
        let sum = |of: fn(&ServerState) -> u64| servers.iter().map(of).sum();
        (sum(|server| server.answers), sum(|server| server.errors))
    }

    /// The one load balancer that has the virtual IP. They are asked one after the other, and it may move meanwhile.
    pub(super) fn owner(&self, balancers: &[String]) -> anyhow::Result<String> {
        let mut seen = self.seen_owner(balancers);
        wait::until(MOVES, || {
            if seen.is_err() {
                seen = self.seen_owner(balancers);
            }
            seen.is_ok()
        });
        seen
    }

    fn seen_owner(&self, balancers: &[String]) -> anyhow::Result<String> {
        let has = |name: &&String| {
            let report = self
                .report(name)
                .ok()
                .and_then(|report| report.load_balancer);
            report.is_some_and(|report| report.has_virtual_ip)
        };
        let owners: Vec<&String> = balancers.iter().filter(has).collect();
        match owners.as_slice() {
            [owner] => Ok((*owner).clone()),
            [] => bail!("nobody has the virtual IP"),
            many => {
                let names: Vec<&str> = many.iter().map(|name| name.as_str()).collect();
                bail!("{} all have the virtual IP", names.join(" and "))
            }
        }
    }

    /// The primary, when every member is well and close behind it.
    pub(super) fn primary(&self, members: &[Member]) -> anyhow::Result<String> {
        let mut primary = None;
        let mut writes = Vec::new();
        for member in members {
            let report = self.report(&member.name)?.database;
            let report =
                report.with_context(|| format!("mongod of {} does not answer", member.name))?;
            match report.role {
                Role::Primary => primary = Some(member.name.clone()),
                Role::Secondary => {}
                Role::Other | Role::Uninitialized => {
                    bail!("{} is neither primary nor secondary", member.name)
                }
            }
            writes.push((member, report.last_write_ms));
        }
        let latest = writes.iter().filter_map(|(_, write)| *write).max();
        for (member, write) in writes {
            let lag = latest
                .zip(write)
                .map_or(0, |(latest, write)| latest - write);
            ensure!(
                lag <= LAG,
                "{} is {} s behind the primary",
                member.name,
                lag / 1000
            );
        }
        primary.context("no database is primary")
    }

    /// Whether one of a replica set's members is its primary: by its own account, since an application may
    /// answer whatever it likes. Members that do not answer are passed over.
    pub(super) fn has_primary(&self, set: &str, members: &[Member]) -> anyhow::Result<()> {
        let is_primary = |member: &Member| {
            let report = self.report(&member.name).ok();
            let database = report.and_then(|report| report.database);
            database.is_some_and(|database| database.role == Role::Primary)
        };
        ensure!(
            members.iter().any(is_primary),
            "no member of {set} is primary"
        );
        Ok(())
    }

    /// Whether a request to the application's health path comes back through the virtual IP.
    pub(super) fn end_to_end(&self) -> anyhow::Result<()> {
        let any = |fleet: &'a Fleet, tier: Tier| fleet.tier(tier).next();
        // While load balancers change, the old port or the new one may be right.
        let facts = [
            any(self.old, Tier::LoadBalancer),
            any(self.new, Tier::LoadBalancer),
        ];
        let entrances: Vec<Entrance> = facts
            .into_iter()
            .flatten()
            .filter_map(|node| {
                let settings = node.facts.load_balancer.as_ref()?;
                let tls = settings.tls.as_ref().map(|tls| tls.port);
                Some(Entrance::of(node.facts.virtual_ip, settings.port, tls))
            })
            .collect();
        let app = any(self.old, Tier::App).or_else(|| any(self.new, Tier::App));
        let path = app.and_then(|node| node.facts.app.as_ref());
        let path = path.map_or("/", |app| app.health_path.as_str());
        let mut last = anyhow!("there is no virtual IP");
        for entrance in &entrances {
            match self.host.visit(*entrance, path) {
                Ok(answer) if answer.status == 200 => return Ok(()),
                Ok(answer) => {
                    last = anyhow!("{} to {path} through the virtual IP", answer.status);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}
