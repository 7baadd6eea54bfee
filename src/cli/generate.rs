//! `generate`: hosts/ as the topology says.

use std::path::{Path, PathBuf};

use anyhow::anyhow;
use clap::Args as ClapArgs;

use super::args::{FileArg, Format};
use super::source;
use super::ui::Ui;
use crate::failure::{Failure, Outcome};
use crate::sink::Sink as _;
use crate::topology::{Source, Topology};
use crate::{config, hosts, render};

#[derive(Debug, ClapArgs)]
pub(super) struct GenerateArgs {
    #[command(flatten)]
    pub file: FileArg,
    /// Directory to write to [default: hosts beside the topology file]
    #[arg(short, long, value_name = "DIR")]
    pub output: Option<PathBuf>,
    /// Write nothing; print a diff and exit with 2 if something would change
    #[arg(long)]
    pub check: bool,
    /// How to print what `--check` finds
    #[arg(
        long,
        value_name = "FORMAT",
        default_value = "table",
        requires = "check"
    )]
    pub format: Format,
}

/// `generate`.
pub(super) fn run(file: Option<&Path>, args: &GenerateArgs, ui: &mut Ui) -> Outcome {
    let (source, topology) = source::load(file, ui)?;
    let directory = args.output.clone().unwrap_or_else(|| beside(&source));
    let rendered = rendered(&topology)?;
    let changes = hosts::diff(&directory, &rendered)?;
    if !changes.foreign.is_empty() {
        let list: Vec<String> = changes
            .foreign
            .iter()
            .map(|path| directory.join(path).display().to_string())
            .collect();
        return Err(foreign(&list).into());
    }
    if args.check && args.format == Format::Json {
        ui.json(&changes)?;
        if changes.is_empty() {
            return Ok(());
        }
        return Err(Failure::Differs);
    }
    if args.check {
        if changes.is_empty() {
            ui.say(&format!(
                "{} is up to date: {} files",
                directory.display(),
                changes.unchanged
            ));
            return Ok(());
        }
        ui.data(&hosts::unified(&directory, &rendered, &changes))?;
        ui.say(&format!(
            "{} would change: {}",
            directory.display(),
            counts(&changes)
        ));
        return Err(Failure::Differs);
    }
    hosts::write(&directory, &rendered, &changes)?;
    ui.say(&format!(
        "{}: {} nodes, {}",
        directory.display(),
        rendered.len(),
        counts(&changes)
    ));
    Ok(())
}

pub(super) fn foreign(list: &[String]) -> anyhow::Error {
    anyhow!(
        "these were not made by gen-topology and are in the way; move them elsewhere, nothing was written:\n  {}",
        list.join("\n  ")
    )
}

/// The files of every node.
pub(super) fn rendered(topology: &Topology) -> anyhow::Result<Vec<render::Rendered>> {
    render::render(&config::resolve(topology)).map_err(|error| {
        error.context("this is a bug of gen-topology; please report it with your topology file")
    })
}

pub(super) fn beside(source: &Source) -> PathBuf {
    if source.base == Path::new(".") {
        PathBuf::from("hosts")
    } else {
        source.base.join("hosts")
    }
}

pub(super) fn counts(changes: &hosts::Changes) -> String {
    let parts = [
        (changes.created.len(), "created"),
        (changes.changed.len(), "changed"),
        (changes.removed.len(), "removed"),
        (changes.unchanged, "unchanged"),
    ];
    let parts: Vec<String> = parts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
    if parts.is_empty() {
        "no files".into()
    } else {
        format!("files: {}", parts.join(", "))
    }
}
