//! haproxy on a load balancer. Values and their reasons: `docs/configuration.md`.

use std::net::Ipv4Addr;
use std::sync::Arc;

use serde::Serialize;

use super::{ACME_STATE, ACME_THUMBPRINT, CONNECT_MS, HAPROXY_SERVERS, HAPROXY_SOCKET, place};
use crate::topology::{Application, Millis, Node, ServedName, Tier, Tls, Topology};

use super::app_limits::AppLimits;

/// haproxy's configuration.
#[derive(Clone, Debug, Serialize)]
pub struct Haproxy {
    /// Path of the runtime socket.
    pub socket: &'static str,
    /// Path of the file with what it knew of its servers before a reload.
    pub servers_state: &'static str,
    /// Address that visitors use.
    pub virtual_ip: Ipv4Addr,
    /// Its port.
    pub port: u16,
    /// HTTPS at the virtual IP.
    pub tls: Option<HaproxyTls>,
    /// This node's own address, for the internal listener.
    pub address: Ipv4Addr,
    /// Port of the internal listener.
    pub internal_port: u16,
    /// Addresses that may ask this node to drain: all load balancers.
    pub load_balancers: Vec<Ipv4Addr>,
    /// Seconds for which one request to drain lasts, rounded up; past the move itself.
    pub drain_seconds: u64,
    /// Connections that are accepted at the same time.
    pub max_connections: u32,
    /// Subnets whose forwarding headers are believed.
    pub trusted_proxies: Vec<String>,
    /// How long it waits for a connection to a server.
    pub connect: Millis,
    /// How long the old process of a reload may go on.
    pub hard_stop: Millis,
    /// How long haproxy waits for a client that sends or takes nothing.
    pub client_timeout: Millis,
    /// What `app` may take, and for how long.
    pub limits: AppLimits,
    /// Rules by which further applications get their requests; the first one that fits counts.
    pub routes: Vec<Route>,
    /// Every application, `app` first.
    pub apps: Vec<HaproxyApp>,
    /// The app nodes, as `app` has them.
    pub servers: Arc<Vec<Server>>,
}

/// Requests that are a further application's.
#[derive(Clone, Debug, Serialize)]
pub struct Route {
    /// The application.
    pub app: String,
    /// The only host, if it is one.
    pub host: Option<String>,
    /// What the host ends with, if it is one of many.
    pub domain: Option<String>,
    /// Beginning of the path, with `/` at its end.
    pub path: Option<String>,
}

/// An application as haproxy spreads its requests.
#[derive(Clone, Debug, Serialize)]
pub struct HaproxyApp {
    /// Its name; nothing for `app`.
    pub name: Option<String>,
    /// Its backend for what may be repeated; its servers are checked there.
    pub backend: String,
    /// Its backend for what may not.
    pub unsafe_backend: String,
    /// Its backend when no server is well.
    pub any_backend: String,
    /// Path of its health check.
    pub health_path: String,
    /// Host name that the check sends.
    pub health_host: String,
    /// How often a request that may be repeated is: there is no use in asking a server twice.
    pub retries: usize,
    /// Time between two health checks of a server: a thousand a second at most, and one a second at least.
    pub check_interval: Millis,
    /// Whether a visitor stays on one server.
    pub sticky: bool,
    /// Name of the cookie by which visitors do.
    pub cookie: String,
    /// What it may take, and for how long.
    pub limits: AppLimits,
    /// The app nodes that run it.
    pub servers: Arc<Vec<Server>>,
}

impl HaproxyApp {
    fn of(application: Application<'_>, servers: &Arc<Vec<Server>>) -> Self {
        let (app, name) = (application.app, application.name());
        let checked = u64::try_from(servers.len()).unwrap_or(u64::MAX);
        Self {
            name: name.map(str::to_owned),
            backend: place::backend("app", name),
            unsafe_backend: place::backend("app_unsafe", name),
            any_backend: place::backend("app_any", name),
            health_path: app.health_path.to_string(),
            health_host: app.health_host.to_string(),
            retries: servers.len().saturating_sub(1).clamp(1, 3),
            check_interval: Millis::new(checked.clamp(200, 1000)),
            sticky: app.sticky_sessions,
            cookie: name.map_or_else(|| "SERVER".to_owned(), |name| format!("SERVER-{name}")),
            limits: AppLimits::of(app),
            servers: Arc::clone(servers),
        }
    }
}

