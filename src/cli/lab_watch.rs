//! `lab watch`: code that is saved runs on every app server within seconds, one after the other, and
//! what the application has to say is in the terminal.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use notify::{Event, RecursiveMode, Watcher as _};

use super::interrupts::{apart, listen_for_interrupts, wait_for};
use super::lab_logs::{log_files, read_from};
use super::lab_way::{self, inner};
use super::request::Request;
use super::ui::{Tone, Ui, paint};
use super::{lab_up, source};
use crate::config::Action;
use crate::failure::{Failure, Outcome};
use crate::lab::supplies::AppCode;
use crate::lab::{AppVersion, Lab, Place};
use crate::sink::Sink as _;
use crate::topology::Tier;
use crate::wait;

/// Time between two looks at the logs.
const LOOK: Duration = Duration::from_millis(100);
/// An editor writes several files, or one in several steps: nothing may have changed for so long.
const QUIET: Duration = Duration::from_millis(60);
/// How long an app server may take until it is ready with new code.
const READY: Duration = Duration::from_secs(20);

/// `lab watch`.
pub(super) fn watch(file: Option<&Path>, lab: Option<&str>, ui: &mut Ui) -> Outcome {
    let interrupted = listen_for_interrupts()?;
    let (source, topology) = source::load(file, ui)?;
    let directories = topology.applications().map(|application| {
        let directory = fs::canonicalize(source.base.join(&application.app.source));
        directory.with_context(|| format!("finding the code of `{}`", application.key()))
    });
    let directories: BTreeSet<PathBuf> = directories.collect::<anyhow::Result<_>>()?;
    let place = lab_way::place(file, lab)?;
    lab_way::running(&place)?;
    let (sender, events) = channel();
    let mut watcher = notify::recommended_watcher(move |event| {
        // Nobody listens any more when this command ends.
        let _ = sender.send(event);
    })
    .context("watching files")?;
    for directory in &directories {
        watcher
            .watch(directory, RecursiveMode::Recursive)
            .with_context(|| format!("watching {}", directory.display()))?;
    }
    let apps = topology.tier(Tier::App).map(|node| node.name.to_string());
    let mut logs = Logs::of(place.clone(), apps.collect());
    ui.say(&format!(
        "watching {}; Ctrl-C ends this, and the lab goes on",
        paint(Tone::Strong, &named(&directories))
    ));
    while !interrupted.load(Ordering::SeqCst) && place.anchor().is_some() {
        logs.tell(ui);
        if !has_changed(&events)? {
            continue;
        }
        match reload(file, lab, &place, &interrupted, ui) {
            Ok(()) | Err(Failure::Status(_)) => {}
            Err(Failure::Failed(error)) => ui.error(&error),
            Err(other) => return Err(other),
        }
    }
    Ok(())
}

fn named(directories: &BTreeSet<PathBuf>) -> String {
    let names: Vec<String> = directories
        .iter()
        .map(|it| it.display().to_string())
        .collect();
    names.join(" and ")
}

/// Waits a moment for a change, and then until it is over.
fn has_changed(events: &Receiver<notify::Result<Event>>) -> anyhow::Result<bool> {
    let changes = |event: notify::Result<Event>| {
        let kind = event.context("watching files")?.kind;
        // Whoever only reads is no news; this command reads all of it.
        anyhow::Ok(kind.is_create() || kind.is_modify() || kind.is_remove())
    };
    let mut changed = match events.recv_timeout(LOOK) {
        Ok(event) => changes(event)?,
        Err(RecvTimeoutError::Timeout) => return Ok(false),
        Err(RecvTimeoutError::Disconnected) => return Err(anyhow!("files are watched no more")),
    };
    while let Ok(event) = events.recv_timeout(QUIET) {
        changed |= changes(event)?;
    }
    Ok(changed)
}

