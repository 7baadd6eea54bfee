//! The way to a lab: which one is meant, and this program continuing inside it.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, anyhow};

use super::request::Request;
use super::source;
use super::ui::Ui;
use crate::failure::{Failure, Outcome};
use crate::lab::{Place, RunningLab, enter};

/// Exit code of an inner command whose lab is not worth keeping.
const UNUSABLE: i32 = 70;

/// The lab that is meant: the one that was named, the one of this topology file, or the only one there is.
pub(super) fn place(file: Option<&Path>, lab: Option<&str>) -> Result<Place, Failure> {
    if let Some(name) = lab {
        return Ok(Place::of(name)?);
    }
    let all = Place::all()?;
    // The file may be gone or broken: its lab must still be found.
    let path = source::find(file)
        .ok()
        .and_then(|path| std::path::absolute(path).ok());
    let mut candidates = all;
    if let Some(path) = &path {
        let named = source::read(file)
            .ok()
            .and_then(|source| source::checked(&source).topology)
            .map(|topology| topology.name().to_string());
        let is_of_file =
            |place: &&Place| place.about().is_some_and(|about| about.topology == *path);
        let of_file: Vec<Place> = candidates.iter().filter(is_of_file).cloned().collect();
        let has_name = |place: &&Place| Some(&place.name) == named.as_ref();
        if let Some(place) = of_file.iter().find(has_name) {
            return Ok(place.clone());
        }
        if of_file.is_empty()
            && let Some(name) = named
        {
            return Ok(Place::of(&name)?);
        }
        if !of_file.is_empty() {
            candidates = of_file;
        }
    }
    match candidates.as_slice() {
        [only] => Ok(only.clone()),
        [] => Err(anyhow!("there is no lab; `gen-topology lab up` starts one").into()),
        many => {
            let names: Vec<&str> = many.iter().map(|place| place.name.as_str()).collect();
            Err(Failure::Usage(format!(
                "there are several labs: {}; choose one with --lab",
                names.join(", ")
            )))
        }
    }
}

pub(super) fn running(place: &Place) -> anyhow::Result<RunningLab> {
    place.running().with_context(|| {
        format!(
            "the lab {} is not running; `gen-topology lab up` starts it",
            place.name
        )
    })
}

/// Runs a request inside and imitates its exit code.
pub(super) fn pass(
    file: Option<&Path>,
    lab: Option<&str>,
    request: &Request,
    changes: bool,
    ui: &Ui,
) -> Outcome {
    let place = place(file, lab)?;
    let lab = running(&place)?;
    let _lock = if changes { Some(place.lock()?) } else { None };
    let status = inner(&lab, request, ui)?
        .status()
        .context("entering the lab")?;
    imitate(status)
}

pub(super) fn imitate(status: std::process::ExitStatus) -> Outcome {
    match status.code() {
        Some(0) => Ok(()),
        code => Err(Failure::Status(
            code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1),
        )),
    }
}

/// This program, continuing inside the lab.
pub(super) fn inner(lab: &RunningLab, request: &Request, ui: &Ui) -> anyhow::Result<Command> {
    let mut command = enter::command(lab, &lab.place.program());
    with_request(&mut command, lab, request, ui)?;
    Ok(command)
}

/// The arguments that make this program carry a request out in the lab.
pub(super) fn with_request(
    command: &mut Command,
    lab: &RunningLab,
    request: &Request,
    ui: &Ui,
) -> anyhow::Result<()> {
    command
        .args(ui.arguments())
        .args(["lab", "inside"])
        .arg(&lab.place.directory)
        .arg(serde_json::to_string(request)?);
    Ok(())
}

/// Exit code for an inner command that could not start the lab.
pub(super) fn unusable() -> Failure {
    Failure::Status(u8::try_from(UNUSABLE).unwrap_or(1))
}
