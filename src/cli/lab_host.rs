//! The lab as a place to roll a change out in: where `deploy` and `lab`, which don't
//! know each other, meet.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use sha2::{Digest as _, Sha256};
use ureq::Agent;

use crate::config::Action;
use crate::deploy::{FACTS_FILE, Fleet, Host, NodeState};
use crate::exec;
use crate::health::http::{self, Answer};
use crate::lab::{Lab, LabPlan, NodePlan};

/// How long one question over HTTP may take.
const QUESTION: Duration = Duration::from_secs(3);

/// A lab that is to become what its plan says.
pub(super) struct LabHost {
    lab: Lab,
    client: Agent,
}

impl LabHost {
    pub(super) fn new(lab: Lab) -> Self {
        Self {
            lab,
            client: http::client(QUESTION),
        }
    }

    pub(super) fn lab(&self) -> &Lab {
        &self.lab
    }
}

impl Host for LabHost {
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

    fn get(&self, address: Ipv4Addr, port: u16, path: &str) -> anyhow::Result<Answer> {
        http::get(&self.client, address, port, path)
    }

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
pub(super) fn fleet(plan: &LabPlan) -> anyhow::Result<Fleet> {
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
