//! `lint`: the known traps, in the stack's own rendered files or in foreign ones.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args as ClapArgs;
use serde_json::json;

use super::args::{FileArg, Format};
use super::diagnostics::{Lines, Picture, Spot, draw_all};
use super::model::counted;
use super::ui::Ui;
use super::{generate, lint_files, source};
use crate::failure::{Failure, Outcome};
use crate::lint::{self, File, Finding, Kind};
use crate::render;
use crate::sink::Sink as _;
use crate::topology::{Severity, Tier, Topology};

#[derive(Debug, ClapArgs)]
pub(super) struct LintArgs {
    #[command(flatten)]
    pub file: FileArg,
    /// Check these files instead of the topology's: haproxy.cfg, keepalived.conf of each node,
    /// mongod.conf, directories of them; `-` is standard input
    #[arg(value_name = "FILE", conflicts_with = "file")]
    pub files: Vec<PathBuf>,
    /// The earlier spelling of FILE
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with = "file", hide = true)]
    pub foreign: Vec<PathBuf>,
    /// How to print
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub format: Format,
    /// Treat warnings as errors
    #[arg(long)]
    pub strict: bool,
}

/// Rendered files that are looked at.
const OWN: [(&str, Kind); 4] = [
    (render::HAPROXY, Kind::Haproxy),
    (render::KEEPALIVED, Kind::Keepalived),
    (render::MONGOD, Kind::Mongod),
    (render::GUNICORN, Kind::Address),
];

/// `lint`.
pub(super) fn run(file: Option<&Path>, args: &LintArgs, ui: &mut Ui) -> Outcome {
    let named: Vec<PathBuf> = args.files.iter().chain(&args.foreign).cloned().collect();
    let files = if named.is_empty() {
        let (_, topology) = source::load(file, ui)?;
        own(&topology)?
    } else {
        let read = lint_files::read(&named)?;
        for skipped in &read.skipped {
            ui.say(&format!("skipped: {skipped}"));
        }
        read.files
    };
    let found = lint::lint(&files);
    let files: Vec<File> = files.into_iter().map(File::masked).collect();
    match args.format {
        Format::Json => ui.json(&report(&files, &found))?,
        Format::Table => {
            if !found.is_empty() {
                ui.warn(draw(&files, &found).trim_end());
                ui.say("");
            }
            ui.say(&verdict(&files, &found));
            if let Some(finding) = found.first() {
                ui.say(&format!(
                    "`gen-topology explain {}` tells more",
                    finding.code
                ));
            }
        }
    }
    let of = |severity| found.iter().any(|finding| finding.severity == severity);
    if of(Severity::Error) || (args.strict && of(Severity::Warning)) {
        return Err(Failure::Status(1));
    }
    Ok(())
}

fn verdict(files: &[File], found: &[Finding]) -> String {
    let count = |severity| {
        found
            .iter()
            .filter(|finding| finding.severity == severity)
            .count()
    };
    let severities = [Severity::Error, Severity::Warning, Severity::Note];
    let counts: Vec<String> = severities
        .into_iter()
        .filter_map(|severity| counted(count(severity), severity.name()))
        .collect();
    let counts = if counts.is_empty() {
        "no traps".into()
    } else {
        counts.join(", ")
    };
    let files = counted(files.len(), "file").unwrap_or_else(|| "no files".into());
    format!("{files}: {counts}")
}

/// What the stack's nodes would get; files that several nodes have in common once.
fn own(topology: &Topology) -> anyhow::Result<Vec<File>> {
    let database = topology.tier(Tier::Database).next();
    let mut files = Vec::new();
    let mut seen: HashSet<Arc<str>> = HashSet::new();
    for node in generate::rendered(topology)? {
        let facts = database.is_some_and(|first| first.name.as_str() == node.node);
        let facts = facts.then_some((render::FACTS, Kind::ReplicaSet));
        for (name, kind) in OWN.into_iter().chain(facts) {
            let Some(text) = node
                .files
                .get(name)
                .filter(|text| seen.insert(Arc::clone(text)))
            else {
                continue;
            };
            files.push(File {
                path: format!("hosts/{}/{name}", node.node),
                text: text.to_string(),
                kind,
                included: BTreeMap::new(),
            });
        }
    }
    Ok(files)
}

fn draw(files: &[File], found: &[Finding]) -> String {
    fn spot<'t>(files: &'t [File], at: &lint::Spot) -> Spot<'t> {
        let file = &files[at.file];
        Spot {
            text: &file.text,
            path: &file.path,
            span: at.span.clone(),
        }
    }
    let pictures = found.iter().map(|finding| Picture {
        severity: finding.severity,
        code: finding.code.name(),
        message: &finding.message,
        at: spot(files, &finding.at),
        related: finding
            .related
            .iter()
            .map(|(at, label)| (spot(files, at), label.as_str()))
            .collect(),
        note: finding.cost.as_ref().map(|cost| format!("cost: {cost}")),
        help: Some(&finding.hint),
    });
    draw_all(pictures, found.len(), "gen-topology lint --format json")
}

fn report(files: &[File], found: &[Finding]) -> serde_json::Value {
    let lines: Vec<Lines> = files.iter().map(|file| Lines::of(&file.text)).collect();
    let place = |at: &lint::Spot| {
        let file = &files[at.file];
        lines[at.file].place(&file.text, &at.span, ("file", json!(file.path)))
    };
    let findings: Vec<_> = found
        .iter()
        .map(|finding| {
            let related: Vec<_> = finding
                .related
                .iter()
                .map(|(at, label)| json!({ "at": place(at), "message": label }))
                .collect();
            json!({
                "code": finding.code, "severity": finding.severity, "message": finding.message,
                "at": place(&finding.at), "related": related, "cost": finding.cost, "hint": finding.hint,
            })
        })
        .collect();
    let files: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
    json!({ "files": files, "findings": findings })
}
