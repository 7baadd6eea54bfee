//! The `server` lines of a proxy with their options in effect (manual, section 5.2).

use std::collections::BTreeMap;
use std::ops::Range;

use super::{Directive, Millis, Section, time};

/// Options that take one word; all others are taken for flags.
const WITH_VALUE: [&str; 64] = [
    "addr",
    "agent-addr",
    "agent-inter",
    "agent-port",
    "agent-send",
    "alpn",
    "ca-file",
    "check-alpn",
    "check-proto",
    "check-reuse-pool",
    "check-sni",
    "ciphers",
    "ciphersuites",
    "client-sigalgs",
    "cookie",
    "crl-file",
    "crt",
    "curves",
    "downinter",
    "error-limit",
    "fall",
    "fastinter",
    "guid",
    "hash-key",
    "id",
    "idle-ping",
    "init-addr",
    "init-state",
    "inter",
    "interface",
    "log-bufsize",
    "log-proto",
    "max-reuse",
    "maxconn",
    "maxqueue",
    "minconn",
    "namespace",
    "npn",
    "observe",
    "on-error",
    "on-marked-down",
    "on-marked-up",
    "pool-conn-name",
    "pool-low-conn",
    "pool-max-conn",
    "pool-purge-delay",
    "port",
    "proto",
    "proxy-v2-options",
    "redir",
    "renegotiate",
    "resolve-net",
    "resolve-opts",
    "resolve-prefer",
    "resolvers",
    "rise",
    "shard",
    "sigalgs",
    "slowstart",
    "sni",
    "socks4",
    "source",
    "track",
    "weight",
];
/// More of them; two lists because formatters like short ones.
const WITH_VALUE_TOO: [&str; 8] = [
    "ssl-max-ver",
    "ssl-min-ver",
    "tcp-md5sig",
    "tcp-ut",
    "usesrc",
    "verify",
    "verifyhost",
    "ws",
];

/// Options by name.
pub(super) type Settings = BTreeMap<String, Setting>;

/// An option of a server and where it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Its value; none for a flag such as `check`.
    pub value: Option<String>,
    /// Line of the `server` or `default-server` that gave it.
    pub line: usize,
    /// Bytes of the option and its value.
    pub span: Range<usize>,
}

/// A server of a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Its name.
    pub name: String,
    /// Address and port as written.
    pub address: String,
    /// How many servers the line stands for: more than one for a `server-template`.
    pub count: usize,
    /// Its line.
    pub directive: Directive,
    /// Its options, those of `default-server` included.
    pub options: BTreeMap<String, Setting>,
}

impl Server {
    /// Whether the flag is set, such as `check` or `backup`.
    pub fn has(&self, flag: &str) -> bool {
        self.options.contains_key(flag)
    }

    /// An option's value.
    pub fn value(&self, option: &str) -> Option<&str> {
        self.options.get(option)?.value.as_deref()
    }

    /// An option's value as a duration.
    pub fn time(&self, option: &str) -> Option<Millis> {
        time(self.value(option)?)
    }

    /// Whether how often it is checked depends on something outside of the file.
    pub fn is_indefinite(&self) -> bool {
        ["inter", "fastinter", "downinter", "fall", "rise"]
            .iter()
            .any(|option| self.value(option).is_some_and(|value| value.contains('$')))
    }

    /// Time between two checks of a server that is up; 2 s unless set.
    pub fn inter(&self) -> Millis {
        self.time("inter").unwrap_or(Millis::new(2000))
    }

    /// Time between two checks while the state is about to change; as [`Self::inter`] unless set.
    pub fn fastinter(&self) -> Millis {
        self.time("fastinter").unwrap_or(self.inter())
    }

    /// Time between two checks of a server that is down; as [`Self::inter`] unless set.
    pub fn downinter(&self) -> Millis {
        self.time("downinter").unwrap_or(self.inter())
    }

    /// Failed checks in a row that take it out; 3 unless set.
    pub fn fall(&self) -> u32 {
        self.number("fall", 3)
    }

