//! What an apply has done so far, one JSON object a line, each written to the disk
//! before the next thing is done. An apply that was killed is seen by it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::terms::Kind;
use crate::files;
use crate::site::Fleet;

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Entry {
    /// An apply begins.
    Begin {
        /// Steps that it has.
        steps: usize,
    },
    /// A step is begun.
    Start {
        /// The node.
        node: String,
        /// What is done.
        what: Kind,
    },
    /// The step on this node is done, and the gate after it was open.
    Done {
        /// The node.
        node: String,
        /// How long it took, in milliseconds.
        took_ms: u64,
    },
    /// The step on this node was undone.
    Undone {
        /// The node.
        node: String,
        /// Why.
        why: String,
    },
    /// The apply has ended in order, whatever came of it.
    End {
        /// How.
        outcome: Ending,
    },
}

/// How an apply ended in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ending {
    /// All steps are done.
    #[serde(rename = "done")]
    Done,
    /// A gate stayed closed, and its step was undone.
    #[serde(rename = "rolled back")]
    RolledBack,
    /// It was asked to stop; `--resume` goes on.
    #[serde(rename = "interrupted")]
    Interrupted,
}

/// The journal of one stack.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
}

/// What the journal tells of an apply that did not come to its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unfinished {
    /// Nodes with a step that was begun and neither done nor undone, and what it was.
    pub nodes: BTreeMap<String, Kind>,
    /// Steps that were done.
    pub done: usize,
    /// Steps that it had.
    pub steps: usize,
}

impl Unfinished {
    /// What runs, without nodes whose start was interrupted: they count as not there yet.
    pub fn settled(&self, fleet: &Fleet) -> Fleet {
        let nodes = fleet.nodes().iter();
        let nodes = nodes.filter(|node| !self.is_half_there(node.name()));
        Fleet::of(nodes.cloned().collect())
    }

    /// Whether the start of a node was interrupted.
    pub fn is_half_there(&self, node: &str) -> bool {
        self.nodes.get(node).is_some_and(|what| *what == Kind::Add)
    }
}

impl Journal {
    /// Begins anew at `path`, in one step. What the last apply did not finish is carried
    /// over until it is done.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn begin(path: &Path, steps: usize, unfinished: &Unfinished) -> anyhow::Result<Self> {
        let creating = || format!("creating {}", path.display());
        let new = files::beside(path, 0o644).with_context(creating)?;
        let mut journal = Self {
            path: path.to_path_buf(),
            file: new.as_file().try_clone().with_context(creating)?,
        };
        journal.write(&Entry::Begin { steps })?;
        for (node, what) in &unfinished.nodes {
            let (node, what) = (node.clone(), *what);
            journal.write(&Entry::Start { node, what })?;
        }
        files::keep(new, path).with_context(creating)?;
        Ok(journal)
    }

    /// Adds a line.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn write(&mut self, entry: &Entry) -> anyhow::Result<()> {
        let line = serde_json::to_string(entry)? + "\n";
        self.file
            .write_all(line.as_bytes())
            .and_then(|()| self.file.sync_data())
            .with_context(|| format!("writing {}", self.path.display()))
    }
}

/// What the journal at `path` tells of an apply that was killed or interrupted; none
/// when there was none, or it came to its end.
///
/// # Errors
/// If it is there and can't be read.
pub fn unfinished(path: &Path) -> anyhow::Result<Option<Unfinished>> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
    };
    Ok(read(&text))
}

fn read(text: &str) -> Option<Unfinished> {
    let mut state: Option<Unfinished> = None;
    // The last line of an apply that was killed may be torn.
    for entry in text
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
    {
        let now = state.get_or_insert_default();
        match entry {
            Entry::Begin { steps } => now.steps = steps,
            Entry::Start { node, what } => {
                now.nodes.insert(node, what);
            }
            Entry::Done { node, .. } => {
                now.done += 1;
                now.nodes.remove(&node);
            }
            Entry::Undone { node, .. } => {
                now.nodes.remove(&node);
            }
            Entry::End {
                outcome: Ending::Interrupted,
            } => {}
            Entry::End { .. } => return None,
        }
    }
    state
}

/// Forgets whatever the journal at `path` tells of.
///
/// # Errors
/// If it can't be removed.
pub fn forget(path: &Path) -> anyhow::Result<()> {
    files::remove(path).with_context(|| format!("removing {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(entry: &Entry) -> String {
        serde_json::to_string(entry).unwrap() + "\n"
    }

    #[test]
    fn a_killed_apply_is_seen() {
        let start = |node: &str| {
            entry(&Entry::Start {
                node: node.into(),
                what: Kind::Change,
            })
        };
        let done = |node: &str| {
            entry(&Entry::Done {
                node: node.into(),
                took_ms: 1,
            })
        };
        let begin = entry(&Entry::Begin { steps: 3 });
        let end = |outcome: Ending| entry(&Entry::End { outcome });

        assert_eq!(read(""), None);
        let text = [begin.clone(), start("a"), done("a"), start("b")].concat();
        let seen = read(&text).unwrap();
        assert_eq!(seen.nodes.keys().collect::<Vec<_>>(), ["b"]);
        assert_eq!((seen.done, seen.steps), (1, 3));
        // Torn in the middle of a line.
        assert_eq!(read(&(text.clone() + "{\"event\":\"do")).unwrap(), seen);
        assert_eq!(read(&(text.clone() + &end(Ending::Done))), None);
        assert_eq!(read(&(text + &end(Ending::Interrupted))).unwrap().done, 1);
        let undone = entry(&Entry::Undone {
            node: "b".into(),
            why: "x".into(),
        });
        let text = [begin, start("b"), undone, end(Ending::RolledBack)].concat();
        assert_eq!(read(&text), None);
    }

    #[test]
    fn lines_are_there_at_once() {
        let room = tempfile::tempdir().unwrap();
        let path = room.path().join("journal");
        assert_eq!(unfinished(&path).unwrap(), None);
        let mut journal = Journal::begin(&path, 2, &Unfinished::default()).unwrap();
        journal
            .write(&Entry::Start {
                node: "a".into(),
                what: Kind::Add,
            })
            .unwrap();
        let seen = unfinished(&path).unwrap().unwrap();
        assert_eq!(seen.nodes.get("a"), Some(&Kind::Add));
        // A second apply that is killed at once has not forgotten it.
        Journal::begin(&path, 1, &seen).unwrap();
        assert_eq!(unfinished(&path).unwrap().unwrap().nodes, seen.nodes);
        forget(&path).unwrap();
        forget(&path).unwrap();
        assert_eq!(unfinished(&path).unwrap(), None);
    }
}
