//! `export`: the stack in another world's words.

use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, anyhow};
use clap::Args as ClapArgs;

use super::args::FileArg;
use super::generate::{counts, foreign};
use super::source;
use super::ui::Ui;
use crate::export::{self, Files, Format, Places, README, Refusal, Stack, readme_mark};
use crate::failure::{Failure, Outcome};
use crate::hosts::{self, Tree};
use crate::secrets::Secrets;
use crate::sink::Sink as _;
use crate::topology::{Source, Topology};

#[derive(Debug, ClapArgs)]
pub(super) struct ExportArgs {
    /// What to export to; see --list
    #[arg(required_unless_present = "list", value_name = "FORMAT")]
    pub format: Option<String>,
    #[command(flatten)]
    pub file: FileArg,
    /// Directory to write to [default: export/FORMAT beside the topology file]
    #[arg(short, long, value_name = "DIR")]
    pub output: Option<PathBuf>,
    /// Write nothing; print a diff and exit with 2 if something would change
    #[arg(long)]
    pub check: bool,
    /// Tell the formats
    #[arg(long, exclusive = true)]
    pub list: bool,
}

/// `export`.
pub(super) fn run(file: Option<&Path>, args: &ExportArgs, ui: &mut Ui) -> Outcome {
    let Some(name) = args.format.as_deref().filter(|_| !args.list) else {
        return list(ui);
    };
    let format = find(name)?;
    let (source, topology) = source::load(file, ui)?;
    let beside = || source.base.join("export").join(format.name());
    let directory = args.output.clone().unwrap_or_else(beside);
    let directory = plain(&directory)?;
    let files = files(format, &topology, places(&source, &topology, &directory)?)?;
    write(&directory, format, &files, args.check, ui)
}

fn list(ui: &mut Ui) -> Outcome {
    let width = export::ALL.iter().map(|format| format.name().len()).max();
    let width = width.unwrap_or_default();
    let lines: Vec<String> = export::ALL
        .iter()
        .map(|format| format!("{:width$}  {}\n", format.name(), format.summary()))
        .collect();
    ui.data(&lines.concat())
}

fn find(name: &str) -> Result<&'static dyn Format, Failure> {
    let found = export::ALL.iter().find(|format| format.name() == name);
    found.copied().ok_or_else(|| {
        let names: Vec<&str> = export::ALL.iter().map(|format| format.name()).collect();
        let meant = crate::topology::did_you_mean(name, names.iter().copied());
        let meant = meant.map_or_else(
            || format!("there are {}", names.join(", ")),
            |meant| format!("did you mean `{meant}`?"),
        );
        Failure::Usage(format!("there is no format `{name}`; {meant}"))
    })
}

fn files(format: &dyn Format, topology: &Topology, places: Places) -> Result<Files, Failure> {
    let bug = "this is a bug of gen-topology; please report it with your topology file";
    let stack = Stack::of(topology, places).context(bug)?;
    export::files(format, &stack).map_err(|refusal| match refusal {
        Refusal::Parts(_) => Failure::Failed(anyhow!("{}: {refusal}", format.name())),
        Refusal::Bug(error) => Failure::Failed(error.context(bug)),
    })
}

/// An absolute path without `.` and `..`.
fn plain(path: &Path) -> anyhow::Result<PathBuf> {
    let absolute =
        std::path::absolute(path).with_context(|| format!("finding {}", path.display()))?;
    let mut plain = PathBuf::new();
    for part in absolute.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                plain.pop();
            }
            part => plain.push(part),
        }
    }
    Ok(plain)
}

/// The way from one directory to another; both are absolute and plain.
fn way(from: &Path, to: &Path) -> String {
    let shared = from.components().zip(to.components());
    let shared = shared.take_while(|(a, b)| a == b).count();
    let up = from.components().skip(shared).map(|_| PathBuf::from(".."));
    let down = to
        .components()
        .skip(shared)
        .map(|part| PathBuf::from(part.as_os_str()));
    let way: PathBuf = up.chain(down).collect();
    if way.as_os_str().is_empty() {
        return ".".into();
    }
    way.display().to_string()
}

fn places(source: &Source, topology: &Topology, directory: &Path) -> anyhow::Result<Places> {
    let file = if source.path == Path::new("-") {
        source.base.join("topology.json")
    } else {
        source.path.clone()
    };
    let app = plain(&source.base.join(&topology.app().source))?;
    let secrets = plain(Secrets::of_stack(&file).directory())?;
    Ok(Places {
        app: way(directory, &app),
        secrets: way(directory, &secrets),
        topology: way(directory, &plain(&file)?),
        from_app: way(&app, directory),
    })
}

fn write(
    directory: &Path,
    format: &dyn Format,
    files: &Files,
    check: bool,
    ui: &mut Ui,
) -> Outcome {
    make_sure_it_is_ours(directory, format)?;
    let (parent, name) = directory
        .parent()
        .zip(directory.file_name().and_then(|name| name.to_str()))
        .with_context(|| format!("{} can't be an export's directory", directory.display()))?;
    let trees = [Tree {
        name,
        files: files
            .iter()
            .map(|(path, text)| (path.as_str(), text.as_str()))
            .collect(),
    }];
    let changes = hosts::diff_trees(parent, &trees)?;
    if !changes.foreign.is_empty() {
        let list = changes.foreign.iter();
        let list: Vec<String> = list
            .map(|path| parent.join(path).display().to_string())
            .collect();
        return Err(foreign(&list).into());
    }
    let place = directory.display();
    if check && changes.is_empty() {
        ui.say(&format!(
            "{place} is up to date: {} files",
            changes.unchanged
        ));
        return Ok(());
    }
    if check {
        ui.data(&hosts::unified_trees(parent, &trees, &changes))?;
        ui.say(&format!("{place} would change: {}", counts(&changes)));
        return Err(Failure::Differs);
    }
    hosts::write_trees(parent, &trees, &changes)?;
    ui.say(&format!("{place}: {}", counts(&changes)));
    ui.say(&format!(
        "how to go on: {}",
        directory.join(README).display()
    ));
    Ok(())
}

/// A directory is taken if it is empty or an export of this format: others may hold files with
/// our mark that are no part of it, `hosts/` for one.
fn make_sure_it_is_ours(directory: &Path, format: &dyn Format) -> anyhow::Result<()> {
    let mut entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => {
            return Err(error).with_context(|| format!("reading {}", directory.display()));
        }
    };
    let mark = readme_mark(format.name());
    let readme = std::fs::read(directory.join(README)).unwrap_or_default();
    if entries.next().is_none() || readme.starts_with(mark.as_bytes()) {
        return Ok(());
    }
    Err(anyhow!(
        "{} holds files and is no export of the format {}; name another directory with -o, nothing was written",
        directory.display(),
        format.name()
    ))
}