/// The routes of further applications, the one that says most first: a host before none, one host
/// before many, a longer path before a shorter one.
fn routes(topology: &Topology) -> Vec<Route> {
    let mut all = Vec::new();
    for further in topology.apps() {
        let paths = or_any(further.paths.iter().map(ToString::to_string));
        for host in or_any(further.hosts.iter().map(ServedName::as_str)) {
            let domain = host.and_then(|host| host.strip_prefix('*'));
            all.extend(paths.iter().map(|path| Route {
                app: further.name.to_string(),
                host: host.filter(|_| domain.is_none()).map(str::to_owned),
                domain: domain.map(str::to_owned),
                path: path.clone(),
            }));
        }
    }
    let length = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    all.sort_by_key(|route| {
        let rank = (route.host.is_none(), route.domain.is_none());
        let lengths = [length(&route.domain), length(&route.path)];
        (rank, lengths.map(std::cmp::Reverse))
    });
    all
}

/// What is given, or none for any where nothing is.
fn or_any<T>(given: impl Iterator<Item = T>) -> Vec<Option<T>> {
    let given: Vec<Option<T>> = given.map(Some).collect();
    if given.is_empty() { vec![None] } else { given }
}

/// HTTPS, as haproxy serves it.
#[derive(Clone, Debug, Serialize)]
pub struct HaproxyTls {
    /// Port of the virtual IP.
    pub port: u16,
    /// The port as it stands in an address: nothing where it is the usual one.
    pub suffix: String,
    /// Files with certificates and keys, the one for who asks for no name first.
    pub certificates: Vec<String>,
    /// File with the keys that sessions are resumed by, the same on all load balancers.
    pub ticket_keys: String,
    /// Whether plain HTTP is sent on to HTTPS.
    pub redirect: bool,
    /// What browsers are told to remember; nothing, if empty.
    pub hsts: String,
    /// Name of the environment variable with the thumbprint of the account, where certificates are asked
    /// for by ACME.
    pub acme_thumbprint: Option<&'static str>,
}

impl HaproxyTls {
    fn of(tls: &Tls) -> Self {
        let seconds = tls.hsts.get() / 1000;
        let files = tls.certificates.files().into_iter();
        let place = |file| match tls.certificates.acme() {
            Some(_) => format!("{ACME_STATE}/{file}"),
            None => super::certificate(file),
        };
        Self {
            port: tls.port,
            suffix: match tls.port {
                443 => String::new(),
                port => format!(":{port}"),
            },
            certificates: files.map(place).collect(),
            ticket_keys: super::ticket_keys(),
            redirect: tls.redirect,
            hsts: match seconds {
                0 => String::new(),
                seconds => format!("max-age={seconds}"),
            },
            acme_thumbprint: tls.certificates.acme().map(|_| ACME_THUMBPRINT),
        }
    }
}

/// An app node as haproxy sees it.
#[derive(Clone, Debug, Serialize)]
pub struct Server {
    /// Node name.
    pub name: String,
    /// Its address.
    pub address: Ipv4Addr,
    /// Port of nginx.
    pub port: u16,
}

impl Haproxy {
    /// The haproxy of a load balancer. `servers` has those of each application, `app` first.
    pub(super) fn of(topology: &Topology, node: &Node, servers: &[Arc<Vec<Server>>]) -> Self {
        let settings = topology.load_balancer();
        let apps = topology.applications().zip(servers);
        let apps: Vec<HaproxyApp> = apps
            .map(|(application, servers)| HaproxyApp::of(application, servers))
            .collect();
        let longest = apps.iter().map(|app| app.limits.haproxy).max();
        let longest = longest.unwrap_or(Millis::new(0));
        let half_minute = Millis::new(30_000);
        Self {
            socket: HAPROXY_SOCKET,
            servers_state: HAPROXY_SERVERS,
            virtual_ip: topology.network().virtual_ip,
            port: settings.port,
            tls: settings.tls.as_ref().map(HaproxyTls::of),
            address: node.address,
            internal_port: settings.internal_port,
            load_balancers: topology
                .tier(Tier::LoadBalancer)
                .map(|node| node.address)
                .collect(),
            drain_seconds: settings.drain_time.get().div_ceil(1000) + 2,
            max_connections: settings.max_connections,
            trusted_proxies: settings
                .trusted_proxies
                .iter()
                .map(ToString::to_string)
                .collect(),
            connect: Millis::new(CONNECT_MS),
            hard_stop: Millis::new(longest.get() + 30_000).max(Millis::new(60_000)),
            client_timeout: longest.max(half_minute),
            limits: AppLimits::of(topology.app()),
            routes: routes(topology),
            servers: Arc::clone(&servers[0]),
            apps,
        }
    }
}
