//! What the engine needs from the place where nodes run: the lab, or machines over
//! SSH. It says what to do, the host knows how.

use std::net::Ipv4Addr;

use crate::config::Action;
use crate::health::http::Answer;

/// Where nodes run. Calls for different nodes may be made at the same time.
///
/// "Planned" is what a host was made with: the files, or the system, that each node
/// shall have.
pub trait Host: Sync {
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

    /// Asks over HTTP, from a place that reaches the nodes' network.
    ///
    /// # Errors
    /// If there is no complete answer in time.
    fn get(&self, address: Ipv4Addr, port: u16, path: &str) -> anyhow::Result<Answer>;

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

    /// The last step on this node counts: what was kept to go back is no longer needed.
    ///
    /// # Errors
    /// If it can't be removed.
    fn settle(&self, node: &str) -> anyhow::Result<()>;
}
