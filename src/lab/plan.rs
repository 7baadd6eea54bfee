//! What a lab consists of: for each node its files and how to boot it. Pure data,
//! made from the topology and the rendered files; `lab up --dry-run` prints it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::ensure;
use serde::{Deserialize, Serialize};

use super::supplies::{AppCode, Supplies};
use super::versions;
use crate::config::place;
use crate::health::http::Entrance;
use crate::render::{self, Rendered};
use crate::secrets::{self, Access, Kind};
use crate::topology::{Acme, Authority, Certificates, Millis, Node, Tier, Tls, Topology};

/// Directory of secrets below a lab's own directory, and below each of its nodes'.
pub const SECRETS: &str = "secrets";

/// Everything that a running lab is made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabPlan {
    /// Name of the lab.
    pub name: String,
    /// Address of the client, on the switch.
    pub client: Ipv4Addr,
    /// Length of the subnet's prefix, in bits.
    pub prefix: u8,
    /// Address that visitors use.
    pub virtual_ip: Ipv4Addr,
    /// Its port.
    pub port: u16,
    /// HTTPS, if it is served.
    #[serde(default)]
    pub tls: Option<LabTls>,
    /// Port of the load balancers' internal listener.
    pub internal_port: u16,
    /// Port of nginx on the app nodes.
    pub app_port: u16,
    /// Path that tells whether an app can serve.
    pub health_path: String,
    /// Port of mongod; none if the stack has no database.
    pub database_port: Option<u16>,
    /// Whether the application has the database's password in its environment.
    #[serde(default)]
    pub password_in_environment: bool,
    /// The nodes, in the order in which they are started: databases, which take longest, first.
    pub nodes: Vec<NodePlan>,
}

/// HTTPS of a lab.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabTls {
    /// Its port.
    pub port: u16,
    /// Host names.
    pub names: Vec<String>,
    /// Files with certificates and keys.
    pub certificates: Vec<String>,
    /// Whether the lab makes them.
    pub makes: bool,
    /// Who is asked for them, if it is by ACME.
    #[serde(default)]
    pub acme: Option<Acme>,
}

impl LabTls {
    fn of(tls: &Tls) -> Self {
        let certificates = tls.certificates.files().into_iter();
        Self {
            port: tls.port,
            names: tls.names.iter().map(ToString::to_string).collect(),
            certificates: certificates.map(str::to_owned).collect(),
            makes: tls.certificates == Certificates::Authority(Authority::Lab),
            acme: tls.certificates.acme().cloned(),
        }
    }
}

/// One node of a lab.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodePlan {
    /// Host name.
    pub name: String,
    /// What it does.
    pub tier: Tier,
    /// The replica set that it is a member of; databases only.
    #[serde(default)]
    pub replica_set: Option<String>,
    /// Port and health path of each further application; app servers only.
    #[serde(default)]
    pub further: Vec<(u16, String)>,
    /// Names of the applications' own secrets; app servers only.
    #[serde(default)]
    pub app_secrets: Vec<String>,
    /// Whether the stack has no database.
    #[serde(default)]
    pub without_database: bool,
    /// Its address.
    pub address: Ipv4Addr,
    /// Length of the subnet's prefix, in bits.
    pub prefix: u8,
    /// Its interface.
    pub interface: String,
    /// Files below `/etc`, with their text: the rendered ones and the lab's own.
    pub etc: BTreeMap<String, String>,
    /// Links below `/etc`, with where they lead: the app's version.
    #[serde(default)]
    pub links: BTreeMap<String, String>,
    /// What else has to be seen inside, read-only: where it is outside, if not absolute then
    /// below the node's directory → where it is inside.
    pub binds: BTreeMap<PathBuf, PathBuf>,
    /// The command that becomes the node's first process.
    pub init: Vec<String>,
}

impl LabPlan {
    /// The lab of `topology`.
    pub fn of(topology: &Topology, rendered: &[Rendered], supplies: &Supplies, name: &str) -> Self {
        let network = topology.network();
        let by_name: BTreeMap<&str, &Rendered> = rendered
            .iter()
            .map(|files| (files.node.as_str(), files))
            .collect();
        let mut nodes: Vec<NodePlan> = Vec::with_capacity(topology.nodes().len());
        for tier in [Tier::Database, Tier::LoadBalancer, Tier::App] {
            let of_tier = topology.tier(tier).filter_map(|node| {
                let files = by_name.get(node.name.as_str())?;
                Some(node_plan(topology, node, files, supplies))
            });
            nodes.extend(of_tier);
        }
        Self {
            name: name.to_owned(),
            client: client_address(topology),
            prefix: network.subnet.prefix_len(),
            virtual_ip: network.virtual_ip,
            port: topology.load_balancer().port,
            tls: topology.load_balancer().tls.as_ref().map(LabTls::of),
            internal_port: topology.load_balancer().internal_port,
            app_port: topology.app().port,
            health_path: topology.app().health_path.to_string(),
            database_port: topology.database().map(|database| database.port),
            password_in_environment: topology
                .applications()
                .any(|application| application.app.database_uri_env.is_some()),
            nodes,
        }
    }

