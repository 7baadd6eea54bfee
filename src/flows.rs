//! Which connections a stack needs, and so which packets may reach a node: derived from the
//! topology, and from nothing else. The firewall of each node is made of this list, and a test
//! scans a running lab and compares.

use std::net::Ipv4Addr;

use serde::Serialize;

use crate::topology::{CONFIG_SET, Database as Settings, DatabaseName, Node, Tier, Topology};

/// Port of sshd, by which machines are deployed.
pub const SSH: u16 = 22;

/// Who opens a connection, or sends the packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Party {
    /// Any address.
    Anywhere,
    /// The addresses of `network.administration`.
    Administration,
    /// The load balancers.
    LoadBalancers,
    /// The app servers.
    Apps,
    /// The databases.
    Databases,
    /// The databases that know which shard has what.
    ConfigServers,
}

impl Party {
    /// All parties that are nodes.
    pub const NODES: [Party; 4] = [
        Party::LoadBalancers,
        Party::Apps,
        Party::Databases,
        Party::ConfigServers,
    ];

    /// What it is called where names have no blanks.
    pub fn name(self) -> &'static str {
        match self {
            Party::Anywhere => "anywhere",
            Party::Administration => "administration",
            Party::LoadBalancers => "load_balancers",
            Party::Apps => "apps",
            Party::Databases => "databases",
            Party::ConfigServers => "config_servers",
        }
    }

    /// What it is called in a sentence.
    pub fn noun(self) -> &'static str {
        match self {
            Party::LoadBalancers => "load balancers",
            Party::Apps => "app servers",
            Party::ConfigServers => "config servers",
            other => other.name(),
        }
    }

    /// The party that the nodes of a tier are.
    pub fn of(tier: Tier) -> Self {
        match tier {
            Tier::LoadBalancer => Party::LoadBalancers,
            Tier::App => Party::Apps,
            Tier::Database => Party::Databases,
        }
    }

    /// Whether a node belongs to it.
    pub fn has(self, node: &Node) -> bool {
        let config = || node.replica_set.as_ref().map(DatabaseName::as_str) == Some(CONFIG_SET);
        match self {
            Party::Anywhere => true,
            Party::Administration => false,
            Party::ConfigServers => node.tier == Tier::Database && config(),
            of_tier => Party::of(node.tier) == of_tier,
        }
    }

    /// The addresses of its nodes, in file order.
    pub fn addresses(self, topology: &Topology) -> Vec<Ipv4Addr> {
        let nodes = topology.nodes().iter().filter(|node| self.has(node));
        nodes.map(|node| node.address).collect()
    }
}

/// Where packets go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "at", rename_all = "kebab-case")]
pub enum Target {
    /// The virtual IP, whichever load balancer has it.
    VirtualIp,
    /// The own addresses of the nodes of a tier.
    Nodes {
        /// The tier.
        tier: Tier,
    },
}

impl Target {
    /// The tier that the packets reach.
    pub fn tier(self) -> Tier {
        match self {
            Target::VirtualIp => Tier::LoadBalancer,
            Target::Nodes { tier } => tier,
        }
    }
}

/// What the packets are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// Connections to a port.
    Tcp,
    /// Datagrams to a port.
    Udp,
    /// Adverts between load balancers; they have no ports.
    Vrrp,
}

/// Connections that the stack needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Flow {
    /// Who opens them.
    pub from: Party,
    /// Where they go.
    pub to: Target,
    /// What they are.
    pub protocol: Protocol,
    /// Their port, where the protocol has any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// What they are for.
    pub why: &'static str,
}

/// Every flow of `topology`, in the order in which a request passes the tiers.
pub fn flows(topology: &Topology) -> Vec<Flow> {
    use Tier::{App, Database, LoadBalancer};
    let balancer = topology.load_balancer();
    let internal = balancer.internal_port;
    let [balancers, apps, databases] = [Party::LoadBalancers, Party::Apps, Party::Databases];
    let mut all = vec![
        Flow {
            to: Target::VirtualIp,
            ..tcp(Party::Anywhere, LoadBalancer, balancer.port, "visitors")
        },
        tcp(
            balancers,
            LoadBalancer,
            internal,
            "draining, and who is alive",
        ),
        Flow {
            protocol: Protocol::Vrrp,
            port: None,
            ..tcp(balancers, LoadBalancer, 0, "who has the virtual IP")
        },
    ];
    all.extend(topology.applications().map(|application| {
        let port = application.app.port;
        tcp(balancers, App, port, "requests and health checks")
    }));
    if let Some(settings) = topology.database() {
        let port = settings.port;
        all.push(tcp(apps, Database, port, "the application's data"));
        all.push(tcp(databases, Database, port, "replication and elections"));
        if settings.sharding.is_some() {
            let why = "bringing the cluster to what the topology says, through a router";
            all.push(tcp(Party::ConfigServers, App, port, why));
        }
        all.extend(watchers(topology, settings));
    }
    if let Some(tls) = &balancer.tls {
        let https = Flow {
            to: Target::VirtualIp,
            ..tcp(
                Party::Anywhere,
                LoadBalancer,
                tls.port,
                "visitors, over TLS",
            )
        };
        all.insert(1, https);
    }
    all.extend(administration(topology));
    all
}

/// What the databases' watchers tell each other and the app servers; alone there is none to tell.
fn watchers(topology: &Topology, settings: &Settings) -> Vec<Flow> {
    let mut sets = topology.replica_sets().into_iter();
    if !sets.any(|set| set.nodes.len() > 1) {
        return Vec::new();
    }
    let port = settings.watch_port;
    [
        (
            Party::Databases,
            Tier::Database,
            "which databases are there",
        ),
        (
            Party::Apps,
            Tier::Database,
            "who wants to know which databases are gone",
        ),
        (Party::Databases, Tier::App, "which databases are gone"),
    ]
    .map(|(from, to, why)| Flow {
        protocol: Protocol::Udp,
        ..tcp(from, to, port, why)
    })
    .to_vec()
}

/// What people and their monitoring need.
fn administration(topology: &Topology) -> Vec<Flow> {
    let is_named = !topology.network().administration.is_empty();
    let from = if is_named {
        Party::Administration
    } else {
        Party::Anywhere
    };
    let ssh = topology
        .tiers()
        .map(|tier| tcp(from, tier, SSH, "deploying and administration"));
    let mut all: Vec<Flow> = ssh.collect();
    if is_named {
        let watched = administered(topology).into_iter();
        all.extend(watched.map(|(tier, port)| {
            tcp(
                Party::Administration,
                tier,
                port,
                "monitoring and questions of a person",
            )
        }));
    }
    all
}

/// The ports of each tier, besides ssh, that the administration may ask.
pub fn administered(topology: &Topology) -> Vec<(Tier, u16)> {
    let mut all = vec![(Tier::LoadBalancer, topology.load_balancer().internal_port)];
    let apps = topology.applications();
    all.extend(apps.map(|application| (Tier::App, application.app.port)));
    if let Some(database) = topology.database() {
        all.push((Tier::Database, database.port));
        if database.sharding.is_some() {
            all.push((Tier::App, database.port));
        }
    }
    all
}

fn tcp(from: Party, tier: Tier, port: u16, why: &'static str) -> Flow {
    Flow {
        from,
        to: Target::Nodes { tier },
        protocol: Protocol::Tcp,
        port: Some(port),
        why,
    }
}
