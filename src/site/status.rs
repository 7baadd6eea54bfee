//! How the nodes of a stack are: who is there, who is ready, who has the virtual IP, who is
//! primary. The same questions and the same verdict wherever the nodes run.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use serde::Serialize;

use super::Site;
use super::node::{NodeId, Part, Presence, State};
use crate::exec::in_parallel;
use crate::health::haproxy::{self, ServerState};
use crate::health::mongo::{Role, Vitals};
use crate::topology::Tier;

/// One node's state.
#[derive(Clone, Debug, Serialize)]
pub struct NodeStatus {
    /// Its name.
    pub name: String,
    /// What it does.
    pub tier: Tier,
    /// Its address.
    pub address: Ipv4Addr,
    /// How it is, in a word.
    pub state: State,
    /// Whether that word is `ready`.
    pub ready: bool,
    /// What it is at the moment, in words: its part, what load balancers think of it.
    pub notes: Vec<String>,
    /// Number of the system that it runs; machines only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// The system that it runs; machines only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// How a member of the replica set does; databases only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database: Option<Vitals>,
}

/// All nodes' state.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// Load balancers that have the virtual IP: one, unless something is wrong.
    pub owners: Vec<String>,
    /// Databases that take writes: one of each replica set.
    pub primaries: BTreeSet<String>,
    /// Every node that was asked.
    pub nodes: Vec<NodeStatus>,
}

impl Status {
    /// Whether every node is ready, and no two have the virtual IP.
    pub fn is_well(&self) -> bool {
        self.nodes.iter().all(|node| node.ready) && self.owners.len() <= 1
    }

    /// Whether load balancers were asked, and none has the virtual IP.
    pub fn has_no_owner(&self) -> bool {
        let is_balancer = |node: &NodeStatus| node.tier == Tier::LoadBalancer;
        self.owners.is_empty() && self.nodes.iter().any(is_balancer)
    }
}

/// Who has which part at the moment.
#[derive(Clone, Debug, Default)]
pub struct Roles {
    /// Load balancers that have the virtual IP.
    pub owners: Vec<String>,
    /// Databases that take writes.
    pub primaries: BTreeSet<String>,
}

impl Roles {
    fn note(&mut self, name: &str, part: &Part) {
        if part
            .load_balancer
            .as_ref()
            .is_some_and(|it| it.has_virtual_ip)
        {
            self.owners.push(name.to_owned());
        }
        if part
            .database
            .as_ref()
            .is_some_and(|it| it.role == Role::Primary)
        {
            self.primaries.insert(name.to_owned());
        }
    }
}

/// Each node's part by its own account, in the same order; asked at the same time.
pub fn parts(site: &dyn Site, nodes: &[NodeId]) -> Vec<anyhow::Result<Part>> {
    in_parallel(nodes, site.at_once(), |node| site.part(node))
}

/// Who has the virtual IP and who is primary, of those that answer.
pub fn roles(site: &dyn Site, nodes: &[NodeId]) -> Roles {
    let mut roles = Roles::default();
    for (node, part) in nodes.iter().zip(parts(site, nodes)) {
        if let Ok(part) = part {
            roles.note(&node.name, &part);
        }
    }
    roles
}

/// How these nodes are. They are asked at the same time.
pub fn status(site: &dyn Site, nodes: &[NodeId]) -> Status {
    let presences = site.presences(nodes);
    let both: Vec<(&NodeId, &Presence)> = nodes.iter().zip(&presences).collect();
    let asked = in_parallel(&both, site.at_once(), |(node, presence)| {
        let part = presence.state.can_be_asked().then(|| site.part(node))?;
        let is_member = part.as_ref().is_ok_and(|part| part.database.is_some());
        let vitals = is_member.then(|| site.vitals(node)).flatten();
        Some((part, vitals))
    });
    let used = used_apps(site, nodes, &asked);
    let mut roles = Roles::default();
    let mut all = Vec::new();
    for ((node, presence), asked) in nodes.iter().zip(presences).zip(asked) {
        let mut status = NodeStatus::of(node, presence);
        if let Some((part, vitals)) = asked {
            match part {
                Ok(part) => {
                    roles.note(&node.name, &part);
                    status.judge(node, &part, vitals, &used);
                }
                Err(error) => status.is_bad(format!("{error:#}")),
            }
        }
        status.ready = status.state == State::Ready;
        all.push(status);
    }
    Status {
        owners: roles.owners,
        primaries: roles.primaries,
        nodes: all,
    }
}

