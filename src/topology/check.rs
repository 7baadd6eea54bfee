//! What a stack needs beyond the shape of its file: addresses that fit, tiers
//! that are not empty, a replica set with a quorum. Every check runs, whatever
//! the others found.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::path::Path;

use super::checker::Check;
use super::diagnostic::{Diagnostic, Place, step};
use super::document::quoted;
use super::raw::RawTopology;
use super::values::{Millis, Name};
use super::{
    Code, Database, FurtherApp, LoadBalancer, Network, Node, Sharding, Slo, Tier, Topology,
    applications, check_sets, check_tls, replica_sets,
};

/// Different VRRP priorities that a load balancer may have.
const MAX_LOAD_BALANCERS: usize = 254;
/// The meaning of `raw`, and in `problems` what is wrong with it. With an error
/// among the problems there is no topology.
pub(super) fn meaning(
    raw: RawTopology,
    base: &Path,
    exists: &dyn Fn(&Path) -> bool,
    problems: &mut Vec<Diagnostic>,
) -> Option<Topology> {
    let mut check = Check {
        raw: &raw,
        problems,
    };
    check.subnet();
    check.addresses();
    check.tiers();
    check_sets::check(&mut check);
    check.load_balancer();
    check.tls();
    check.database();
    check.sharding();
    check.apps(base, exists);
    check.routes();
    if problems.iter().any(Diagnostic::is_error) {
        return None;
    }
    build(raw)
}