    /// Where visitors come in: over TLS, if it is served.
    pub fn entrance(&self) -> Entrance {
        let tls = self.tls.as_ref().map(|tls| tls.port);
        Entrance::of(self.virtual_ip, self.port, tls)
    }

    /// Gives the load balancers other files: node → path below the node's directory → text.
    /// Their daemons run by themselves then, without what we put around them.
    pub fn balance_by(&mut self, files: &BTreeMap<String, render::Files>, supplies: &Supplies) {
        for node in &mut self.nodes {
            let Some(files) = files.get(&node.name) else {
                continue;
            };
            for (path, text) in files {
                if let Some(path) = path.strip_prefix("etc/") {
                    node.etc.insert(path.to_owned(), text.to_string());
                }
            }
            let programs = load_balancer_programs(supplies, Millis::new(0), "");
            node.etc
                .insert("supervisor/supervisord.conf".into(), programs);
        }
    }

    /// The same with other versions of the applications; none if they are those versions.
    ///
    /// # Errors
    /// If an application's packages are others: nodes have to boot to see them.
    pub fn with_apps(&self, apps: &[AppVersion]) -> anyhow::Result<Option<Self>> {
        let mut plan = self.clone();
        for node in plan.nodes.iter_mut().filter(|node| node.tier == Tier::App) {
            for app in apps {
                let link = app_link(app.name.as_deref());
                // One that runs elsewhere.
                if !node.links.contains_key(&link) {
                    continue;
                }
                ensure!(
                    node.binds.contains_key(&app.python),
                    "the application's packages changed; `gen-topology lab apply` brings them to the app servers"
                );
                let version = format!("{}/{}", versions::INSIDE, app.version);
                node.links.insert(link, version);
            }
        }
        Ok((plan != *self).then_some(plan))
    }

    /// Leaves the databases only: a part of the stack that can be tried without the others.
    pub fn keep_databases(&mut self) {
        self.nodes.retain(|node| node.tier == Tier::Database);
    }

    /// The replica sets, each with its members, by name.
    pub fn replica_sets(&self) -> BTreeMap<&str, Vec<&NodePlan>> {
        let mut sets: BTreeMap<&str, Vec<&NodePlan>> = BTreeMap::new();
        for node in self.tier(Tier::Database) {
            let set = node.replica_set.as_deref().unwrap_or_default();
            sets.entry(set).or_default().push(node);
        }
        sets
    }

    /// Whether the data are spread over several replica sets.
    pub fn is_sharded(&self) -> bool {
        self.replica_sets().len() > 1
    }

    /// The nodes of one tier.
    pub fn tier(&self, tier: Tier) -> impl Iterator<Item = &NodePlan> {
        self.nodes.iter().filter(move |node| node.tier == tier)
    }

    /// The node called `name`.
    pub fn node(&self, name: &str) -> Option<&NodePlan> {
        self.nodes.iter().find(|node| node.name == name)
    }
}

impl NodePlan {
    /// The applications that it runs, by name; `app` first, as none.
    pub fn apps(&self) -> Vec<Option<String>> {
        if self.tier != Tier::App {
            return Vec::new();
        }
        let start = app_link(Some(""));
        let further = self
            .links
            .keys()
            .filter_map(|link| link.strip_prefix(&start));
        std::iter::once(None)
            .chain(further.map(|name| Some(name.to_owned())))
            .collect()
    }

    /// What it has to know of the database's secrets.
    pub fn secrets(&self) -> &'static [Kind] {
        Kind::of(self.tier, self.access())
    }

    /// How it reaches the databases.
    fn access(&self) -> Access {
        match (self.without_database, self.is_router()) {
            (true, _) => Access::None,
            (false, true) => Access::Router,
            (false, false) => Access::Direct,
        }
    }

    /// Whether it leads to the databases of a sharded stack.
    pub fn is_router(&self) -> bool {
        self.etc.contains_key(MONGOS)
    }
}

/// The list of certificates, below `/etc`.
const CERTIFICATES: &str = "haproxy/certificates.list";
/// mongos's file, below `/etc`.
const MONGOS: &str = "mongos.conf";

