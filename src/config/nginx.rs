//! nginx on an app node: between haproxy and gunicorn.

use serde::Serialize;

use super::app_limits::AppLimits;
use super::place;
use crate::topology::Application;

/// The http-level part of nginx's configuration.
#[derive(Clone, Debug, Serialize)]
pub struct Nginx {
    /// The node's applications, each a server of its own.
    pub apps: Vec<NginxApp>,
}

/// An application as nginx serves it.
#[derive(Clone, Debug, Serialize)]
pub struct NginxApp {
    /// Name of its upstream.
    pub upstream: String,
    /// Name of the variable that says whether a request is logged.
    pub logged: String,
    /// Where requests are logged.
    pub log: String,
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
    pub(super) fn of(applications: &[Application<'_>]) -> Self {
        Self {
            apps: applications.iter().map(NginxApp::of).collect(),
        }
    }
}

impl NginxApp {
    fn of(application: &Application<'_>) -> Self {
        let (app, name) = (application.app, application.name());
        let files = app.static_directory.as_ref().map(|directory| StaticFiles {
            url: app.static_url.to_string(),
            directory: format!(
                "{}/{}/",
                place::source(name),
                directory.trim_end_matches('/')
            ),
        });
        // Names of variables have no `-`, and names of applications no `_`.
        let own = name.map(|name| format!("_{}", name.replace('-', "_")));
        Self {
            upstream: place::backend("app", name),
            logged: format!("app_logged{}", own.unwrap_or_default()),
            log: match name {
                None => "/var/log/nginx/access.log".to_owned(),
                Some(name) => format!("/var/log/nginx/access-{name}.log"),
            },
            limits: AppLimits::of(app),
            largest_body: app.largest_body.get(),
            compression: app.compression,
            files,
            port: app.port,
            sockets: (0..app.instances)
                .map(|number| place::socket(&place::program(name, number)))
                .collect(),
            health_path: app.health_path.to_string(),
            health_host: app.health_host.to_string(),
        }
    }
}
