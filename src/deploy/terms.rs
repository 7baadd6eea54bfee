//! What a plan is made of: steps, what is known beforehand, and what the user chose. Pure.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::config::{Action, is_quiet};
use crate::topology::Tier;

/// One thing that is done to one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// Steps with the same number are done at the same time.
    pub wave: usize,
    /// The node.
    pub node: String,
    /// What it does in the stack.
    pub tier: Tier,
    /// What is done.
    #[serde(flatten)]
    pub what: What,
    /// Why, and why in this place.
    pub reason: String,
}

/// What a step does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum What {
    /// Boots a node that was not there; a database then joins the replica set.
    Add,
    /// Gives a node its new files and makes its daemons use them.
    Change {
        /// The files, below `/etc`.
        files: Vec<String>,
        /// What its daemons need; nothing where they read the files when they need them.
        how: Vec<Action>,
    },
    /// Sends an app server no new requests.
    Drain,
    /// Shuts a node down; a database leaves the replica set first.
    Remove,
}

/// The kind of a step, without what belongs to one of its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// [`What::Add`].
    Add,
    /// [`What::Change`].
    Change,
    /// [`What::Drain`].
    Drain,
    /// [`What::Remove`].
    Remove,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Add => "add",
            Kind::Change => "change",
            Kind::Drain => "drain",
            Kind::Remove => "remove",
        })
    }
}

impl What {
    /// What kind of step it is.
    pub fn kind(&self) -> Kind {
        match self {
            What::Add => Kind::Add,
            What::Change { .. } => Kind::Change,
            What::Drain => Kind::Drain,
            What::Remove => Kind::Remove,
        }
    }
}

/// Who has which part at the moment.
#[derive(Clone, Debug, Default)]
pub struct Now {
    /// The load balancer that has the virtual IP.
    pub owner: Option<String>,
    /// The databases that take writes: one of each replica set.
    pub primaries: BTreeSet<String>,
    /// Nodes at which somebody was interrupted: whatever their files say, they are done again.
    pub unfinished: BTreeSet<String>,
    /// Those of them that do not run.
    pub down: BTreeSet<String>,
}

/// What the user chose.
#[derive(Clone, Debug)]
pub struct Choice {
    /// App servers that may be out of use at the same time, at least 1.
    pub max_unavailable: usize,
    /// App servers that change before the others, to be watched.
    pub canary: usize,
    /// Nodes that may be touched; none: all.
    pub on: Option<BTreeSet<String>>,
}

impl Default for Choice {
    fn default() -> Self {
        Self {
            max_unavailable: 1,
            canary: 0,
            on: None,
        }
    }
}

impl Step {
    /// What is done, in words.
    pub fn words(&self) -> String {
        match (&self.what, self.tier) {
            (What::Add, Tier::Database) => "boot, join the replica set".into(),
            (What::Add, _) => "boot".into(),
            (What::Drain, _) => "drain".into(),
            (What::Remove, Tier::Database) => "leave the replica set, stop".into(),
            (What::Remove, _) => "stop".into(),
            (What::Change { how, .. }, tier) => {
                let words: Vec<&str> = how.iter().map(|action| action.words()).collect();
                match (words.as_slice(), tier) {
                    ([], _) => "new files, read when they are needed".into(),
                    (words, Tier::App) if !is_quiet(how) => {
                        format!("drain, {}, undrain", words.join(", "))
                    }
                    (words, _) => words.join(", "),
                }
            }
        }
    }

    /// Whether it takes the node, or a daemon of it, away for a moment.
    pub(super) fn interrupts(&self) -> bool {
        match &self.what {
            What::Add | What::Drain => false,
            What::Remove => true,
            What::Change { how, .. } => how.iter().any(|action| {
                !matches!(
                    action,
                    Action::LoadFirewall
                        | Action::ReloadHaproxy
                        | Action::ReloadKeepalived
                        | Action::ConfigureSet
                )
            }),
        }
    }
}