/// The highest address of the subnet that nobody has. The topology's check has left room for it.
fn client_address(topology: &Topology) -> Ipv4Addr {
    let network = topology.network();
    let mut used: BTreeSet<Ipv4Addr> = topology.nodes().iter().map(|node| node.address).collect();
    used.insert(network.virtual_ip);
    let last = network.subnet.broadcast().to_bits();
    let first = network.subnet.network().to_bits();
    (first + 1..last)
        .rev()
        .map(Ipv4Addr::from_bits)
        .find(|address| !used.contains(address))
        .unwrap_or(network.virtual_ip)
}

fn node_plan(
    topology: &Topology,
    node: &Node,
    rendered: &Rendered,
    supplies: &Supplies,
) -> NodePlan {
    let mut etc: BTreeMap<String, String> = rendered
        .files
        .iter()
        .filter_map(|(path, text)| Some((path.strip_prefix("etc/")?.to_owned(), text.to_string())))
        .collect();
    if let Some(facts) = rendered.files.get(render::FACTS) {
        etc.insert("gen-topology/node.json".into(), facts.to_string());
    }
    etc.insert(ADMINISTRATION.into(), administration(topology));
    etc.insert("hostname".into(), format!("{}\n", node.name));
    etc.insert(
        "hosts".into(),
        format!("127.0.0.1 localhost\n{} {}\n", node.address, node.name),
    );
    let mut links = BTreeMap::new();
    let mut binds = supplies.binds.clone();
    // The directory and a link: the program itself, once bound, would stay the old one
    // in a running node.
    let (directory, program) = (supplies.program.parent(), supplies.program.file_name());
    if let (Some(directory), Some(program)) = (directory, program) {
        binds.insert(directory.to_path_buf(), PROGRAMS.into());
        links.insert(
            "gen-topology/gen-topology".into(),
            format!("{PROGRAMS}/{}", program.display()),
        );
    }
    // Always for app servers: a directory can't be bound later, when there are secrets for it.
    if node.tier != Tier::LoadBalancer || etc.contains_key(CERTIFICATES) {
        binds.insert(PathBuf::from(SECRETS), PathBuf::from(secrets::DIRECTORY));
    }
    match node.tier {
        Tier::LoadBalancer => {
            let programs = balancer_programs(topology, supplies);
            etc.insert("supervisor/supervisord.conf".into(), programs);
        }
        Tier::App => {
            app_files(topology, supplies, &mut etc);
            binds.insert(supplies.app_versions.clone(), versions::INSIDE.into());
            app_code(topology, node, supplies, &mut binds, &mut links);
        }
        Tier::Database => {
            binds.extend(supplies.database_binds.clone());
            etc.insert(
                "supervisor/supervisord.conf".into(),
                database_programs(supplies),
            );
        }
    }
    NodePlan {
        name: node.name.to_string(),
        tier: node.tier,
        replica_set: replica_set(topology, node),
        further: topology
            .applications_on(node)
            .skip(1)
            .map(|it| (it.app.port, it.app.health_path.to_string()))
            .collect(),
        app_secrets: if node.tier == Tier::App {
            topology.app_secrets()
        } else {
            Vec::new()
        },
        without_database: topology.database().is_none(),
        address: node.address,
        prefix: topology.network().subnet.prefix_len(),
        interface: topology.network().interface.to_string(),
        etc,
        links,
        binds,
        init: vec![
            supplies.tool("supervisord"),
            "--nodaemon".into(),
            "--configuration=/etc/supervisor/supervisord.conf".into(),
            "--pidfile=/run/supervisor/supervisord.pid".into(),
        ],
    }
}

/// When the application's secrets were written, below `/etc`: a change restarts it.
const SECRETS_VERSION: &str = "gen-topology/app-secrets";

/// The lab's own files of an app server, and their programs.
fn app_files(topology: &Topology, supplies: &Supplies, etc: &mut BTreeMap<String, String>) {
    etc.insert("nginx/nginx.conf".into(), NGINX_MAIN.into());
    etc.insert(
        "supervisor/conf.d/nginx.conf".into(),
        nginx_program(supplies),
    );
    if let Some(secrets) = &supplies.secrets {
        etc.insert(SECRETS_VERSION.into(), secrets.version.clone());
    }
    if topology.database().is_some() {
        etc.insert(
            "supervisor/conf.d/watch-database.conf".into(),
            format!(
                "; The lab's own: on NixOS systemd runs it.\n{}",
                watcher().text()
            ),
        );
    }
    if etc.contains_key(MONGOS) {
        etc.insert(
            "supervisor/conf.d/mongos.conf".into(),
            mongos_program(supplies),
        );
    }
}

