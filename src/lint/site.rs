//! haproxy's proxies and who leads to whom, gathered once for all rules.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use crate::native::Directive;
use crate::native::haproxy::{Config, Proxy};

/// A configuration as the rules look at it.
pub(super) struct Site<'c> {
    pub config: &'c Config,
    pub proxies: Vec<Proxy<'c>>,
    /// The environment variables that the configuration sets.
    pub variables: BTreeMap<&'c str, &'c str>,
    /// For each proxy whether it keeps unsafe methods away from a second attempt.
    careful: Vec<bool>,
    /// For each backend that is named, the proxies that lead there and by which line.
    leads: HashMap<&'c str, Vec<(usize, &'c Directive)>>,
    /// Whether the configuration is only a part of one: without `global` and `defaults`, what
    /// is missing may stand in another file.
    pub is_part: bool,
}

impl<'c> Site<'c> {
    pub(super) fn of(config: &'c Config) -> Self {
        let proxies: Vec<Proxy<'c>> = config.proxies().collect();
        let mut leads: HashMap<&str, Vec<_>> = HashMap::new();
        for (at, proxy) in proxies.iter().enumerate() {
            for word in ["use_backend", "default_backend"] {
                for line in proxy.directives(&[word]) {
                    leads.entry(line.word(1)).or_default().push((at, line));
                }
            }
        }
        let mut kinds = config.sections.iter().map(|section| section.kind.as_str());
        let is_whole = kinds.any(|kind| kind == "global" || kind == "defaults");
        Self {
            config,
            is_part: !is_whole,
            variables: config.variables(),
            careful: proxies.iter().map(is_careful).collect(),
            proxies,
            leads,
        }
    }

    /// Whether requests only come to `backend` when no server of another one is healthy.
    pub(super) fn is_last_resort(&self, backend: &str) -> bool {
        let resort = |line: &Directive| {
            line.word(0) == "use_backend"
                && line.words.iter().any(|word| word.starts_with("nbsrv("))
        };
        let lines = self.leads.get(backend);
        lines.is_some_and(|lines| lines.iter().all(|(_, line)| resort(line)))
    }

    /// Whether every proxy that leads to `backend` keeps unsafe methods away from a second attempt.
    pub(super) fn is_led_to_with_care(&self, backend: &str) -> bool {
        let careful = |at: &usize| self.careful.get(*at) == Some(&true);
        let lines = self.leads.get(backend);
        lines.is_some_and(|lines| lines.iter().all(|(at, _)| careful(at)))
    }

    /// The word with the variables in it replaced that the configuration sets.
    pub(super) fn expanded(&self, word: &str) -> String {
        let mut meant = word.to_owned();
        for (name, value) in &self.variables {
            if meant.contains('$') {
                meant = meant.replace(&format!("${{{name}}}"), value);
            }
        }
        meant
    }
}

/// Whether a proxy forbids a second attempt of some requests, or chooses the backend by method.
fn is_careful(proxy: &Proxy<'_>) -> bool {
    let methods = |line: &&Directive| {
        let mut words = line.words.iter();
        words.any(|word| word == "method" || word.starts_with("METH_"))
    };
    let chosen = proxy.directives(&["use_backend"]);
    is_limited(proxy)
        || (!chosen.is_empty()
            && (proxy.directives(&["acl"]).iter().any(methods) || chosen.iter().any(methods)))
}

/// Whether a proxy forbids a second attempt of some requests.
pub(super) fn is_limited(proxy: &Proxy<'_>) -> bool {
    let rules = proxy.directives(&["http-request"]);
    rules.iter().any(|rule| rule.word(1) == "disable-l7-retry")
}

/// Where something is missing that most files have in `defaults`: there, else the proxy itself.
pub(super) fn shared(proxy: &Proxy<'_>) -> Range<usize> {
    proxy.defaults().unwrap_or(proxy.section()).head.span()
}
