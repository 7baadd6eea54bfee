//! nginx on an app node: between haproxy and gunicorn.

use serde::Serialize;

use super::app_limits::AppLimits;
use super::{APP_SOCKET, APP_SOURCE};
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
    /// Host name with which the app is asked for it.
    pub health_host: String,
    /// What the application may take, and for how long.
    pub limits: AppLimits,
    /// Largest body of a request, in bytes.
    pub largest_body: u64,
    /// Whether text is compressed.
    pub compression: bool,
    /// Static files, if there are any.
    pub files: Option<StaticFiles>,
}

/// Files that nginx serves without the application.
#[derive(Clone, Debug, Serialize)]
pub struct StaticFiles {
    /// Beginning of their paths; ends with `/`.
    pub url: String,
    /// Their directory on the node; ends with `/`.
    pub directory: String,
}

impl Nginx {
    pub(super) fn of(topology: &Topology) -> Self {
        let app = topology.app();
        let files = app.static_directory.as_ref().map(|directory| StaticFiles {
            url: app.static_url.to_string(),
            directory: format!("{APP_SOURCE}/{}/", directory.trim_end_matches('/')),
        });
        Self {
            limits: AppLimits::of(app),
            largest_body: app.largest_body.get(),
            compression: app.compression,
            files,
            port: topology.app().port,
            sockets: (0..topology.app().instances)
                .map(|number| format!("{APP_SOCKET}{number}.sock"))
                .collect(),
            health_path: topology.app().health_path.to_string(),
            health_host: topology.app().health_host.to_string(),
        }
    }
}
