//! What the part of a `lab` command outside tells the part inside the lab's namespaces.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::faults::{soak::Soak, trial};
use crate::secrets::Rotation;
use crate::topology::Slo;

/// What to do inside a lab.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Request {
    /// Bring the lab to the plan on standard input, and wait for the first answer.
    Up { wait: bool, spent_ms: u64 },
    /// Show each node's state.
    Status { json: bool },
    /// List processes.
    Ps { nodes: Vec<String>, json: bool },
    /// Become a command in a node.
    Exec { node: String, argv: Vec<String> },
    /// Shut down, or pull the plug.
    Stop { nodes: Vec<String>, power_off: bool },
    /// Start again.
    Start { nodes: Vec<String> },
    /// Shut down and start again.
    Reboot { nodes: Vec<String> },
    /// Cut off the network, or connect again.
    Connect { nodes: Vec<String>, connected: bool },
    /// Copy the application's data.
    Backup { directory: PathBuf },
    /// Write a copy back.
    Restore { directory: PathBuf, overwrite: bool },
    /// Exchange secrets.
    Rotate { what: Rotation },
    /// Load renewed certificates.
    Renew,
    /// Pass connections on to the virtual IP; the listener is standard input.
    Forward,
    /// A first look at the page, through the virtual IP.
    Look,
    /// Try faults under load.
    Faults(FaultsOrder),
    /// Make the lab whole again, whatever was broken.
    UndoFaults,
    /// Bring the lab to the plan on standard input, step by step.
    Apply(ApplyOrder),
    /// Put a version of the application on each app server, one after the other.
    Reload(Vec<crate::lab::AppVersion>),
    /// Send requests at a fixed rate until interrupted.
    Load { rate: u32, requests: u32 },
}

/// What the part outside tells the part inside.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct ApplyOrder {
    pub canary: usize,
    pub max_unavailable: usize,
    pub bake_ms: u64,
    pub on: Option<String>,
    pub purpose: Purpose,
    pub json: bool,
}

/// What is wanted of the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Purpose {
    /// To see it.
    Show { exit_code: bool },
    /// To have it done.
    Do { resume: bool },
}

impl ApplyOrder {
    pub(super) fn only_shows(&self) -> bool {
        matches!(self.purpose, Purpose::Show { .. })
    }
}

/// What to try inside a lab.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct FaultsOrder {
    /// Names of the faults, in order.
    pub faults: Vec<String>,
    /// How often each.
    pub repeat: u32,
    /// How.
    pub pace: trial::Pace,
    /// The topology's budget.
    pub slo: Slo,
    /// Whether a time that was broken is tried once more, and a void trial is no failure.
    pub retry: bool,
    /// Random ones of them instead, for so long.
    #[serde(default)]
    pub soak: Option<Soak>,
}