    /// Passed checks in a row that bring it back; 2 unless set.
    pub fn rise(&self) -> u32 {
        self.number("rise", 2)
    }

    fn number(&self, option: &str, default: u32) -> u32 {
        self.value(option)
            .and_then(|text| text.parse().ok())
            .unwrap_or(default)
    }

    /// How long one check may take to fail when the server accepts and never answers:
    /// `timeout check` if set, else one interval (manual, `timeout check`).
    pub fn check_timeout(&self, timeout_check: Option<Millis>) -> Millis {
        timeout_check.unwrap_or(self.inter())
    }

    /// The longest time from a fault until the server is down, when each check takes
    /// `probe` to fail: `inter + (fall - 1) × fastinter + fall × probe`.
    pub fn longest_detection(&self, probe: Millis) -> Millis {
        let fall = u64::from(self.fall());
        let waits = self
            .fastinter()
            .get()
            .saturating_mul(fall.saturating_sub(1));
        let probes = probe.get().saturating_mul(fall);
        Millis::new(
            self.inter()
                .get()
                .saturating_add(waits)
                .saturating_add(probes),
        )
    }

    /// The longest time from recovery until the server is up, when each check takes
    /// `probe` to pass: `downinter + (rise - 1) × fastinter + rise × probe`.
    pub fn longest_return(&self, probe: Millis) -> Millis {
        let rise = u64::from(self.rise());
        let waits = self
            .fastinter()
            .get()
            .saturating_mul(rise.saturating_sub(1));
        let probes = probe.get().saturating_mul(rise);
        Millis::new(
            self.downinter()
                .get()
                .saturating_add(waits)
                .saturating_add(probes),
        )
    }
}

/// Adds what the `default-server` lines of `section` say.
pub(super) fn defaults(section: &Section, settings: &mut Settings) {
    for line in section
        .directives
        .iter()
        .filter(|line| line.word(0) == "default-server")
    {
        apply(line, 1, settings);
    }
}

/// The servers of `section`. A `default-server` line holds for the servers below it.
pub(super) fn servers(section: &Section, mut base: Settings) -> Vec<Server> {
    let mut found = Vec::new();
    for line in &section.directives {
        match line.word(0) {
            "default-server" => apply(line, 1, &mut base),
            "server" if line.words.len() > 2 => found.push(one(line, 2, 1, &base)),
            "server-template" if line.words.len() > 3 => {
                found.push(one(line, 3, number_of(line.word(2)), &base));
            }
            _ => {}
        }
    }
    found
}

/// The server of a line whose address is the word at `address`.
fn one(line: &Directive, address: usize, count: usize, base: &Settings) -> Server {
    let mut options = base.clone();
    apply(line, address + 1, &mut options);
    Server {
        name: line.word(1).to_owned(),
        address: line.word(address).to_owned(),
        count,
        directive: line.clone(),
        options,
    }
}

/// How many servers `NUM` or `FIRST-LAST` of a `server-template` makes; two where it can't be known.
fn number_of(range: &str) -> usize {
    let number = |text: &str| text.parse::<usize>().ok();
    let count = match range.split_once('-') {
        Some((first, last)) => number(first)
            .zip(number(last))
            .map(|(first, last)| last.saturating_sub(first).saturating_add(1)),
        None => number(range),
    };
    count.unwrap_or(2)
}

fn apply(line: &Directive, from: usize, settings: &mut Settings) {
    let mut at = from;
    while let Some(option) = line.words.get(at) {
        let key = option.as_str();
        let takes = WITH_VALUE.contains(&key) || WITH_VALUE_TOO.contains(&key);
        let value = takes.then(|| line.words.get(at + 1).cloned()).flatten();
        let last = at + usize::from(value.is_some());
        if let Some(undone) = key
            .strip_prefix("no-")
            .filter(|flag| settings.contains_key(*flag))
        {
            settings.remove(undone);
        } else {
            let setting = Setting {
                value,
                line: line.line,
                span: line.span_of(at).start..line.span_of(last).end,
            };
            settings.insert(option.clone(), setting);
        }
        at = last + 1;
    }
}
