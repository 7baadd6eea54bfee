//! A lab from inside, asked: who runs, who is well, who has the virtual IP, what the
//! haproxies think of the apps, and waiting until all of that is as it should be.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use mongodb::bson::{Document, doc};

use super::plan::NodePlan;
use super::run::{Event, Lab};
use crate::config::HAPROXY_SOCKET;
use crate::exec;
use crate::health::haproxy::{self, ServerState};
use crate::health::{http, mongo, vrrp};
use crate::secrets::Kind;
use crate::topology::{CONFIG_SET, Tier};

/// How long one question to a node may take.
const QUESTION: Duration = Duration::from_millis(500);

impl Lab {
    /// Whether a node answers as one of its tier should.
    pub fn is_ready(&self, node: &NodePlan) -> bool {
        let client = http::client(QUESTION);
        match node.tier {
            Tier::LoadBalancer => {
                http::get(&client, node.address, self.plan.internal_port, "/alive")
                    .is_ok_and(|a| a.status == 200)
            }
            Tier::App => self.doors(node).iter().all(|(port, path)| {
                http::get(&client, node.address, *port, path).is_ok_and(|a| a.status == 200)
            }),
            Tier::Database => self.hello(node).is_ok_and(|hello| {
                matches!(hello.role, mongo::Role::Primary | mongo::Role::Secondary)
            }),
        }
    }

    /// Port and health path of each application of an app server.
    fn doors(&self, node: &NodePlan) -> Vec<(u16, String)> {
        let first = (self.plan.app_port, self.plan.health_path.clone());
        std::iter::once(first).chain(node.further.clone()).collect()
    }

    /// Load balancers that have the virtual IP: one, unless something is wrong.
    pub fn owners(&self) -> Vec<&str> {
        let owns = |node: &&NodePlan| {
            self.pid(&node.name).is_some_and(|pid| {
                vrrp::is_local_in(Path::new(&format!("/proc/{pid}/net")), self.plan.virtual_ip)
            })
        };
        self.plan
            .tier(Tier::LoadBalancer)
            .filter(owns)
            .map(|node| node.name.as_str())
            .collect()
    }

    /// The app servers as the haproxy of `name` sees them.
    ///
    /// # Errors
    /// If the node or its haproxy is not there.
    pub fn servers(&self, name: &str) -> anyhow::Result<Vec<ServerState>> {
        let pid = self
            .pid(name)
            .with_context(|| format!("{name} is not running"))?;
        haproxy::servers(Path::new(&format!("/proc/{pid}/root{HAPROXY_SOCKET}")))
    }