/// The daemons of a load balancer of ours.
fn balancer_programs(topology: &Topology, supplies: &Supplies) -> String {
    let balancer = topology.load_balancer();
    let mut programs = load_balancer_programs(supplies, balancer.drain_time, KEEPER);
    let tls = balancer.tls.as_ref();
    if tls.is_some_and(|tls| tls.certificates.acme().is_some()) {
        programs += &renewer().text();
    }
    programs
}

/// Who administers a lab: below `/etc`, beside the rendered firewall, which reads it.
const ADMINISTRATION: &str = "gen-topology/firewall.d/lab.nft";

/// The lab is administered from its switch.
fn administration(topology: &Topology) -> String {
    let client = client_address(topology);
    format!(
        "# The lab's own: it is administered from its switch.\nip saddr {client} jump administration\n"
    )
}

fn replica_set(topology: &Topology, node: &Node) -> Option<String> {
    let first = &topology.database()?.replica_set;
    let set = node.replica_set.as_ref().unwrap_or(first);
    (node.tier == Tier::Database).then(|| set.to_string())
}

/// Where nodes see the directory of our program.
const PROGRAMS: &str = "/opt/gen-topology/bin";
/// Where nodes see the Python environments of further applications that `app` does not have.
const PYTHONS: &str = "/opt/gen-topology/pythons";

/// The link to an application's version, below `/etc`.
fn app_link(app: Option<&str>) -> String {
    place::below_etc(&place::source(app)).to_owned()
}

/// A version of an application, as a running lab is told of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AppVersion {
    /// Its name; `app` has none.
    pub name: Option<String>,
    /// Name of the version.
    pub version: String,
    /// Python environment with its packages.
    pub python: PathBuf,
}

/// The code of a node's applications, each with its Python. Applications with the same packages
/// have the same environment, which can be bound once only: the further ones have links to it.
fn app_code(
    topology: &Topology,
    node: &Node,
    supplies: &Supplies,
    binds: &mut BTreeMap<PathBuf, PathBuf>,
    links: &mut BTreeMap<String, String>,
) {
    for application in topology.applications_on(node) {
        let name = application.name();
        let of = |code: &&AppCode| code.name.as_deref() == name;
        let Some(code) = supplies.apps.iter().find(of) else {
            continue;
        };
        let version = format!("{}/{}", versions::INSIDE, code.version);
        links.insert(app_link(name), version);
        let environment = place::environment(name);
        if name.is_none() {
            binds.insert(code.python.clone(), environment.into());
            continue;
        }
        let own = code.python.file_name().unwrap_or_default();
        let inside = binds
            .entry(code.python.clone())
            .or_insert_with(|| Path::new(PYTHONS).join(own));
        links.insert(
            place::below_etc(&environment).to_owned(),
            inside.display().to_string(),
        );
    }
}

/// The lab's own nginx.conf; on NixOS it is NixOS's. Nodes have one user, root, so
/// workers can't become another.
const NGINX_MAIN: &str = "\
# The lab's main file, in place of the platform's.
user root;
worker_processes 2;
pid /run/nginx.pid;
error_log /var/log/nginx/error.log warn;
events {
    worker_connections 4096;
}
http {
    include /etc/nginx/app.conf;
}
";

/// supervisord's own part, for the tiers whose rendered files hold none.
const SUPERVISOR_MAIN: &str = "\
; The lab's own: on NixOS systemd runs these daemons.
[unix_http_server]
file=/run/supervisor/supervisor.sock
chmod=0700

[supervisord]
logfile=/var/log/supervisor/supervisord.log

[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface

[supervisorctl]
serverurl=unix:///run/supervisor/supervisor.sock
";

/// A program of supervisord. Lower priorities start first and stop last.
struct Program<'p> {
    name: &'p str,
    command: String,
    priority: u16,
    stop_signal: &'p str,
    stop_seconds: u64,
}

impl Program<'_> {
    fn text(&self) -> String {
        let Program {
            name,
            command,
            priority,
            stop_signal,
            stop_seconds,
        } = self;
        format!(
            "\n[program:{name}]\ncommand={command}\npriority={priority}\nautorestart=true\nstartsecs=0\n\
             startretries=1000000\nstopsignal={stop_signal}\nstopwaitsecs={stop_seconds}\nkillasgroup=true\n\
             redirect_stderr=true\nstdout_logfile=/var/log/{name}.log\n"
        )
    }
}

/// What goes before the daemons of a load balancer, to keep the virtual IP where it is served.
const KEEPER: &str = "/etc/gen-topology/gen-topology node run";

