//! `check`, `show`, `schema` and `explain`: what the topology is, without touching anything.

use std::path::Path;

use clap::{Args as ClapArgs, ValueEnum};
use serde::Serialize;

use super::args::{FileArg, Format, FormatArgs};
use super::ui::{Tone, Ui, paint, table};
use super::{diagnostics, flows, source};
use crate::failure::{Failure, Outcome};
use crate::lint;
use crate::sink::Sink as _;
use crate::topology::{self, Code, DatabaseName, Severity, Topology};

#[derive(Debug, ClapArgs)]
pub(super) struct CheckArgs {
    #[command(flatten)]
    pub file: FileArg,
    /// How to print
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub format: Format,
    /// Treat warnings as errors
    #[arg(long)]
    pub strict: bool,
}

/// What `show` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum ShowWhat {
    /// The topology with every default
    Topology,
    /// Who connects to whom, and why: everything else the nodes' firewalls drop
    Flows,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum ShowFormat {
    Table,
    Json,
    /// For Graphviz; flows only
    Dot,
}

#[derive(Debug, ClapArgs)]
pub(super) struct ShowArgs {
    /// What to print
    #[arg(default_value = "topology")]
    pub what: ShowWhat,
    #[command(flatten)]
    pub file: FileArg,
    /// How to print
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub format: ShowFormat,
}

#[derive(Debug, ClapArgs)]
pub(super) struct ExplainArgs {
    /// A code such as `even-voters` [default: list all]
    pub code: Option<String>,
    #[command(flatten)]
    pub format: FormatArgs,
}

/// `check`: every problem, and a line that sums up.
pub(super) fn check(file: Option<&Path>, args: &CheckArgs, ui: &mut Ui) -> Outcome {
    let source = source::read(file)?;
    let checked = source::checked(&source);
    let errors = checked
        .problems
        .iter()
        .filter(|p| p.severity == Severity::Error)
        .count();
    let warnings = checked.problems.len() - errors;
    match args.format {
        Format::Json => ui.json(&diagnostics::json(&source, &checked.problems))?,
        Format::Table => {
            if !checked.problems.is_empty() {
                ui.warn(diagnostics::draw(&source, &checked.problems).trim_end());
                ui.say("");
            }
            let found = [counted(errors, "error"), counted(warnings, "warning")];
            let found: Vec<String> = found.into_iter().flatten().collect();
            let what = checked
                .topology
                .as_ref()
                .map(|t| format!("{}; ", summary(t)))
                .unwrap_or_default();
            let verdict = if found.is_empty() {
                "no problems".to_owned()
            } else {
                found.join(", ")
            };
            ui.say(&format!("{}: {what}{verdict}", source.path.display()));
            if let Some(problem) = checked.problems.first() {
                ui.say(&format!(
                    "`gen-topology explain {}` tells more",
                    problem.code
                ));
            }
        }
    }
    if errors > 0 || (args.strict && warnings > 0) {
        return Err(Failure::Invalid);
    }
    Ok(())
}

pub(super) fn counted(count: usize, noun: &str) -> Option<String> {
    (count > 0).then(|| format!("{count} {noun}{}", if count == 1 { "" } else { "s" }))
}

/// "2 load balancers, 2 app servers, 1 database".
pub(super) fn summary(topology: &Topology) -> String {
    let tiers = topology.tiers().map(|tier| {
        let count = topology.tier(tier).count();
        format!("{count} {}", tier.noun(count))
    });
    tiers.collect::<Vec<_>>().join(", ")
}

/// `show`: the topology with every default, or its flows.
pub(super) fn show(file: Option<&Path>, args: &ShowArgs, ui: &mut Ui) -> Outcome {
    let (_, topology) = source::load(file, ui)?;
    match (args.what, args.format) {
        (ShowWhat::Topology, ShowFormat::Table) => show_topology(&topology, ui),
        (ShowWhat::Topology, ShowFormat::Json) => ui.json(&topology),
        (ShowWhat::Topology, ShowFormat::Dot) => Err(Failure::Usage(
            "`--format dot` draws the flows: `gen-topology show flows --format dot`; \
             `gen-topology lab graph --format dot` draws the nodes"
                .into(),
        )),
        (ShowWhat::Flows, ShowFormat::Table) => ui.data(&flows::as_table(&topology)),
        (ShowWhat::Flows, ShowFormat::Json) => ui.json(&flows::as_json(&topology)),
        (ShowWhat::Flows, ShowFormat::Dot) => ui.data(&flows::as_dot(&topology)),
    }
}

