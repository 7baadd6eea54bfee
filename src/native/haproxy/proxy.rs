//! What a proxy has in effect.

use super::{Directive, Millis, Section, Server, server, time};

/// A `frontend`, `listen` or `backend` together with the `defaults` it inherits from.
#[derive(Clone, Debug)]
pub struct Proxy<'c> {
    own: &'c Section,
    /// Nearest first.
    defaults: Vec<&'c Section>,
}

/// A `bind` line.
#[derive(Clone, Debug)]
pub struct Bind<'c> {
    /// The line.
    pub directive: &'c Directive,
    /// Addresses with ports, as written: `10.0.0.10:80`, `:80`, `*:80`, a socket's path.
    pub addresses: Vec<&'c str>,
    /// What stands behind the addresses, such as `transparent` or `ssl`.
    pub options: Vec<&'c str>,
}

/// How a proxy's servers are checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check<'c> {
    /// A TCP connection that is opened and closed.
    Connect,
    /// An HTTP request.
    Http(HttpCheck<'c>),
    /// Another protocol, by its option: `tcp-check`, `mysql-check`, `ssl-hello-chk`, …
    Other(&'c Directive),
}

/// `option httpchk` with its `http-check` lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpCheck<'c> {
    /// The `option httpchk` line.
    pub directive: &'c Directive,
    /// Method that is asked with; haproxy's default is OPTIONS.
    pub method: &'c str,
    /// What is asked for; haproxy's default is `/`.
    pub uri: &'c str,
    /// The `http-check expect` lines; without one 2xx and 3xx pass.
    pub expect: Vec<&'c Directive>,
    /// Whether 404 drains a server (`http-check disable-on-404`).
    pub disable_on_404: bool,
}

/// Options that choose another protocol for checks.
const CHECKS: [&str; 9] = [
    "external-check",
    "ldap-check",
    "mysql-check",
    "pgsql-check",
    "redis-check",
    "smtpchk",
    "spop-check",
    "ssl-hello-chk",
    "tcp-check",
];

impl<'c> Proxy<'c> {
    pub(super) fn new(own: &'c Section, defaults: Vec<&'c Section>) -> Self {
        Self { own, defaults }
    }

