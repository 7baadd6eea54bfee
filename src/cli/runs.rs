//! Runs of faults that were kept: `faults runs` and `faults report`.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use clap::{Args as ClapArgs, ValueEnum};
use serde_json::json;

use super::args::Format;
use super::ui::{Ui, table};
use super::{findings, source};
use crate::failure::{Failure, Outcome};
use crate::faults::report::difference::Difference;
use crate::faults::report::{Run, html, junit};
use crate::lab::state;
use crate::sink::Sink as _;

/// How a run of faults is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum ReportFormat {
    /// Predicted and measured side by side
    Table,
    /// Everything that was measured
    Json,
    /// XML as `JUnit` writes it, for continuous integration
    Junit,
    /// One page with a drawing of each fault
    Html,
}

#[derive(Debug, ClapArgs)]
pub(super) struct OutputArgs {
    /// How to print
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub format: ReportFormat,
    /// File to write to, whole or not at all [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// Directory of the runs of a stack.
fn runs_of(stack: &str) -> anyhow::Result<PathBuf> {
    Ok(state::runs_directory()?.join(stack))
}

/// The runs of a stack that were kept, by number.
fn numbers(directory: &Path) -> Vec<u32> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut numbers: Vec<u32> = entries
        .filter_map(|entry| {
            entry
                .file_name()
                .to_str()?
                .strip_suffix(".json")?
                .parse()
                .ok()
        })
        .collect();
    numbers.sort_unstable();
    numbers
}

/// Keeps a run, and returns its number.
pub(super) fn keep(run: &Run) -> anyhow::Result<u32> {
    let directory = runs_of(&run.stack)?;
    std::fs::create_dir_all(&directory)
        .with_context(|| format!("creating {}", directory.display()))?;
    let number = numbers(&directory).last().map_or(1, |last| last + 1);
    let path = directory.join(format!("{number}.json"));
    crate::files::replace(&path, &serde_json::to_vec(run)?)
        .with_context(|| format!("writing {}", path.display()))?;
    Ok(number)
}

/// Whose runs are meant: those of the lab that was named, or of the topology's own.
fn stack(whose: &Whose, ui: &mut Ui) -> Result<String, Failure> {
    match whose.lab {
        Some(lab) => Ok(lab.to_owned()),
        None => Ok(source::load(whose.file, ui)?.1.name().to_string()),
    }
}

/// What decides whose runs are meant.
#[derive(Clone, Copy, Debug)]
pub(super) struct Whose<'a> {
    /// The topology file that was named.
    pub file: Option<&'a Path>,
    /// The lab that was named.
    pub lab: Option<&'a str>,
}

/// The run with a number, or the last one.
fn kept(stack: &str, number: Option<u32>) -> anyhow::Result<Run> {
    let directory = runs_of(stack)?;
    let known = numbers(&directory);
    let number = number.or(known.last().copied()).with_context(|| {
        format!("no run of {stack} was kept; `gen-topology faults run` makes one")
    })?;
    if !known.contains(&number) {
        let known: Vec<String> = known.iter().map(u32::to_string).collect();
        let known = match known.as_slice() {
            [] => "none was kept".into(),
            [one] => format!("there is {one}"),
            all => format!("there are {}", all.join(", ")),
        };
        return Err(anyhow!("there is no run {number} of {stack}; {known}"));
    }
    read(&directory, number)
}

fn read(directory: &Path, number: u32) -> anyhow::Result<Run> {
    let path = directory.join(format!("{number}.json"));
    let text = std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
    Run::parse(&text).with_context(|| format!("reading {}", path.display()))
}

