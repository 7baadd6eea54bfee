//! What a node knows about itself, as `node.json` has it: read by the NixOS modules and by `gen-topology node …`.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context as _;
use serde::Serialize;

use super::SetRole;
use crate::topology::{Acme, Database, Tier};

/// What a node knows about itself: `node.json`, read by the NixOS modules and by
/// `gen-topology node …`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct NodeFacts {
    /// Who wrote this and from what.
    pub generated: String,
    /// Name of the stack.
    pub stack: String,
    /// Host name.
    pub name: String,
    /// What the node does.
    pub tier: Tier,
    /// Its address.
    pub address: std::net::Ipv4Addr,
    /// Length of the subnet's prefix, in bits.
    pub prefix_length: u8,
    /// Interface that has the address.
    pub interface: String,
    /// Address that visitors use.
    pub virtual_ip: std::net::Ipv4Addr,
    /// Load balancers only.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub load_balancer: Option<LoadBalancerFacts>,
    /// App nodes only.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub app: Option<AppFacts>,
    /// Databases only.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub database: Option<Arc<ReplicaSet>>,
    /// The files rendered for the node, below its directory, with their SHA-256; filled in by
    /// the renderer. NixOS refuses to build from a file that was edited by hand.
    #[serde(default)]
    pub files: BTreeMap<String, String>,
}

impl NodeFacts {
    /// The replica set that this database is a member of, and its part in it.
    ///
    /// # Errors
    /// If it is no database, or the set does not name it.
    pub fn membership(&self) -> anyhow::Result<(&ReplicaSet, &Member)> {
        let set = self.database.as_deref();
        let set = set.with_context(|| format!("{} is no database", self.name))?;
        let me = set.members.iter().find(|member| member.name == self.name);
        let me = me.with_context(|| format!("{} is not among the members", self.name))?;
        Ok((set, me))
    }

    /// Whether it is an app server with a mongos, as in a sharded stack.
    pub fn is_router(&self) -> bool {
        let app = self.app.as_ref();
        app.is_some_and(|app| app.router_port.is_some())
    }
}

/// What `gen-topology node run haproxy|keepalived` needs to know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct LoadBalancerFacts {
    /// Port of the virtual IP.
    pub port: u16,
    /// Port of the internal listener, on every load balancer's own address.
    pub internal_port: u16,
    /// HTTPS, if it is served.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub tls: Option<TlsFacts>,
    /// Whether this node takes the virtual IP from a node of lower priority.
    pub preempt: bool,
    /// How long haproxy has to be well before it does.
    pub preempt_delay_ms: u64,
    /// How long clients are asked to go before the virtual IP moves on purpose.
    pub drain_time_ms: u64,
    /// Addresses of the other load balancers.
    pub peers: Vec<std::net::Ipv4Addr>,
    /// Addresses of the load balancers that this one takes the virtual IP from.
    pub lower_priority: Vec<std::net::Ipv4Addr>,
}

/// What a load balancer has to know of HTTPS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct TlsFacts {
    /// Port of the virtual IP.
    pub port: u16,
    /// Host names that visitors ask for.
    pub names: Vec<String>,
    /// Files with certificates and keys.
    pub certificates: Vec<String>,
    /// Whether plain HTTP is served, too.
    pub plain: bool,
    /// Who is asked for the certificate, if it is by ACME.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub acme: Option<Acme>,
}

/// What the NixOS module and the lab need to know about an app node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct AppFacts {
    /// Port of nginx.
    pub port: u16,
    /// Path that tells whether the app can serve.
    pub health_path: String,
    /// Port of mongos; sharded stacks only.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub router_port: Option<u16>,
    /// Whether the stack has no database, and so no user for the application.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub without_database: bool,
    /// Names of the application's own secrets.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub secrets: Vec<String>,
    /// How databases are watched, where a set has more than one member.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub watch: Option<Watch>,
    /// The further applications that the node runs.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub further: Vec<FurtherFacts>,
    /// The databases, `address:port`; those of the connections that end when one of them is gone.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub databases: Vec<String>,
}

/// An application of `apps` on an app node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct FurtherFacts {
    /// Its name.
    pub name: String,
    /// Port of nginx.
    pub port: u16,
    /// Path that tells whether it can serve.
    pub health_path: String,
}

/// How one of a node's applications is asked whether it can serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppDoor<'f> {
    /// Its name; `app` has none.
    pub name: Option<&'f str>,
    /// Port of nginx.
    pub port: u16,
    /// Path that tells.
    pub health_path: &'f str,
}

impl AppFacts {
    /// Each application of the node, `app` first.
    pub fn doors(&self) -> impl Iterator<Item = AppDoor<'_>> {
        let first = AppDoor {
            name: None,
            port: self.port,
            health_path: &self.health_path,
        };
        let others = self.further.iter().map(|app| AppDoor {
            name: Some(&app.name),
            port: app.port,
            health_path: &app.health_path,
        });
        std::iter::once(first).chain(others)
    }
}

/// What `gen-topology node watch-database` needs to know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct Watch {
    /// UDP port at which watchers tell each other who is there.
    pub port: u16,
    /// Time between two adverts.
    pub interval_ms: u64,
    /// How long a new primary waits for what a silent member may have and it has not; what a majority
    /// has it has itself.
    pub catch_up_ms: u64,
}

impl Watch {
    pub(super) fn of(database: &Database) -> Self {
        Self {
            port: database.watch_port,
            interval_ms: database.watch_interval.get(),
            catch_up_ms: database.watch_interval.get(),
        }
    }
}

/// The replica set as it should be; what `gen-topology node reconcile-database` works towards.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct ReplicaSet {
    /// Its name.
    pub name: String,
    /// What it is in a sharded cluster; none where it is no part of one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub role: Option<SetRole>,
    /// The cluster as it should be; config servers only.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cluster: Option<Cluster>,
    /// Database that the application's user may read and write.
    pub application_database: String,
    /// How long members wait for a silent primary.
    pub election_timeout_ms: u64,
    /// Time between two heartbeats.
    pub heartbeat_interval_ms: u64,
    /// How the members watch each other, where there is more than one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub watch: Option<Watch>,
    /// Its members, in file order.
    pub members: Vec<Member>,
}

impl ReplicaSet {
    /// Name and members as the other parts of a cluster are told them: `NAME/HOST,HOST`.
    pub fn address(&self) -> String {
        let hosts: Vec<&str> = self.members.iter().map(|m| m.host.as_str()).collect();
        format!("{}/{}", self.name, hosts.join(","))
    }
}

/// A sharded cluster as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct Cluster {
    /// The routers, in file order of their app nodes.
    pub routers: Vec<Router>,
    /// The shards: name → `NAME/HOST,HOST`.
    pub shards: BTreeMap<String, String>,
    /// The shard that may have data already: the replica set that the stack had before.
    pub first_shard: String,
    /// Collections that are spread, each with the field by whose hash.
    pub collections: BTreeMap<String, String>,
    /// When data may move between shards, as `HH:MM`; always, if there is none.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub balancer_window: Option<Window>,
}

/// The router on an app node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct Router {
    /// Name of the node.
    pub name: String,
    /// `address:port`.
    pub host: String,
}

/// Hours of each day.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct Window {
    /// When they begin, `HH:MM`.
    pub start: String,
    /// When they end, `HH:MM`.
    pub stop: String,
}

/// A member of the replica set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct Member {
    /// Node name.
    pub name: String,
    /// `address:port`, as the other members and the app reach it.
    pub host: String,
    /// Whether it votes and may become primary.
    pub voting: bool,
}
