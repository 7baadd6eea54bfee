//! Problems as data: what is wrong, where, and what to do about it. The command
//! line draws them, `--format json` prints them, and tests compare them.

use std::fmt;
use std::ops::Range;

use serde::Serialize;

use super::{Code, Severity};

/// A place in the file: an RFC 6901 pointer, and whether its key or its value is meant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    /// RFC 6901, for example `/nodes/lb-1/address`; empty for the whole document.
    pub pointer: String,
    /// Bytes of the text, if the place is in it.
    #[serde(skip)]
    pub span: Option<Range<usize>>,
    /// Whether the key of the member is meant rather than its value.
    #[serde(skip)]
    pub key: bool,
}

impl Place {
    /// The value that `pointer` names.
    pub fn value(pointer: impl Into<String>) -> Self {
        Self {
            pointer: pointer.into(),
            span: None,
            key: false,
        }
    }

    /// The key of the member that `pointer` names.
    pub fn key(pointer: impl Into<String>) -> Self {
        Self {
            key: true,
            ..Self::value(pointer)
        }
    }

    /// A stretch of text that no pointer names, such as a syntax error.
    pub fn text(span: Range<usize>) -> Self {
        Self {
            span: Some(span),
            ..Self::value("")
        }
    }

    /// The same place with its bytes known.
    #[must_use]
    pub fn at(mut self, span: Range<usize>) -> Self {
        self.span = Some(span);
        self
    }
}

/// One problem of a topology.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// Stable name of the kind of problem; `gen-topology explain CODE` tells more.
    pub code: Code,
    /// Error or warning; follows from the code.
    pub severity: Severity,
    /// Where.
    pub at: Place,
    /// What is wrong, as one sentence without a full stop.
    pub message: String,
    /// Other places that have to do with it, each with a few words.
    pub related: Vec<(Place, String)>,
    /// What to do.
    pub hint: Option<String>,
}

impl Diagnostic {
    /// A problem without related places or hint.
    pub fn new(code: Code, at: Place, message: impl Into<String>) -> Self {
        Self {
            code,
            severity: code.severity(),
            at,
            message: message.into(),
            related: Vec::new(),
            hint: None,
        }
    }

    /// Adds a related place.
    #[must_use]
    pub fn related(mut self, at: Place, label: impl Into<String>) -> Self {
        self.related.push((at, label.into()));
        self
    }

    /// Adds what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Whether the topology can't be used because of it.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.code, self.message)
    }
}

/// One step of an RFC 6901 pointer, escaped.
pub(super) fn step(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

/// The word among `known` that `word` was probably meant to be.
pub fn did_you_mean<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    // Names have 63 characters at most; comparing takes long for a word that a damaged file made of a megabyte.
    if word.len() > 200 {
        return None;
    }
    let lower = word.to_lowercase();
    known
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(&lower, candidate), candidate))
        .filter(|(likeness, _)| *likeness > 0.78)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}
