//! nginx on an app node: between haproxy and gunicorn.

use serde::Serialize;

use super::APP_SOCKET;
use crate::topology::Topology;

/// The http-level part of nginx's configuration.
#[derive(Clone, Debug, Serialize)]
pub struct Nginx {
    /// Port it listens on.
    pub port: u16,
    /// gunicorn's sockets, one for each instance.
    pub sockets: Vec<String>,
    /// Path of the health check, which is not logged.
    pub health_path: String,
}

impl Nginx {
    pub(super) fn of(topology: &Topology) -> Self {
        Self {
            port: topology.app().port,
            sockets: (0..topology.app().instances)
                .map(|number| format!("{APP_SOCKET}{number}.sock"))
                .collect(),
            health_path: topology.app().health_path.to_string(),
        }
    }
}
