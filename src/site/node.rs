//! A node as its place knows it: which one is meant, whether it is there, and its part.

use std::net::Ipv4Addr;

use serde::Serialize;

use crate::health::mongo::Role;
use crate::health::report::{Balancer, Member, Report};
use crate::topology::{Node, Tier};

/// A node, as far as one has to know it to ask it.
#[derive(Clone, Debug)]
pub struct NodeId {
    /// Its name.
    pub name: String,
    /// What it does.
    pub tier: Tier,
    /// Its address.
    pub address: Ipv4Addr,
    /// Its replica set, where a stack has several.
    pub set: Option<String>,
}

impl From<&Node> for NodeId {
    fn from(node: &Node) -> Self {
        Self {
            name: node.name.to_string(),
            tier: node.tier,
            address: node.address,
            set: node.replica_set.as_ref().map(ToString::to_string),
        }
    }
}

/// How a node is, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum State {
    /// It does what a node of its tier should do.
    #[serde(rename = "ready")]
    Ready,
    /// It is there, and does not.
    #[serde(rename = "not ready")]
    NotReady,
    /// It does not run.
    #[serde(rename = "stopped")]
    Stopped,
    /// It runs, and is cut off the network.
    #[serde(rename = "cut off")]
    CutOff,
    /// Its daemons were stopped because it left the stack.
    #[serde(rename = "out of service")]
    OutOfService,
    /// It runs nothing of ours.
    #[serde(rename = "not ours")]
    NotOurs,
    /// It can't be asked.
    #[serde(rename = "unreachable")]
    Unreachable,
}

impl State {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            State::Ready => "ready",
            State::NotReady => "not ready",
            State::Stopped => "stopped",
            State::CutOff => "cut off",
            State::OutOfService => "out of service",
            State::NotOurs => "not ours",
            State::Unreachable => "unreachable",
        }
    }

    /// Whether a node in this state can say anything about itself.
    pub(super) fn can_be_asked(self) -> bool {
        !matches!(self, State::Stopped | State::NotOurs | State::Unreachable)
    }
}

/// What a place knows of a node without asking its daemons.
#[derive(Clone, Debug)]
pub struct Presence {
    /// [`State::Ready`] where nothing speaks against it.
    pub state: State,
    /// The system that it runs, and its number; machines only.
    pub system: Option<(String, Option<u64>)>,
    /// What is worth knowing, in words.
    pub notes: Vec<String>,
}

impl Presence {
    /// A node of which nothing more is known.
    pub fn of(state: State) -> Self {
        Self {
            state,
            system: None,
            notes: Vec::new(),
        }
    }
}

/// What a node's daemons say about their part.
#[derive(Clone, Debug, Default)]
pub struct Part {
    /// Whether they answer as those of its tier should.
    pub answers: bool,
    /// Load balancers only.
    pub load_balancer: Option<Balancer>,
    /// Databases only; none while mongod does not answer.
    pub database: Option<Member>,
}

impl From<Report> for Part {
    fn from(report: Report) -> Self {
        let takes_part = report.load_balancer.as_ref().map(|it| it.takes_part);
        let role = report.database.as_ref().map(|member| member.role);
        let is_database = report.facts["tier"] == "database";
        Self {
            answers: match (takes_part, role) {
                (Some(takes_part), _) => takes_part,
                (None, Some(role)) => is_member(role),
                // What the load balancers say of an app server is asked of them.
                (None, None) => !is_database,
            },
            load_balancer: report.load_balancer,
            database: report.database,
        }
    }
}

/// Whether a database with this role is a healthy member of its set.
pub fn is_member(role: Role) -> bool {
    matches!(role, Role::Primary | Role::Secondary)
}