/// What was asked of a node: its part, and how its database does.
type Asked = Option<(anyhow::Result<Part>, Option<Vitals>)>;

/// Each load balancer that answers, with what its haproxy thinks of the app servers.
fn used_apps(
    site: &dyn Site,
    nodes: &[NodeId],
    asked: &[Asked],
) -> Vec<(String, Vec<ServerState>)> {
    let answers = |asked: &Asked| matches!(asked, Some((Ok(_), _)));
    let balancers = nodes.iter().zip(asked);
    let balancers: Vec<&NodeId> = balancers
        .filter(|(node, asked)| node.tier == Tier::LoadBalancer && answers(asked))
        .map(|(node, _)| node)
        .collect();
    let seen = in_parallel(&balancers, site.at_once(), |node| {
        let statistics = site.haproxy(&node.name, "show stat").ok()?;
        Some((
            node.name.clone(),
            haproxy::parse(&statistics, haproxy::is_checked),
        ))
    });
    seen.into_iter().flatten().collect()
}

impl NodeStatus {
    fn of(node: &NodeId, presence: Presence) -> Self {
        let (system, generation) = match presence.system {
            Some((system, generation)) => (Some(system), generation),
            None => (None, None),
        };
        Self {
            name: node.name.clone(),
            tier: node.tier,
            address: node.address,
            state: presence.state,
            ready: false,
            notes: presence.notes,
            generation,
            system,
            database: None,
        }
    }

    /// Something is wrong with it; a state that says more stays.
    fn is_not_ready(&mut self) {
        if self.state == State::Ready {
            self.state = State::NotReady;
        }
    }

    fn is_bad(&mut self, why: String) {
        self.is_not_ready();
        self.notes.push(why);
    }

    /// What its part makes of it. An app server is ready when every load balancer that
    /// answers sends it requests.
    fn judge(
        &mut self,
        node: &NodeId,
        part: &Part,
        vitals: Option<Vitals>,
        used: &[(String, Vec<ServerState>)],
    ) {
        if !part.answers {
            self.is_not_ready();
        }
        if part
            .load_balancer
            .as_ref()
            .is_some_and(|it| it.has_virtual_ip)
        {
            self.notes.push("has the virtual IP".into());
        }
        let days = part
            .load_balancer
            .as_ref()
            .and_then(|it| it.certificate_days);
        self.notes.extend(days.map(|days| match days {
            days if days < 0 => "its certificate has expired".to_owned(),
            days => format!("certificate valid for {days} days"),
        }));
        let problem = part
            .load_balancer
            .as_ref()
            .and_then(|it| it.certificate_problem.as_ref());
        self.notes
            .extend(problem.map(|why| format!("no new certificate: {why}")));
        if let Some(member) = &part.database {
            self.notes.extend(node.set.clone());
            self.notes.push(member.role.words().into());
        }
        self.notes.extend(vitals.iter().flat_map(Vitals::words));
        self.database = vitals;
        if node.tier == Tier::App {
            self.is_used(used);
        }
    }

    fn is_used(&mut self, used: &[(String, Vec<ServerState>)]) {
        let mut words: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for (balancer, servers) in used {
            let own = servers.iter().filter(|server| server.name == self.name);
            let own: Vec<&ServerState> = own.collect();
            let word = |server: &&ServerState| match server.app() {
                Some(app) => format!("{app} {}", server.status),
                None => server.status.clone(),
            };
            for word in own.iter().map(word) {
                words.entry(word).or_default().push(balancer);
            }
            if own.is_empty() {
                words.entry("unknown".into()).or_default().push(balancer);
            }
            if own.is_empty() || !own.iter().all(|server| server.is_up()) {
                self.is_not_ready();
            }
        }
        let words = words.into_iter();
        let notes = words.map(|(word, balancers)| format!("{word} for {}", balancers.join(", ")));
        self.notes.extend(notes);
    }
}