    /// `frontend`, `listen` or `backend`.
    pub fn kind(&self) -> &'c str {
        &self.own.kind
    }

    /// Its name.
    pub fn name(&self) -> &'c str {
        &self.own.name
    }

    /// Its own section.
    pub fn section(&self) -> &'c Section {
        self.own
    }

    /// The nearest `defaults` that it inherits from.
    pub fn defaults(&self) -> Option<&'c Section> {
        self.defaults.first().copied()
    }

    /// Whether it has servers: `backend` and `listen`.
    pub fn is_backend(&self) -> bool {
        self.kind() != "frontend"
    }

    /// Its own lines that begin with `words`; without any, those of the nearest `defaults` that has some.
    pub fn directives(&self, words: &[&str]) -> Vec<&'c Directive> {
        self.sections()
            .map(|section| {
                let lines = section.directives.iter();
                lines
                    .filter(|line| line.starts_with(words))
                    .collect::<Vec<_>>()
            })
            .find(|lines| !lines.is_empty())
            .unwrap_or_default()
    }

    /// The line beginning with `words` that counts: the last one of its own, else of its `defaults`.
    pub fn directive(&self, words: &[&str]) -> Option<&'c Directive> {
        self.sections().find_map(|section| section.directive(words))
    }

    /// `option NAME`, unless a later line or a nearer section says `no option NAME`.
    pub fn option(&self, name: &str) -> Option<&'c Directive> {
        let line = self.sections().find_map(|section| {
            section.directives.iter().rev().find(|line| {
                line.starts_with(&["option", name]) || line.starts_with(&["no", "option", name])
            })
        })?;
        (line.word(0) == "option").then_some(line)
    }

    /// `timeout NAME`, such as `connect`, `server` or `check`.
    pub fn timeout(&self, name: &str) -> Option<Millis> {
        time(self.directive(&["timeout", name])?.word(2))
    }

    /// Whether the timeout is set, also to a value that can't be known from the file.
    pub fn has_timeout(&self, name: &str) -> bool {
        self.directive(&["timeout", name]).is_some()
    }

    /// Whether it takes no connections (`disabled`, unless `enabled` follows).
    pub fn is_disabled(&self) -> bool {
        let line = self.sections().find_map(|section| {
            let mut lines = section.directives.iter().rev();
            lines.find(|line| matches!(line.word(0), "disabled" | "enabled"))
        });
        line.is_some_and(|line| line.word(0) == "disabled")
    }

    /// `http` or `tcp`, which is the default.
    pub fn mode(&self) -> &'c str {
        self.directive(&["mode"]).map_or("tcp", |line| line.word(1))
    }

    /// Attempts after the first (`retries`), 3 unless set.
    pub fn retries(&self) -> u32 {
        let line = self.directive(&["retries"]);
        line.and_then(|line| line.word(1).parse().ok()).unwrap_or(3)
    }

    /// After how many failed attempts another server is tried (`option redispatch`):
    /// `Some(1)` at each, `Some(-1)` at the last one, `None` never.
    pub fn redispatch(&self) -> Option<i32> {
        let line = self.option("redispatch")?;
        let interval = match line.word(2) {
            "" => -1,
            number => number.parse().unwrap_or(-1),
        };
        (interval != 0).then_some(interval)
    }

    /// What is tried again (`retry-on`); a failed connection only, unless set.
    pub fn retry_on(&self) -> Vec<&'c str> {
        match self.directive(&["retry-on"]) {
            Some(line) => line.words.iter().skip(1).map(String::as_str).collect(),
            None => vec!["conn-failure"],
        }
    }

    /// How its servers are checked, if they are.
    pub fn check(&self) -> Check<'c> {
        // In one section the last option wins; a nearer section wins over a farther one.
        let chosen = self.sections().find_map(|section| {
            section.directives.iter().rev().find(|line| {
                let name = line.word(1);
                line.word(0) == "option" && (name == "httpchk" || CHECKS.contains(&name))
            })
        });
        match chosen {
            None => Check::Connect,
            Some(line) if line.word(1) == "httpchk" => Check::Http(self.http_check(line)),
            Some(line) => Check::Other(line),
        }
    }

    fn http_check(&self, directive: &'c Directive) -> HttpCheck<'c> {
        let (mut method, mut uri) = match directive.words.len() {
            0..=2 => ("OPTIONS", "/"),
            3 => ("OPTIONS", directive.word(2)),
            _ => (directive.word(2), directive.word(3)),
        };
        if let Some(send) = self.directive(&["http-check", "send"]) {
            method = after(send, "meth").unwrap_or(method);
            uri = after(send, "uri")
                .or_else(|| after(send, "uri-lf"))
                .unwrap_or(uri);
        }
        HttpCheck {
            directive,
            method,
            uri,
            expect: self.directives(&["http-check", "expect"]),
            disable_on_404: self.directive(&["http-check", "disable-on-404"]).is_some(),
        }
    }

    /// Its `bind` lines.
    pub fn binds(&self) -> Vec<Bind<'c>> {
        let lines = self
            .own
            .directives
            .iter()
            .filter(|line| line.word(0) == "bind");
        lines
            .map(|directive| Bind {
                directive,
                addresses: directive
                    .word(1)
                    .split(',')
                    .filter(|a| !a.is_empty())
                    .collect(),
                options: directive.words.iter().skip(2).map(String::as_str).collect(),
            })
            .collect()
    }

    /// Its servers, each with what `default-server` lines give it.
    pub fn servers(&self) -> Vec<Server> {
        let mut base = server::Settings::new();
        for section in self.defaults.iter().rev() {
            server::defaults(section, &mut base);
        }
        server::servers(self.own, base)
    }

    /// Its own section, then what it inherits from, nearest first.
    fn sections(&self) -> impl Iterator<Item = &'c Section> + '_ {
        std::iter::once(self.own).chain(self.defaults.iter().copied())
    }
}

/// The word that follows `key` on the line.
fn after<'c>(line: &'c Directive, key: &str) -> Option<&'c str> {
    let at = line.words.iter().position(|word| word == key)?;
    line.words.get(at + 1).map(String::as_str)
}
