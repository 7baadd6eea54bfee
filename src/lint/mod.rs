//! Finds the known ways to build a highly available stack that does not fail over,
//! in the daemons' own files, ours or others'.
//!
//! A rule is a function that looks at one file, or at files together, and adds
//! findings. Each says what is wrong, where, what to do, and the outage it costs,
//! computed from the file's own values. What can't be known from a file is not claimed.

mod backend;
mod code;
mod configurations;
mod cost;
mod haproxy;
mod ipvs;
mod keepalived;
mod kind;
mod mongodb;
mod pair;
mod removed;
mod script;
mod servers;
mod site;
mod tls;
mod tracking;

use std::collections::BTreeMap;
use std::ops::Range;

use crate::native::{self, Malformed, keepalived as keepalived_file, mongod};
use crate::topology::Severity;

pub use code::Code;
pub use cost::Cost;
pub use kind::{Kind, recognise, refusal};

/// A file to look at.
#[derive(Clone, Debug)]
pub struct File {
    /// Path for messages.
    pub path: String,
    /// What it holds.
    pub text: String,
    /// Which daemon reads it.
    pub kind: Kind,
    /// For each `include` line of a Keepalived file, by what it names: the files that it
    /// brings, by their places in the list. A line that is not here brings what is not known.
    pub included: BTreeMap<String, Vec<usize>>,
}

impl File {
    /// The file as it may be shown: each credential in it is covered, and every place stays.
    #[must_use]
    pub fn masked(self) -> Self {
        Self {
            text: native::masked(&self.text).into_owned(),
            ..self
        }
    }
}

/// A place in one of the files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spot {
    /// Which file, by its place in the list.
    pub file: usize,
    /// Bytes of its text.
    pub span: Range<usize>,
}

/// A trap that was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// Stable name; `gen-topology explain CODE` tells more.
    pub code: Code,
    /// Follows from the code.
    pub severity: Severity,
    /// Where.
    pub at: Spot,
    /// What is wrong, as one sentence without a full stop.
    pub message: String,
    /// Other places that have to do with it, each with a few words.
    pub related: Vec<(Spot, String)>,
    /// The outage it costs, where there is one.
    pub cost: Option<Cost>,
    /// What to do.
    pub hint: String,
}

impl Finding {
    fn new(code: Code, at: Spot, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            code,
            severity: code.severity(),
            at,
            message: message.into(),
            related: Vec::new(),
            cost: None,
            hint: hint.into(),
        }
    }

    fn costs(mut self, cost: Cost) -> Self {
        self.cost = Some(cost);
        self
    }

    fn related(mut self, at: Spot, label: impl Into<String>) -> Self {
        self.related.push((at, label.into()));
        self
    }
}

/// Where each file begins when all are taken for one text after the other.
struct Bases(Vec<usize>);

impl Bases {
    fn of(files: &[File]) -> Self {
        let starts = files.iter().scan(0, |next, file| {
            let start = *next;
            *next += file.text.len() + 1;
            Some(start)
        });
        Self(starts.collect())
    }

    fn of_file(&self, file: usize) -> usize {
        self.0.get(file).copied().unwrap_or_default()
    }

    fn spot(&self, span: Range<usize>) -> Spot {
        let file = self.0.partition_point(|base| *base <= span.start);
        let file = file.saturating_sub(1);
        let base = self.of_file(file);
        Spot {
            file,
            span: span.start - base..span.end.saturating_sub(base),
        }
    }
}

/// What the rules found so far.
struct Findings<'a> {
    bases: &'a Bases,
    /// Where the places of what is looked at count from.
    base: usize,
    found: Vec<Finding>,
}

impl<'a> Findings<'a> {
    fn new(bases: &'a Bases, base: usize) -> Self {
        Self {
            bases,
            base,
            found: Vec::new(),
        }
    }

    fn spot(&self, span: Range<usize>) -> Spot {
        self.bases
            .spot(self.base + span.start..self.base + span.end)
    }

    fn add(&mut self, finding: Finding) {
        self.found.push(finding);
    }

    /// A trap that costs no outage.
    fn note(
        &mut self,
        code: Code,
        at: Range<usize>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        let at = self.spot(at);
        self.add(Finding::new(code, at, message, hint));
    }

    /// A trap with its cost.
    fn costly(
        &mut self,
        code: Code,
        at: Range<usize>,
        message: impl Into<String>,
        hint: impl Into<String>,
        cost: Cost,
    ) {
        let at = self.spot(at);
        self.add(Finding::new(code, at, message, hint).costs(cost));
    }

    /// A text that the daemon refuses, or of which it drops a part.
    fn unreadable(&mut self, error: Malformed, check: &str) {
        self.costly(
            Code::Unreadable,
            error.span,
            error.message,
            format!("the daemon's own check tells more: `{check}`"),
            Cost::endless("what the daemon refuses or drops"),
        );
    }
}

/// Everything that is wrong with `files`, in their order.
pub fn lint(files: &[File]) -> Vec<Finding> {
    let bases = Bases::of(files);
    let mut found = Vec::new();
    for (index, file) in files.iter().enumerate() {
        let mut findings = Findings::new(&bases, bases.of_file(index));
        alone(file, &mut findings);
        found.append(&mut findings.found);
    }
    let is_haproxy = files.iter().any(|file| file.kind == Kind::Haproxy);
    let nodes = configurations::keepalived(files, &bases, is_haproxy, &mut found);
    let mut together = Findings::new(&bases, 0);
    pair::all(&nodes, &mut together);
    found.append(&mut together.found);
    let instances = nodes.iter().flat_map(|config| &config.instances);
    let virtual_ips = instances
        .flat_map(keepalived_file::Instance::moving)
        .map(|address| address.address.as_str())
        .collect();
    configurations::haproxy(files, &bases, &virtual_ips, &mut found);
    found.sort_by(|a, b| {
        let key = |finding: &Finding| (finding.at.file, finding.at.span.start, finding.code);
        key(a).cmp(&key(b))
    });
    // Several proxies with the same defaults have the same trap at the same place.
    found.dedup_by(|a, b| a.code == b.code && a.at == b.at && a.message == b.message);
    found
}

/// What one file shows by itself, where no other file belongs to it.
fn alone(file: &File, findings: &mut Findings<'_>) {
    match file.kind {
        Kind::Mongod => match mongod::Config::parse(&file.text) {
            Ok(config) => mongodb::mongod(&config, findings),
            Err(error) => findings.unreadable(error, "mongod --outputConfig -f FILE"),
        },
        Kind::ReplicaSet => mongodb::replica_set(&file.text, findings),
        Kind::Address => mongodb::addresses(&file.text, findings),
        Kind::Haproxy | Kind::Keepalived | Kind::KeepalivedPart => {}
    }
}