#[cfg(test)]
mod tests {
    use anyhow::{anyhow, bail};

    use super::*;
    use crate::health::http::{Answer, Entrance};
    use crate::health::report::{Balancer, Member};

    /// lb-1 has the virtual IP and finds app-2 down; db-1 is primary; db-2 is silent.
    struct Place;

    impl Site for Place {
        fn reachable(&self, node: &str) -> anyhow::Result<()> {
            if node == "lb-2" {
                bail!("lb-2 can't be reached");
            }
            Ok(())
        }

        fn run(&self, _: &str, _: &[&str], _: Option<&str>) -> anyhow::Result<String> {
            Err(anyhow!("nothing is run here"))
        }

        fn haproxy(&self, _: &str, _: &str) -> anyhow::Result<String> {
            Ok("# pxname,svname,status\napp,app-1,UP\napp,app-2,DOWN\n".into())
        }

        fn visit(&self, _: Entrance, _: &str) -> anyhow::Result<Answer> {
            Err(anyhow!("nothing is asked here"))
        }

        fn part(&self, node: &NodeId) -> anyhow::Result<Part> {
            if node.name == "db-2" {
                bail!("mongod is silent");
            }
            let is = |tier| node.tier == tier;
            Ok(Part {
                answers: true,
                load_balancer: is(Tier::LoadBalancer).then_some(Balancer {
                    has_virtual_ip: true,
                    takes_part: true,
                    certificate_days: None,
                    certificate_problem: None,
                }),
                database: is(Tier::Database).then_some(Member {
                    role: Role::Primary,
                    primary: None,
                    members: Vec::new(),
                    last_write_ms: None,
                }),
            })
        }
    }

    fn nodes() -> Vec<NodeId> {
        let all = [
            ("lb-1", Tier::LoadBalancer),
            ("lb-2", Tier::LoadBalancer),
            ("app-1", Tier::App),
            ("app-2", Tier::App),
            ("db-1", Tier::Database),
            ("db-2", Tier::Database),
        ];
        let id = |(name, tier): (&str, Tier)| NodeId {
            name: name.into(),
            tier,
            address: Ipv4Addr::LOCALHOST,
            set: None,
        };
        all.map(id).to_vec()
    }

    #[test]
    fn each_node_has_a_verdict_and_the_stack_has_one() {
        let found = status(&Place, &nodes());
        let states: Vec<State> = found.nodes.iter().map(|node| node.state).collect();
        assert_eq!(
            states,
            [
                State::Ready,
                State::Unreachable,
                State::Ready,
                State::NotReady,
                State::Ready,
                State::NotReady
            ]
        );
        assert_eq!(found.owners, ["lb-1"]);
        assert_eq!(found.primaries, BTreeSet::from(["db-1".to_owned()]));
        assert_eq!(found.nodes[1].notes, ["lb-2 can't be reached"]);
        assert_eq!(found.nodes[3].notes, ["DOWN for lb-1"]);
        assert_eq!(found.nodes[5].notes, ["mongod is silent"]);
        assert!(!found.is_well() && !found.has_no_owner());
        let fine = [nodes()[0].clone(), nodes()[2].clone(), nodes()[4].clone()];
        assert!(status(&Place, &fine).is_well());
        assert!(status(&Place, &nodes()[1..3]).has_no_owner());
    }

    #[test]
    fn two_owners_are_not_well() {
        let mut two = nodes();
        two.truncate(1);
        two.push(NodeId {
            name: "lb-3".into(),
            ..two[0].clone()
        });
        let found = status(&Place, &two);
        assert_eq!(found.owners.len(), 2);
        assert!(!found.is_well());
    }
}