/// The daemons of a load balancer, each behind `keeper` unless that is empty.
fn load_balancer_programs(supplies: &Supplies, drain: Millis, keeper: &str) -> String {
    let kept = |daemon: &str, command: String| match keeper {
        "" => command,
        keeper => format!("{keeper} {daemon} -- {command}"),
    };
    let haproxy = Program {
        name: "haproxy",
        command: kept(
            "haproxy",
            format!(
                "{} -W -db -q -f /etc/haproxy/haproxy.cfg",
                supplies.tool("haproxy")
            ),
        ),
        priority: 10,
        stop_signal: "TERM",
        stop_seconds: 15,
    };
    // Stops before haproxy: the virtual IP leaves first.
    let keepalived = Program {
        name: "keepalived",
        command: kept(
            "keepalived",
            format!(
                "{} --dont-fork --log-console --vrrp \
             --use-file=/etc/keepalived/keepalived.conf --pid=/run/keepalived/keepalived.pid \
             --vrrp_pid=/run/keepalived/vrrp.pid",
                supplies.tool("keepalived")
            ),
        ),
        priority: 20,
        stop_signal: "TERM",
        stop_seconds: drain.get().div_ceil(1000) + 5,
    };
    format!("{SUPERVISOR_MAIN}{}{}", haproxy.text(), keepalived.text())
}

fn nginx_program(supplies: &Supplies) -> String {
    let nginx = Program {
        name: "nginx",
        command: format!(
            "{} -c /etc/nginx/nginx.conf -g \"daemon off;\"",
            supplies.tool("nginx")
        ),
        priority: 20,
        stop_signal: "QUIT",
        stop_seconds: 10,
    };
    format!(
        "; The lab's own: on NixOS systemd runs nginx.\n{}",
        nginx.text()
    )
}

/// Starts before the application and stops after it.
fn mongos_program(supplies: &Supplies) -> String {
    let mongos = Program {
        name: "mongos",
        command: format!("{} --config /etc/mongos.conf", supplies.tool("mongos")),
        priority: 10,
        stop_signal: "TERM",
        stop_seconds: 15,
    };
    format!(
        "; The lab's own: on NixOS systemd runs mongos.\n{}",
        mongos.text()
    )
}

/// Ends when the facts change, to start with the new ones.
fn watcher() -> Program<'static> {
    Program {
        name: "watch-database",
        command: "/etc/gen-topology/gen-topology node watch-database".into(),
        priority: 15,
        stop_signal: "TERM",
        stop_seconds: 5,
    }
}

/// Asks for certificates.
fn renewer() -> Program<'static> {
    Program {
        name: "renew-certificates",
        command: "/etc/gen-topology/gen-topology node renew-certificates".into(),
        priority: 30,
        stop_signal: "TERM",
        stop_seconds: 5,
    }
}

fn database_programs(supplies: &Supplies) -> String {
    let mongod = Program {
        name: "mongod",
        command: format!("{} --config /etc/mongod.conf", supplies.tool("mongod")),
        priority: 10,
        stop_signal: "TERM",
        stop_seconds: 40,
    };
    let reconcile = Program {
        name: "reconcile-database",
        command: "/etc/gen-topology/gen-topology node reconcile-database".into(),
        priority: 20,
        stop_signal: "TERM",
        stop_seconds: 5,
    };
    let reconcile = reconcile
        .text()
        .replace("autorestart=true", "autorestart=unexpected");
    format!(
        "{SUPERVISOR_MAIN}{}{}{reconcile}",
        mongod.text(),
        watcher().text()
    )
}

/// What is different below `/etc`: files and links.
pub fn changed_files(old: &NodePlan, new: &NodePlan) -> Vec<String> {
    let mut paths = differing(&old.etc, &new.etc);
    paths.extend(differing(&old.links, &new.links));
    paths.into_iter().cloned().collect()
}

fn differing<'m>(
    old: &'m BTreeMap<String, String>,
    new: &'m BTreeMap<String, String>,
) -> BTreeSet<&'m String> {
    let paths = old.keys().chain(new.keys());
    paths
        .filter(|path| old.get(*path) != new.get(*path))
        .collect()
}

/// Whether a node can't be changed while it runs, only booted anew.
pub fn needs_reboot(old: &NodePlan, new: &NodePlan) -> bool {
    let shell = |plan: &NodePlan| NodePlan {
        etc: BTreeMap::new(),
        links: BTreeMap::new(),
        replica_set: None,
        ..plan.clone()
    };
    shell(old) != shell(new)
}
