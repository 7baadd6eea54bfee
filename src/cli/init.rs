//! `init`: a topology to start from, with an application or beside one that is there.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail};
use clap::Args as ClapArgs;

use super::starters::Starter;
use super::ui::Ui;
use crate::failure::{Failure, Outcome};
use crate::import::python::{self, Application, Texts};
use crate::secrets::{AppSecrets, Secrets};
use crate::sink::Sink as _;
use crate::topology::{self, Name, ShardSizes};

#[derive(Debug, ClapArgs)]
pub(super) struct InitArgs {
    /// Directory to write to
    #[arg(default_value = ".")]
    pub directory: PathBuf,
    /// Name of the stack [default: the directory's name]
    #[arg(long)]
    pub name: Option<String>,
    /// What to start with [default: what fits an application that is there; else `demo`]
    #[arg(long, value_name = "APP")]
    pub app: Option<Starter>,
    /// Spread the data over so many replica sets of three databases each
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=30))]
    pub shards: Option<u16>,
}

const TOPOLOGY: &str = include_str!("../../starter/topology.json");
const SCHEMA: &str = include_str!("../../topology.schema.json");

/// What is written.
struct Project {
    topology: String,
    /// Files of the application, below `app`.
    app: &'static [(&'static str, &'static str)],
    /// Secrets that get a random value.
    secrets: &'static [&'static str],
    /// What it is, in a sentence.
    words: String,
    /// What was chosen, a line each.
    remarks: Vec<String>,
}

/// `init`.
pub(super) fn run(args: &InitArgs, ui: &mut Ui) -> Outcome {
    let directory = &args.directory;
    let name = match &args.name {
        Some(name) => name
            .parse::<Name>()
            .map_err(|why| Failure::Usage(format!("`{name}` can't be a stack's name: {why}")))?
            .to_string(),
        None => name_of(directory),
    };
    let topology = TOPOLOGY
        .replacen("\"name\": \"ha\"", &format!("\"name\": \"{name}\""), 1)
        .replace("../topology.schema.json", "./topology.schema.json")
        .replace("../app", "./app");
    let project = project(args, &topology)?;
    let topology = match args.shards {
        Some(shards) => sharded(&project.topology, shards)?,
        None => project.topology.clone(),
    };
    let databases = topology.matches("\"tier\": \"database\"").count();
    let mut files = vec![
        ("topology.json".to_owned(), topology),
        ("topology.schema.json".to_owned(), SCHEMA.to_owned()),
    ];
    let app = project.app.iter();
    files.extend(app.map(|(path, text)| (format!("app/{path}"), (*text).to_owned())));
    write(directory, &files)?;
    let secrets = AppSecrets::of(&Secrets::of_stack(&directory.join("topology.json")));
    for name in project.secrets {
        secrets.make(name)?;
    }
    let databases = match databases {
        0 => "no database".to_owned(),
        count => format!("{count} databases"),
    };
    ui.say(&format!(
        "wrote {} with 2 load balancers, 2 app servers and {databases}, and {}",
        directory.join("topology.json").display(),
        project.words,
    ));
    project.remarks.iter().for_each(|remark| ui.say(remark));
    ui.say("next: `gen-topology check`, then `gen-topology lab up`");
    Ok(())
}

/// What to write: what is asked for, else what fits the application that is there, else the demonstration.
fn project(args: &InitArgs, topology: &str) -> anyhow::Result<Project> {
    let texts = match args.app {
        Some(_) => Texts::new(),
        None => texts(&args.directory),
    };
    if let Some(found) = python::application(&texts) {
        return beside(&found, topology);
    }
    if let Some(first) = python::first(&texts) {
        bail!(
            "nothing was written: {} is there, and no application of Flask, Django, FastAPI or their like was \
             recognised; `--app none` writes a topology for it, in which you say `app.source` and `app.entry`",
            args.directory.join(first).display()
        );
    }
    let starter = args.app.unwrap_or(Starter::Demo);
    let mut topology = topology.to_owned();
    for (key, value) in starter.keys() {
        topology = topology::set(&topology, &format!("app.{key}"), Some(value))?.text;
    }
    let mut remarks = Vec::new();
    if !starter.has_database() && args.shards.is_none() {
        topology = without_database(&topology)?;
        remarks.push("`gen-topology scale database=3` adds databases".into());
    }
    let secrets = starter.secrets().iter();
    remarks.extend(secrets.map(|name| {
        format!("made a random {name} for it in .gen-topology/secrets/app, where git does not look")
    }));
    Ok(Project {
        topology,
        app: starter.files(),
        secrets: starter.secrets(),
        words: starter.words().to_owned(),
        remarks,
    })
}

