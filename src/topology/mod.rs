//! What was written becomes what is meant: the text of a topology file is read
//! once, into a [`Topology`] that can't be invalid, or into every problem it has.
//!
//! [`document`] knows JSON, [`shape`] knows the schema that [`raw`] defines,
//! [`check`] knows what a stack needs. [`edit`] changes the text and keeps its
//! layout. Nothing here touches a file, a process or a clock.

mod allocate;
mod applications;
mod check;
mod check_app;
mod check_routes;
mod check_sets;
mod check_tls;
mod checker;
mod code;
mod diagnostic;
mod document;
mod edit;
mod raw;
mod replica_sets;
mod select;
mod set;
mod severity;
mod shape;
mod shards;
mod values;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use ipnet::Ipv4Net;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use allocate::block;
pub use applications::{Application, FurtherApp};
pub use code::Code;
pub(crate) use code::codes;
pub use diagnostic::{Diagnostic, Place, did_you_mean};
pub use edit::{Addition, Edit, EditError, add, add_to_set, remove, scale};
pub use replica_sets::{CONFIG_SET, ReplicaSet, SetRole};
pub use select::{SelectError, Selector};
pub use set::{rename, set};
pub use severity::Severity;
pub use shards::{ShardSizes, scale_shards};
pub use values::{
    Bytes, CertificateFile, DailyWindow, DatabaseName, DirectoryUrl, Entry, HostHeader, Interface,
    Millis, Name, ServedName, Sources, UrlPath, covers,
};

/// The text of a topology file and where it came from.
#[derive(Clone, Debug)]
pub struct Source {
    /// Path for messages; `-` for standard input.
    pub path: PathBuf,
    /// Directory that relative paths in the file start from.
    pub base: PathBuf,
    /// What the file holds.
    pub bytes: Vec<u8>,
}

/// What a node does.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Tier {
    /// haproxy and Keepalived: owns or waits for the virtual IP.
    LoadBalancer,
    /// nginx and gunicorn, kept up by supervisord: runs the application.
    App,
    /// `MongoDB`, a member of the replica set.
    Database,
}

/// Kind of gunicorn worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Worker {
    /// WSGI, a thread for each request (gunicorn's `gthread`).
    #[default]
    Threads,
    /// ASGI, one event loop for all requests of a worker (`uvicorn-worker`).
    Asgi,
}

/// What an application's variable for a secret holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SecretAs {
    /// The secret itself.
    #[default]
    Value,
    /// The path of the file that holds it.
    Path,
}

impl Tier {
    /// All tiers, in the order that a request passes them.
    pub const ALL: [Tier; 3] = [Tier::LoadBalancer, Tier::App, Tier::Database];

    /// The word of the topology file and of the command line.
    pub fn name(self) -> &'static str {
        match self {
            Tier::LoadBalancer => "load-balancer",
            Tier::App => "app",
            Tier::Database => "database",
        }
    }

    /// One or several nodes of the tier, in a sentence.
    pub fn noun(self, count: usize) -> &'static str {
        match (self, count) {
            (Tier::LoadBalancer, 1) => "load balancer",
            (Tier::LoadBalancer, _) => "load balancers",
            (Tier::App, 1) => "app server",
            (Tier::App, _) => "app servers",
            (Tier::Database, 1) => "database",
            (Tier::Database, _) => "databases",
        }
    }

    /// What a new node of the tier is called when none of its neighbours suggests a name.
    fn stem(self) -> &'static str {
        match self {
            Tier::LoadBalancer => "lb",
            Tier::App => "app",
            Tier::Database => "db",
        }
    }
}

impl std::str::FromStr for Tier {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let names = Tier::ALL.map(Tier::name);
        Tier::ALL
            .into_iter()
            .find(|tier| tier.name() == name)
            .ok_or_else(|| match did_you_mean(name, names) {
                Some(meant) => format!("there is no tier `{name}`; did you mean `{meant}`?"),
                None => format!("there is no tier `{name}`; there are {}", names.join(", ")),
            })
    }
}

