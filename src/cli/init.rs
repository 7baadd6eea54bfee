//! `init`: a topology to start from, with the demo application.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use clap::Args as ClapArgs;

use super::ui::Ui;
use crate::failure::{Failure, Outcome};
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
    /// Spread the data over so many replica sets of three databases each
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=30))]
    pub shards: Option<u16>,
}

/// The demo application, so that a new project runs before a line of it is written.
const APP: [(&str, &str); 8] = [
    ("app.py", include_str!("../../starter/app/app.py")),
    ("database.py", include_str!("../../starter/app/database.py")),
    (
        "requirements.in",
        include_str!("../../starter/app/requirements.in"),
    ),
    (
        "requirements.txt",
        include_str!("../../starter/app/requirements.txt"),
    ),
    (
        "templates/index.html",
        include_str!("../../starter/app/templates/index.html"),
    ),
    (
        "static/style.css",
        include_str!("../../starter/app/static/style.css"),
    ),
    (
        "static/status.js",
        include_str!("../../starter/app/static/status.js"),
    ),
    (
        "static/icon.svg",
        include_str!("../../starter/app/static/icon.svg"),
    ),
];

const TOPOLOGY: &str = include_str!("../../starter/topology.json");
const SCHEMA: &str = include_str!("../../topology.schema.json");

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
    let topology = match args.shards {
        Some(shards) => sharded(&topology, shards)?,
        None => topology,
    };
    let databases = topology.matches("\"tier\": \"database\"").count();
    let mut files = vec![
        ("topology.json".to_owned(), topology),
        ("topology.schema.json".to_owned(), SCHEMA.to_owned()),
    ];
    files.extend(
        APP.iter()
            .map(|(path, text)| (format!("app/{path}"), (*text).to_owned())),
    );
    let taken: Vec<String> = files
        .iter()
        .map(|(path, _)| directory.join(path))
        .filter(|p| p.exists())
        .map(|p| p.display().to_string())
        .collect();
    if !taken.is_empty() {
        return Err(refuse(&taken).into());
    }
    for (path, text) in &files {
        let path = directory.join(path);
        let parent = path.parent().unwrap_or(directory);
        std::fs::create_dir_all(parent)
            .and_then(|()| std::fs::write(&path, text))
            .with_context(|| format!("writing {}", path.display()))?;
    }
    ui.say(&format!(
        "wrote {} with 2 load balancers, 2 app servers and {databases} databases, and a demo app",
        directory.join("topology.json").display()
    ));
    ui.say("next: `gen-topology check`, then `gen-topology lab up`");
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
