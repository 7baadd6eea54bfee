//! What each node must run: one typed struct per daemon, every cross-reference
//! resolved to an address. No step here can fail, because a [`Topology`] is valid.
//!
//! What is the same on every node of a tier is made once and shared, so that ten
//! thousand app nodes cost ten thousand names and addresses.

mod action;
mod app_limits;
mod facts;
mod firewall;
mod gunicorn;
mod haproxy;
mod keepalived;
mod mongod;
mod mongos;
mod nginx;
pub mod place;
mod supervisor;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::secrets::{self, Kind};
use crate::topology::{Application, Database, Millis, Node, Tier, Topology};

pub use action::{Action, actions, is_quiet};
pub use app_limits::AppLimits;
pub use facts::{
    AppDoor, AppFacts, Cluster, FurtherFacts, LoadBalancerFacts, Member, NodeFacts, ReplicaSet,
    Router, TlsFacts, Watch, Window,
};
pub use firewall::{AddressSet, Door, Firewall};
pub use gunicorn::Gunicorn;
pub use haproxy::{Haproxy, HaproxyApp, HaproxyTls, Server};
pub use keepalived::Keepalived;
pub use mongod::Mongod;
pub use mongos::Mongos;
pub use nginx::{Nginx, NginxApp};
pub use supervisor::{Supervised, Supervisor};

pub use crate::topology::SetRole;

/// Name of the nftables table that the rendered firewall makes.
pub const FIREWALL_TABLE: &str = "gen_topology_firewall";
/// Beginning of the names of the sets of nodes that come or go; the party's name follows.
pub const FIREWALL_PASSING: &str = "passing_";
/// The rendered firewall, below `/etc`.
pub const FIREWALL_FILE: &str = "gen-topology/firewall.nft";
/// How supervisord's programs begin that are the app's instances; the number follows, as in the names of their sockets.
pub const APP_PROGRAM: &str = "gunicorn-";
/// While this file exists the app answers its health check with 404, which drains the node.
pub const DRAIN_FILE: &str = "/run/gen-topology/drain";
/// File that keepalived watches: 0 while haproxy serves, -254 while it does not.
pub const HAPROXY_STATE: &str = "/run/gen-topology/haproxy.state";
/// haproxy's runtime socket; the rendered file names it.
pub const HAPROXY_SOCKET: &str = "/run/haproxy/admin.sock";
/// What haproxy knew of its servers before a reload; the rendered file names it.
pub const HAPROXY_SERVERS: &str = "/run/haproxy/servers.state";
/// Program of ours that rendered files call, put there by the lab or by the NixOS module.
pub const PROGRAM: &str = "/etc/gen-topology/gen-topology";
/// Where a machine keeps a link to the system that it had before the last change.
pub const PREVIOUS_SYSTEM: &str = "/nix/var/nix/gcroots/gen-topology-previous";
/// Python environment with the app's packages, put there by the lab or by the NixOS module.
pub const PYTHON: &str = "/etc/gen-topology/python/bin/python";
/// The app's code, put there by the lab or by the NixOS module.
pub const APP_SOURCE: &str = "/etc/gen-topology/app";

/// Where a load balancer keeps a certificate that it got by ACME: it has to outlive a reboot, because
/// authorities give few a week.
pub const ACME_STATE: &str = "/var/lib/gen-topology-acme";
/// The variable that tells haproxy the thumbprint of the ACME account's key (RFC 7638). Its supervisor sets it.
pub const ACME_THUMBPRINT: &str = "GEN_TOPOLOGY_ACME_THUMBPRINT";

/// How long haproxy waits for a connection to an app server, in milliseconds: `timeout connect`. A server's kernel
/// answers for an application that is busy, so this says whether the machine is there.
pub const CONNECT_MS: u64 = 130;
/// How long a server has to be down before the requests that still wait for it are ended, to
/// be repeated elsewhere: [`CONNECT_MS`] and a little more. Connections that were being made have
/// given up by themselves by then.
pub const RELEASE_AFTER: Duration = Duration::from_millis(180);
/// Time between two looks for servers that are down.
pub const RELEASE_PAUSE: Duration = Duration::from_millis(50);
/// Time between two questions of `node run haproxy` to haproxy.
pub const ASK_EVERY: Duration = Duration::from_millis(100);
/// How long haproxy may take to answer one. One long wait and not several short ones: a machine that is
/// busy answers late, again and again, and one that hangs never.
pub const ASK_PATIENCE: Duration = Duration::from_millis(400);