/// `faults runs`.
pub(super) fn list(whose: &Whose, format: Format, ui: &mut Ui) -> Outcome {
    let stack = stack(whose, ui)?;
    let directory = runs_of(&stack)?;
    let mut all = Vec::new();
    for number in numbers(&directory) {
        match read(&directory, number) {
            Ok(run) => all.push((number, run)),
            // One that can't be read does not hide the others.
            Err(error) => ui.error(&error),
        }
    }
    if format == Format::Json {
        let list: Vec<_> = all
            .iter()
            .map(|(number, run)| json!({ "run": number, "program": run.program, "sizes": run.sizes, "rate": run.rate, "seed": run.seed, "trials": run.trials.len(), "kept": run.is_kept(), "not_run": run.not_run.len() }))
            .collect();
        return ui.json(&list);
    }
    if all.is_empty() {
        ui.say(&format!(
            "no run of {stack} was kept; `gen-topology faults run` makes one"
        ));
        return Ok(());
    }
    let rows: Vec<Vec<String>> = all
        .iter()
        .map(|(number, run)| {
            let [balancers, apps, databases] = run.sizes;
            vec![
                number.to_string(),
                format!("{balancers} + {apps} + {databases}"),
                run.rate.to_string(),
                run.trials.len().to_string(),
                run.rows()
                    .iter()
                    .filter(|row| !row.is_kept())
                    .count()
                    .to_string(),
                run.not_run.len().to_string(),
            ]
        })
        .collect();
    ui.data(&table(
        &["RUN", "NODES", "RATE", "TRIALS", "BROKEN", "NOT RUN"],
        &rows,
    ))
}

/// `faults report`.
pub(super) fn report(
    whose: &Whose,
    number: Option<u32>,
    against: Option<u32>,
    output: &OutputArgs,
    ui: &mut Ui,
) -> Outcome {
    output.check()?;
    let stack = stack(whose, ui)?;
    let Some(against) = against else {
        return present(&kept(&stack, number)?, output, ui);
    };
    if matches!(output.format, ReportFormat::Junit | ReportFormat::Html) {
        return Err(Failure::Usage(
            "two runs are held against each other as a table or as JSON; leave --format html and junit out".into(),
        ));
    }
    let difference = Difference::between(&kept(&stack, number)?, &kept(&stack, Some(against))?);
    let text = match output.format {
        ReportFormat::Json => to_json(&difference)?,
        _ => findings::difference(&difference),
    };
    output.put(&text, ui)
}

/// Shows a run, or writes it to a file.
pub(super) fn present(run: &Run, output: &OutputArgs, ui: &mut Ui) -> Outcome {
    let text = match output.format {
        ReportFormat::Table => findings::report(run),
        ReportFormat::Json => to_json(run)?,
        ReportFormat::Junit => junit::junit(run)?,
        ReportFormat::Html => html::page(run)?,
    };
    output.put(&text, ui)
}

fn to_json(value: &impl serde::Serialize) -> anyhow::Result<String> {
    serde_json::to_string_pretty(value).context("writing JSON")
}

impl OutputArgs {
    /// Makes sure that there is a directory to write to, before anything takes long.
    pub(super) fn check(&self) -> Outcome {
        let Some(file) = &self.output else {
            return Ok(());
        };
        let directory = file.parent().unwrap_or(Path::new(""));
        let is_there = directory.as_os_str().is_empty() || directory.is_dir();
        if !is_there {
            let directory = directory.display();
            return Err(anyhow!("there is no directory {directory} to write the report to").into());
        }
        if file.is_dir() {
            return Err(anyhow!("{} is a directory; name a file in it", file.display()).into());
        }
        Ok(())
    }

    /// Writes `text` to the file, whole or not at all; to standard output if there is none.
    fn put(&self, text: &str, ui: &mut Ui) -> Outcome {
        let Some(file) = &self.output else {
            return ui.data(text);
        };
        // A file has no colours.
        let mut text = anstream::adapter::strip_str(text).to_string();
        if !text.ends_with('\n') {
            text.push('\n');
        }
        crate::files::replace(file, text.as_bytes())
            .with_context(|| format!("writing {}", file.display()))?;
        ui.say(&format!("wrote {}", file.display()));
        Ok(())
    }
}
