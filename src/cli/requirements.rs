//! The applications' lists of packages: said by `check` and before a lab is touched, not by pip in the middle.

use std::fs;
use std::path::{Component, PathBuf};

use crate::failure::Failure;
use crate::import::requirements::unlocked;
use crate::topology::{Application, Checked, Code, Diagnostic, Place, Source, Topology};

/// What makes a lock of a list of names.
const HINT: &str = "keep the names in requirements.in; `uv pip compile --generate-hashes requirements.in -o requirements.txt` \
                    or `pip-compile --generate-hashes` makes the lock";

/// Adds what is wrong with the lists of packages.
pub(super) fn judge(source: &Source, checked: &mut Checked) {
    let Some(topology) = &checked.topology else {
        return;
    };
    let problems = problems(source, topology);
    if !problems.is_empty() {
        checked.add(source, problems);
    }
}

/// Ends where packages are about to be installed that are not locked.
pub(super) fn refuse(source: &Source, topology: &Topology) -> Result<(), Failure> {
    match problems(source, topology).first() {
        Some(problem) => Err(anyhow::anyhow!("{}; {HINT}", problem.message).into()),
        None => Ok(()),
    }
}

fn problems(source: &Source, topology: &Topology) -> Vec<Diagnostic> {
    topology
        .applications()
        .filter_map(|application| problem(source, &application))
        .collect()
}

fn problem(source: &Source, application: &Application<'_>) -> Option<Diagnostic> {
    let app = application.app;
    let path = app.source.join(&app.requirements);
    // Whether it can be read is another matter.
    let text = fs::read_to_string(source.base.join(&path)).ok()?;
    let lines = unlocked(&text);
    let first = lines.first()?;
    let more = match lines.len() - 1 {
        0 => String::new(),
        1 => ", and one more line".into(),
        more => format!(", and {more} more lines"),
    };
    let path: PathBuf = path
        .components()
        .filter(|part| *part != Component::CurDir)
        .collect();
    let message = format!("{}, {first}{more}", path.display());
    let place = Place::value(format!(
        "/{}/requirements",
        application.key().replace('.', "/")
    ));
    Some(Diagnostic::new(Code::UnlockedRequirements, place, message).hint(HINT))
}