/// Brings what the directory holds now to every app server.
fn reload(
    file: Option<&Path>,
    lab: Option<&str>,
    place: &Place,
    interrupted: &AtomicBool,
    ui: &mut Ui,
) -> Outcome {
    let running = lab_way::running(place)?;
    let (source, topology) = source::load(file, ui)?;
    let (_, supplies, _) = lab_up::planned(&source, &topology, lab, ui)?;
    let _lock = place.lock()?;
    supplies.keep_app()?;
    let version = |app: &AppCode| AppVersion {
        name: app.name.clone(),
        version: app.version.clone(),
        python: app.python.clone(),
    };
    let request = Request::Reload(supplies.apps.iter().map(version).collect());
    let mut child = apart(&mut inner(&running, &request, ui)?)
        .spawn()
        .context("entering the lab")?;
    lab_way::imitate(wait_for(&mut child, interrupted)?)
}

/// Versions of the applications put on each app server that runs another one, one after the other, inside the lab.
pub(super) fn inside(place: &Place, versions: &[AppVersion], ui: &mut Ui) -> Outcome {
    let begun = Instant::now();
    let before = Lab::open(place)?;
    let Some(plan) = before.plan().with_apps(versions)? else {
        return Ok(());
    };
    let lab = Lab::with(place, plan)?;
    let apps: Vec<String> = lab
        .plan()
        .tier(Tier::App)
        .filter(|node| before.plan().node(&node.name) != Some(node))
        .map(|node| node.name.clone())
        .filter(|name| lab.pid(name).is_some())
        .collect();
    let Some(first) = apps.first() else {
        return Err(anyhow!("no app server is running").into());
    };
    if let Some(said) = lab.rehearse(first)? {
        ui.warn(&prefixed(first, said.trim_start_matches("error: ")));
        ui.say("nothing was reloaded: the application can't be loaded");
        return Err(Failure::Status(1));
    }
    for (done, name) in apps.iter().enumerate() {
        if let Err(error) = bring(&lab, name) {
            for name in &apps[..=done] {
                lab.revert(name, &[Action::RestartApp])?;
                lab.settle(name)?;
            }
            return Err(error
                .context(format!(
                    "{name} has the code of before again, as all app servers do"
                ))
                .into());
        }
        ui.say(&format!(
            "{}: reloaded, {:.2} s after the first began",
            paint(Tone::Good, name),
            begun.elapsed().as_secs_f64()
        ));
    }
    apps.iter().try_for_each(|name| lab.settle(name))?;
    lab.forget_versions();
    Ok(())
}

fn bring(lab: &Lab, name: &str) -> anyhow::Result<()> {
    lab.change(name, &[Action::RestartApp])?;
    let node = lab.planned(name)?;
    anyhow::ensure!(
        wait::until(READY, || lab.is_ready(node)),
        "{name} is not ready with the new code"
    );
    Ok(())
}

/// Each line behind the node's name.
fn prefixed(node: &str, text: &str) -> String {
    let name = paint(Tone::Bad, node);
    let lines: Vec<String> = text.lines().map(|line| format!("{name} {line}")).collect();
    lines.join("\n")
}

/// What gunicorn and the application write on the app servers, from now on.
struct Logs {
    place: Place,
    apps: Vec<String>,
    offsets: BTreeMap<PathBuf, u64>,
}

impl Logs {
    fn of(place: Place, apps: Vec<String>) -> Self {
        let mut logs = Self {
            place,
            apps,
            offsets: BTreeMap::new(),
        };
        for (_, file) in logs.files() {
            let length = file.metadata().map_or(0, |data| data.len());
            logs.offsets.insert(file, length);
        }
        logs
    }

    fn files(&self) -> Vec<(String, PathBuf)> {
        let of = |name: &String| {
            let files = log_files(&self.place, name).into_iter();
            let is_own = |file: &PathBuf| file.to_string_lossy().contains("/gunicorn");
            let own: Vec<(String, PathBuf)> = files
                .filter(is_own)
                .map(|file| (name.clone(), file))
                .collect();
            own
        };
        self.apps.iter().flat_map(of).collect()
    }

    /// Tells what is new, but for gunicorn's own account of starts and ends.
    fn tell(&mut self, ui: &mut Ui) {
        for (name, file) in self.files() {
            let text = read_from(&file, self.offsets.entry(file.clone()).or_default());
            let news: Vec<&str> = text
                .lines()
                .filter(|line| !line.contains("[INFO]"))
                .collect();
            if !news.is_empty() {
                ui.warn(&prefixed(&name, &news.join("\n")));
            }
        }
    }
}
