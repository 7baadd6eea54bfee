//! Finding and reading the topology file, and saying what is wrong with it.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::ui::Ui;
use super::{certificates, diagnostics, requirements};
use crate::failure::Failure;
use crate::sink::Sink as _;
use crate::topology::{Checked, Diagnostic, Severity, Source, Topology};

const NAME: &str = "topology.json";

/// The topology file: the one that was named, else the nearest one walking up.
pub(super) fn find(named: Option<&Path>) -> Result<PathBuf, Failure> {
    if let Some(path) = named {
        return Ok(path.to_path_buf());
    }
    let here = std::env::current_dir().context("finding the current directory")?;
    let found = here
        .ancestors()
        .map(|directory| directory.join(NAME))
        .find(|path| path.is_file());
    let found = found.ok_or_else(|| {
        anyhow::anyhow!(
            "there is no {NAME} in {} or above; name one with -f, or write one with `gen-topology init`",
            here.display()
        )
    })?;
    // Shown as short as it can be.
    Ok(found
        .strip_prefix(&here)
        .map(Path::to_path_buf)
        .unwrap_or(found))
}

/// Reads the file that [`find`] finds.
pub(super) fn read(named: Option<&Path>) -> Result<Source, Failure> {
    let path = find(named)?;
    if path == Path::new("-") {
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut std::io::stdin(), &mut bytes)
            .context("reading standard input")?;
        return Ok(Source {
            path,
            base: PathBuf::from("."),
            bytes,
        });
    }
    let bytes = std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
    let base = path
        .parent()
        .map(Path::to_path_buf)
        .filter(|p| !p.as_os_str().is_empty());
    Ok(Source {
        base: base.unwrap_or_else(|| PathBuf::from(".")),
        path,
        bytes,
    })
}

/// What the source means, with its problems.
pub(super) fn checked(source: &Source) -> Checked {
    let mut checked = Topology::check(source, &|path| path.exists());
    certificates::judge(source, &mut checked);
    requirements::judge(source, &mut checked);
    checked
}

/// A topology that can be used. Errors are printed, warnings are not: `check` is there for them.
pub(super) fn topology(source: &Source, ui: &mut Ui) -> Result<Topology, Failure> {
    usable(source, checked(source), ui).map(|(topology, _)| topology)
}

/// The same of one that was checked, with its warnings.
pub(super) fn usable(
    source: &Source,
    mut checked: Checked,
    ui: &mut Ui,
) -> Result<(Topology, Vec<Diagnostic>), Failure> {
    if let Some(topology) = checked.topology {
        return Ok((topology, checked.problems));
    }
    checked
        .problems
        .retain(|problem| problem.severity == Severity::Error);
    ui.warn(diagnostics::draw(source, &checked.problems).trim_end());
    Err(Failure::Invalid)
}

/// Reads and checks in one go.
pub(super) fn load(named: Option<&Path>, ui: &mut Ui) -> Result<(Source, Topology), Failure> {
    let source = read(named)?;
    let topology = topology(&source, ui)?;
    Ok((source, topology))
}
