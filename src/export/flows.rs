//! Who talks to whom, for network policies and security groups: one list, from the topology.

use crate::topology::{Tier, Topology};

/// Who begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum From {
    /// Visitors.
    Anyone,
    /// Every node of a tier.
    Tier(Tier),
}

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// A connection to this port.
    Tcp(u16),
    /// Datagrams to this port.
    Udp(u16),
    /// Keepalived's adverts, protocol 112.
    Vrrp,
}

/// One kind of traffic that the stack needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flow {
    /// Who begins.
    pub from: From,
    /// Who is asked.
    pub to: Tier,
    /// What is sent.
    pub what: What,
}

/// Every flow that the stack needs. What is not here may be closed.
pub(super) fn of(topology: &Topology) -> Vec<Flow> {
    let balancer = topology.load_balancer();
    let database = What::Tcp(topology.database().port);
    let flow = |from, to, what| Flow { from, to, what };
    let balancers = From::Tier(Tier::LoadBalancer);
    // The watchers of the databases, on app servers too.
    let watched = What::Udp(topology.database().watch_port);
    let (app, members) = (From::Tier(Tier::App), From::Tier(Tier::Database));
    let mut flows = vec![
        flow(app, Tier::Database, watched),
        flow(members, Tier::Database, watched),
        flow(members, Tier::App, watched),
        flow(From::Anyone, Tier::LoadBalancer, What::Tcp(balancer.port)),
        // They ask each other to drain, and give open connections to each other.
        flow(
            balancers,
            Tier::LoadBalancer,
            What::Tcp(balancer.internal_port),
        ),
        flow(balancers, Tier::LoadBalancer, What::Vrrp),
        flow(balancers, Tier::App, What::Tcp(topology.app().port)),
        flow(From::Tier(Tier::App), Tier::Database, database),
        flow(From::Tier(Tier::Database), Tier::Database, database),
    ];
    if topology.database().sharding.is_some() {
        // The config servers bring the cluster to what it should be through the routers.
        flows.push(flow(From::Tier(Tier::Database), Tier::App, database));
    }
    flows
}