    /// Waits until a request through the virtual IP is answered by an app that has
    /// reached a replica set with a primary. Returns how long it took.
    ///
    /// # Errors
    /// If it takes longer than `patience`, with what was seen last.
    pub fn wait_for_answer(
        &self,
        patience: Duration,
        interrupted: &dyn Fn() -> bool,
    ) -> anyhow::Result<Duration> {
        let begun = Instant::now();
        let client = http::client(Duration::from_secs(1));
        let mut last = anyhow!("nothing was asked yet");
        while begun.elapsed() < patience {
            if interrupted() {
                bail!("interrupted");
            }
            match http::visit(&client, self.plan.entrance(), &self.plan.health_path) {
                Ok(answer) if answer.status == 200 && self.has_primary() => {
                    return Ok(begun.elapsed());
                }
                Ok(answer) if answer.status == 200 => last = anyhow!("no database is primary"),
                Ok(answer) => {
                    last = anyhow!(
                        "the app answers {} to {}",
                        answer.status,
                        self.plan.health_path
                    );
                }
                Err(error) => last = error,
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Err(last).with_context(|| {
            format!("no answer through the virtual IP within {} s; see `gen-topology lab status` and `gen-topology lab logs`", patience.as_secs())
        })
    }

    /// Waits until each replica set has a primary that knows its users. Returns how long it took.
    ///
    /// # Errors
    /// If it takes longer than `patience`, with the sets that have not.
    pub fn wait_for_databases(
        &self,
        patience: Duration,
        interrupted: &dyn Fn() -> bool,
    ) -> anyhow::Result<Duration> {
        let begun = Instant::now();
        let is_ready = |members: &[&NodePlan]| {
            let primary = self.primary_of(members);
            primary.is_some_and(|node| self.mongod_as(node, Kind::Monitoring).is_ok())
        };
        loop {
            let sets = self.plan.replica_sets();
            let mut missing = sets.iter().filter(|(_, members)| !is_ready(members));
            let Some((name, _)) = missing.next() else {
                return Ok(begun.elapsed());
            };
            if interrupted() {
                bail!("interrupted");
            }
            if begun.elapsed() > patience {
                bail!(
                    "the replica set {name} has no primary with users within {} s; see `gen-topology lab \
                     status` and `gen-topology lab logs`",
                    patience.as_secs()
                );
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until every node is ready, apps in the eyes of each haproxy too, and tells
    /// of each as it becomes so.
    ///
    /// # Errors
    /// If it takes longer than `patience`, with the nodes that are not.
    pub fn wait_for_all(
        &self,
        patience: Duration,
        interrupted: &dyn Fn() -> bool,
        report: &mut dyn FnMut(Event),
    ) -> anyhow::Result<()> {
        let deadline = Instant::now() + patience;
        let mut waiting: Vec<&NodePlan> = self
            .plan
            .nodes
            .iter()
            .filter(|node| self.pid(&node.name).is_some())
            .collect();
        while !waiting.is_empty() {
            let seen = self.seen_by_haproxy();
            let in_use = |node: &NodePlan| {
                let by = seen.get(&node.name).into_iter().flatten();
                by.into_iter().all(|status| status.starts_with("UP "))
            };
            waiting.retain(|node| {
                let ready = self.is_ready(node) && in_use(node);
                if ready {
                    report(Event::Ready(node.name.clone()));
                }
                !ready
            });
            if interrupted() {
                bail!("interrupted");
            }
            if Instant::now() > deadline && !waiting.is_empty() {
                let names: Vec<&str> = waiting.iter().map(|node| node.name.as_str()).collect();
                bail!(
                    "{} did not become ready; see `gen-topology lab logs {}`",
                    names.join(", "),
                    names.join(" ")
                );
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// What keeps the lab from being whole: nodes that are not ready, app servers that a load
    /// balancer does not use, no primary. None if nothing does.
    pub fn missing(&self) -> Option<String> {
        let seen = self.seen_by_haproxy();
        let balancers = self.plan.tier(Tier::LoadBalancer).count();
        let in_use = |node: &NodePlan| {
            let by = seen.get(&node.name).map_or(&[][..], Vec::as_slice);
            by.len() == balancers * (1 + node.further.len())
                && by.iter().all(|status| status.starts_with("UP "))
        };
        let missing: Vec<&str> = self
            .plan
            .nodes
            .iter()
            .filter(|node| !self.is_ready(node) || (node.tier == Tier::App && !in_use(node)))
            .map(|node| node.name.as_str())
            .collect();
        if !missing.is_empty() {
            return Some(format!("{} are not ready", missing.join(", ")));
        }
        (!self.has_primary()).then(|| "no database is primary".into())
    }

    /// Whether each replica set has a primary; a stack without database needs none.
    pub(super) fn has_primary(&self) -> bool {
        let sets = self.plan.replica_sets();
        sets.values().all(|set| self.primary_of(set).is_some())
    }

    /// The member of a replica set that takes writes.
    pub(super) fn primary_of<'n>(&self, members: &[&'n NodePlan]) -> Option<&'n NodePlan> {
        let is_primary = |node: &&&NodePlan| self.role(node) == Some(mongo::Role::Primary);
        members.iter().find(is_primary).copied()
    }

    /// The databases that take writes, one of each replica set.
    pub fn primaries(&self) -> Vec<&str> {
        let sets = self.plan.replica_sets();
        let primaries = sets.values().filter_map(|set| self.primary_of(set));
        primaries.map(|node| node.name.as_str()).collect()
    }

    /// What a database says that it is; none if it does not answer.
    pub fn role(&self, node: &NodePlan) -> Option<mongo::Role> {
        self.hello(node).ok().map(|hello| hello.role)
    }

    /// Whether a database that is to go is still needed: as a member of its set, by what that
    /// set's primary says (without a primary nobody leaves), or, where the whole set goes,
    /// because it is a shard of the cluster.
    pub(super) fn is_needed(&self, old: &NodePlan) -> bool {
        let sets = self.plan.replica_sets();
        if let Some(set) = self.leaves_whole(old) {
            return self.is_shard(&set).unwrap_or(true);
        }
        // Labs that were brought up long ago do not say it, and had only one.
        let own = old.replica_set.as_deref().and_then(|set| sets.get(set));
        let Some(members) = own.or_else(|| sets.values().next()) else {
            return true;
        };
        let primary = self.primary_of(members);
        let hello = primary.and_then(|node| self.hello(node).ok());
        let host = self.mongod_of(old);
        hello.is_none_or(|hello| hello.members.contains(&host))
    }

    /// The replica set of a node, if the lab is to have none of that name any more.
    pub(super) fn leaves_whole(&self, old: &NodePlan) -> Option<String> {
        let set = old.replica_set.clone()?;
        let stays = self.plan.replica_sets().contains_key(set.as_str());
        (!stays).then_some(set)
    }

    /// Whether the config servers know a replica set as a shard.
    fn is_shard(&self, set: &str) -> anyhow::Result<bool> {
        let sets = self.plan.replica_sets();
        let servers = sets
            .get(CONFIG_SET)
            .context("there are no config servers")?;
        let primary = self.primary_of(servers);
        let primary = primary.context("no config server is primary")?;
        let admin = self.mongod_as(primary, Kind::Administration)?;
        let shards = admin.client().database("config").collection("shards");
        let found: Option<Document> = shards.find_one(doc! { "_id": set }).run()?;
        Ok(found.is_some())
    }

    pub(super) fn hello(&self, node: &NodePlan) -> anyhow::Result<mongo::Hello> {
        Ok(mongo::Member::connect(&self.mongod_of(node), QUESTION)?.hello()?)
    }

    /// Address and port of a node's mongod.
    fn mongod_of(&self, node: &NodePlan) -> String {
        let port = self.plan.database_port.unwrap_or_default();
        format!("{}:{port}", node.address)
    }

    /// A connection to a node's mongod as a user of the stack, with the newest password
    /// that it takes.
    pub(super) fn mongod_as(&self, node: &NodePlan, kind: Kind) -> anyhow::Result<mongo::Member> {
        self.secrets()
            .log_in(kind, &self.mongod_of(node), QUESTION)?
            .with_context(|| format!("{} takes no password of {}", node.name, kind.file()))
    }

    /// A connection to the mongod of a node as another member of its set.
    pub(super) fn mongod_as_member(&self, node: &NodePlan) -> anyhow::Result<mongo::Member> {
        self.secrets()
            .log_in_as_member(&self.mongod_of(node), QUESTION)?
            .with_context(|| format!("{} does not take the members' key", node.name))
    }

    /// For each app server, what each haproxy thinks of it: `STATUS NODE`.
    fn seen_by_haproxy(&self) -> BTreeMap<String, Vec<String>> {
        let mut seen: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for balancer in self.plan.tier(Tier::LoadBalancer) {
            for server in self.servers(&balancer.name).unwrap_or_default() {
                seen.entry(server.name)
                    .or_default()
                    .push(format!("{} {}", server.status, balancer.name));
            }
        }
        seen
    }

    pub(super) fn connected_ports(&self) -> BTreeMap<String, bool> {
        #[derive(serde::Deserialize)]
        struct Link {
            ifname: String,
            #[serde(default)]
            flags: Vec<String>,
        }
        let links = exec::run(Command::new(&self.ip).args(["-json", "link", "show"]), None)
            .unwrap_or_default();
        let links: Vec<Link> = serde_json::from_str(&links).unwrap_or_default();
        links
            .into_iter()
            .map(|link| (link.ifname, link.flags.iter().any(|flag| flag == "UP")))
            .collect()
    }
}