/// Seconds for which a connection that ended is remembered. A client takes the same port again, and
/// whoever remembers the old connection, 2 minutes by default, takes the new one for its own.
const ENDED: &str = "1";
/// Seconds for which one is remembered that one side has ended: longer than haproxy lets
/// it be (`timeout client-fin`).
const HALF_ENDED: &str = "10";
/// Settings of connection tracking (`net.netfilter.…`) on load balancers, by which open
/// connections are handed over when the virtual IP moves.
pub const CONNECTION_TRACKING: [(&str, &str); 7] = [
    ("nf_conntrack_tcp_loose", "0"),
    ("nf_conntrack_tcp_be_liberal", "1"),
    ("nf_conntrack_tcp_timeout_time_wait", ENDED),
    ("nf_conntrack_tcp_timeout_close", ENDED),
    ("nf_conntrack_tcp_timeout_fin_wait", HALF_ENDED),
    ("nf_conntrack_tcp_timeout_close_wait", HALF_ENDED),
    ("nf_conntrack_tcp_timeout_last_ack", HALF_ENDED),
];

/// Where a node finds a secret; who puts it there belongs to the platform.
pub(crate) fn secret(kind: Kind) -> String {
    format!("{}/{}", secrets::DIRECTORY, kind.file())
}

/// Where an application's own secret is found.
pub(crate) fn app_secret(name: &str) -> String {
    format!("{}/{}/{name}", secrets::DIRECTORY, secrets::APP)
}

/// Where a load balancer finds a certificate.
pub(crate) fn certificate(file: &str) -> String {
    format!("{}/{}/{file}", secrets::DIRECTORY, secrets::CERTIFICATES)
}

/// Where a load balancer finds the keys that TLS sessions are resumed by.
pub(crate) fn ticket_keys() -> String {
    certificate(secrets::TICKET_KEYS)
}

/// One node and everything that runs on it.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// Who the node is and what its own commands need to know; `node.json`.
    pub facts: NodeFacts,
    /// Its daemons.
    pub role: Role,
    /// Which packets reach it; the same on each node of a tier.
    pub firewall: Arc<Firewall>,
}

/// The daemons of a node.
#[derive(Clone, Debug)]
pub enum Role {
    /// haproxy and keepalived.
    LoadBalancer {
        /// Takes the requests.
        haproxy: Box<Haproxy>,
        /// Passes the virtual IP on.
        keepalived: Box<Keepalived>,
    },
    /// nginx, gunicorn and supervisord; the same on each app node with the same applications.
    App(Arc<AppServer>),
    /// mongod; the same on each member of a replica set.
    Database(Arc<Mongod>),
}

/// The daemons of an app node.
#[derive(Clone, Debug)]
pub struct AppServer {
    /// Takes requests from haproxy.
    pub nginx: Nginx,
    /// Runs `app`.
    pub gunicorn: Gunicorn,
    /// Runs each of the further applications that the node has.
    pub further: Vec<(String, Gunicorn)>,
    /// Keeps gunicorn and its socket up.
    pub supervisor: Supervisor,
    /// Leads to the databases of a sharded stack.
    pub mongos: Option<Mongos>,
}

/// What every node of `topology` must run, in file order.
pub fn resolve(topology: &Topology) -> Vec<NodeConfig> {
    resolve_with(topology, &|node| node.address.to_string())
}

/// The same, where databases are found by what `host` says, not by their addresses.
pub fn resolve_with(topology: &Topology, host: &dyn Fn(&Node) -> String) -> Vec<NodeConfig> {
    let shared = Shared::of(topology, host);
    topology
        .nodes()
        .iter()
        .filter_map(|node| shared.node(topology, node))
        .collect()
}

struct Shared {
    /// Of each application, `app` first.
    servers: Vec<Arc<Vec<Server>>>,
    /// By the applications that they run.
    apps: Vec<(Vec<Option<String>>, Arc<AppServer>)>,
    /// Databases of sets that are watched, `address:port`.
    watched: Vec<String>,
    firewalls: BTreeMap<Tier, Arc<Firewall>>,
    /// By the name of the replica set.
    databases: BTreeMap<String, (Arc<Mongod>, Arc<ReplicaSet>)>,
}

