//! What the application of a stack needs: its files, its limits, its environment.

use std::path::{Component, Path};

use super::Code;
use super::checker::Check;
use super::diagnostic::{Place, step};
use super::document::quoted;
use super::raw::RawApp;
use super::values::Millis;

/// Environment variables that the rendered gunicorn configuration sets; without a database only
/// the drain file's.
pub(super) const OWN_VARIABLES: [&str; 5] = [
    "MONGODB_URI",
    "MONGODB_CREDENTIALS_FILE",
    "MONGODB_DATABASE",
    "DRAIN_FILE",
    "DATABASE_GRACE",
];

/// Variables that change how Python, gunicorn or the dynamic linker work, before the
/// application has a say.
const DANGEROUS_VARIABLES: [&str; 8] = [
    "GUNICORN_CMD_ARGS",
    "LD_LIBRARY_PATH",
    "LD_PRELOAD",
    "PATH",
    "PYTHONHOME",
    "PYTHONPATH",
    "PYTHONSTARTUP",
    "WEB_CONCURRENCY",
];

/// An application, and where it stands in the file.
struct Spot<'r> {
    at: String,
    app: &'r RawApp,
}

impl Spot<'_> {
    fn pointer(&self, below: &str) -> String {
        format!("{}/{below}", self.at)
    }

    fn value(&self, below: &str) -> Place {
        Place::value(self.pointer(below))
    }

    fn key_at(&self, below: &str) -> Place {
        Place::key(self.pointer(below))
    }

    /// How people write where it stands.
    fn key(&self) -> String {
        self.at.trim_start_matches('/').replace('/', ".")
    }
}