impl Check<'_> {
    fn subnet(&mut self) {
        let subnet = self.raw.network.subnet;
        let place = || Place::value("/network/subnet");
        if subnet.trunc() != subnet {
            let message = format!("{subnet} has host bits");
            self.add(Code::BadSubnet, place(), message).hint =
                Some(format!("write {}", subnet.trunc()));
        }
        let first = subnet.network();
        if subnet.prefix_len() < 8
            || first.is_loopback()
            || first.is_multicast()
            || first.is_link_local()
            || first.octets()[0] == 0
        {
            let message = format!("hosts can't be in {subnet}");
            self.add(Code::BadSubnet, place(), message).hint =
                Some("use a private subnet, such as 10.20.0.0/24".into());
        }
        let needed = self.raw.nodes.len() + 2;
        let room = super::allocate::usable(subnet);
        if room < needed as u64 {
            let message = format!("{subnet} has {room} usable addresses, {needed} are needed");
            let label = format!(
                "{} nodes, the virtual IP and one for the lab's client",
                self.raw.nodes.len()
            );
            let problem = self.add(Code::SubnetTooSmall, place(), message);
            problem.related.push((Place::key("/nodes"), label));
        }
    }

    fn addresses(&mut self) {
        let network = &self.raw.network;
        let vip = network.virtual_ip;
        let vip_place = || Place::value("/network/virtual_ip");
        let mut seen: HashMap<Ipv4Addr, &String> = HashMap::new();
        let raw = self.raw;
        for (name, node) in &raw.nodes {
            let place = || Place::value(format!("/nodes/{}/address", step(name)));
            if !self.fits(node.address, place(), Code::AddressOutsideSubnet) {
                continue;
            }
            if let Some(other) = seen.get(&node.address) {
                let message = format!("{name} has the address of {other}, {}", node.address);
                let first = Place::value(format!("/nodes/{}/address", step(other)));
                let free = super::allocate::next(raw, node.tier, &[]);
                let problem = self.add(Code::DuplicateAddress, place(), message);
                problem
                    .related
                    .push((first, format!("first use, by {other}")));
                problem.hint = free.map(|free| format!("{free} is free"));
            }
            seen.entry(node.address).or_insert(name);
        }
        if self.fits(vip, vip_place(), Code::VipOutsideSubnet)
            && let Some(owner) = seen.get(&vip)
        {
            let message = format!("the virtual IP {vip} is the address of {owner}");
            let used = Place::value(format!("/nodes/{}/address", step(owner)));
            let problem = self.add(Code::VipIsNodeAddress, vip_place(), message);
            problem.related.push((used, format!("used by {owner}")));
            problem.hint = Some("choose an address that no node has".into());
        }
    }

    fn fits(&mut self, address: Ipv4Addr, place: Place, outside: Code) -> bool {
        let subnet = self.raw.network.subnet;
        if !subnet.contains(&address) {
            let message = format!("{address} is not in {subnet}");
            let problem = self.add(outside, place, message);
            problem
                .related
                .push((Place::value("/network/subnet"), "the subnet".into()));
            return false;
        }
        let reserved = address == subnet.network() || address == subnet.broadcast();
        if reserved && subnet.prefix_len() < 31 {
            let what = if address == subnet.network() {
                "first"
            } else {
                "last"
            };
            let message = format!("{address} is the {what} address of {subnet}, which is reserved");
            self.add(Code::AddressReserved, place, message);
        }
        !reserved
    }

    fn tiers(&mut self) {
        for tier in Tier::ALL {
            let count = self.tier(tier).count();
            let only = self.tier(tier).next().map(|(name, _)| name.clone());
            match (tier, only) {
                (Tier::Database, None) if !self.raw.has_database() => {}
                (_, None) => {
                    let message = format!("there is no {}", tier.noun(1));
                    self.add(Code::EmptyTier, Place::key("/nodes"), message)
                        .hint = Some(match tier {
                        Tier::Database => format!(
                            "add a node with `\"tier\": \"{tier}\"`, or remove `database` from the file \
                             for a stack without one"
                        ),
                        _ => format!("add a node with `\"tier\": \"{tier}\"`"),
                    });
                }
                (Tier::LoadBalancer, Some(name)) if count == 1 => {
                    self.alone(Code::NoSpareLoadBalancer, tier, &name, "the virtual IP");
                }
                (Tier::App, Some(name)) if count == 1 => {
                    self.alone(Code::NoSpareApp, tier, &name, "the application");
                }
                _ => {}
            }
            if tier == Tier::LoadBalancer && count > MAX_LOAD_BALANCERS {
                let noun = tier.noun(count);
                let message = format!("{count} {noun}, {MAX_LOAD_BALANCERS} are possible");
                self.add(Code::TooManyLoadBalancers, Place::key("/nodes"), message);
            }
        }
    }

    fn alone(&mut self, code: Code, tier: Tier, name: &str, what: &str) {
        let message = format!(
            "{name} is the only {}: without it nobody serves {what}",
            tier.noun(1)
        );
        self.add(code, Place::key(format!("/nodes/{}", step(name))), message)
            .hint = Some(format!("`gen-topology add {tier}` adds a second"));
    }

    fn load_balancer(&mut self) {
        let settings = &self.raw.load_balancer;
        if settings.port == settings.internal_port {
            let message = format!(
                "port {} is already the port of the virtual IP",
                settings.port
            );
            let problem = self.add(
                Code::PortClash,
                Place::value("/load_balancer/internal_port"),
                message,
            );
            problem
                .related
                .push((Place::value("/load_balancer/port"), "used here".into()));
        }
        let advert = settings.advert_interval.get();
        if !(10..=40_950).contains(&advert) || !advert.is_multiple_of(10) {
            let message = format!("VRRP can't send adverts every {}", settings.advert_interval);
            self.add(
                Code::BadAdvertInterval,
                Place::value("/load_balancer/advert_interval"),
                message,
            )
            .hint = Some(
                "use steps of 10ms from 10ms to 40950ms; 100ms fails over in about 0.3 s".into(),
            );
        }
        let minute = Millis::new(600_000);
        for (key, value) in [
            ("preempt_delay", settings.preempt_delay),
            ("drain_time", settings.drain_time),
        ] {
            if value > minute {
                let message = format!("`{key}` goes up to {minute}, this is {value}");
                self.add(
                    Code::OutOfRange,
                    Place::value(format!("/load_balancer/{key}")),
                    message,
                );
            }
        }
    }

    fn database(&mut self) {
        let settings = &self.raw.database;
        let (election, heartbeat) = (settings.election_timeout, settings.heartbeat_interval);
        if !(100..=600_000).contains(&election.get()) {
            let message = format!("`election_timeout` goes from 100ms to 10m, this is {election}");
            self.add(
                Code::OutOfRange,
                Place::value("/database/election_timeout"),
                message,
            );
        } else if heartbeat.get() == 0 || heartbeat.get().saturating_mul(4) > election.get() {
            let message = format!(
                "a heartbeat every {heartbeat} is too seldom for an election time-out of {election}"
            );
            let problem = self.add(
                Code::HeartbeatTooSlow,
                Place::value("/database/heartbeat_interval"),
                message,
            );
            problem.related.push((
                Place::value("/database/election_timeout"),
                "the time-out".into(),
            ));
            problem.hint = Some(format!("use {} or less", Millis::new(election.get() / 4)));
        }
        if !(20..=1000).contains(&settings.watch_interval.get()) {
            let message = format!(
                "`watch_interval` goes from 20ms to 1s, this is {}",
                settings.watch_interval
            );
            let place = Place::value("/database/watch_interval");
            self.add(Code::OutOfRange, place, message);
        }
        // mongod refuses a WiredTiger cache below 0.25 GB (storage.wiredTiger.engineConfig.cacheSizeGB).
        if !(256 << 20..=10_000 << 30).contains(&settings.cache_size.get()) {
            let message = format!(
                "`cache_size` goes from 256MiB to 10000GiB, this is {}",
                settings.cache_size
            );
            self.add(
                Code::OutOfRange,
                Place::value("/database/cache_size"),
                message,
            );
        }
    }

    /// What a sharded cluster needs beyond its sets: a port for the router on each app node, and
    /// collections that can be there.
    fn sharding(&mut self) {
        let raw = self.raw;
        let Some(sharding) = &raw.database.sharding else {
            return;
        };
        for (at, app) in self.applications() {
            if app.port != raw.database.port {
                continue;
            }
            let message = format!(
                "port {} of each app node is the databases' router's",
                app.port
            );
            let place = Place::value(format!("{at}/port"));
            let problem = self.add(Code::PortClash, place, message);
            let port = Place::value("/database/port");
            problem.related.push((port, "used here".into()));
        }
        for (collection, field) in &sharding.collections {
            let place = format!("/database/sharding/collections/{}", step(collection));
            // Limits of MongoDB's names; the field is one of the document's own.
            let is_name = |name: &str| !name.is_empty() && !name.contains(['$', '\0']);
            if !is_name(collection) || collection.starts_with("system.") || collection.len() > 120 {
                let message = format!("{} can't be a collection's name", quoted(collection));
                self.add(Code::BadValue, Place::key(place), message);
            } else if !is_name(field) {
                let message = format!("{} can't be a field's name", quoted(field));
                self.add(Code::BadValue, Place::value(place), message);
            }
        }
    }
}

