//! The times that decide how long an outage lasts, read from the rendered files: the
//! same bytes that the daemons read, by parsers of their own. Nothing is taken from the
//! topology, so a template that says something else than the topology is noticed.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context as _, bail};

use crate::config::{self, ACME_THUMBPRINT, NodeFacts, ReplicaSet};
use crate::native::{haproxy, keepalived, mongod};
use crate::topology::Tier;

/// What is never noticed takes an hour, in milliseconds: until a person comes.
const NEVER: f64 = 3_600_000.0;

/// Where certificates come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Somebody brings them.
    Files,
    /// Load balancers ask an authority by ACME.
    Acme,
}

/// What a prediction is computed from. All times in milliseconds.
#[derive(Clone, Debug, PartialEq)]
pub struct Timing {
    /// Time between two VRRP adverts.
    pub advert: f64,
    /// Skew of the second load balancer, which takes over from the first.
    pub skew: f64,
    /// Skew of the last load balancer.
    pub last_skew: f64,
    /// Until whoever runs haproxy has asked it in vain.
    pub guard: f64,
    /// Time between two health checks of an app server.
    pub inter: f64,
    /// The same once a check has failed.
    pub fastinter: f64,
    /// Failed checks until a server is down.
    pub fall: f64,
    /// How long a check waits for the answer.
    pub check: f64,
    /// How long a check waits for the connection.
    pub check_connect: f64,
    /// How long haproxy waits for a connection to an app server.
    pub connect: f64,
    /// From DOWN until requests that still wait there are taken back.
    pub release: f64,
    /// How long members wait for a silent primary.
    pub election: f64,
    /// Time between two looks of the driver at the members.
    pub driver_heartbeat: f64,
    /// How long the driver waits for an answer.
    pub socket: f64,
    /// How long the driver waits for a connection.
    pub driver_connect: f64,
    /// How long a secondary waits for a silent sync source.
    pub sync_source: f64,
    /// Time between two adverts of the databases' watchers; none where there are none.
    pub watch: Option<f64>,
    /// How long a new primary waits for what a silent member may have.
    pub catch_up: f64,
    /// Requests that one app server works on at a time.
    pub in_hand: usize,
    /// Nodes by tier.
    pub load_balancers: usize,
    /// Nodes by tier.
    pub apps: usize,
    /// Members that vote.
    pub voters: usize,
    /// Whether there are databases at all.
    pub has_database: bool,
    /// Whether the data are spread over several replica sets.
    pub sharded: bool,
    /// Where the certificates come from, if visitors come by HTTPS.
    pub certificates: Option<Origin>,
    /// Requests a second of the load.
    pub rate: u32,
}

/// The rendered files of one node.
#[derive(Clone, Copy, Debug)]
pub struct NodeFiles<'f> {
    /// What the node does.
    pub tier: Tier,
    /// Path below `/etc` → text.
    pub etc: &'f BTreeMap<String, String>,
}

impl NodeFiles<'_> {
    fn text(&self, path: &str) -> anyhow::Result<&str> {
        self.etc
            .get(path)
            .map(String::as_str)
            .with_context(|| format!("there is no rendered {path}"))
    }
}

impl Timing {
    /// Reads the files of every node, load balancers in order of preference.
    ///
    /// # Errors
    /// If a file is missing or does not say what has to be known.
    pub fn read(nodes: &[NodeFiles], rate: u32) -> anyhow::Result<Self> {
        let tier = |tier: Tier| nodes.iter().filter(move |node| node.tier == tier);
        let (Some(balancer), Some(app)) = (tier(Tier::LoadBalancer).next(), tier(Tier::App).next())
        else {
            bail!("a stack without load balancer or app server has nothing to predict");
        };
        let vrrp = tier(Tier::LoadBalancer)
            .map(Vrrp::read)
            .collect::<anyhow::Result<Vec<_>>>()?;
        let first = vrrp.first().context("there is no load balancer")?;
        let haproxy = Haproxy::read(balancer.text("haproxy/haproxy.cfg")?)?;
        let database = tier(Tier::Database).next().map(Databases::read);
        let database = database.transpose()?;
        let set = database.as_ref().map(|database| &database.set);
        let watch = set.and_then(|set| set.watch.as_ref());
        let gunicorn = app.text("gunicorn/gunicorn.conf.py")?;
        let instances = instances(app.text("supervisor/supervisord.conf")?).count();
        Ok(Self {
            advert: first.advert,
            skew: vrrp.get(1).unwrap_or(first).skew,
            last_skew: vrrp.last().unwrap_or(first).skew,
            guard: (config::ASK_EVERY + config::ASK_PATIENCE).as_secs_f64() * 1000.0,
            inter: haproxy.inter,
            fastinter: haproxy.fastinter,
            fall: haproxy.fall,
            check: haproxy.check,
            check_connect: haproxy.connect.min(haproxy.inter),
            connect: haproxy.connect,
            release: (config::RELEASE_AFTER + config::RELEASE_PAUSE).as_secs_f64() * 1000.0,
            election: set.map_or(NEVER, |set| milliseconds(set.election_timeout_ms)),
            driver_heartbeat: uri(gunicorn, "heartbeatFrequencyMS", 10_000.0),
            socket: uri(gunicorn, "socketTimeoutMS", NEVER),
            driver_connect: uri(gunicorn, "connectTimeoutMS", 20_000.0),
            sync_source: database
                .as_ref()
                .map_or(NEVER, |database| database.sync_source),
            watch: watch.map(|watch| milliseconds(watch.interval_ms)),
            catch_up: watch.map_or(NEVER, |watch| milliseconds(watch.catch_up_ms)),
            in_hand: python(gunicorn, "workers") * python(gunicorn, "threads") * instances,
            load_balancers: vrrp.len(),
            apps: tier(Tier::App).count(),
            sharded: set.is_some_and(|set| set.role.is_some()),
            voters: set.map_or(0, |set| {
                set.members.iter().filter(|member| member.voting).count()
            }),
            has_database: set.is_some(),
            certificates: haproxy.certificates,
            rate,
        })
    }
}

