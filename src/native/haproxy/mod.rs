//! haproxy's configuration: lines of words, in sections (configuration manual, 2.1
//! to 2.2). [`Proxy`] answers what a `frontend`, `listen` or `backend` has in
//! effect, with what it inherits from its `defaults`.

mod conditions;
mod proxy;
mod server;
mod words;

pub use conditions::Reading;
pub use proxy::{Bind, Check, HttpCheck, Proxy};
pub use server::{Server, Setting};

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use super::{Directive, Malformed};
use crate::topology::Millis;

/// Keywords that begin a section.
pub const SECTIONS: [&str; 21] = [
    "acme",
    "backend",
    "cache",
    "crt-store",
    "defaults",
    "dynamic-update",
    "fcgi-app",
    "frontend",
    "global",
    "healthcheck",
    "http-errors",
    "listen",
    "log-forward",
    "log-profile",
    "mailers",
    "peers",
    "program",
    "resolvers",
    "ring",
    "traces",
    "userlist",
];

/// How far `defaults` that inherit from others are followed.
const DEEPEST: usize = 64;

/// A whole configuration: a file, or several that haproxy reads as one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// Its sections in order. The first has no kind if preprocessor lines (`.if`) stand before all sections.
    pub sections: Vec<Section>,
    /// For each section the `defaults` that hold for it, nearest first, by their place in `sections`.
    inherited: Vec<Vec<usize>>,
    /// Bytes of the blocks between `.if` and `.endif`.
    conditional: Vec<Range<usize>>,
}

/// A section: a line such as `backend app` and the lines below it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Section {
    /// `global`, `defaults`, `frontend`, `backend`, `listen`, …
    pub kind: String,
    /// Its name; empty where it has none.
    pub name: String,
    /// Line of its head, from 1.
    pub line: usize,
    /// Its head.
    pub head: Directive,
    /// Its lines in order, unknown ones included.
    pub directives: Vec<Directive>,
}

impl Section {
    /// The last directive that begins with `words`: the one that counts.
    pub fn directive(&self, words: &[&str]) -> Option<&Directive> {
        self.directives
            .iter()
            .rev()
            .find(|line| line.starts_with(words))
    }

    /// The duration behind `words`, if there is a readable one.
    pub fn time(&self, words: &[&str]) -> Option<Millis> {
        time(self.directive(words)?.word(words.len()))
    }

    /// The named defaults that it inherits from: `from NAME` of its head.
    fn parent(&self) -> Option<&str> {
        let at = self.head.words.iter().position(|word| word == "from")?;
        self.head.words.get(at + 1).map(String::as_str)
    }
}

