//! Finds the known ways to build a highly available stack that does not fail over,
//! in the daemons' own files, ours or others'.
//!
//! A rule is a function that looks at one file, or at files together, and adds
//! findings. Each says what is wrong, where, what to do, and the outage it costs,
//! computed from the file's own values. What can't be known from a file is not claimed.

mod code;
mod cost;
mod haproxy;
mod keepalived;
mod kind;
mod mongodb;
mod pair;

use std::ops::Range;

use crate::topology::Severity;

pub use code::Code;
pub use cost::Cost;
pub use kind::{Kind, recognise};

/// A file to look at.
#[derive(Clone, Debug)]
pub struct File {
    /// Path for messages.
    pub path: String,
    /// What it holds.
    pub text: String,
    /// Which daemon reads it.
    pub kind: Kind,
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

/// What the rules found so far, for one file.
struct Findings<'a> {
    file: usize,
    found: &'a mut Vec<Finding>,
}

impl Findings<'_> {
    fn spot(&self, span: Range<usize>) -> Spot {
        Spot {
            file: self.file,
            span,
        }
    }

    fn add(&mut self, finding: Finding) {
        self.found.push(finding);
    }
}

/// Everything that is wrong with `files`, in their order.
pub fn lint(files: &[File]) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut proxies = Vec::new();
    let mut nodes = Vec::new();
    for (index, file) in files.iter().enumerate() {
        let mut findings = Findings {
            file: index,
            found: &mut found,
        };
        let text = &file.text;
        let malformed = match file.kind {
            Kind::Haproxy => match crate::native::haproxy::Config::parse(text) {
                Ok(config) => {
                    proxies.push((index, config));
                    continue;
                }
                Err(error) => error,
            },
            Kind::Keepalived => match crate::native::keepalived::Config::parse(text) {
                Ok(config) => {
                    keepalived::file(&config, &mut findings);
                    nodes.push((index, config));
                    continue;
                }
                Err(error) => error,
            },
            Kind::Mongod => match crate::native::mongod::Config::parse(text) {
                Ok(config) => {
                    mongodb::mongod(&config, &mut findings);
                    continue;
                }
                Err(error) => error,
            },
            Kind::ReplicaSet => {
                mongodb::replica_set(text, &mut findings);
                continue;
            }
            Kind::Address => {
                mongodb::addresses(text, &mut findings);
                continue;
            }
        };
        let at = findings.spot(malformed.span);
        let hint = "the daemon's own check tells more: `haproxy -c -f`, `keepalived -t -f`";
        findings.add(Finding::new(Code::Unreadable, at, malformed.message, hint));
    }
    pair::all(&nodes, &mut found);
    let virtual_ips: Vec<&str> = nodes
        .iter()
        .flat_map(|(_, config)| &config.instances)
        .flat_map(|instance| instance.addresses.iter().map(|address| &*address.address))
        .collect();
    for (index, config) in &proxies {
        let mut findings = Findings {
            file: *index,
            found: &mut found,
        };
        haproxy::file(config, &virtual_ips, &mut findings);
    }
    found.sort_by(|a, b| {
        let key = |finding: &Finding| (finding.at.file, finding.at.span.start, finding.code);
        key(a).cmp(&key(b))
    });
    // Several proxies with the same defaults have the same trap at the same place.
    found.dedup_by(|a, b| a.code == b.code && a.at == b.at && a.message == b.message);
    found
}
