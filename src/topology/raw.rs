//! The file as it is written: a mirror for serde and schemars. Doc comments here
//! are what an editor shows and what `docs/topology.md` prints. Nothing outside
//! this folder sees these types; [`super::check`] turns them into a
//! [`super::Topology`].

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use indexmap::IndexMap;
use ipnet::Ipv4Net;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

use super::values::{
    Bytes, CertificateFile, DailyWindow, DatabaseName, Entry, HostHeader, Interface, Millis, Name,
    ServedName, Sources, UrlPath,
};
use super::{Acme, Authority, SecretAs, Tier, Worker};

/// A highly available web stack: load balancers, app servers and databases behind one virtual IP.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(title = "gen-topology", deny_unknown_fields)]
pub(super) struct RawTopology {
    /// Where editors find the schema; not looked at.
    #[serde(rename = "$schema", default)]
    #[expect(dead_code, reason = "for editors only")]
    schema: Option<String>,
    /// Which rules this file follows; 1 is the only one so far.
    #[schemars(range(min = 1, max = 1))]
    #[expect(dead_code, reason = "the shape check holds it to 1")]
    version: u8,
    /// Name of the stack, and of its lab.
    pub name: Name,
    /// The network that all nodes share.
    pub network: RawNetwork,
    /// Settings of the load balancers: haproxy and Keepalived.
    #[serde(default)]
    pub load_balancer: RawLoadBalancer,
    /// The application that is served, wherever none of `apps` claims a request.
    pub app: RawApp,
    /// Further applications, by name. Each claims hosts, paths or both, and has a port of its own on the app nodes.
    #[serde(default)]
    pub apps: IndexMap<String, RawApp>,
    /// Settings of the databases: a `MongoDB` replica set, or a sharded cluster of several. A stack without this key and without database nodes has no database.
    #[serde(default)]
    pub database: RawDatabase,
    /// What an outage may cost at most; `gen-topology faults` holds the stack to it.
    #[serde(default)]
    pub slo: RawSlo,
    /// Every node, by host name. Order matters: the first load balancer is the preferred owner of the virtual IP.
    pub nodes: IndexMap<String, RawNode>,
}

/// The network that all nodes share.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct RawNetwork {
    /// IPv4 subnet of all nodes and of the virtual IP.
    #[schemars(schema_with = "ipv4_subnet")]
    pub subnet: Ipv4Net,
    /// Address that visitors use; the load balancers pass it among themselves.
    pub virtual_ip: Ipv4Addr,
    /// Interface of each node that is in the subnet.
    #[serde(default = "interface")]
    pub interface: Interface,
    /// VRRP virtual router id, unique among the VRRP groups of the network. Default: last number of the virtual IP.
    #[serde(default)]
    #[schemars(range(min = 1, max = 255))]
    pub virtual_router_id: Option<u8>,
    /// From where the stack is administered and watched: ssh, statistics, metrics, and every daemon. Default: ssh from anywhere, nothing else.
    #[serde(default)]
    pub administration: Vec<Sources>,
}

/// Settings of the load balancers: haproxy and Keepalived.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub(super) struct RawLoadBalancer {
    /// Port of the virtual IP.
    #[schemars(range(min = 1))]
    pub port: u16,
    /// Port on each load balancer's own address for its health, metrics and draining.
    #[schemars(range(min = 1))]
    pub internal_port: u16,
    /// Time between two VRRP adverts; a dead load balancer is replaced after about three.
    pub advert_interval: Millis,
    /// Whether the first load balancer takes the virtual IP back when it is well again.
    pub preempt: bool,
    /// How long a returning load balancer has to be well before it takes the virtual IP back.
    pub preempt_delay: Millis,
    /// How long clients are asked to close their connections before the virtual IP moves on purpose.
    pub drain_time: Millis,
    /// Connections that one load balancer accepts at the same time.
    #[schemars(range(min = 10, max = 1_000_000))]
    pub max_connections: u32,
    /// Subnets of proxies in front of the virtual IP (a CDN, a TLS proxy). Their X-Forwarded headers are believed, nobody else's.
    #[schemars(schema_with = "ipv4_subnets")]
    pub trusted_proxies: Vec<Ipv4Net>,
    /// HTTPS at the virtual IP. Default: plain HTTP only.
    pub tls: Option<RawTls>,
}

