//! Conditional blocks: `.if`, `.elif`, `.else`, `.endif` (configuration manual, 2.4).

use std::ops::Range;

use super::Directive;

/// How conditions that can't be known from the file are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reading {
    /// Every line of every branch is kept, the conditions included.
    #[default]
    All,
    /// Conditions hold.
    Holding,
    /// Conditions do not hold.
    Failing,
}

/// An open block.
struct Open {
    /// Whether the lines of its present branch are read.
    read: bool,
    /// Whether one of its branches has been read.
    chosen: bool,
}

/// The lines that are left in this reading.
pub(super) fn taken(lines: Vec<Directive>, reading: Reading) -> Vec<Directive> {
    if reading == Reading::All {
        return lines;
    }
    let mut open: Vec<Open> = Vec::new();
    let mut left = Vec::new();
    for line in lines {
        match line.word(0) {
            ".if" => {
                let read = holds(&line, reading);
                open.push(Open { read, chosen: read });
            }
            ".elif" | ".else" => {
                let last = line.word(0) == ".else";
                if let Some(block) = open.last_mut() {
                    block.read = !block.chosen && (last || holds(&line, reading));
                    block.chosen |= block.read;
                }
            }
            ".endif" => {
                open.pop();
            }
            _ if open.iter().all(|block| block.read) => left.push(line),
            _ => {}
        }
    }
    left
}

/// Whether a condition holds; what is not a constant is as the reading says.
fn holds(line: &Directive, reading: Reading) -> bool {
    match line.word(1) {
        "" | "0" | "false" => false,
        "1" | "true" => true,
        _ => reading == Reading::Holding,
    }
}

/// The bytes of every outermost block, from `.if` to `.endif`.
pub(super) fn blocks(lines: &[Directive]) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut starts = Vec::new();
    for line in lines {
        match line.word(0) {
            ".if" => starts.push(line.span().start),
            ".endif" => {
                if let Some(start) = starts.pop().filter(|_| starts.is_empty()) {
                    found.push(start..line.span().end);
                }
            }
            _ => {}
        }
    }
    found
}
