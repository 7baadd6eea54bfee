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
mod script;
mod servers;

use std::ops::Range;

use crate::native::{
    self, Malformed, haproxy as haproxy_file, keepalived as keepalived_file, mongod,
};
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
}

/// The files that are looked at again once all are read: some traps only show together.
#[derive(Default)]
struct Together {
    haproxy: Vec<(usize, haproxy_file::Config)>,
    keepalived: Vec<(usize, keepalived_file::Config)>,
}

/// Everything that is wrong with `files`, in their order.
pub fn lint(files: &[File]) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut together = Together::default();
    for (index, file) in files.iter().enumerate() {
        let mut findings = Findings {
            file: index,
            found: &mut found,
        };
        if let Err(error) = alone(file, &mut findings, &mut together) {
            let hint = "the daemon's own check tells more: `haproxy -c -f`, `keepalived -t -f`";
            findings.costly(
                Code::Unreadable,
                error.span,
                error.message,
                hint,
                Cost::endless("what the daemon refuses or drops"),
            );
        }
    }
    pair::all(&together.keepalived, &mut found);
    let instances = together
        .keepalived
        .iter()
        .flat_map(|(_, config)| &config.instances);
    let virtual_ips: Vec<&str> = instances
        .flat_map(|instance| instance.addresses.iter().map(|address| &*address.address))
        .collect();
    for (index, config) in &together.haproxy {
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

/// What one file shows by itself.
fn alone(
    file: &File,
    findings: &mut Findings<'_>,
    together: &mut Together,
) -> Result<(), Malformed> {
    let text = &file.text;
    match file.kind {
        Kind::Haproxy => {
            let config = haproxy_file::Config::parse(text)?;
            together.haproxy.push((findings.file, config));
        }
        Kind::Keepalived => {
            let config = keepalived_file::Config::parse(text)?;
            keepalived::file(&config, findings);
            together.keepalived.push((findings.file, config));
        }
        Kind::Mongod => mongodb::mongod(&mongod::Config::parse(text)?, findings),
        Kind::ReplicaSet => mongodb::replica_set(text, findings),
        Kind::Address => mongodb::addresses(text, findings),
    }
    Ok(())
}
