//! What a directory's Python application is: its framework, and how gunicorn loads it. Pure:
//! the files' text in, keys of the topology and remarks on what was chosen out.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

/// Files of a directory by path, as far as they are text that matters: Python, and lists of packages.
pub type Texts = BTreeMap<String, String>;

/// An application that was recognised.
#[derive(Clone, Debug, PartialEq)]
pub struct Application {
    /// Its framework.
    pub framework: &'static str,
    /// Its directory, as `app.source` names it.
    pub source: String,
    /// Other keys of `app` that it needs.
    pub keys: Vec<(&'static str, Value)>,
    /// Whether its packages say that it uses `MongoDB`.
    pub uses_database: bool,
    /// What was chosen and why, and what it lacks.
    pub remarks: Vec<String>,
}

/// Directories where applications are, the most likely first.
const PLACES: [&str; 8] = ["", "app", "src", "backend", "server", "web", "site", "api"];
/// What makes an application, of which framework, and whether it is ASGI.
const MAKERS: [(&str, &str, bool); 7] = [
    ("FastAPI", "FastAPI", true),
    ("Starlette", "Starlette", true),
    ("Quart", "Quart", true),
    ("Litestar", "Litestar", true),
    ("Flask", "Flask", false),
    ("Bottle", "Bottle", false),
    ("APIFlask", "Flask", false),
];
/// Modules that are looked into first.
const FIRST: [&str; 6] = ["wsgi", "asgi", "app", "main", "application", "server"];
/// Paths that health checks usually have, the most telling first.
const HEALTH: [&str; 7] = [
    "readyz",
    "ready",
    "healthz",
    "health",
    "healthcheck",
    "livez",
    "ping",
];
/// Packages that say that an application uses `MongoDB`.
const DRIVERS: [&str; 6] = [
    "pymongo",
    "motor",
    "mongoengine",
    "flask-pymongo",
    "beanie",
    "django-mongodb-backend",
];

/// The application of these files, if there is one that is known.
pub fn application(files: &Texts) -> Option<Application> {
    PLACES
        .iter()
        .map(|place| Place::of(files, place))
        .find_map(|place| place.django().or_else(|| place.made()))
}

/// The first of these files that looks like an application's at all.
pub fn first(files: &Texts) -> Option<&str> {
    let is_one = |path: &&String| {
        let name = path.rsplit('/').next().unwrap_or(path);
        path.split('/').count() <= 2
            && (is_python(name) || ["requirements.txt", "pyproject.toml"].contains(&name))
    };
    files.keys().find(is_one).map(String::as_str)
}

fn is_python(path: &str) -> bool {
    path.rsplit_once('.')
        .is_some_and(|(_, ending)| ending == "py")
}

/// A directory's files, by their paths below it.
struct Place<'f> {
    source: &'static str,
    files: BTreeMap<&'f str, &'f str>,
}

