//! supervisord on an app node: keeps gunicorn up and holds its listening socket.

use serde::Serialize;

use super::{APP_SOCKET, PYTHON};
use crate::topology::Topology;

/// supervisord's configuration.
#[derive(Clone, Debug, Serialize)]
pub struct Supervisor {
    /// gunicorn processes that share the socket.
    pub instances: u16,
    /// The socket.
    pub socket: &'static str,
    /// Python with the app's packages.
    pub python: &'static str,
}

impl Supervisor {
    pub(super) fn of(topology: &Topology) -> Self {
        Self {
            instances: topology.app().instances,
            socket: APP_SOCKET,
            python: PYTHON,
        }
    }
}
