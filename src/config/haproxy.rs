//! haproxy on a load balancer. Values and their reasons: `docs/configuration.md`.

use std::net::Ipv4Addr;
use std::sync::Arc;

use serde::Serialize;

use super::{ACME_STATE, ACME_THUMBPRINT, CONNECT_MS, HAPROXY_SERVERS, HAPROXY_SOCKET};
use crate::topology::{Millis, Node, Tier, Tls, Topology};

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
    /// Path of the app's health check.
    pub health_path: String,
    /// Host name that the check sends.
    pub health_host: String,
    /// How often a request that may be repeated is: there is no use in asking a server twice.
    pub retries: usize,
    /// How long it waits for a connection to a server.
    pub connect: Millis,
    /// Time between two health checks of a server: a thousand a second at most, and one a second at least.
    pub check_interval: Millis,
    /// Whether a visitor stays on one server.
    pub sticky: bool,
    /// What the application may take, and for how long.
    pub limits: AppLimits,
    /// How long the old process of a reload may go on.
    pub hard_stop: Millis,
    /// How long haproxy waits for a client that sends or takes nothing.
    pub client_timeout: Millis,
    /// The app nodes.
    pub servers: Arc<Vec<Server>>,
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
    pub(super) fn of(topology: &Topology, node: &Node, servers: &Arc<Vec<Server>>) -> Self {
        let settings = topology.load_balancer();
        let app = topology.app();
        let limits = AppLimits::of(app);
        let checked = u64::try_from(servers.len()).unwrap_or(u64::MAX);
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
            health_path: app.health_path.to_string(),
            health_host: app.health_host.to_string(),
            retries: servers.len().saturating_sub(1).clamp(1, 3),
            connect: Millis::new(CONNECT_MS),
            check_interval: Millis::new(checked.clamp(200, 1000)),
            sticky: app.sticky_sessions,
            hard_stop: Millis::new(limits.haproxy.get() + 30_000).max(Millis::new(60_000)),
            client_timeout: limits.haproxy.max(half_minute),
            limits,
            servers: Arc::clone(servers),
        }
    }
}