impl std::fmt::Display for Tier {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(self.name())
    }
}

/// One machine of the stack.
#[derive(Clone, Debug, Serialize)]
pub struct Node {
    /// Host name.
    pub name: Name,
    /// What it does.
    pub tier: Tier,
    /// Its address in the subnet.
    pub address: Ipv4Addr,
    /// Database nodes: whether it votes in elections and may become primary.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub voting: Option<bool>,
    /// Database nodes of a sharded stack: the set that it is a member of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replica_set: Option<DatabaseName>,
}

/// The network that all nodes share.
#[derive(Clone, Debug, Serialize)]
pub struct Network {
    /// IPv4 subnet.
    pub subnet: Ipv4Net,
    /// Address that visitors use.
    pub virtual_ip: Ipv4Addr,
    /// Interface of each node that is in the subnet.
    pub interface: Interface,
    /// VRRP virtual router id.
    pub virtual_router_id: u8,
    /// From where the stack is administered and watched; none: from the nodes themselves only.
    pub administration: Vec<Sources>,
}

/// Settings of the load balancers.
#[derive(Clone, Debug, Serialize)]
pub struct LoadBalancer {
    /// Port of the virtual IP.
    pub port: u16,
    /// Port on each load balancer's own address for health, metrics and draining.
    pub internal_port: u16,
    /// Time between two VRRP adverts.
    pub advert_interval: Millis,
    /// Whether the first load balancer takes the virtual IP back when it is well again.
    pub preempt: bool,
    /// How long a returning load balancer has to be well before it takes the virtual IP back.
    pub preempt_delay: Millis,
    /// How long clients are asked to close their connections before the virtual IP moves on purpose.
    pub drain_time: Millis,
    /// Connections that one load balancer accepts at the same time.
    pub max_connections: u32,
    /// Proxies in front of the virtual IP whose forwarding headers are believed.
    pub trusted_proxies: Vec<Ipv4Net>,
    /// HTTPS, if it is served.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
}

impl LoadBalancer {
    /// The ports of the virtual IP.
    pub fn ports(&self) -> Vec<u16> {
        let tls = self.tls.as_ref().map(|tls| tls.port);
        std::iter::once(self.port).chain(tls).collect()
    }
}

/// HTTPS at the virtual IP.
#[derive(Clone, Debug, Serialize)]
pub struct Tls {
    /// Host names that visitors ask for.
    pub names: Vec<ServedName>,
    /// Where the certificates come from.
    #[serde(flatten)]
    pub certificates: Certificates,
    /// Port of the virtual IP for HTTPS.
    pub port: u16,
    /// Whether plain HTTP is answered with where to find the same over HTTPS.
    pub redirect: bool,
    /// How long browsers remember to come by HTTPS only; nothing is said if 0.
    pub hsts: Millis,
}

/// Where certificates come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Certificates {
    /// Files that somebody provides.
    Files(Vec<CertificateFile>),
    /// An authority that makes one with all names.
    Authority(Authority),
    /// An authority that is asked by ACME (RFC 8555) for one with all names.
    Acme(Acme),
}

impl Certificates {
    /// The name of the file that an authority's certificate is in.
    const MADE: &'static str = "made.pem";

    /// The files that load balancers read, the one for visitors who name no host first.
    pub fn files(&self) -> Vec<&str> {
        match self {
            Certificates::Files(files) => files.iter().map(CertificateFile::as_str).collect(),
            Certificates::Authority(_) => vec![Self::MADE],
            Certificates::Acme(_) => vec![ACME_FILE],
        }
    }

    /// How certificates are asked for, if by ACME.
    pub fn acme(&self) -> Option<&Acme> {
        match self {
            Certificates::Acme(acme) => Some(acme),
            _ => None,
        }
    }
}

/// The name of the file that a certificate of ACME is in.
pub const ACME_FILE: &str = "acme.pem";