fn show_topology(topology: &Topology, ui: &mut Ui) -> Outcome {
    let network = topology.network();
    let rows: Vec<Vec<String>> = topology
        .nodes()
        .iter()
        .map(|node| {
            let copy = (node.voting == Some(false)).then_some("keeps a copy, does not vote");
            let set = node.replica_set.as_ref().map(DatabaseName::as_str);
            let note: Vec<&str> = [set, copy].into_iter().flatten().collect();
            vec![
                node.name.to_string(),
                node.tier.to_string(),
                node.address.to_string(),
                note.join(", "),
            ]
        })
        .collect();
    let mut text = format!(
        "{}  {}\nvirtual IP {}:{} in {} on {}, virtual router {}\n\n{}\n",
        paint(Tone::Strong, topology.name().as_str()),
        summary(topology),
        network.virtual_ip,
        topology.load_balancer().port,
        network.subnet,
        network.interface,
        network.virtual_router_id,
        table(&["NODE", "TIER", "ADDRESS", ""], &rows),
    );
    let mut parts = vec![
        (
            "load_balancer".to_owned(),
            serde_json::to_value(topology.load_balancer())?,
        ),
        ("app".to_owned(), serde_json::to_value(topology.app())?),
    ];
    for further in topology.apps() {
        parts.push((
            format!("apps.{}", further.name),
            serde_json::to_value(further)?,
        ));
    }
    parts.push((
        "database".to_owned(),
        serde_json::to_value(topology.database())?,
    ));
    for (name, settings) in parts {
        if settings.is_null() {
            continue;
        }
        text.push_str(&format!("{}\n", paint(Tone::Quiet, &name)));
        for (key, value) in settings.as_object().into_iter().flatten() {
            let value = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned);
            text.push_str(&format!("  {key:<19} {value}\n"));
        }
    }
    ui.data(&text)
}

/// The schema as it is committed.
pub(super) fn schema_text() -> Result<String, Failure> {
    Ok(serde_json::to_string_pretty(&topology::schema())? + "\n")
}

/// A code with its severity and explanation.
type Explained = (&'static str, Severity, &'static str);

/// A code for scripts.
#[derive(Serialize)]
struct ExplainedCode {
    code: &'static str,
    severity: &'static str,
    explanation: &'static str,
}

impl From<Explained> for ExplainedCode {
    fn from((code, severity, explanation): Explained) -> Self {
        Self {
            code,
            severity: severity.name(),
            explanation,
        }
    }
}

/// The codes of `check` and of `lint`, in this order.
fn codes() -> impl Iterator<Item = Explained> {
    let check = Code::ALL
        .iter()
        .map(|code| (code.name(), code.severity(), code.explanation()));
    let lint = lint::Code::ALL
        .iter()
        .map(|code| (code.name(), code.severity(), code.explanation()));
    check.chain(lint)
}

/// `explain`: a code's longer text, or the list of codes.
pub(super) fn explain(args: &ExplainArgs, ui: &mut Ui) -> Outcome {
    let is_json = args.format.format == Format::Json;
    let Some(name) = &args.code else {
        if is_json {
            return ui.json(&codes().map(ExplainedCode::from).collect::<Vec<_>>());
        }
        let rows: Vec<Vec<String>> = codes()
            .map(|(name, severity, explanation)| {
                let first = explanation.split_inclusive(". ").next().unwrap_or_default();
                vec![name.into(), severity.name().into(), first.trim_end().into()]
            })
            .collect();
        return ui.data(&table(&["CODE", "SEVERITY", "MEANING"], &rows));
    };
    let Some(found @ (name, _, explanation)) = codes().find(|(code, _, _)| code == name) else {
        let meant = topology::did_you_mean(name, codes().map(|(name, _, _)| name));
        let meant = meant
            .map(|word| format!("; did you mean `{word}`?"))
            .unwrap_or_default();
        return Err(Failure::Usage(format!("there is no code `{name}`{meant}")));
    };
    if is_json {
        return ui.json(&ExplainedCode::from(found));
    }
    ui.data(&format!(
        "{}\n\n{}\n",
        paint(Tone::Strong, name),
        wrap(explanation, 80)
    ))
}

/// `text` in lines of at most `width` characters.
fn wrap(text: &str, width: usize) -> String {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines
            .last_mut()
            .filter(|line| line.is_empty() || line.len() + word.len() < width);
        match line {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) => {
                line.push(' ');
                line.push_str(word);
            }
            None => lines.push(word.to_owned()),
        }
    }
    lines.join("\n")
}