/// HTTPS at the virtual IP. Certificates come from `files`, from an `authority` or by `acme`.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct RawTls {
    /// Host names that visitors ask for; each has to be in a certificate.
    pub names: Vec<ServedName>,
    /// PEM files with certificate, chain and key, in `.gen-topology/secrets/certificates` beside this file. Who asks for none of their names gets the first.
    #[serde(default)]
    pub files: Option<Vec<CertificateFile>>,
    /// Who makes a certificate with all names: `lab`, for trying, is an authority of the lab's own.
    #[serde(default)]
    #[schemars(with = "Authority")]
    pub authority: Option<Authority>,
    /// Asks an authority by ACME for a certificate with all names, and for another before it expires; `{}` asks Let's Encrypt.
    #[serde(default)]
    #[schemars(with = "Acme")]
    pub acme: Option<Acme>,
    /// Port of the virtual IP for HTTPS; `port` stays that of plain HTTP.
    #[serde(default = "tls_port")]
    #[schemars(range(min = 1))]
    pub port: u16,
    /// Whether plain HTTP is answered with where to find the same over HTTPS; otherwise it is served, too.
    #[serde(default = "yes")]
    pub redirect: bool,
    /// How long browsers remember to come by HTTPS only (HSTS); `0s` says nothing to them.
    #[serde(default = "hsts")]
    pub hsts: Millis,
}

impl Default for RawLoadBalancer {
    fn default() -> Self {
        Self {
            port: 80,
            internal_port: 8404,
            advert_interval: Millis::new(50),
            preempt: true,
            preempt_delay: Millis::new(2000),
            drain_time: Millis::new(1000),
            max_connections: 8_000,
            trusted_proxies: Vec::new(),
            tls: None,
        }
    }
}

/// The application that is served.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct RawApp {
    /// Directory of the application's code, relative to this file.
    pub source: String,
    /// In `apps` only: host names whose requests are this application's, such as `api.example.org` or `*.example.org`. Default: every host.
    #[serde(default)]
    pub hosts: Vec<ServedName>,
    /// In `apps` only: beginnings of paths whose requests are this application's, each with `/` at its end. Default: every path of its hosts.
    #[serde(default)]
    pub paths: Vec<UrlPath>,
    /// In `apps` only: app nodes that run it. Default: all of them.
    #[serde(default)]
    pub nodes: Vec<String>,
    /// Where the WSGI or ASGI callable is: `module:callable`, or `module:factory()`.
    #[serde(default = "entry")]
    pub entry: Entry,
    /// Requirements file, inside `source`, with a hash for each package; gunicorn has to be among them.
    #[serde(default = "requirements")]
    pub requirements: String,
    /// Environment variables of the application. Not for secrets: they end up in the rendered files.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Secrets of the application, by the names of its variables. `gen-topology secrets set NAME` writes one to a file, and rendered files name that file only.
    #[serde(default)]
    pub secrets: BTreeMap<String, RawSecret>,
    /// Variable that gets the address of the database as a whole, with user and password. Default: none has them.
    #[serde(default)]
    pub database_uri_env: Option<String>,
    /// Path that answers 200 when the app can serve, 404 while it drains, 503 when it can't.
    #[serde(default = "health_path")]
    pub health_path: UrlPath,
    /// Host name that health checks send; the application has to accept it (Django: `ALLOWED_HOSTS`).
    #[serde(default = "health_host")]
    pub health_host: HostHeader,
    /// Kind of gunicorn worker: `threads` for WSGI (Flask, Django), `asgi` for FastAPI, Starlette or Django Channels (needs the package uvicorn-worker).
    #[serde(default)]
    pub worker: Worker,
    /// How long the application may take to begin its answer, and may be silent within it. A request that takes longer gets 504 and is not repeated.
    #[serde(default = "longest_request")]
    pub longest_request: Millis,
    /// Largest body of a request; a larger one gets 413.
    #[serde(default = "largest_body")]
    pub largest_body: Bytes,
    /// How long a websocket may be silent.
    #[serde(default = "idle_timeout")]
    pub idle_timeout: Millis,
    /// Directory of static files inside `source`; nginx serves it at `static_url`, without the application.
    #[serde(default)]
    pub static_directory: Option<String>,
    /// Where `static_directory` is found.
    #[serde(default = "static_url")]
    pub static_url: UrlPath,
    /// Whether nginx compresses text on its way to visitors.
    #[serde(default = "yes")]
    pub compression: bool,
    /// Whether haproxy keeps a visitor on one app server, by a cookie, while that server is up.
    #[serde(default)]
    pub sticky_sessions: bool,
    /// Port of nginx on each app node.
    #[serde(default = "app_port")]
    #[schemars(range(min = 1))]
    pub port: u16,
    /// gunicorn processes on each app node, each with a socket of its own; with two, one can restart unnoticed.
    #[serde(default = "instances")]
    #[schemars(range(min = 1, max = 32))]
    pub instances: u16,
    /// Worker processes of each instance.
    #[serde(default = "workers")]
    #[schemars(range(min = 1, max = 64))]
    pub workers: u16,
    /// Threads of each worker; an `asgi` worker has one.
    #[serde(default = "threads")]
    #[schemars(range(min = 1, max = 256))]
    pub threads: u16,
}