/// An authority that certificates are asked of by ACME.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[derive(Default)]
pub struct Acme {
    /// Address of its directory. Default: Let's Encrypt.
    pub directory: DirectoryUrl,
    /// PEM file, beside the certificates, with the authority that the directory's own certificate is from. Default: those that browsers know.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trust: Option<CertificateFile>,
}

/// Who makes certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Authority {
    /// The lab, with an authority of its own. Not for machines.
    Lab,
}

/// The application that is served.
#[derive(Clone, Debug, Serialize)]
pub struct App {
    /// Directory of its code, relative to the topology file.
    pub source: PathBuf,
    /// `module:callable` or `module:factory()`.
    pub entry: Entry,
    /// Requirements file, relative to `source`.
    pub requirements: PathBuf,
    /// Environment variables of the user's own.
    pub env: BTreeMap<String, String>,
    /// Its secrets, by the names of their variables.
    pub secrets: BTreeMap<String, SecretAs>,
    /// Variable with the database's whole address, user and password included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database_uri_env: Option<String>,
    /// Path that tells whether the app can serve.
    pub health_path: UrlPath,
    /// Host name that health checks send.
    pub health_host: HostHeader,
    /// Kind of gunicorn worker.
    pub worker: Worker,
    /// How long it may take to begin an answer, and may be silent within it.
    pub longest_request: Millis,
    /// Largest body of a request.
    pub largest_body: Bytes,
    /// How long a websocket may be silent.
    pub idle_timeout: Millis,
    /// Directory of static files, relative to `source`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub static_directory: Option<String>,
    /// Where the static files are found.
    pub static_url: UrlPath,
    /// Whether nginx compresses text.
    pub compression: bool,
    /// Whether a visitor stays on one app server.
    pub sticky_sessions: bool,
    /// Port of nginx.
    pub port: u16,
    /// gunicorn processes on each node, each with a socket of its own.
    pub instances: u16,
    /// Worker processes of each instance.
    pub workers: u16,
    /// Threads of each worker.
    pub threads: u16,
}

/// Settings of the databases.
#[derive(Clone, Debug, Serialize)]
pub struct Database {
    /// Name of the replica set; of the first shard, where there are several.
    pub replica_set: DatabaseName,
    /// Name of the database that the application uses.
    pub name: DatabaseName,
    /// Port of mongod.
    pub port: u16,
    /// How long members wait for a silent primary.
    pub election_timeout: Millis,
    /// Time between two heartbeats of a member.
    pub heartbeat_interval: Millis,
    /// Time between two adverts of the databases' watchers.
    pub watch_interval: Millis,
    /// UDP port of the databases' watchers.
    pub watch_port: u16,
    /// Memory of the storage engine's cache.
    pub cache_size: Bytes,
    /// How data are spread over several replica sets, if they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sharding: Option<Sharding>,
}

/// Data spread over several replica sets, the shards, behind a router on each app node.
#[derive(Clone, Debug, Serialize)]
pub struct Sharding {
    /// How many shards there are.
    pub shards: u16,
    /// Databases that each shard should have.
    pub members: u16,
    /// Databases that the set of config servers should have.
    pub config_servers: u16,
    /// Collections that are spread, each with the field by whose hash.
    pub collections: BTreeMap<String, String>,
    /// Hours in which data may move between shards; always, if there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub balancer_window: Option<DailyWindow>,
}

/// What the failure of a node or a daemon may cost at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slo {
    /// Longest time without any good answer.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub longest_gap: Option<Millis>,
    /// Longest time without an acknowledged write.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub longest_write_gap: Option<Millis>,
}

/// A stack that can be built: whoever holds one needs to check nothing.
#[derive(Clone, Debug, Serialize)]
pub struct Topology {
    name: Name,
    network: Network,
    load_balancer: LoadBalancer,
    app: App,
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        serialize_with = "applications::by_name"
    )]
    apps: Vec<FurtherApp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    database: Option<Database>,
    slo: Slo,
    nodes: Vec<Node>,
}

