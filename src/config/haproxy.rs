//! haproxy on a load balancer. Values and their reasons: `docs/configuration.md`.

use std::net::Ipv4Addr;
use std::sync::Arc;

use serde::Serialize;

use super::HAPROXY_SOCKET;
use crate::topology::{Node, Tier, Topology};

/// haproxy's configuration.
#[derive(Clone, Debug, Serialize)]
pub struct Haproxy {
    /// Path of the runtime socket.
    pub socket: &'static str,
    /// Address that visitors use.
    pub virtual_ip: Ipv4Addr,
    /// Its port.
    pub port: u16,
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
    /// Path of the app's health check.
    pub health_path: String,
    /// Requests that one app node works on at the same time; more wait in haproxy, where they can go elsewhere.
    pub server_max_connections: u32,
    /// The app nodes.
    pub servers: Arc<Vec<Server>>,
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
        let slots = u32::from(app.instances) * u32::from(app.workers) * u32::from(app.threads);
        Self {
            socket: HAPROXY_SOCKET,
            virtual_ip: topology.network().virtual_ip,
            port: settings.port,
            address: node.address,
            internal_port: settings.internal_port,
            load_balancers: topology
                .tier(Tier::LoadBalancer)
                .map(|node| node.address)
                .collect(),
            drain_seconds: settings.drain_time.get().div_ceil(1000) + 2,
            max_connections: settings.max_connections,
            health_path: app.health_path.to_string(),
            server_max_connections: (slots * 4).max(16),
            servers: Arc::clone(servers),
        }
    }
}