/// A secret of the application.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct RawSecret {
    /// What the variable holds: the secret (`value`), or the path of the file that has it (`path`).
    #[serde(default, rename = "as")]
    pub gives: SecretAs,
}

/// Settings of the databases: a `MongoDB` replica set, or a sharded cluster of several.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub(super) struct RawDatabase {
    /// Name of the replica set, of the first shard where there are several; it can't be changed later.
    pub replica_set: DatabaseName,
    /// Name of the database that the application uses.
    pub name: DatabaseName,
    /// Port of mongod.
    #[schemars(range(min = 1))]
    pub port: u16,
    /// How long members wait for a silent primary before they elect another.
    pub election_timeout: Millis,
    /// Time between two heartbeats of a member.
    pub heartbeat_interval: Millis,
    /// Time between two adverts of the databases' watchers; a member that misses three is gone.
    pub watch_interval: Millis,
    /// UDP port at which the databases' watchers tell each other who is there.
    #[schemars(range(min = 1))]
    pub watch_port: u16,
    /// Memory of the storage engine's cache on each node.
    pub cache_size: Bytes,
    /// Data spread over several replica sets. Default: one replica set has all of it.
    pub sharding: Option<RawSharding>,
    /// Whether the file has the key `database`.
    #[serde(skip, default = "yes")]
    pub is_written: bool,
}

/// Data spread over several replica sets, the shards, behind a router on each app node.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct RawSharding {
    /// How many shards there are.
    #[schemars(range(min = 1, max = 1000))]
    pub shards: u16,
    /// Databases of each shard.
    #[serde(default = "three")]
    #[schemars(range(min = 1, max = 50))]
    pub members: u16,
    /// Databases of the set that knows which shard has what.
    #[serde(default = "three")]
    #[schemars(range(min = 1, max = 50))]
    pub config_servers: u16,
    /// Collections of the application that are spread, each with the field by whose hash. Default: `entries` by `_id`.
    #[serde(default = "collections")]
    pub collections: BTreeMap<String, String>,
    /// Hours in which data may move between shards. Default: always.
    #[serde(default)]
    pub balancer_window: Option<DailyWindow>,
}

