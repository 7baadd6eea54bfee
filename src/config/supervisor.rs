//! supervisord on an app node: keeps gunicorn up, and drains the node before it stops.

use serde::Serialize;

use super::app_limits::AppLimits;
use super::{PROGRAM, place};
use crate::topology::Application;

/// supervisord's configuration.
#[derive(Clone, Debug, Serialize)]
pub struct Supervisor {
    /// Each instance of each application.
    pub instances: Vec<Supervised>,
    /// Program of ours that drains the node.
    pub program: &'static str,
    /// The longest that an instance may take to end, in seconds.
    pub stop: u64,
}

/// An instance of gunicorn, with a socket of its own.
#[derive(Clone, Debug, Serialize)]
pub struct Supervised {
    /// Name of its program.
    pub name: String,
    /// Its socket.
    pub socket: String,
    /// gunicorn's file.
    pub configuration: String,
    /// Python with the application's packages.
    pub python: String,
    /// How long it may take to end, in seconds.
    pub stop: u64,
}

impl Supervisor {
    pub(super) fn of(applications: &[Application<'_>]) -> Self {
        let instances = applications.iter().flat_map(|application| {
            let name = application.name();
            let stop = AppLimits::of(application.app).stop;
            (0..application.app.instances).map(move |number| {
                let program = place::program(name, number);
                Supervised {
                    socket: place::socket(&program),
                    name: program,
                    configuration: place::settings(name),
                    python: place::python(name),
                    stop,
                }
            })
        });
        let instances: Vec<Supervised> = instances.collect();
        Self {
            program: PROGRAM,
            stop: instances.iter().map(|it| it.stop).max().unwrap_or(0),
            instances,
        }
    }
}