impl Check<'_> {
    /// Every application by itself.
    pub(super) fn apps(&mut self, base: &Path, exists: &dyn Fn(&Path) -> bool) {
        for (at, app) in self.applications() {
            self.app(&Spot { at, app }, base, exists);
        }
    }

    fn app(&mut self, spot: &Spot<'_>, base: &Path, exists: &dyn Fn(&Path) -> bool) {
        let app = spot.app;
        let source = base.join(&app.source);
        let requirements = source.join(&app.requirements);
        if app.source.is_empty() || !exists(&source) {
            let message = format!("there is no directory {}", quoted(&app.source));
            self.add(Code::MissingSource, spot.value("source"), message)
                .hint = Some("paths are relative to the topology file".into());
        } else if !is_inside(&app.requirements) || !exists(&requirements) {
            let message = format!(
                "there is no {} in {}",
                quoted(&app.requirements),
                quoted(&app.source)
            );
            self.add(Code::MissingSource, spot.value("requirements"), message)
                .hint = Some(
                "lock the app's packages, with gunicorn, by `pip-compile --generate-hashes`".into(),
            );
        }
        self.served(spot, &source, exists);
        self.environment(spot);
        self.secrets(spot);
    }

    /// Limits and static files.
    fn served(&mut self, spot: &Spot<'_>, source: &Path, exists: &dyn Fn(&Path) -> bool) {
        let app = spot.app;
        for (key, value, least, most) in [
            ("longest_request", app.longest_request, 1_000, 3_600_000),
            ("idle_timeout", app.idle_timeout, 1_000, 86_400_000),
        ] {
            if !(least..=most).contains(&value.get()) {
                let (least, most) = (Millis::new(least), Millis::new(most));
                let message = format!("`{key}` goes from {least} to {most}, this is {value}");
                self.add(Code::OutOfRange, spot.value(key), message);
            }
        }
        if app.largest_body.get() == 0 {
            // nginx takes 0 for "no limit".
            let message = "`largest_body` must be at least 1KiB";
            self.add(Code::OutOfRange, spot.value("largest_body"), message);
        }
        let url = app.static_url.to_string();
        if !url.ends_with('/') || url == "/" {
            let message = format!("`static_url` is a path that ends with `/`, this is {url:?}");
            self.add(Code::BadValue, spot.value("static_url"), message)
                .hint = Some("such as \"/static/\"; `/` itself is the application's".into());
        } else if app.static_directory.is_some() && app.health_path.to_string().starts_with(&url) {
            let message = format!("{} is below {url}, which nginx serves", app.health_path);
            self.add(Code::BadValue, spot.value("health_path"), message)
                .hint =
                Some("a file says nothing about the application: choose a path of its own".into());
        }
        if let Some(directory) = &app.static_directory
            && (!is_inside(directory) || !exists(&source.join(directory)))
        {
            let message = format!(
                "there is no directory {} in the application",
                quoted(directory)
            );
            self.add(Code::MissingSource, spot.value("static_directory"), message);
        }
    }

    fn environment(&mut self, spot: &Spot<'_>) {
        let app = spot.app;
        for (name, value) in &app.env {
            let place = || spot.key_at(&format!("env/{}", step(name)));
            if !self.is_free(name, place()) {
                continue;
            }
            if value.contains('\0') {
                let place = spot.value(&format!("env/{}", step(name)));
                self.add(
                    Code::BadValue,
                    place,
                    format!("{name} can't hold a NUL character"),
                );
            } else if is_secret(name) && !value.is_empty() {
                let message = format!("{name} looks like a secret, and `env` is readable by all");
                self.add(Code::SecretInEnvironment, place(), message).hint = Some(format!(
                    "name it in `{}.secrets` instead, and give its value by `gen-topology secrets set {name}`",
                    spot.key()
                ));
            }
        }
    }

    /// Whether the application may have a variable of this name.
    fn is_free(&mut self, name: &str, place: Place) -> bool {
        let is_own =
            OWN_VARIABLES.contains(&name) && (self.raw.has_database() || name == "DRAIN_FILE");
        if is_own {
            let message = format!("{name} is set by the stack itself");
            self.add(Code::ReservedVariable, place, message);
        } else if !is_variable(name) {
            let message = format!(
                "{} can't be the name of an environment variable",
                quoted(name)
            );
            self.add(Code::ReservedVariable, place, message).hint =
                Some("use letters, digits and `_`, and no digit first".into());
        } else if DANGEROUS_VARIABLES.contains(&name) {
            let message = format!("{name} would change the stack's own programs");
            self.add(Code::ReservedVariable, place, message).hint = instead_of(name);
        } else {
            return true;
        }
        false
    }

    /// Variables whose values are in files.
    fn secrets(&mut self, spot: &Spot<'_>) {
        let app = spot.app;
        for name in app.secrets.keys() {
            let place = || spot.key_at(&format!("secrets/{}", step(name)));
            if self.is_free(name, place()) && app.env.contains_key(name) {
                self.twice(name, place(), spot.pointer(&format!("env/{}", step(name))));
            }
        }
        let Some(name) = &app.database_uri_env else {
            return;
        };
        let place = || spot.value("database_uri_env");
        if !self.raw.has_database() {
            let message = "the stack has no database whose address a variable could hold";
            self.add(Code::BadValue, place(), message);
        } else if self.is_free(name, place()) {
            for (of, is_there) in [
                ("env", app.env.contains_key(name)),
                ("secrets", app.secrets.contains_key(name)),
            ] {
                if is_there {
                    self.twice(name, place(), spot.pointer(&format!("{of}/{}", step(name))));
                }
            }
        }
    }

    fn twice(&mut self, name: &str, place: Place, other: String) {
        let message = format!("{name} would have two values");
        let problem = self.add(Code::DuplicateVariable, place, message);
        let other = Place::key(other);
        problem.related.push((other, "the other one".into()));
        problem.hint = Some("remove one of them".into());
    }
}

/// Whether a relative path stays below where it starts.
fn is_inside(path: &str) -> bool {
    !path.is_empty()
        && Path::new(path)
            .components()
            .all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
}

fn is_variable(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// The key that does what the variable was meant to do.
fn instead_of(name: &str) -> Option<String> {
    match name {
        "WEB_CONCURRENCY" => {
            Some("`app.workers` and `app.instances` say how many there are".into())
        }
        "GUNICORN_CMD_ARGS" => Some("gunicorn's settings follow from `app`'s keys".into()),
        _ => None,
    }
}

/// Whether a variable's name says that its value is a secret.
fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    let words: Vec<&str> = name.split('_').collect();
    let secret = ["SECRET", "PASSWORD", "PASSWD", "TOKEN", "CREDENTIALS"];
    let is_file = matches!(
        words.last(),
        Some(&("FILE" | "PATH" | "URL" | "HEADER" | "NAME"))
    );
    let names_one = words.iter().any(|word| secret.contains(word))
        || (words.last() == Some(&"KEY") && !words.contains(&"PUBLIC"));
    names_one && !is_file
}