/// A topology for an application that is there; nothing of it is touched.
fn beside(found: &Application, topology: &str) -> anyhow::Result<Project> {
    let mut topology = topology::set(topology, "app.source", Some(&found.source))?.text;
    for (key, value) in &found.keys {
        let value = value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned);
        topology = topology::set(&topology, &format!("app.{key}"), Some(&value))?.text;
    }
    let mut remarks = found.remarks.clone();
    if !found.uses_database {
        topology = without_database(&topology)?;
        remarks.push(
            "its packages name no driver of MongoDB, so there is no database; `gen-topology scale database=3` \
             adds some"
                .into(),
        );
    }
    Ok(Project {
        topology,
        app: &[],
        secrets: &[],
        words: format!("left the {} application as it is", found.framework),
        remarks,
    })
}

/// The starter's topology without its databases.
fn without_database(topology: &str) -> anyhow::Result<String> {
    let kept: Vec<&str> = topology
        .lines()
        .filter(|line| !line.contains("\"tier\": \"database\""))
        .collect();
    let text = kept.join("\n").replace("},\n  }", "}\n  }") + "\n";
    Ok(topology::set(&text, "slo.longest_write_gap", None)?.text)
}

/// Directories that hold no application, besides those whose names begin with a dot.
const NOT_LOOKED_INTO: [&str; 6] = [
    "node_modules",
    "venv",
    "tests",
    "hosts",
    "export",
    "__pycache__",
];
/// How deep an application's modules may be.
const DEPTH: usize = 4;
/// No module that makes an application is larger, in bytes.
const LARGEST: u64 = 200_000;

/// Python files and lists of packages below a directory.
fn texts(directory: &Path) -> Texts {
    let is_dull = |name: &str| name.starts_with('.') || NOT_LOOKED_INTO.contains(&name);
    let walk = ignore::WalkBuilder::new(directory)
        .standard_filters(false)
        .max_depth(Some(DEPTH))
        .filter_entry(move |entry| {
            entry.depth() == 0 || !entry.file_name().to_str().is_some_and(is_dull)
        })
        .build();
    let mut texts = Texts::new();
    for entry in walk.flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy();
        let matters =
            name.ends_with(".py") || name.starts_with("requirements") || name == "pyproject.toml";
        let is_small = entry.metadata().is_ok_and(|data| data.len() <= LARGEST);
        if let (true, true, Ok(below), Ok(text)) = (
            matters,
            is_small,
            path.strip_prefix(directory),
            std::fs::read_to_string(path),
        ) {
            texts.insert(below.to_string_lossy().into_owned(), text);
        }
    }
    texts
}

/// All of it, or nothing if something is there already.
fn write(directory: &Path, files: &[(String, String)]) -> anyhow::Result<()> {
    let taken: Vec<String> = files
        .iter()
        .map(|(path, _)| directory.join(path))
        .filter(|p| p.exists())
        .map(|p| p.display().to_string())
        .collect();
    if !taken.is_empty() {
        return Err(refuse(&taken));
    }
    for (path, text) in files {
        let path = directory.join(path);
        let parent = path.parent().unwrap_or(directory);
        std::fs::create_dir_all(parent)
            .and_then(|()| std::fs::write(&path, text))
            .with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

/// The same with the data spread over `shards` replica sets.
fn sharded(topology: &str, shards: u16) -> anyhow::Result<String> {
    let named = topology::set(topology, "database.replica_set", Some("shard-1"))?;
    let sizes = ShardSizes {
        shards: Some(shards),
        ..ShardSizes::default()
    };
    Ok(topology::scale_shards(&named.text, sizes)?.text)
}

fn refuse(taken: &[String]) -> anyhow::Error {
    anyhow!(
        "nothing was written: {} {} already there",
        taken.join(", "),
        if taken.len() == 1 { "is" } else { "are" }
    )
}

/// The directory's name as far as it can be a stack's.
fn name_of(directory: &Path) -> String {
    let full = std::path::absolute(directory).unwrap_or_else(|_| directory.to_path_buf());
    let last = full
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .to_lowercase();
    let fit: String = last
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .take(40)
        .collect();
    let fit = fit.trim_matches('-').to_owned();
    if fit.is_empty() {
        "web-stack".into()
    } else {
        fit
    }
}
