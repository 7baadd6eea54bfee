//! gunicorn on an app node: runs the application.

use std::sync::Arc;

use serde::Serialize;

use super::{DRAIN_FILE, ReplicaSet, app_secret, longest_election, place, secret};
use crate::secrets::Kind;
use crate::topology::{Application, Database, SecretAs, Topology, Worker};

use super::app_limits::AppLimits;

/// gunicorn's configuration.
#[derive(Clone, Debug, Serialize)]
pub struct Gunicorn {
    /// `module:callable`.
    pub entry: String,
    /// Directory of the app's code.
    pub source: String,
    /// Worker processes of one instance.
    pub workers: u16,
    /// gunicorn's `worker_class`.
    pub worker_class: &'static str,
    /// Threads of one worker; an ASGI worker has one.
    pub threads: Option<u16>,
    /// What the application may take, and for how long.
    pub limits: AppLimits,
    /// Environment of the app, `NAME=value`: ours first, then the user's.
    pub environment: Vec<String>,
    /// Variables whose values are in files.
    pub secrets: Vec<SecretVariable>,
    /// The variable with the database's whole address.
    pub database_uri: Option<DatabaseUri>,
}

/// A variable whose value is in a file.
#[derive(Clone, Debug, Serialize)]
pub struct SecretVariable {
    /// Its name.
    pub name: String,
    /// The file.
    pub path: String,
}

/// A variable with user, password and address of the database.
#[derive(Clone, Debug, Serialize)]
pub struct DatabaseUri {
    /// Its name.
    pub name: String,
    /// File with user and password.
    pub credentials: String,
    /// Name of the database.
    pub database: String,
}

impl Gunicorn {
    pub(super) fn of(
        topology: &Topology,
        application: Application<'_>,
        sets: &[Arc<ReplicaSet>],
    ) -> Self {
        let app = application.app;
        let mut own = vec![("DRAIN_FILE", DRAIN_FILE.to_owned())];
        if let Some(database) = topology.database() {
            let grace = longest_election(database.election_timeout).seconds() + 2.0;
            own.splice(
                0..0,
                [
                    ("MONGODB_URI", uri(database, sets)),
                    ("MONGODB_CREDENTIALS_FILE", secret(Kind::Application)),
                    ("MONGODB_DATABASE", database.name.to_string()),
                ],
            );
            own.push(("DATABASE_GRACE", format!("{grace:.2}")));
        }
        let own = own
            .into_iter()
            .map(|(name, value)| format!("{name}={value}"));
        let user = app
            .env
            .iter()
            .map(|(name, value)| format!("{name}={value}"));
        let secrets = |wanted: SecretAs| {
            let secrets = app.secrets.iter().filter(move |(_, of)| **of == wanted);
            secrets.map(|(name, _)| SecretVariable {
                name: name.clone(),
                path: app_secret(name),
            })
        };
        let paths = secrets(SecretAs::Path).map(|it| format!("{}={}", it.name, it.path));
        let values = secrets(SecretAs::Value);
        Self {
            entry: app.entry.to_string(),
            source: place::source(application.name()),
            workers: app.workers,
            worker_class: match app.worker {
                Worker::Threads => "gthread",
                Worker::Asgi => "uvicorn_worker.UvicornWorker",
            },
            threads: (app.worker == Worker::Threads).then_some(app.threads),
            limits: AppLimits::of(app),
            environment: own.chain(user).chain(paths).collect(),
            secrets: values.collect(),
            database_uri: app.database_uri_env.clone().zip(topology.database()).map(
                |(name, database)| DatabaseUri {
                    name,
                    credentials: secret(Kind::Application),
                    database: database.name.to_string(),
                },
            ),
        }
    }
}

/// How the app reaches the replica set, or the router of its own node where there are
/// several. User and password are in a file, not here: this
/// text is in the environment and in a rendered file. Time-outs form a chain in which each layer
/// gives up after the one below it: 5 s here, 9 s in the demonstration's app, then
/// nginx and haproxy ([`AppLimits`]). `serverSelectionTimeoutMS` outlasts an election of the default
/// 2 s time-out, so that a write waits for the new primary instead of failing.
fn uri(database: &Database, sets: &[Arc<ReplicaSet>]) -> String {
    let place = match sets {
        [only] => {
            let hosts: Vec<&str> = only.members.iter().map(|m| m.host.as_str()).collect();
            format!("{}/?replicaSet={}&", hosts.join(","), only.name)
        }
        _ => format!("127.0.0.1:{}/?", database.port),
    };
    let election = longest_election(database.election_timeout).get();
    let selection = (election + 1000).clamp(5000, 8000);
    format!(
        "mongodb://{place}authSource=admin&authMechanism=SCRAM-SHA-256&w=majority&wtimeoutMS=5000&retryWrites=true&retryReads=true\
         &readPreference=primaryPreferred&serverSelectionTimeoutMS={selection}&connectTimeoutMS=1000\
         &socketTimeoutMS=5000&heartbeatFrequencyMS=1000&maxPoolSize=50&waitQueueTimeoutMS=2000"
    )
}
