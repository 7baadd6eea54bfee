//! What everything of an application is called on a node: the only file that makes these names.
//! Those of `app`, which has no name, are as in a stack with one application.

use std::collections::BTreeSet;

use super::{APP_PROGRAM, APP_SOURCE, PYTHON};

/// Directory of the further applications' code.
const SOURCES: &str = "/etc/gen-topology/apps/";
/// Directory of their Python environments.
const PYTHONS: &str = "/etc/gen-topology/pythons/";
/// Directory of their gunicorn files, below `/etc`.
const CONFIGURATIONS: &str = "gunicorn/apps/";
/// gunicorn's file of `app`, below `/etc`.
const CONFIGURATION: &str = "gunicorn/gunicorn.conf.py";

/// Its code.
pub fn source(app: Option<&str>) -> String {
    app.map_or_else(|| APP_SOURCE.to_owned(), |name| format!("{SOURCES}{name}"))
}

/// Directory of its Python environment.
pub fn environment(app: Option<&str>) -> String {
    let own = || PYTHON.trim_end_matches("/bin/python").to_owned();
    app.map_or_else(own, |name| format!("{PYTHONS}{name}"))
}

/// Python with its packages.
pub fn python(app: Option<&str>) -> String {
    format!("{}/bin/python", environment(app))
}

/// Its gunicorn file, below `/etc`.
pub fn configuration(app: Option<&str>) -> String {
    let named = |name| format!("{CONFIGURATIONS}{name}.conf.py");
    app.map_or_else(|| CONFIGURATION.to_owned(), named)
}

/// The same as it is on a node.
pub fn settings(app: Option<&str>) -> String {
    format!("/etc/{}", configuration(app))
}

/// A path of a node as it is below `/etc`, where all of these are.
pub fn below_etc(path: &str) -> &str {
    path.strip_prefix("/etc/").unwrap_or(path)
}

/// The program of supervisord that is one of its instances.
pub fn program(app: Option<&str>, number: u16) -> String {
    let name = app.map(|name| format!("{name}-")).unwrap_or_default();
    format!("{APP_PROGRAM}{name}{number}")
}

/// The socket of such a program.
pub fn socket(program: &str) -> String {
    format!("/run/gen-topology/{program}.sock")
}

/// Its name for haproxy and nginx: `kind`, and its own behind a dot.
pub fn backend(kind: &str, app: Option<&str>) -> String {
    let name = app.map(|name| format!(".{name}")).unwrap_or_default();
    format!("{kind}{name}")
}

/// The application that a program of supervisord is an instance of: `Some(None)` is `app`.
pub fn owner(program: &str) -> Option<Option<&str>> {
    let rest = program.strip_prefix(APP_PROGRAM)?;
    Some(rest.rsplit_once('-').map(|(name, _)| name))
}

/// Which instances a change of files is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restarts {
    all: bool,
    apps: BTreeSet<Option<String>>,
}

impl Restarts {
    /// Those that changed files, given below `/etc`, are of. All, if none of them says which.
    pub fn of(changed: &[impl AsRef<str>]) -> Self {
        let mut restarts = Self::default();
        for path in changed.iter().map(AsRef::as_ref) {
            let below = |start: &str| path.strip_prefix(below_etc(start));
            let named = below(SOURCES)
                .or_else(|| below(PYTHONS))
                .or_else(|| below(CONFIGURATIONS)?.strip_suffix(".conf.py"));
            match (path, named) {
                (_, Some(name)) => drop(restarts.apps.insert(Some(name.to_owned()))),
                (CONFIGURATION | "gen-topology/app", _) => drop(restarts.apps.insert(None)),
                ("gen-topology/app-secrets", _) => restarts.all = true,
                _ => {}
            }
        }
        restarts
    }

    /// Whether a program of supervisord is one of them.
    pub fn has(&self, program: &str) -> bool {
        let is_chosen = |app: Option<&str>| self.apps.contains(&app.map(str::to_owned));
        owner(program).is_some_and(|app| self.all || self.apps.is_empty() || is_chosen(app))
    }

    /// The applications that the change is about, by name, `app` first as none; nothing where it is all.
    pub fn apps(&self) -> impl Iterator<Item = Option<&str>> {
        let apps = self.apps.iter().filter(|_| !self.all);
        apps.map(Option::as_deref)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_tells_whose_it_is() {
        for app in [None, Some("shop"), Some("0"), Some("a-1")] {
            assert_eq!(owner(&program(app, 3)), Some(app));
        }
        assert_eq!(owner("drain"), None);
        assert_eq!(
            socket(&program(None, 1)),
            "/run/gen-topology/gunicorn-1.sock"
        );
    }

    #[test]
    fn a_change_restarts_its_own_application_only() {
        let restarts = |changed: &[&str]| {
            let restarts = Restarts::of(changed);
            ["gunicorn-0", "gunicorn-shop-0", "drain"].map(|program| restarts.has(program))
        };
        assert_eq!(restarts(&["gen-topology/app"]), [true, false, false]);
        assert_eq!(
            restarts(&["gunicorn/gunicorn.conf.py"]),
            [true, false, false]
        );
        assert_eq!(
            restarts(&["gen-topology/apps/shop", "nginx/app.conf"]),
            [false, true, false]
        );
        assert_eq!(
            restarts(&["gen-topology/pythons/shop"]),
            [false, true, false]
        );
        assert_eq!(
            restarts(&["gunicorn/apps/shop.conf.py"]),
            [false, true, false]
        );
        assert_eq!(
            restarts(&["gen-topology/apps/shop", "gen-topology/app-secrets"]),
            [true, true, false]
        );
        assert_eq!(restarts(&[]), [true, true, false]);
    }
}