impl Default for RawDatabase {
    fn default() -> Self {
        let name = |text: &str| text.parse().ok();
        Self {
            replica_set: name("rs0").unwrap_or_else(|| unreachable!("a fixed, valid name")),
            name: name("web").unwrap_or_else(|| unreachable!("a fixed, valid name")),
            port: 27017,
            election_timeout: Millis::new(2000),
            heartbeat_interval: Millis::new(500),
            watch_interval: Millis::new(100),
            watch_port: 27117,
            cache_size: Bytes::mebibytes(256),
            sharding: None,
            is_written: false,
        }
    }
}

impl RawTopology {
    /// Whether the stack has databases, or says that it should.
    pub(super) fn has_database(&self) -> bool {
        let is_one = |node: &RawNode| node.tier == Tier::Database;
        self.database.is_written || self.nodes.values().any(is_one)
    }
}

/// What the failure of a node or a daemon may cost at most.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub(super) struct RawSlo {
    /// Longest time without any good answer. Default: no limit.
    pub longest_gap: Option<Millis>,
    /// Longest time without an acknowledged write. Default: no limit.
    pub longest_write_gap: Option<Millis>,
}

/// One node.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct RawNode {
    /// What the node does.
    pub tier: Tier,
    /// IPv4 address in the subnet.
    pub address: Ipv4Addr,
    /// Database nodes only: false keeps a copy without a vote and without ever becoming primary.
    #[serde(default)]
    pub voting: Option<bool>,
    /// Database nodes of a sharded stack only: the set that it is a member of, `config` or a shard. Default: the first shard.
    #[serde(default)]
    pub replica_set: Option<DatabaseName>,
}

fn ipv4_subnet(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "format": "ipv4-subnet" })
}

fn ipv4_subnets(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "array", "items": { "type": "string", "format": "ipv4-subnet" } })
}

fn interface() -> Interface {
    fixed("eth0")
}
fn entry() -> Entry {
    fixed("app:app")
}
fn requirements() -> String {
    "requirements.txt".into()
}
fn health_path() -> UrlPath {
    fixed("/readyz")
}
fn health_host() -> HostHeader {
    fixed("app.internal")
}
fn longest_request() -> Millis {
    Millis::new(30_000)
}
fn largest_body() -> Bytes {
    Bytes::mebibytes(10)
}
fn idle_timeout() -> Millis {
    Millis::new(3_600_000)
}
fn static_url() -> UrlPath {
    fixed("/static/")
}
fn tls_port() -> u16 {
    443
}
fn hsts() -> Millis {
    Millis::new(365 * 86_400_000)
}
fn yes() -> bool {
    true
}
fn app_port() -> u16 {
    80
}
fn instances() -> u16 {
    2
}
fn workers() -> u16 {
    1
}
fn three() -> u16 {
    3
}
fn collections() -> BTreeMap<String, String> {
    BTreeMap::from([("entries".into(), "_id".into())])
}
fn threads() -> u16 {
    32
}

/// A default of this file; a test parses the smallest topology, so a wrong one can't be shipped.
fn fixed<T: std::str::FromStr>(text: &str) -> T {
    text.parse()
        .unwrap_or_else(|_| unreachable!("default {text:?} is valid"))
}

/// JSON schema of a topology file. Every object also takes keys that begin with `x-`.
pub(super) fn schema() -> serde_json::Value {
    let settings = schemars::generate::SchemaSettings::draft2020_12()
        .with(|settings| settings.inline_subschemas = true);
    let mut schema = settings
        .with_transform(schemars::transform::RecursiveTransform(allow_x_keys))
        .into_generator()
        .into_root_schema_for::<RawTopology>()
        .to_value();
    if let Some(tier) = schema.pointer_mut("/properties/nodes") {
        tier["propertyNames"] = serde_json::json!({ "format": "host-name" });
        tier["minProperties"] = 1.into();
    }
    if let Some(apps) = schema.pointer_mut("/properties/apps") {
        apps["propertyNames"] = serde_json::json!({ "format": "host-name" });
    }
    schema
}

fn allow_x_keys(schema: &mut Schema) {
    if schema.get("additionalProperties") == Some(&false.into()) {
        schema.insert(
            "patternProperties".into(),
            serde_json::json!({ "^x-": true }),
        );
    }
}
