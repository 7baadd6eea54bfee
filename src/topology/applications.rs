//! The applications of a stack: `app`, and those of `apps` beside it.

use std::path::PathBuf;

use serde::{Serialize, Serializer};

use super::raw::RawApp;
use super::values::{Name, ServedName, UrlPath};
use super::{App, Node, Tier, Topology};

/// An application of `apps`.
#[derive(Clone, Debug, Serialize)]
pub struct FurtherApp {
    /// Its name.
    #[serde(skip)]
    pub name: Name,
    /// Hosts whose requests are its own; none: every host's.
    pub hosts: Vec<ServedName>,
    /// Beginnings of paths whose requests are its own; none: every path.
    pub paths: Vec<UrlPath>,
    /// App nodes that run it, in the order of the topology.
    pub nodes: Vec<Name>,
    /// Everything that `app` has, too.
    #[serde(flatten)]
    pub app: App,
}

/// One of a stack's applications, whichever it is.
#[derive(Clone, Copy, Debug)]
pub struct Application<'t> {
    /// Its code, limits and environment.
    pub app: &'t App,
    /// What only those of `apps` have; nothing for `app` itself.
    pub further: Option<&'t FurtherApp>,
}

impl<'t> Application<'t> {
    /// Its name; `app` itself has none.
    pub fn name(&self) -> Option<&'t str> {
        self.further.map(|further| further.name.as_str())
    }

    /// Where it stands in the file.
    pub fn key(&self) -> String {
        self.name()
            .map_or_else(|| "app".to_owned(), |name| format!("apps.{name}"))
    }

    /// Whether a node runs it.
    pub fn runs_on(&self, node: &Node) -> bool {
        let chosen = |further: &FurtherApp| further.nodes.contains(&node.name);
        node.tier == Tier::App && self.further.is_none_or(chosen)
    }
}

impl Topology {
    /// The applications of `apps`, in file order.
    pub fn apps(&self) -> &[FurtherApp] {
        &self.apps
    }

    /// Every application, `app` first.
    pub fn applications(&self) -> impl Iterator<Item = Application<'_>> {
        let first = Application {
            app: &self.app,
            further: None,
        };
        let others = self.apps.iter().map(|further| Application {
            app: &further.app,
            further: Some(further),
        });
        std::iter::once(first).chain(others)
    }

    /// The applications that a node runs, `app` first.
    pub fn applications_on<'t>(&'t self, node: &'t Node) -> impl Iterator<Item = Application<'t>> {
        self.applications()
            .filter(|application| application.runs_on(node))
    }

    /// The names of all secrets of applications, each once.
    pub fn app_secrets(&self) -> Vec<String> {
        let all = self.applications();
        let names: std::collections::BTreeSet<&String> = all
            .flat_map(|application| application.app.secrets.keys())
            .collect();
        names.into_iter().cloned().collect()
    }
}

/// As the file has them: name → application.
pub(super) fn by_name<S: Serializer>(apps: &[FurtherApp], to: S) -> Result<S::Ok, S::Error> {
    to.collect_map(apps.iter().map(|further| (&further.name, further)))
}

/// `app` as it is meant.
pub(super) fn build(raw: RawApp) -> App {
    App {
        source: PathBuf::from(raw.source),
        entry: raw.entry,
        requirements: PathBuf::from(raw.requirements),
        env: raw.env.into_iter().collect(),
        secrets: raw
            .secrets
            .into_iter()
            .map(|(name, secret)| (name, secret.gives))
            .collect(),
        database_uri_env: raw.database_uri_env,
        health_path: raw.health_path,
        health_host: raw.health_host,
        worker: raw.worker,
        longest_request: raw.longest_request,
        largest_body: raw.largest_body,
        idle_timeout: raw.idle_timeout,
        static_directory: raw.static_directory,
        static_url: raw.static_url,
        compression: raw.compression,
        sticky_sessions: raw.sticky_sessions,
        port: raw.port,
        instances: raw.instances,
        workers: raw.workers,
        threads: raw.threads,
    }
}

/// One of `apps` as it is meant.
pub(super) fn build_further(name: &str, mut raw: RawApp, nodes: &[Node]) -> Option<FurtherApp> {
    let chosen = std::mem::take(&mut raw.nodes);
    let runs = |node: &&Node| {
        let is_chosen = |name: &String| name == node.name.as_str();
        node.tier == Tier::App && (chosen.is_empty() || chosen.iter().any(is_chosen))
    };
    Some(FurtherApp {
        name: name.parse().ok()?,
        hosts: std::mem::take(&mut raw.hosts),
        paths: std::mem::take(&mut raw.paths),
        nodes: nodes
            .iter()
            .filter(runs)
            .map(|node| node.name.clone())
            .collect(),
        app: build(raw),
    })
}