impl Shared {
    fn of(topology: &Topology, host: &dyn Fn(&Node) -> String) -> Self {
        let settings = topology.database();
        let sets =
            settings.map_or_else(Vec::new, |settings| replica_sets(topology, settings, host));
        let mongod = topology.replica_sets();
        let mongod = mongod
            .iter()
            .filter_map(|set| Some(Mongod::of(settings?, set)));
        let databases = sets.iter().zip(mongod).map(|(set, mongod)| {
            let daemon = (Arc::new(mongod), Arc::clone(set));
            (set.name.clone(), daemon)
        });
        let watched = sets.iter().filter(|set| set.watch.is_some());
        let watched = watched.flat_map(|set| set.members.iter().map(|member| member.host.clone()));
        let watched = watched.collect();
        let config_servers = sets.iter().find(|set| set.role == Some(SetRole::Config));
        let servers = topology.applications().map(|application| {
            let nodes = topology.nodes().iter();
            let nodes = nodes.filter(|node| application.runs_on(node));
            let server = |node: &Node| Server {
                name: node.name.to_string(),
                address: node.address,
                port: application.app.port,
            };
            Arc::new(nodes.map(server).collect())
        });
        let mut apps: Vec<(Vec<Option<String>>, Arc<AppServer>)> = Vec::new();
        for node in topology.tier(Tier::App) {
            let own = names(topology, node);
            if apps.iter().all(|(of, _)| *of != own) {
                let own_apps: Vec<Application<'_>> = topology.applications_on(node).collect();
                let mongos = settings.zip(config_servers);
                let server = AppServer {
                    nginx: Nginx::of(&own_apps),
                    gunicorn: Gunicorn::of(topology, own_apps[0], &sets),
                    further: own_apps[1..]
                        .iter()
                        .map(|app| {
                            (
                                place::configuration(app.name()),
                                Gunicorn::of(topology, *app, &sets),
                            )
                        })
                        .collect(),
                    supervisor: Supervisor::of(&own_apps),
                    mongos: mongos.map(|(settings, servers)| Mongos::of(settings, servers)),
                };
                apps.push((own, Arc::new(server)));
            }
        }
        Self {
            servers: servers.collect(),
            apps,
            watched,
            firewalls: Tier::ALL
                .map(|tier| (tier, Arc::new(Firewall::of(topology, tier))))
                .into(),
            databases: databases.collect(),
        }
    }

    fn node(&self, topology: &Topology, node: &Node) -> Option<NodeConfig> {
        let database = topology.database();
        let mut facts = NodeFacts {
            generated: "by gen-topology from the topology file; edit that, then run `gen-topology generate`".into(),
            stack: topology.name().to_string(),
            name: node.name.to_string(),
            tier: node.tier,
            address: node.address,
            prefix_length: topology.network().subnet.prefix_len(),
            interface: topology.network().interface.to_string(),
            virtual_ip: topology.network().virtual_ip,
            load_balancer: None,
            app: None,
            database: None,
            files: std::collections::BTreeMap::new(),
        };
        let role = match node.tier {
            Tier::LoadBalancer => {
                facts.load_balancer = Some(load_balancer_facts(topology, node));
                Role::LoadBalancer {
                    haproxy: Box::new(Haproxy::of(topology, node, &self.servers)),
                    keepalived: Box::new(Keepalived::of(topology, node)),
                }
            }
            Tier::App => {
                let own = names(topology, node);
                let (_, server) = self.apps.iter().find(|(of, _)| *of == own)?;
                let further = topology.applications_on(node).filter_map(|application| {
                    Some(FurtherFacts {
                        name: application.name()?.to_owned(),
                        port: application.app.port,
                        health_path: application.app.health_path.to_string(),
                    })
                });
                facts.app = Some(AppFacts {
                    port: topology.app().port,
                    health_path: topology.app().health_path.to_string(),
                    router_port: database
                        .and_then(|database| server.mongos.as_ref().map(|_| database.port)),
                    watch: database.filter(|_| !self.watched.is_empty()).map(Watch::of),
                    without_database: database.is_none(),
                    secrets: topology.app_secrets(),
                    further: further.collect(),
                    databases: self.watched.clone(),
                });
                Role::App(Arc::clone(server))
            }
            Tier::Database => {
                let own = node.replica_set.as_ref();
                let own = own.unwrap_or(&database?.replica_set);
                // Each database of a valid topology is in one of its sets.
                let (mongod, set) = self.databases.get(own.as_str())?;
                facts.database = Some(Arc::clone(set));
                Role::Database(Arc::clone(mongod))
            }
        };
        let firewall = Arc::clone(self.firewalls.get(&node.tier)?);
        Some(NodeConfig {
            facts,
            role,
            firewall,
        })
    }
}