impl<'f> Place<'f> {
    fn of(files: &'f Texts, place: &'static str) -> Self {
        let below = |path: &'f str| match place {
            "" => Some(path),
            place => path.strip_prefix(place)?.strip_prefix('/'),
        };
        let files = files.iter();
        Self {
            source: place,
            files: files
                .filter_map(|(path, text)| Some((below(path)?, text.as_str())))
                .collect(),
        }
    }

    /// A Django project: `manage.py` names its settings.
    fn django(&self) -> Option<Application> {
        let manage = self.files.get("manage.py")?;
        let line = manage
            .lines()
            .find(|line| line.contains("DJANGO_SETTINGS_MODULE"))?;
        let settings = line.split(['"', '\'']).rfind(|word| word.contains('.'))?;
        let package = settings.split(".settings").next()?;
        let has = |module: &str| {
            let path = format!("{}/{module}.py", package.replace('.', "/"));
            self.files.contains_key(path.as_str())
        };
        let channels = self.packages().contains("channels") && has("asgi");
        let module = if channels { "asgi" } else { "wsgi" };
        if !has(module) {
            return None;
        }
        let entry = format!("{package}.{module}:application");
        let mut found = self.found("Django", &entry, channels);
        found.remarks.push(
            "settings: ALLOWED_HOSTS needs app.internal, the host of health checks, and your own names".into(),
        );
        Some(found)
    }

    /// An application that a module makes: by itself, or by a factory.
    fn made(&self) -> Option<Application> {
        let mut modules: Vec<(&str, String)> = self
            .files
            .keys()
            .filter(|path| !self.is_deeper(path))
            .filter_map(|path| Some((*path, module(path)?)))
            .collect();
        modules.sort_by_key(|(path, module)| {
            let last = module.rsplit('.').next().unwrap_or(module);
            let rank = FIRST.iter().position(|first| *first == last);
            (
                path.matches('/').count(),
                rank.unwrap_or(FIRST.len()),
                module.clone(),
            )
        });
        let mut all = modules.iter().filter_map(|(path, module)| {
            let (framework, callable, is_asgi) = maker(self.files.get(path)?)?;
            Some(self.found(framework, &format!("{module}:{callable}"), is_asgi))
        });
        all.next()
    }

    /// Whether a file is in one of the other places, which is no package of this one.
    fn is_deeper(&self, path: &str) -> bool {
        path.split_once('/').is_some_and(|(first, _)| {
            let package = format!("{first}/__init__.py");
            PLACES.contains(&first) && !self.files.contains_key(package.as_str())
        })
    }

    fn found(&self, framework: &'static str, entry: &str, is_asgi: bool) -> Application {
        let mut keys = Vec::new();
        let mut remarks = vec![format!(
            "{framework} in {}: `app.entry` is {entry}",
            self.name()
        )];
        if entry != "app:app" {
            keys.push(("entry", json!(entry)));
        }
        if is_asgi {
            keys.push(("worker", json!("asgi")));
        }
        let path = self.health_path();
        match path.as_deref() {
            Some("/readyz") => {}
            Some(path) => {
                remarks.push(format!("`app.health_path` is {path}"));
                keys.push(("health_path", json!(path)));
            }
            None => {
                remarks.push(
                    "no path for health checks was found: `app.health_path` is `/`, which has to answer 200; \
                     better is one that answers from memory"
                        .into(),
                );
                keys.push(("health_path", json!("/")));
            }
        }
        remarks.extend(self.lacks(is_asgi));
        Application {
            framework,
            source: match self.source {
                "" => ".".into(),
                place => format!("./{place}"),
            },
            keys,
            uses_database: DRIVERS
                .iter()
                .any(|driver| self.packages().contains(*driver)),
            remarks,
        }
    }

    fn name(&self) -> &str {
        match self.source {
            "" => "this directory",
            place => place,
        }
    }

    /// A health path that stands in the code as a text.
    fn health_path(&self) -> Option<String> {
        let stands = |word: &str| {
            let python = self.files.iter().filter(|(path, _)| is_python(path));
            let quoted = |text: &str| {
                ['"', '\''].into_iter().find_map(|quote| {
                    [("/", ""), ("/", "/"), ("", ""), ("", "/")]
                        .into_iter()
                        .find(|(before, after)| {
                            text.contains(&format!("({quote}{before}{word}{after}{quote}"))
                        })
                        .map(|(_, after)| format!("/{word}{after}"))
                })
            };
            let mut found = python.filter_map(|(_, text)| quoted(text));
            found.next()
        };
        HEALTH.iter().find_map(|word| stands(word))
    }

    /// Names of packages in its lists.
    fn packages(&self) -> BTreeSet<String> {
        let lists = self
            .files
            .iter()
            .filter(|(path, _)| path.starts_with("requirements") || **path == "pyproject.toml");
        let lines = lists.flat_map(|(_, text)| text.lines());
        lines
            .map(|line| {
                let line = line.trim_start_matches([' ', '"', '\'']);
                let end = line.find(|c: char| !(c.is_ascii_alphanumeric() || "-_.".contains(c)));
                let name = &line[..end.unwrap_or(line.len())];
                name.to_ascii_lowercase().replace('_', "-")
            })
            .filter(|name| !name.is_empty())
            .collect()
    }

    /// What it lacks to be run.
    fn lacks(&self, is_asgi: bool) -> Vec<String> {
        let mut lacks = Vec::new();
        let packages = self.packages();
        let needed = ["gunicorn", "uvicorn-worker"];
        let needed = if is_asgi { &needed[..] } else { &needed[..1] };
        for package in needed.iter().filter(|name| !packages.contains(**name)) {
            lacks.push(format!("add {package} to the application's packages"));
        }
        let list = self.files.get("requirements.txt");
        if !list.is_some_and(|text| text.contains("--hash=")) {
            lacks.push(format!(
                "{} needs a requirements.txt with hashes: `uv pip compile --generate-hashes` or `pip-compile \
                 --generate-hashes` makes it",
                self.name()
            ));
        }
        lacks
    }
}

/// The name by which a file is imported.
fn module(path: &str) -> Option<String> {
    let name = path.strip_suffix(".py")?;
    let name = name.strip_suffix("/__init__").unwrap_or(name);
    let is_name = |part: &str| {
        !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    let is_test = |part: &str| part == "tests" || part.starts_with("test_") || part == "conftest";
    let parts: Vec<&str> = name.split('/').collect();
    (parts.iter().all(|part| is_name(part) && !is_test(part))).then(|| parts.join("."))
}

/// The framework, the callable, and whether it is ASGI, of a module that makes an application.
fn maker(text: &str) -> Option<(&'static str, String, bool)> {
    let mut factory = None;
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("def ") {
            factory = rest.split('(').next();
        } else if !line.starts_with([' ', '\t']) && !line.trim().is_empty() {
            factory = None;
        }
        let Some((framework, is_asgi)) = made(line) else {
            continue;
        };
        if line.starts_with([' ', '\t']) {
            if let Some(name) = factory {
                return Some((framework, format!("{name}()"), is_asgi));
            }
            continue;
        }
        let name = line.split([':', '=']).next().unwrap_or_default().trim();
        return Some((framework, name.to_owned(), is_asgi));
    }
    None
}

