//! An app node leaves before it goes: haproxy is told, and has time to notice. And what a
//! framework's own commands need to run beside the application.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use signal_hook::consts::{SIGINT, SIGTERM};

use super::listen;
use crate::config::{DRAIN_FILE, NodeFacts, place};
use crate::health::http;

/// haproxy asks once a second (`inter 1s`, spread by 5 %), and one 404 is enough
/// for it to send no more; what it has sent by then has the rest.
const DRAIN: Duration = Duration::from_millis(1600);

/// Fails unless the application can serve, asked as haproxy asks it.
///
/// # Errors
/// If it can't, with the reason.
pub fn check(facts: &NodeFacts) -> anyhow::Result<()> {
    let app = facts.app.as_ref().context("this node is no app server")?;
    let client = http::client(Duration::from_secs(3));
    for door in app.doors() {
        let answer = http::get(&client, Ipv4Addr::LOCALHOST, door.port, door.health_path)?;
        let name = door.name.unwrap_or("the app");
        anyhow::ensure!(answer.status == 200, "{name} answers {}", answer.status);
    }
    Ok(())
}

/// Puts the application's environment around a command.
const IN_APP: &str = include_str!("in_app.py");

/// The command line that runs `command` with the variables, directory and Python of an application; none: of `app`.
/// A name that ends in `.py` is run by that Python.
pub fn in_app<'c>(app: Option<&str>, command: impl IntoIterator<Item = &'c str>) -> Vec<String> {
    let fixed = [
        place::python(app),
        "-c".into(),
        IN_APP.into(),
        place::settings(app),
    ];
    let command = command.into_iter().map(str::to_owned);
    fixed.into_iter().chain(command).collect()
}

/// The command line that loads an application as gunicorn would, and says what is wrong with it.
pub fn loads(app: Option<&str>) -> Vec<String> {
    let python = place::python(app);
    let settings = place::settings(app);
    let command = [
        &python,
        "-m",
        "gunicorn",
        "--check-config",
        "--config",
        &settings,
    ];
    in_app(app, command)
}

/// Waits to be told to end, then makes the health check answer 404 for long enough.
///
/// # Errors
/// If the drain file can't be written.
pub fn drain_on_stop(say: &dyn Fn(&str)) -> anyhow::Result<()> {
    let signals = listen()?;
    // Left by a node that did not come to its end.
    let _ = fs::remove_file(DRAIN_FILE);
    while let Ok(signal) = signals.recv() {
        if matches!(signal, SIGTERM | SIGINT) {
            break;
        }
    }
    if let Some(directory) = Path::new(DRAIN_FILE).parent() {
        fs::create_dir_all(directory)
            .with_context(|| format!("creating {}", directory.display()))?;
    }
    fs::write(DRAIN_FILE, "").with_context(|| format!("writing {DRAIN_FILE}"))?;
    say("draining before the app ends");
    std::thread::sleep(DRAIN);
    Ok(())
}