/// The applications of a node.
fn names(topology: &Topology, node: &Node) -> Vec<Option<String>> {
    let all = topology.applications_on(node);
    all.map(|application| application.name().map(str::to_owned))
        .collect()
}

/// The replica sets of a stack, each with what its members have to know.
fn replica_sets(
    topology: &Topology,
    database: &Database,
    host: &dyn Fn(&Node) -> String,
) -> Vec<Arc<ReplicaSet>> {
    let member = |node: &&Node| Member {
        name: node.name.to_string(),
        host: format!("{}:{}", host(node), database.port),
        voting: node.voting.unwrap_or(true),
    };
    let sets = topology.replica_sets().into_iter().map(|set| ReplicaSet {
        name: set.name,
        role: set.role,
        cluster: None,
        application_database: database.name.to_string(),
        election_timeout_ms: database.election_timeout.get(),
        heartbeat_interval_ms: database.heartbeat_interval.get(),
        watch: (set.nodes.len() > 1).then(|| Watch::of(database)),
        members: set.nodes.iter().map(member).collect(),
    });
    let mut sets: Vec<ReplicaSet> = sets.collect();
    let cluster = cluster(topology, database, &sets);
    for set in &mut sets {
        if set.role == Some(SetRole::Config) {
            set.cluster.clone_from(&cluster);
        }
    }
    sets.into_iter().map(Arc::new).collect()
}

/// The cluster that these sets form, if the stack is sharded.
fn cluster(topology: &Topology, database: &Database, sets: &[ReplicaSet]) -> Option<Cluster> {
    let sharding = database.sharding.as_ref()?;
    let routers = topology.tier(Tier::App).map(|node| Router {
        name: node.name.to_string(),
        host: format!("{}:{}", node.address, database.port),
    });
    let shards = sets.iter().filter(|set| set.role == Some(SetRole::Shard));
    let window = sharding.balancer_window.as_ref().map(|window| Window {
        start: window.start().to_owned(),
        stop: window.stop().to_owned(),
    });
    Some(Cluster {
        routers: routers.collect(),
        shards: shards
            .map(|set| (set.name.clone(), set.address()))
            .collect(),
        first_shard: database.replica_set.to_string(),
        collections: sharding.collections.clone(),
        balancer_window: window,
    })
}

fn load_balancer_facts(topology: &Topology, node: &Node) -> LoadBalancerFacts {
    let settings = topology.load_balancer();
    let after = topology
        .tier(Tier::LoadBalancer)
        .skip_while(|other| other.name != node.name)
        .skip(1);
    LoadBalancerFacts {
        port: settings.port,
        tls: settings.tls.as_ref().map(|tls| TlsFacts {
            port: tls.port,
            names: tls.names.iter().map(ToString::to_string).collect(),
            certificates: tls
                .certificates
                .files()
                .into_iter()
                .map(str::to_owned)
                .collect(),
            plain: !tls.redirect,
            acme: tls.certificates.acme().cloned(),
        }),
        internal_port: settings.internal_port,
        preempt: settings.preempt,
        preempt_delay_ms: settings.preempt_delay.get(),
        drain_time_ms: settings.drain_time.get(),
        peers: topology
            .tier(Tier::LoadBalancer)
            .map(|other| other.address)
            .filter(|a| *a != node.address)
            .collect(),
        lower_priority: after.map(|node| node.address).collect(),
    }
}

/// Upper bound of an election after the primary's death: the time-out plus the
/// random 0 to 15 % that `MongoDB` adds (`replElectionTimeoutOffsetLimitFraction`),
/// plus 50 ms for the vote itself.
pub fn longest_election(election_timeout: Millis) -> Millis {
    Millis::new(election_timeout.get() * 115 / 100 + 50)
}
