//! The place where nodes run: the lab, or machines over SSH. Others say what they want to
//! know or to have done, the place knows how.

use std::net::Ipv4Addr;

use anyhow::Context as _;

use super::node::{NodeId, Part, Presence, State};
use crate::config::{Action, PROGRAM};
use crate::exec::in_parallel;
use crate::health::http::{Answer, Entrance};
use crate::health::mongo::Vitals;
use crate::health::report::Report;

/// Where nodes run, to be asked. Calls for different nodes may be made at the same time.
pub trait Site: Sync {
    /// Nodes that are asked at the same time.
    fn at_once(&self) -> usize {
        16
    }

    /// Makes sure that a node can be talked to.
    ///
    /// # Errors
    /// If it can't, with the reason.
    fn reachable(&self, node: &str) -> anyhow::Result<()>;

    /// Runs a command on a node, gives it `input`, and returns what it wrote to standard output.
    ///
    /// # Errors
    /// If the node is not there, or the command ends with another status than 0.
    fn run(&self, node: &str, argv: &[&str], input: Option<&str>) -> anyhow::Result<String>;

    /// Sends one command to the runtime socket of a load balancer's haproxy.
    ///
    /// # Errors
    /// If haproxy does not answer.
    fn haproxy(&self, node: &str, command: &str) -> anyhow::Result<String>;

    /// Asks over HTTP, or over TLS where `entrance` says so, from a place that reaches the nodes' network
    /// and the virtual IP.
    ///
    /// # Errors
    /// If there is no complete answer in time.
    fn visit(&self, entrance: Entrance, path: &str) -> anyhow::Result<Answer>;

    /// [`Self::visit`]s what serves plain HTTP.
    ///
    /// # Errors
    /// If there is no complete answer in time.
    fn get(&self, address: Ipv4Addr, port: u16, path: &str) -> anyhow::Result<Answer> {
        self.visit(Entrance::plain(address, port), path)
    }

    /// What the place knows of these nodes, without asking their daemons; in the same order.
    fn presences(&self, nodes: &[NodeId]) -> Vec<Presence> {
        in_parallel(nodes, self.at_once(), |node| {
            match self.reachable(&node.name) {
                Ok(()) => Presence::of(State::Ready),
                Err(error) => Presence {
                    notes: vec![format!("{error:#}")],
                    ..Presence::of(State::Unreachable)
                },
            }
        })
    }

    /// What a node says about itself, asked by the gen-topology on it.
    ///
    /// # Errors
    /// If it does not say it.
    fn report(&self, node: &str) -> anyhow::Result<Report> {
        let text = self.run(node, &[PROGRAM, "node", "report"], None)?;
        serde_json::from_str(&text).with_context(|| format!("reading what {node} reports"))
    }

    /// A node's part by its own account.
    ///
    /// # Errors
    /// If it does not say it.
    fn part(&self, node: &NodeId) -> anyhow::Result<Part> {
        self.report(&node.name).map(Part::from)
    }

    /// How a database does in its replica set; none where it does not say.
    fn vitals(&self, node: &NodeId) -> Option<Vitals> {
        let text = self.run(&node.name, &[PROGRAM, "node", "vitals"], None);
        let vitals = text.and_then(|text| serde_json::from_str(&text).context("reading vitals"));
        vitals.ok()
    }
}

/// Where nodes run, to be changed.
///
/// "Planned" is what a host was made with: the files, or the system, that each node
/// shall have.
pub trait Host: Site {
    /// Gives the planned files of these nodes to the programs that will read them,
    /// before anything is touched. Returns what they refuse.
    ///
    /// # Errors
    /// If they can't be asked.
    fn validate(&self, nodes: &[&str]) -> anyhow::Result<Vec<String>>;

    /// Starts a node that was not there, as planned.
    ///
    /// # Errors
    /// If it does not start.
    fn add(&self, node: &str) -> anyhow::Result<()>;

    /// Puts what is planned in place on a running node, keeps what was there, and
    /// does what the daemons need.
    ///
    /// # Errors
    /// If a part of it fails; [`Self::revert`] brings the node back.
    fn change(&self, node: &str, how: &[Action]) -> anyhow::Result<()>;

    /// Puts what was there before [`Self::change`] in place again.
    ///
    /// # Errors
    /// If a part of it fails.
    fn revert(&self, node: &str, how: &[Action]) -> anyhow::Result<()>;

    /// Shuts a node down in order and keeps its data.
    ///
    /// # Errors
    /// If it does not end.
    fn remove(&self, node: &str) -> anyhow::Result<()>;

    /// Starts a node again that was shut down by [`Self::remove`].
    ///
    /// # Errors
    /// If it does not start.
    fn restore(&self, node: &str) -> anyhow::Result<()>;

    /// The last change of this node counts: what was kept to go back is no longer needed.
    ///
    /// # Errors
    /// If it can't be removed.
    fn settle(&self, node: &str) -> anyhow::Result<()>;

    /// This node is gone for good, after [`Self::remove`]: its data is no longer needed.
    ///
    /// # Errors
    /// If it can't be removed.
    fn forget(&self, node: &str) -> anyhow::Result<()>;
}
