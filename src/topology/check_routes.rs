//! What several applications need of each other: routes and ports of their own, and nodes that are there.

use std::collections::BTreeMap;

use super::checker::Check;
use super::diagnostic::{Place, step};
use super::document::quoted;
use super::raw::RawApp;
use super::values::covers;
use super::{Code, Tier};

impl Check<'_> {
    /// Routes, ports and nodes of all applications.
    pub(super) fn routes(&mut self) {
        self.are_of_apps_only();
        self.ports();
        let raw = self.raw;
        let mut claimed = BTreeMap::new();
        for (name, app) in &raw.apps {
            let at = format!("/apps/{}", step(name));
            self.route(&at, name, app);
            self.claims(&at, app, &mut claimed);
            self.runs_somewhere(&at, name, app);
        }
    }

    /// `app` answers what nobody claims, on every app node.
    fn are_of_apps_only(&mut self) {
        let app = &self.raw.app;
        for (key, is_there) in [
            ("hosts", !app.hosts.is_empty()),
            ("paths", !app.paths.is_empty()),
            ("nodes", !app.nodes.is_empty()),
        ] {
            if is_there {
                let message = format!("`{key}` is for applications in `apps`");
                let place = Place::key(format!("/app/{key}"));
                self.add(Code::MisplacedKey, place, message).hint = Some(
                    "`app` runs on every app node and answers what no other application claims"
                        .into(),
                );
            }
        }
    }

    fn ports(&mut self) {
        let mut used: BTreeMap<u16, String> = BTreeMap::new();
        for (at, app) in self.applications() {
            if let Some(other) = used.get(&app.port) {
                let message = format!("port {} of the app nodes is used already", app.port);
                let other = Place::value(format!("{other}/port"));
                let problem =
                    self.add(Code::PortClash, Place::value(format!("{at}/port")), message);
                problem.related.push((other, "by this application".into()));
                problem.hint = Some(
                    "give each application of `apps` a `port` of its own, such as 8001".into(),
                );
            }
            used.entry(app.port).or_insert(at);
        }
    }

    /// Whether an application claims something, and something that can be asked for.
    fn route(&mut self, at: &str, name: &str, app: &RawApp) {
        if app.hosts.is_empty() && app.paths.is_empty() {
            let message =
                format!("{name} claims neither hosts nor paths, so nobody would ever reach it");
            self.add(Code::NoRoute, Place::key(at), message).hint = Some(
                "such as `\"paths\": [\"/api/\"]` or `\"hosts\": [\"api.example.org\"]`".into(),
            );
        }
        for (index, path) in app.paths.iter().enumerate() {
            let path = path.to_string();
            if !path.ends_with('/') || path == "/" {
                let message = format!(
                    "a path of an application ends with `/` and is more than that, this is {path:?}"
                );
                let place = Place::value(format!("{at}/paths/{index}"));
                self.add(Code::BadValue, place, message).hint =
                    Some("such as \"/api/\", which is /api, too; without `paths` it gets all paths of its `hosts`".into());
            }
        }
        let static_url = app.static_url.to_string();
        let is_own = |path: &super::UrlPath| static_url.starts_with(&path.to_string());
        if app.static_directory.is_some() && !app.paths.is_empty() && !app.paths.iter().any(is_own)
        {
            let message = format!("requests for {static_url} never reach {name}");
            let problem = self.add(
                Code::BadValue,
                Place::value(format!("{at}/static_url")),
                message,
            );
            let paths = Place::value(format!("{at}/paths"));
            problem.related.push((paths, "only these do".into()));
            problem.hint = Some(format!(
                "put it below one of its paths, such as \"{}static/\"",
                app.paths[0]
            ));
        }
        self.are_certified(at, app);
    }

    /// Hosts of an application are among the names that HTTPS is served for.
    fn are_certified(&mut self, at: &str, app: &RawApp) {
        let Some(tls) = &self.raw.load_balancer.tls else {
            return;
        };
        for (index, host) in app.hosts.iter().enumerate() {
            if !tls
                .names
                .iter()
                .any(|name| covers(name.as_str(), host.as_str()))
            {
                let message = format!("{host} is not among the names that HTTPS is served for");
                let place = Place::value(format!("{at}/hosts/{index}"));
                let problem = self.add(Code::HostNotServed, place, message);
                let names = Place::value("/load_balancer/tls/names");
                problem.related.push((names, "the names".into()));
            }
        }
    }

    /// Each route once, over all applications.
    fn claims(&mut self, at: &str, app: &RawApp, claimed: &mut BTreeMap<(String, String), Place>) {
        let texts = |key: &str, values: Vec<String>| -> Vec<(String, String)> {
            let places = |(index, value)| (value, format!("{at}/{key}/{index}"));
            if values.is_empty() {
                return vec![(String::new(), String::new())];
            }
            values.into_iter().enumerate().map(places).collect()
        };
        let hosts = texts("hosts", app.hosts.iter().map(ToString::to_string).collect());
        let paths = texts("paths", app.paths.iter().map(ToString::to_string).collect());
        for (host, at_host) in &hosts {
            for (path, at_path) in &paths {
                let place = || match at_path.as_str() {
                    "" => Place::value(at_host.clone()),
                    of_path => Place::value(of_path),
                };
                if host.is_empty() && path.is_empty() {
                    continue;
                }
                let route = (host.clone(), path.clone());
                if let Some(first) = claimed.get(&route) {
                    let message = match path.as_str() {
                        "" => format!("{host} is claimed twice"),
                        _ => format!("{host}{path} is claimed twice"),
                    };
                    let first = (first.clone(), "claimed here, too".into());
                    self.add(Code::RouteClash, place(), message)
                        .related
                        .push(first);
                }
                claimed.entry(route).or_insert_with(place);
            }
        }
    }

    /// The nodes that run it are app nodes, and more than one.
    fn runs_somewhere(&mut self, at: &str, name: &str, app: &RawApp) {
        let raw = self.raw;
        let mut all_known = true;
        for (index, node) in app.nodes.iter().enumerate() {
            let tier = raw.nodes.get(node).map(|node| node.tier);
            if tier == Some(Tier::App) {
                continue;
            }
            all_known = false;
            let message = match tier {
                Some(tier) => format!(
                    "{} is a {}, which runs no application",
                    quoted(node),
                    tier.noun(1)
                ),
                None => format!("there is no node {}", quoted(node)),
            };
            let apps = self.tier(Tier::App).map(|(name, _)| name.as_str());
            let apps: Vec<&str> = apps.take(10).collect();
            let place = Place::value(format!("{at}/nodes/{index}"));
            self.add(Code::UnknownNode, place, message).hint =
                Some(format!("the app nodes are {}", apps.join(", ")));
        }
        if all_known && app.nodes.len() == 1 && self.tier(Tier::App).count() > 1 {
            let message = format!("{} is the only app server that runs {name}", app.nodes[0]);
            self.add(
                Code::NoSpareApp,
                Place::value(format!("{at}/nodes")),
                message,
            )
            .hint = Some("name a second one".into());
        }
    }
}
