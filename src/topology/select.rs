//! Naming several nodes at once: `node-1,app-*,@database`.

use std::fmt;
use std::str::FromStr;

use super::{Node, Tier, Topology, did_you_mean};

/// Which nodes a command is about: names, patterns with `*`, and tiers as `@TIER`, separated by commas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Name(String),
    Pattern(String),
    Tier(Tier),
}

/// Why a selector names no nodes of a topology.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectError {
    /// No node of that name.
    #[error("there is no node `{name}`{}", meant.as_ref().map(|m| format!("; did you mean `{m}`?")).unwrap_or_default())]
    NoSuchNode {
        /// What was asked for.
        name: String,
        /// What was probably meant.
        meant: Option<String>,
    },
    /// A pattern that no name fits.
    #[error("no node is called like `{0}`; `gen-topology show` lists them")]
    NoMatch(String),
}

impl Selector {
    /// Whether a node of this name and tier is meant.
    pub fn fits(&self, name: &str, tier: Tier) -> bool {
        self.0.iter().any(|part| part.fits(name, tier))
    }

    /// The nodes that are meant, each once, in file order.
    ///
    /// # Errors
    /// The first part that names no node: most likely a typing error.
    pub fn nodes<'t>(&self, topology: &'t Topology) -> Result<Vec<&'t Node>, SelectError> {
        let all = topology.nodes().iter();
        let all: Vec<(&str, Tier)> = all.map(|node| (node.name.as_str(), node.tier)).collect();
        let meant = self.names(&all)?;
        let nodes = topology.nodes().iter();
        Ok(nodes
            .filter(|node| meant.contains(&node.name.as_str()))
            .collect())
    }

    /// The names that are meant, each once, of nodes that are given by name and tier.
    ///
    /// # Errors
    /// As [`Self::nodes`].
    pub fn names<'n>(&self, all: &[(&'n str, Tier)]) -> Result<Vec<&'n str>, SelectError> {
        for part in &self.0 {
            if !all.iter().any(|(name, tier)| part.fits(name, *tier)) {
                return Err(part.refusal(all));
            }
        }
        let meant = all.iter().filter(|(name, tier)| self.fits(name, *tier));
        Ok(meant.map(|(name, _)| *name).collect())
    }
}

impl Part {
    fn fits(&self, name: &str, tier: Tier) -> bool {
        match self {
            Part::Name(own) => own == name,
            Part::Pattern(pattern) => fits(pattern, name),
            Part::Tier(own) => *own == tier,
        }
    }

    fn refusal(&self, all: &[(&str, Tier)]) -> SelectError {
        match self {
            Part::Name(name) => {
                let names = all.iter().map(|(name, _)| *name);
                SelectError::NoSuchNode {
                    name: name.clone(),
                    meant: did_you_mean(name, names).map(str::to_owned),
                }
            }
            Part::Pattern(_) | Part::Tier(_) => SelectError::NoMatch(self.to_string()),
        }
    }
}

/// Whether `name` is what `pattern` says, where `*` stands for any text.
fn fits(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|start| name.strip_prefix(start)) else {
        return false;
    };
    let Some(end) = parts.next_back() else {
        return rest.is_empty();
    };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(end)
}

impl FromStr for Selector {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split(',').map(|part| match part.trim() {
            "" => Err("name nodes as `node-1`, `app-*` or `@app`, separated by commas".to_owned()),
            part => match part.strip_prefix('@') {
                Some(tier) => Ok(Part::Tier(tier.parse()?)),
                None if part.contains('*') => Ok(Part::Pattern(part.to_owned())),
                None => Ok(Part::Name(part.to_owned())),
            },
        });
        parts.collect::<Result<_, _>>().map(Self)
    }
}

impl fmt::Display for Part {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Part::Name(text) | Part::Pattern(text) => out.write_str(text),
            Part::Tier(tier) => write!(out, "@{tier}"),
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> = self.0.iter().map(Part::to_string).collect();
        out.write_str(&parts.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::{Selector, fits};

    #[test]
    fn patterns_fit_as_a_shell_would_say() {
        for (pattern, name) in [
            ("*", "a"),
            ("a*", "a"),
            ("a*", "abc"),
            ("*c", "abc"),
            ("a*c", "abc"),
            ("a*c", "ac"),
            ("*b*", "abc"),
            ("a*b*c", "axbxbxc"),
            ("**", "x"),
            ("ab*", "ab"),
        ] {
            assert!(fits(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("a*", "ba"),
            ("*c", "cb"),
            ("a*a", "a"),
            ("a*b*c", "acb"),
            ("abc*bc", "abc"),
        ] {
            assert!(!fits(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn what_is_read_is_written_alike() {
        for text in ["node-1", "app-*,@app", "@load-balancer"] {
            let selector: Selector = text.parse().unwrap_or_else(|why| unreachable!("{why}"));
            assert_eq!(selector.to_string(), text);
        }
        for text in ["", ",", "a,,b", "@", "@ap"] {
            assert!(text.parse::<Selector>().is_err(), "{text}");
        }
    }
}