/// What a line makes: `app = Flask(__name__)`, `app: Flask = flask.Flask(…)`.
fn made(line: &str) -> Option<(&'static str, bool)> {
    let (name, value) = line.split_once('=')?;
    let name = name.split(':').next()?.trim();
    let call = value.trim().split('(').next()?;
    let call = call.rsplit('.').next()?;
    if !value.contains('(')
        || name.is_empty()
        || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    {
        return None;
    }
    let found = MAKERS.iter().find(|(maker, ..)| *maker == call);
    found.map(|(_, framework, is_asgi)| (*framework, *is_asgi))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(files: &[(&str, &str)]) -> Option<Application> {
        let files = files.iter();
        application(
            &files
                .map(|(path, text)| ((*path).to_owned(), (*text).to_owned()))
                .collect(),
        )
    }

    fn key<'a>(application: &'a Application, key: &str) -> Option<&'a str> {
        let found = application.keys.iter().find(|(name, _)| *name == key);
        found.and_then(|(_, value)| value.as_str())
    }

    #[test]
    fn flask_by_a_variable_and_by_a_factory() {
        let plain = of(&[(
            "app.py",
            "from flask import Flask\napp = Flask(__name__)\n@app.get(\"/healthz\")\n",
        )]);
        let plain = plain.unwrap();
        assert_eq!((plain.framework, plain.source.as_str()), ("Flask", "."));
        assert_eq!(key(&plain, "entry"), None);
        assert_eq!(key(&plain, "health_path"), Some("/healthz"));
        let factory = of(&[
            (
                "backend/shop/__init__.py",
                "def create_app(test=None):\n    app = flask.Flask('x')\n    return app\n",
            ),
            ("backend/shop/views.py", "x = 1\n"),
        ]);
        let factory = factory.unwrap();
        assert_eq!(factory.source, "./backend");
        assert_eq!(key(&factory, "entry"), Some("shop:create_app()"));
    }

    #[test]
    fn django_by_its_settings() {
        let files = [
            (
                "manage.py",
                "    os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'shop.settings.prod')\n",
            ),
            ("shop/wsgi.py", "application = get_wsgi_application()\n"),
            ("shop/asgi.py", "application = get_asgi_application()\n"),
            (
                "shop/urls.py",
                "urlpatterns = [path(\"health/\", health)]\n",
            ),
            (
                "requirements.txt",
                "Django==5.2 --hash=sha256:1\ngunicorn==23\npymongo==4\n",
            ),
        ];
        let plain = of(&files).unwrap();
        assert_eq!(key(&plain, "entry"), Some("shop.wsgi:application"));
        assert_eq!(key(&plain, "health_path"), Some("/health/"));
        assert!(plain.uses_database);
        assert!(!plain.remarks.iter().any(|it| it.contains("hashes")));
        let channels = of(&[&files[..4], &[("requirements.txt", "channels\n")]].concat());
        let channels = channels.unwrap();
        assert_eq!(key(&channels, "entry"), Some("shop.asgi:application"));
        assert_eq!(key(&channels, "worker"), Some("asgi"));
        assert!(
            channels
                .remarks
                .iter()
                .any(|it| it.contains("uvicorn-worker"))
        );
    }

    #[test]
    fn fastapi_and_what_is_none() {
        let found = of(&[("src/main.py", "api: FastAPI = FastAPI(title=\"x\")\n")]).unwrap();
        assert_eq!(key(&found, "entry"), Some("main:api"));
        assert_eq!(key(&found, "worker"), Some("asgi"));
        let package = of(&[
            ("app/__init__.py", ""),
            ("app/main.py", "app = FastAPI()\n"),
        ]);
        let package = package.unwrap();
        assert_eq!(package.source, ".");
        assert_eq!(key(&package, "entry"), Some("app.main:app"));
        assert_eq!(of(&[("tests/app.py", "app = Flask(__name__)\n")]), None);
        assert_eq!(of(&[("tool.py", "# app = Flask(__name__)\n")]), None);
        let tool = Texts::from([("tool.py".into(), String::new())]);
        assert_eq!(first(&tool), Some("tool.py"));
        assert_eq!(
            first(&Texts::from([("README.md".into(), String::new())])),
            None
        );
    }
}