impl Config {
    /// Reads a file's text. Unknown directives are kept.
    ///
    /// # Errors
    /// A quote that is not closed, or a directive before the first section.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        Self::part(text, 0, Reading::All)
    }

    /// Reads one of the files of a configuration, whose places count from `base`.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn part(text: &str, base: usize, reading: Reading) -> Result<Self, Malformed> {
        let lines = words::lines(text, base)?;
        let conditional = conditions::blocks(&lines);
        let mut sections: Vec<Section> = Vec::new();
        for directive in conditions::taken(lines, reading) {
            let kind = directive.word(0);
            if SECTIONS.contains(&kind) {
                let name = directive.word(1);
                let name = if name == "from" { "" } else { name };
                sections.push(Section {
                    kind: kind.to_owned(),
                    name: name.to_owned(),
                    line: directive.line,
                    head: directive,
                    directives: Vec::new(),
                });
            } else if let Some(section) = sections.last_mut() {
                section.directives.push(directive);
            } else if kind.starts_with('.') {
                sections.push(Section {
                    line: directive.line,
                    directives: vec![directive],
                    ..Section::default()
                });
            } else {
                return Err(Malformed {
                    line: directive.line,
                    message: format!(
                        "`{kind}` stands before the first section; a haproxy file begins with `global` or `defaults`"
                    ),
                    span: directive.span_of(0),
                });
            }
        }
        let inherited = inherited(&sections);
        Ok(Self {
            sections,
            inherited,
            conditional,
        })
    }

    /// Files in the order in which haproxy reads them, as one configuration: `global` holds
    /// for all of them, and `defaults` for what follows.
    #[must_use]
    pub fn join(parts: Vec<Self>) -> Self {
        let mut whole = Self::default();
        for part in parts {
            whole.sections.extend(part.sections);
            whole.conditional.extend(part.conditional);
        }
        whole.inherited = inherited(&whole.sections);
        whole
    }

    /// Bytes of the blocks between `.if` and `.endif`.
    pub fn conditional(&self) -> &[Range<usize>] {
        &self.conditional
    }

    /// The environment variables that the configuration sets itself (`setenv`, `presetenv`).
    pub fn variables(&self) -> BTreeMap<&str, &str> {
        let lines = self
            .sections("global")
            .flat_map(|section| &section.directives)
            .filter(|line| matches!(line.word(0), "setenv" | "presetenv"));
        lines.map(|line| (line.word(1), line.word(2))).collect()
    }

    /// The sections of one kind.
    pub fn sections<'c>(&'c self, kind: &'c str) -> impl Iterator<Item = &'c Section> {
        self.sections
            .iter()
            .filter(move |section| section.kind == kind)
    }

    /// The last directive of any `global` section that begins with `words`.
    pub fn global(&self, words: &[&str]) -> Option<&Directive> {
        self.sections
            .iter()
            .rev()
            .filter(|section| section.kind == "global")
            .find_map(|section| section.directive(words))
    }

    /// Every `frontend`, `listen` and `backend`, in order.
    pub fn proxies(&self) -> impl Iterator<Item = Proxy<'_>> {
        self.sections
            .iter()
            .enumerate()
            .filter(|(_, section)| {
                matches!(section.kind.as_str(), "frontend" | "listen" | "backend")
            })
            .map(|(at, section)| Proxy::new(section, self.defaults(at)))
    }

    /// The proxy of that kind and name; a `listen` is both a frontend and a backend.
    pub fn proxy(&self, kind: &str, name: &str) -> Option<Proxy<'_>> {
        self.proxies().find(|proxy| {
            proxy.name() == name && (proxy.kind() == kind || proxy.kind() == "listen")
        })
    }

    /// The `defaults` that hold for the section at `at`, nearest first.
    fn defaults(&self, at: usize) -> Vec<&Section> {
        let places = self.inherited.get(at).into_iter().flatten();
        places.filter_map(|at| self.sections.get(*at)).collect()
    }

    /// The server whose checks decide over `server` of `proxy`: the one it tracks, else itself.
    pub fn checked<'c>(
        &'c self,
        proxy: &Proxy<'c>,
        server: &Server,
    ) -> Option<(Proxy<'c>, Server)> {
        let mut place = (proxy.clone(), server.clone());
        // Chains of `track` are allowed; circles are not, but may be written.
        for _ in 0..16 {
            let Some(track) = place.1.value("track") else {
                return Some(place);
            };
            let (backend, name) = match track.split_once('/') {
                Some((backend, name)) => (self.proxy("backend", backend)?, name),
                None => (place.0.clone(), track),
            };
            let tracked = backend
                .servers()
                .into_iter()
                .find(|server| server.name == name)?;
            place = (backend, tracked);
        }
        None
    }
}

/// For each section the `defaults` that hold for it, nearest first: the named one, else the
/// last one before it, and those that these inherit from.
fn inherited(sections: &[Section]) -> Vec<Vec<usize>> {
    let mut all: Vec<Vec<usize>> = Vec::with_capacity(sections.len());
    let mut last = None;
    let mut named: HashMap<&str, usize> = HashMap::new();
    for (at, section) in sections.iter().enumerate() {
        let is_defaults = section.kind == "defaults";
        let nearest = match section.parent() {
            Some(name) => named.get(name).copied(),
            None => last.filter(|_| !is_defaults),
        };
        let farther = nearest.and_then(|at| all.get(at)).into_iter().flatten();
        all.push(
            nearest
                .into_iter()
                .chain(farther.copied().take(DEEPEST))
                .collect(),
        );
        if is_defaults {
            last = Some(at);
            named.insert(&section.name, at);
        }
    }
    all
}

/// A duration as haproxy writes it: a number and `us`, `ms`, `s`, `m`, `h` or `d`;
/// without a unit, milliseconds. Microseconds are rounded up to milliseconds.
pub fn time(text: &str) -> Option<Millis> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let milliseconds = match unit {
        "us" => Some(number.div_ceil(1000)),
        "" | "ms" => Some(number),
        "s" => number.checked_mul(1000),
        "m" => number.checked_mul(60_000),
        "h" => number.checked_mul(3_600_000),
        "d" => number.checked_mul(86_400_000),
        _ => None,
    };
    milliseconds.map(Millis::new)
}