/// What the files of a database say.
struct Databases {
    set: Arc<ReplicaSet>,
    sync_source: f64,
}

impl Databases {
    fn read(node: &NodeFiles) -> anyhow::Result<Self> {
        let facts: NodeFacts = serde_json::from_str(node.text("gen-topology/node.json")?)
            .context("reading node.json")?;
        let mongod = mongod::Config::parse(node.text("mongod.conf")?)?;
        Ok(Self {
            set: facts
                .database
                .context("node.json of a database has no replica set")?,
            sync_source: mongod
                .parameter("oplogNetworkTimeoutBufferSeconds")
                .and_then(serde_yaml_ng::Value::as_f64)
                .map_or(5000.0, |seconds| seconds * 1000.0),
        })
    }
}

/// What a load balancer's keepalived.conf says.
struct Vrrp {
    advert: f64,
    skew: f64,
}

impl Vrrp {
    fn read(node: &NodeFiles) -> anyhow::Result<Self> {
        let config = keepalived::Config::parse(node.text("keepalived/keepalived.conf")?)?;
        let instance = config
            .instances
            .first()
            .context("keepalived.conf has no vrrp_instance")?;
        Ok(Self {
            advert: instance.advert_interval() * 1000.0,
            skew: instance.skew() * 1000.0,
        })
    }
}

/// What haproxy.cfg says about the backend of the app servers.
struct Haproxy {
    inter: f64,
    fastinter: f64,
    fall: f64,
    check: f64,
    connect: f64,
    certificates: Option<Origin>,
}

impl Haproxy {
    fn read(text: &str) -> anyhow::Result<Self> {
        let config = haproxy::Config::parse(text)?;
        let backend = config
            .proxy("backend", "app")
            .context("haproxy.cfg has no backend `app`")?;
        let visitors = config
            .proxy("frontend", "www")
            .context("haproxy.cfg has no frontend `www`")?;
        let is_https = visitors
            .binds()
            .iter()
            .any(|bind| bind.options.contains(&"ssl"));
        let origin = if text.contains(ACME_THUMBPRINT) {
            Origin::Acme
        } else {
            Origin::Files
        };
        let servers = backend.servers();
        let server = servers
            .first()
            .context("haproxy.cfg has no server in `app`")?;
        let timeout = |name: &str| backend.timeout(name).map(|time| milliseconds(time.get()));
        let inter = milliseconds(server.inter().get());
        Ok(Self {
            inter,
            fastinter: milliseconds(server.fastinter().get()),
            fall: f64::from(server.fall()),
            // Without a time of its own a check may take until the next one.
            check: timeout("check").unwrap_or(inter),
            connect: timeout("connect").context("haproxy.cfg has no `timeout connect`")?,
            certificates: is_https.then_some(origin),
        })
    }
}

/// Whole milliseconds as what one computes with.
fn milliseconds(time: u64) -> f64 {
    std::time::Duration::from_millis(time).as_secs_f64() * 1000.0
}

/// An option of the connection string, in milliseconds.
fn uri(gunicorn: &str, option: &str, default: f64) -> f64 {
    let value = gunicorn
        .split(['?', '&', '"'])
        .find_map(|part| part.strip_prefix(option)?.strip_prefix('='));
    value
        .and_then(|value| value.parse().ok())
        .unwrap_or(default)
}

/// The programs of a supervisord.conf that are the app's instances.
pub(super) fn instances(supervisor: &str) -> impl Iterator<Item = &str> {
    supervisor
        .lines()
        .filter_map(|line| line.strip_prefix("[program:")?.strip_suffix(']'))
        .filter(|program| program.starts_with(config::APP_PROGRAM))
}

/// A whole number of gunicorn's settings; 1, its default, if it is not there.
fn python(gunicorn: &str, setting: &str) -> usize {
    let line = gunicorn
        .lines()
        .find_map(|line| line.strip_prefix(setting)?.trim().strip_prefix('='));
    line.and_then(|value| value.trim().parse().ok())
        .unwrap_or(1)
}
