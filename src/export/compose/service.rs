//! One service of a Compose file.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use serde::Serialize;

use super::{NETWORK, Stack, dockerfile, literal};
use crate::config::{CONNECTION_TRACKING, NodeConfig, Role};
use crate::export::container;
use crate::secrets::{Access, CERTIFICATES, Kind};
use crate::topology::{Tier, Topology};

/// A service; keys in the order in which they are written.
#[derive(Serialize)]
pub(super) struct Service {
    image: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    build: Option<Build>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hostname: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    entrypoint: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ports: Vec<String>,
    networks: BTreeMap<&'static str, Address>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    depends_on: BTreeMap<String, Condition>,
    volumes: Vec<Volume>,
    tmpfs: Vec<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    secrets: Vec<String>,
    cap_drop: [&'static str; 1],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cap_add: Vec<&'static str>,
    security_opt: [&'static str; 1],
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    sysctls: BTreeMap<String, &'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    healthcheck: Option<Healthcheck>,
    restart: &'static str,
    stop_grace_period: String,
    mem_limit: String,
    pids_limit: u32,
    logging: Logging,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Volume {
    /// `FROM:TO`.
    Short(String),
    /// A directory that has to be there. Compose 1.29 says so; `check.sh` does where it makes an empty one.
    There {
        r#type: &'static str,
        source: String,
        target: &'static str,
        read_only: bool,
    },
}

#[derive(Serialize)]
struct Build {
    context: String,
    dockerfile: String,
}

#[derive(Serialize)]
struct Address {
    ipv4_address: Ipv4Addr,
}

#[derive(Serialize)]
struct Condition {
    condition: &'static str,
}

#[derive(Serialize)]
struct Healthcheck {
    test: [&'static str; 5],
    interval: &'static str,
    timeout: &'static str,
    retries: u8,
    start_period: &'static str,
}

#[derive(Serialize)]
struct Logging {
    driver: &'static str,
    options: BTreeMap<&'static str, &'static str>,
}

impl Service {
    /// The container of a node.
    pub(super) fn of(stack: &Stack<'_>, node: &NodeConfig) -> Self {
        let topology = stack.topology;
        let facts = &node.facts;
        let secrets = Kind::of(facts.tier, access(topology)).iter();
        let own = facts.app.iter().flat_map(|app| &app.secrets);
        let own = own.map(|name| container::app_secret(name));
        Self {
            image: container::image(topology, facts.tier),
            build: Some(build(stack, facts.tier)),
            hostname: Some(facts.name.clone()),
            entrypoint: Vec::new(),
            ports: Vec::new(),
            networks: at(facts.address),
            depends_on: depends_on(topology, facts.tier),
            volumes: volumes(stack, node),
            tmpfs: vec!["/run"],
            secrets: secrets
                .map(|kind| kind.file().to_owned())
                .chain(own)
                .collect(),
            cap_drop: ["ALL"],
            cap_add: capabilities(topology, facts.tier),
            security_opt: ["no-new-privileges:true"],
            sysctls: sysctls(facts.tier),
            healthcheck: Some(healthcheck(facts.tier)),
            restart: "unless-stopped",
            stop_grace_period: format!("{}s", grace(node)),
            mem_limit: format!("{}m", memory(topology, facts.tier)),
            pids_limit: 1000,
            logging: logging(),
        }
    }

    /// The service whose port on this machine leads to the virtual IP.
    pub(super) fn door(stack: &Stack<'_>, name: &str, address: Ipv4Addr) -> Self {
        let command = ["haproxy", "-W", "-db", "-f", "/node/haproxy.cfg"];
        Self {
            image: container::image(stack.topology, Tier::LoadBalancer),
            build: Some(build(stack, Tier::LoadBalancer)),
            hostname: None,
            entrypoint: command.map(str::to_owned).to_vec(),
            ports: published(stack.topology),
            networks: at(address),
            depends_on: BTreeMap::new(),
            volumes: vec![Volume::Short(format!("./nodes/{name}:/node:ro"))],
            tmpfs: vec!["/run"],
            secrets: Vec::new(),
            cap_drop: ["ALL"],
            cap_add: Vec::new(),
            security_opt: ["no-new-privileges:true"],
            sysctls: BTreeMap::new(),
            healthcheck: None,
            restart: "unless-stopped",
            stop_grace_period: "2s".into(),
            mem_limit: "128m".into(),
            pids_limit: 100,
            logging: logging(),
        }
    }
}

/// How nodes of a stack that is exported reach its database.
fn access(topology: &Topology) -> Access {
    match topology.database() {
        Some(_) => Access::Direct,
        None => Access::None,
    }
}

fn at(address: Ipv4Addr) -> BTreeMap<&'static str, Address> {
    BTreeMap::from([(
        NETWORK,
        Address {
            ipv4_address: address,
        },
    )])
}

fn build(stack: &Stack<'_>, tier: Tier) -> Build {
    match tier {
        Tier::App => Build {
            context: literal(&stack.places.app),
            dockerfile: literal(&format!("{}/{}", stack.places.from_app, dockerfile(tier))),
        },
        _ => Build {
            context: format!("./images/{}", tier.name()),
            dockerfile: "Dockerfile".into(),
        },
    }
}

/// App servers wait for databases. Load balancers wait for nobody: what they depend on would be part
/// of them for Compose 1.29, and one more app server would make them anew.
fn depends_on(topology: &Topology, tier: Tier) -> BTreeMap<String, Condition> {
    let healthy = |name: String| {
        let condition = "service_healthy";
        (name, Condition { condition })
    };
    match tier {
        Tier::App => topology
            .tier(Tier::Database)
            .map(|node| healthy(node.name.to_string()))
            .collect(),
        _ => BTreeMap::new(),
    }
}

/// What the first process needs: of a load balancer to move the address, to bind it without
/// having it and for Keepalived to run its check, of the others to take secrets and then be another user.
fn capabilities(topology: &Topology, tier: Tier) -> Vec<&'static str> {
    match tier {
        // Certificates are files that only somebody else may read.
        Tier::LoadBalancer if topology.load_balancer().tls.is_some() => {
            [&["DAC_READ_SEARCH"], &BALANCER[..]].concat()
        }
        Tier::LoadBalancer => BALANCER.to_vec(),
        _ => vec!["CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID"],
    }
}

const BALANCER: [&str; 7] = [
    "IPC_LOCK",
    "NET_ADMIN",
    "NET_BIND_SERVICE",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SYS_NICE",
];

fn volumes(stack: &Stack<'_>, node: &NodeConfig) -> Vec<Volume> {
    let facts = &node.facts;
    let mut volumes = vec![Volume::Short(format!("./nodes/{}:/node:ro", facts.name))];
    match facts.tier {
        Tier::Database => {
            volumes.push(Volume::Short(format!("{}:/var/lib/mongodb", facts.name)));
        }
        // As a directory: a renewed certificate is another file of the same name.
        Tier::LoadBalancer if stack.topology.load_balancer().tls.is_some() => {
            volumes.push(Volume::There {
                r#type: "bind",
                source: literal(&format!("{}/{CERTIFICATES}", stack.places.secrets)),
                target: "/certificates",
                read_only: true,
            });
        }
        _ => {}
    }
    volumes
}

fn published(topology: &Topology) -> Vec<String> {
    let plain = "${PUBLISH:-127.0.0.1:8080}:8080".to_owned();
    let tls = topology.load_balancer().tls.as_ref();
    let tls = tls.map(|_| "${PUBLISH_TLS:-127.0.0.1:8443}:8443".to_owned());
    std::iter::once(plain).chain(tls).collect()
}

/// A container can't change these itself.
fn sysctls(tier: Tier) -> BTreeMap<String, &'static str> {
    match tier {
        Tier::LoadBalancer => CONNECTION_TRACKING
            .into_iter()
            .map(|(name, value)| (format!("net.netfilter.{name}"), value))
            .collect(),
        // nginx is not root, and its port may be 80.
        Tier::App => BTreeMap::from([("net.ipv4.ip_unprivileged_port_start".into(), "0")]),
        Tier::Database => BTreeMap::new(),
    }
}

fn healthcheck(tier: Tier) -> Healthcheck {
    let asked = match tier {
        Tier::LoadBalancer => "haproxy",
        Tier::App => "app",
        Tier::Database => "database",
    };
    Healthcheck {
        test: [
            "CMD",
            "/etc/gen-topology/gen-topology",
            "node",
            "check",
            asked,
        ],
        interval: "3s",
        timeout: "4s",
        retries: 5,
        start_period: "60s",
    }
}

/// Seconds that supervisord waits for gunicorn.
fn gunicorn_stop(node: &NodeConfig) -> u64 {
    match &node.role {
        Role::App(server) => server.supervisor.stop,
        Role::LoadBalancer { .. } | Role::Database(_) => 0,
    }
}

/// Seconds that a node takes at most to stop in good order: draining first, then its daemons.
fn grace(node: &NodeConfig) -> u64 {
    let drain = node.facts.load_balancer.as_ref();
    match node.facts.tier {
        // Keepalived passes the virtual IP on, then haproxy ends.
        Tier::LoadBalancer => {
            drain.map_or(0, |facts| facts.drain_time_ms).div_ceil(1000) + 5 + 15 + 2
        }
        // Drain, gunicorn, nginx: what supervisord waits for each.
        Tier::App => 10 + gunicorn_stop(node) + 10 + 2,
        Tier::Database => 40 + 5 + 2,
    }
}

/// Mebibytes: what the daemons were given, and room.
fn memory(topology: &Topology, tier: Tier) -> u64 {
    let app = topology.app();
    match tier {
        Tier::LoadBalancer => 256 + u64::from(topology.load_balancer().max_connections) / 16,
        Tier::App => 128 + 160 * u64::from(app.instances) * (1 + u64::from(app.workers)),
        // Beside its cache mongod has what connections and sorts take.
        Tier::Database => 512 + 2 * (cache(topology)),
    }
}

/// Mebibytes of the databases' cache.
fn cache(topology: &Topology) -> u64 {
    let database = topology.database();
    database.map_or(0, |database| database.cache_size.get() >> 20)
}

fn logging() -> Logging {
    Logging {
        driver: "json-file",
        options: BTreeMap::from([("max-file", "3"), ("max-size", "10m")]),
    }
}