/// What reading a topology file gives.
#[derive(Debug)]
pub struct Checked {
    /// The topology, unless a problem is an error.
    pub topology: Option<Topology>,
    /// Every problem, in the order of the file.
    pub problems: Vec<Diagnostic>,
}

impl Checked {
    /// Adds problems that only show in other files than the topology's own; an error among them
    /// leaves no topology.
    pub fn add(&mut self, source: &Source, problems: Vec<Diagnostic>) {
        self.problems.extend(problems);
        let text = document::decode(&source.bytes);
        if let Ok(tree) = text.and_then(document::parse) {
            document::locate(&tree, &mut self.problems);
        }
        self.problems
            .sort_by_key(|problem| problem.at.span.as_ref().map(|span| span.start));
        if self.problems.iter().any(Diagnostic::is_error) {
            self.topology = None;
        }
    }
}

impl Topology {
    /// Reads `source`. `exists` tells whether a file or directory is there; it is
    /// asked for the paths that the topology names, with the source's base before them.
    ///
    /// All problems are reported at once, except that JSON which can't be parsed
    /// hides what is behind it, and values of the wrong shape hide what could only
    /// be said about their meaning.
    pub fn check(source: &Source, exists: &dyn Fn(&Path) -> bool) -> Checked {
        let failed = |problem: Box<Diagnostic>| Checked {
            topology: None,
            problems: vec![*problem],
        };
        let text = match document::decode(&source.bytes) {
            Ok(text) => text,
            Err(problem) => return failed(problem),
        };
        let tree = match document::parse(text) {
            Ok(tree) => tree,
            Err(problem) => return failed(problem),
        };
        let mut problems = document::duplicate_keys(&tree);
        problems.extend(shape::differences(&tree, &raw::schema()));
        let mut topology = None;
        if problems.is_empty() {
            match serde_json::from_str::<raw::RawTopology>(text) {
                Ok(raw) => topology = check::meaning(raw, &source.base, exists, &mut problems),
                Err(error) => problems.push(document::unreadable(text, &error)),
            }
        }
        document::locate(&tree, &mut problems);
        problems.sort_by_key(|problem| problem.at.span.as_ref().map(|span| span.start));
        if problems.iter().any(Diagnostic::is_error) {
            topology = None;
        }
        Checked { topology, problems }
    }

    /// Name of the stack.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// The network that all nodes share.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Settings of the load balancers.
    pub fn load_balancer(&self) -> &LoadBalancer {
        &self.load_balancer
    }

    /// The application that answers what no other one claims.
    pub fn app(&self) -> &App {
        &self.app
    }

    /// Settings of the databases; none if the stack has no database.
    pub fn database(&self) -> Option<&Database> {
        self.database.as_ref()
    }

    /// How the data are spread over several replica sets, if they are.
    pub fn sharding(&self) -> Option<&Sharding> {
        self.database()?.sharding.as_ref()
    }

    /// What an outage may cost at most.
    pub fn slo(&self) -> Slo {
        self.slo
    }

    /// The same stack where the nodes' interface has another name, as some worlds want it.
    #[must_use]
    pub fn on_interface(&self, interface: Interface) -> Self {
        let mut other = self.clone();
        other.network.interface = interface;
        other
    }

    /// Every node, in file order.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The tiers that have nodes, in the order in which a request passes them.
    pub fn tiers(&self) -> impl Iterator<Item = Tier> {
        let mut tiers = Tier::ALL.into_iter();
        std::iter::from_fn(move || tiers.find(|tier| self.tier(*tier).next().is_some()))
    }

    /// The nodes of one tier, in file order.
    pub fn tier(&self, tier: Tier) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(move |node| node.tier == tier)
    }

    /// The node called `name`.
    pub fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.iter().find(|node| node.name.as_str() == name)
    }
}

/// JSON schema of a topology file, as editors use it.
pub fn schema() -> serde_json::Value {
    raw::schema()
}
