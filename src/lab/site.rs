//! The lab as a place where nodes run.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use sha2::{Digest as _, Sha256};
use ureq::Agent;

use super::net;
use super::plan::{LabPlan, NodePlan};
use super::run::Lab;
use crate::config::Action;
use crate::exec;
use crate::health::http::{self, Answer, Entrance};
use crate::health::mongo::Vitals;
use crate::health::report::{Balancer, Member};
use crate::health::vrrp;
use crate::secrets::Kind;
use crate::site::{
    FACTS_FILE, Fleet, Host, NodeId, NodeState, Part, Presence, Site, State, is_member,
};
use crate::topology::Tier;

/// How long one question over HTTP may take.
const QUESTION: Duration = Duration::from_secs(3);

/// A lab, asked from inside its namespaces, and brought to what its plan says.
pub struct LabSite<'l> {
    lab: &'l Lab,
    client: Agent,
}

impl<'l> LabSite<'l> {
    /// This lab.
    pub fn new(lab: &'l Lab) -> Self {
        Self {
            lab,
            client: http::client(QUESTION),
        }
    }

    /// Every node of the lab's plan.
    pub fn nodes(&self) -> Vec<NodeId> {
        let is_sharded = self.lab.plan().is_sharded();
        let id = |node: &NodePlan| NodeId {
            name: node.name.clone(),
            tier: node.tier,
            address: node.address,
            set: node.replica_set.clone().filter(|_| is_sharded),
        };
        self.lab.plan().nodes.iter().map(id).collect()
    }
}

impl Site for LabSite<'_> {
    /// One machine answers for all of them, so more would only wait.
    fn at_once(&self) -> usize {
        64
    }

    fn reachable(&self, node: &str) -> anyhow::Result<()> {
        ensure!(
            self.lab.pid(node).is_some(),
            "{node} is down; `gen-topology lab start {node}` starts it"
        );
        Ok(())
    }

    fn run(&self, node: &str, argv: &[&str], input: Option<&str>) -> anyhow::Result<String> {
        let argv: Vec<String> = argv.iter().map(|word| (*word).to_owned()).collect();
        exec::run(&mut self.lab.command_at(node, &argv)?, input)
    }

    fn haproxy(&self, node: &str, command: &str) -> anyhow::Result<String> {
        self.lab.ask_haproxy(node, command)
    }

    fn visit(&self, entrance: Entrance, path: &str) -> anyhow::Result<Answer> {
        http::visit(&self.client, entrance, path)
    }

    fn presences(&self, nodes: &[NodeId]) -> Vec<Presence> {
        let connected = self.lab.connected_ports();
        let state = |node: &NodeId| match self.lab.pid(&node.name) {
            None => State::Stopped,
            Some(pid) if connected.get(&net::port(pid)) == Some(&true) => State::Ready,
            Some(_) => State::CutOff,
        };
        nodes.iter().map(|node| Presence::of(state(node))).collect()
    }

    /// Looked at from outside the node, which is quicker than a program of ours started in each.
    fn part(&self, node: &NodeId) -> anyhow::Result<Part> {
        let planned = self.lab.planned(&node.name)?;
        Ok(match node.tier {
            Tier::LoadBalancer => {
                let answers = self.lab.is_ready(planned);
                let balancer = Balancer {
                    has_virtual_ip: self.has_virtual_ip(&node.name),
                    takes_part: answers,
                    certificate_days: self.lab.certificate_days(&node.name),
                    certificate_problem: self.lab.certificate_problem(&node.name),
                };
                Part {
                    answers,
                    load_balancer: Some(balancer),
                    database: None,
                }
            }
            Tier::App => Part {
                answers: self.lab.is_ready(planned),
                ..Part::default()
            },
            Tier::Database => {
                let hello = self.lab.hello(planned).ok();
                Part {
                    answers: hello.as_ref().is_some_and(|hello| is_member(hello.role)),
                    load_balancer: None,
                    database: hello.map(|hello| Member {
                        role: hello.role,
                        primary: hello.primary,
                        members: hello.members,
                        last_write_ms: hello.last_write_ms,
                    }),
                }
            }
        })
    }

    fn vitals(&self, node: &NodeId) -> Option<Vitals> {
        let planned = self.lab.planned(&node.name).ok()?;
        let member = self.lab.mongod_as(planned, Kind::Monitoring).ok()?;
        member.vitals().ok()
    }
}

impl LabSite<'_> {
    fn has_virtual_ip(&self, node: &str) -> bool {
        self.lab.pid(node).is_some_and(|pid| {
            let net = format!("/proc/{pid}/net");
            vrrp::is_local_in(Path::new(&net), self.lab.plan().virtual_ip)
        })
    }
}

impl Host for LabSite<'_> {
    fn validate(&self, nodes: &[&str]) -> anyhow::Result<Vec<String>> {
        let mut refused = Vec::new();
        for node in self.lab.distinct(nodes) {
            let said = self.lab.rehearse(node)?;
            refused.extend(said.map(|said| {
                let said = said.trim_start_matches("error: ");
                format!("{node}: {said}")
            }));
        }
        Ok(refused)
    }

    fn add(&self, node: &str) -> anyhow::Result<()> {
        self.lab.add(node)
    }

    fn change(&self, node: &str, how: &[Action]) -> anyhow::Result<()> {
        self.lab.change(node, how)
    }

    fn revert(&self, node: &str, how: &[Action]) -> anyhow::Result<()> {
        self.lab.revert(node, how)
    }

    fn remove(&self, node: &str) -> anyhow::Result<()> {
        self.lab.stop(node)
    }

    fn restore(&self, node: &str) -> anyhow::Result<()> {
        self.lab.restore(node)
    }

    fn settle(&self, node: &str) -> anyhow::Result<()> {
        self.lab.settle(node)
    }

    fn forget(&self, node: &str) -> anyhow::Result<()> {
        self.lab.forget(node)
    }
}

/// What the nodes of a lab run, or shall run.
///
/// # Errors
/// If a node has no facts of ours.
pub fn fleet(plan: &LabPlan) -> anyhow::Result<Fleet> {
    let nodes: anyhow::Result<Vec<NodeState>> = plan.nodes.iter().map(state).collect();
    nodes.map(Fleet::of)
}

/// With the lab's own files, which a real machine does not have.
fn state(node: &NodePlan) -> anyhow::Result<NodeState> {
    let facts = node.etc.get(FACTS_FILE);
    let facts = facts.with_context(|| format!("{} has no facts", node.name))?;
    let mut state = NodeState::of_facts(facts)?;
    for (path, text) in node.etc.iter().filter(|(path, _)| *path != FACTS_FILE) {
        let sum = || hex::encode(Sha256::digest(text.as_bytes()));
        state.files.entry(path.clone()).or_insert_with(sum);
    }
    state.files.extend(node.links.clone());
    state.shell = serde_json::to_string(&(
        &node.binds,
        &node.init,
        &node.interface,
        node.address,
        node.prefix,
    ))?;
    Ok(state)
}
