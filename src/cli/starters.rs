//! What `init` can write: the demonstration, and a small start for each framework.

use clap::ValueEnum;

/// An application to start from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Starter {
    /// The demonstration: Flask with data in `MongoDB`
    Demo,
    /// A page by Flask, without a database
    Flask,
    /// A page by Django, without a database
    Django,
    /// A page and a websocket by FastAPI, without a database
    Fastapi,
    /// No application: yours comes later
    None,
}

type Files = &'static [(&'static str, &'static str)];

const PAGE: (&str, &str) = (
    "templates/index.html",
    include_str!("../../starter/page.html"),
);
const STYLE: (&str, &str) = ("static/style.css", include_str!("../../starter/style.css"));

/// The demo application, so that a new project runs before a line of it is written.
const DEMO: Files = &[
    ("app.py", include_str!("../../starter/app/app.py")),
    ("database.py", include_str!("../../starter/app/database.py")),
    (
        "requirements.in",
        include_str!("../../starter/app/requirements.in"),
    ),
    (
        "requirements.txt",
        include_str!("../../starter/app/requirements.txt"),
    ),
    (
        "templates/index.html",
        include_str!("../../starter/app/templates/index.html"),
    ),
    (
        "static/style.css",
        include_str!("../../starter/app/static/style.css"),
    ),
    (
        "static/status.js",
        include_str!("../../starter/app/static/status.js"),
    ),
    (
        "static/icon.svg",
        include_str!("../../starter/app/static/icon.svg"),
    ),
];

const FLASK: Files = &[
    ("app.py", include_str!("../../starter/flask/app.py")),
    (
        "requirements.in",
        include_str!("../../starter/flask/requirements.in"),
    ),
    (
        "requirements.txt",
        include_str!("../../starter/flask/requirements.txt"),
    ),
    PAGE,
    STYLE,
];

const DJANGO: Files = &[
    ("manage.py", include_str!("../../starter/django/manage.py")),
    (
        "website/__init__.py",
        include_str!("../../starter/django/website/__init__.py"),
    ),
    (
        "website/settings.py",
        include_str!("../../starter/django/website/settings.py"),
    ),
    (
        "website/urls.py",
        include_str!("../../starter/django/website/urls.py"),
    ),
    (
        "website/wsgi.py",
        include_str!("../../starter/django/website/wsgi.py"),
    ),
    (
        "requirements.in",
        include_str!("../../starter/django/requirements.in"),
    ),
    (
        "requirements.txt",
        include_str!("../../starter/django/requirements.txt"),
    ),
    PAGE,
    STYLE,
];

const FASTAPI: Files = &[
    ("main.py", include_str!("../../starter/fastapi/main.py")),
    (
        "requirements.in",
        include_str!("../../starter/fastapi/requirements.in"),
    ),
    (
        "requirements.txt",
        include_str!("../../starter/fastapi/requirements.txt"),
    ),
    PAGE,
    STYLE,
];

impl Starter {
    /// Its files, below the application's directory.
    pub(super) fn files(self) -> Files {
        match self {
            Starter::Demo => DEMO,
            Starter::Flask => FLASK,
            Starter::Django => DJANGO,
            Starter::Fastapi => FASTAPI,
            Starter::None => &[],
        }
    }

    /// Keys of `app` that it needs, with their values as `set` takes them.
    pub(super) fn keys(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Starter::Demo | Starter::None => &[],
            Starter::Flask => &[("static_directory", "static")],
            Starter::Django => &[
                ("entry", "website.wsgi:application"),
                ("static_directory", "static"),
                ("secrets", "{ \"DJANGO_SECRET_KEY\": {} }"),
            ],
            Starter::Fastapi => &[
                ("entry", "main:app"),
                ("worker", "asgi"),
                ("static_directory", "static"),
            ],
        }
    }

    /// Whether it keeps data in the stack's database.
    pub(super) fn has_database(self) -> bool {
        matches!(self, Starter::Demo | Starter::None)
    }

    /// Its own secrets that a random value will do for.
    pub(super) fn secrets(self) -> &'static [&'static str] {
        match self {
            Starter::Django => &["DJANGO_SECRET_KEY"],
            _ => &[],
        }
    }

    /// What was written, in a sentence.
    pub(super) fn words(self) -> &'static str {
        match self {
            Starter::Demo => "a demo app",
            Starter::Flask => "a small Flask application",
            Starter::Django => "a small Django site",
            Starter::Fastapi => "a small FastAPI application",
            Starter::None => "no application: bring yours to ./app",
        }
    }
}
