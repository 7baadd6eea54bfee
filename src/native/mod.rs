//! Reads the native configuration of haproxy, Keepalived and mongod as these
//! daemons do: text in, typed values out, with the place of every word.
//!
//! It reads what we rendered and what others wrote. What it does not know is kept
//! and never an error; text that the daemon itself could not split into words is.

pub mod haproxy;
pub mod keepalived;
mod mask;
pub mod mongod;

use std::ops::Range;

pub use mask::masked;

/// The words of one line (or statement), unquoted, and where each stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Directive {
    /// Line of the first word, from 1.
    pub line: usize,
    /// Words without their quotes and escapes.
    pub words: Vec<String>,
    /// Bytes of the text that each word takes, quotes included; as many as `words`.
    pub spans: Vec<Range<usize>>,
}

impl Directive {
    /// The word at `index`, empty if there are fewer.
    pub fn word(&self, index: usize) -> &str {
        self.words.get(index).map_or("", String::as_str)
    }

    /// Whether its first words are `words`.
    pub fn starts_with(&self, words: &[&str]) -> bool {
        self.words.len() >= words.len()
            && self.words.iter().zip(words).all(|(own, word)| own == word)
    }

    /// Bytes from the first word to the last.
    pub fn span(&self) -> Range<usize> {
        match (self.spans.first(), self.spans.last()) {
            (Some(first), Some(last)) => first.start..last.end,
            _ => 0..0,
        }
    }

    /// Bytes of the word at `index`; of the whole directive if there are fewer.
    pub fn span_of(&self, index: usize) -> Range<usize> {
        self.spans
            .get(index)
            .cloned()
            .unwrap_or_else(|| self.span())
    }
}

/// Why a text could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct Malformed {
    /// Line, from 1.
    pub line: usize,
    /// What is wrong there.
    pub message: String,
    /// Bytes of the text that are meant.
    pub span: Range<usize>,
}