fn build(raw: RawTopology) -> Option<Topology> {
    let votes = replica_sets::votes(&raw);
    let has_database = raw.has_database();
    let is_sharded = raw.database.sharding.is_some();
    let first = raw.database.replica_set.clone();
    let nodes: Option<Vec<Node>> = raw
        .nodes
        .iter()
        .map(|(name, node)| {
            Some(Node {
                name: name.parse::<Name>().ok()?,
                tier: node.tier,
                address: node.address,
                voting: votes.get(name).copied(),
                replica_set: (is_sharded && node.tier == Tier::Database)
                    .then(|| node.replica_set.clone().unwrap_or_else(|| first.clone())),
            })
        })
        .collect();
    let nodes = nodes?;
    let apps: Option<Vec<FurtherApp>> = raw
        .apps
        .into_iter()
        .map(|(name, app)| applications::build_further(&name, app, &nodes))
        .collect();
    let apps = apps?;
    let last_octet = raw.network.virtual_ip.octets()[3];
    Some(Topology {
        name: raw.name,
        network: Network {
            subnet: raw.network.subnet,
            virtual_ip: raw.network.virtual_ip,
            interface: raw.network.interface,
            virtual_router_id: raw.network.virtual_router_id.unwrap_or(last_octet.max(1)),
            administration: raw.network.administration,
        },
        load_balancer: LoadBalancer {
            port: raw.load_balancer.port,
            internal_port: raw.load_balancer.internal_port,
            advert_interval: raw.load_balancer.advert_interval,
            preempt: raw.load_balancer.preempt,
            preempt_delay: raw.load_balancer.preempt_delay,
            drain_time: raw.load_balancer.drain_time,
            max_connections: raw.load_balancer.max_connections,
            trusted_proxies: raw.load_balancer.trusted_proxies,
            tls: check_tls::build(raw.load_balancer.tls),
        },
        app: applications::build(raw.app),
        apps,
        database: has_database.then(|| Database {
            replica_set: raw.database.replica_set,
            name: raw.database.name,
            port: raw.database.port,
            election_timeout: raw.database.election_timeout,
            heartbeat_interval: raw.database.heartbeat_interval,
            watch_interval: raw.database.watch_interval,
            watch_port: raw.database.watch_port,
            cache_size: raw.database.cache_size,
            sharding: raw.database.sharding.map(|sharding| Sharding {
                shards: sharding.shards,
                members: sharding.members,
                config_servers: sharding.config_servers,
                collections: sharding.collections,
                balancer_window: sharding.balancer_window,
            }),
        }),
        slo: Slo {
            longest_gap: raw.slo.longest_gap,
            longest_write_gap: raw.slo.longest_write_gap,
        },
        nodes,
    })
}
