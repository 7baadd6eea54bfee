//! The file in hand while it is checked, and the problems found so far.

use super::diagnostic::{Diagnostic, Place, step};
use super::raw::{RawApp, RawNode, RawTopology};
use super::{Code, Tier};

/// A raw topology, and where its problems go.
pub(super) struct Check<'c> {
    pub(super) raw: &'c RawTopology,
    pub(super) problems: &'c mut Vec<Diagnostic>,
}

impl<'c> Check<'c> {
    pub(super) fn add(
        &mut self,
        code: Code,
        at: Place,
        message: impl Into<String>,
    ) -> &mut Diagnostic {
        self.problems.push(Diagnostic::new(code, at, message));
        self.problems
            .last_mut()
            .unwrap_or_else(|| unreachable!("just pushed"))
    }

    /// Every application, with where it stands in the file: `app` first.
    pub(super) fn applications(&self) -> Vec<(String, &'c RawApp)> {
        let others = self.raw.apps.iter();
        let others = others.map(|(name, app)| (format!("/apps/{}", step(name)), app));
        std::iter::once(("/app".to_owned(), &self.raw.app))
            .chain(others)
            .collect()
    }

    pub(super) fn tier(&self, tier: Tier) -> impl Iterator<Item = (&'c String, &'c RawNode)> {
        self.raw
            .nodes
            .iter()
            .filter(move |(_, node)| node.tier == tier)
    }
}
