//! supervisord on an app node: keeps gunicorn up, and drains the node before it stops.

use serde::Serialize;

use super::app_limits::AppLimits;
use super::{APP_SOCKET, PROGRAM, PYTHON};
use crate::topology::Topology;

/// supervisord's configuration.
#[derive(Clone, Debug, Serialize)]
pub struct Supervisor {
    /// gunicorn processes, each with a socket of its own.
    pub instances: u16,
    /// Beginning of the sockets' paths.
    pub socket: &'static str,
    /// Program of ours that drains the node.
    pub program: &'static str,
    /// What the application may take, and for how long.
    pub limits: AppLimits,
    /// Python with the app's packages.
    pub python: &'static str,
}

impl Supervisor {
    pub(super) fn of(topology: &Topology) -> Self {
        Self {
            instances: topology.app().instances,
            socket: APP_SOCKET,
            program: PROGRAM,
            limits: AppLimits::of(topology.app()),
            python: PYTHON,
        }
    }
}
