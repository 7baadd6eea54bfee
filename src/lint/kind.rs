//! Which daemon a file is for, by what it holds; its name is no proof.

use crate::native::{haproxy, mongod};

/// Which daemon reads a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// haproxy's configuration.
    Haproxy,
    /// Keepalived's configuration.
    Keepalived,
    /// What a Keepalived file includes; not looked at by itself.
    KeepalivedPart,
    /// mongod's configuration.
    Mongod,
    /// A replica set as JSON: `rs.conf()`, or a `node.json` of ours.
    ReplicaSet,
    /// Anything that holds a `mongodb://` address.
    Address,
}

/// Blocks of Keepalived's file.
const KEEPALIVED: [&str; 18] = [
    "bfd_instance",
    "garp_group",
    "global_defs",
    "linkbeat_interfaces",
    "static_ipaddress",
    "static_routes",
    "static_rules",
    "static_track_group",
    "track_file",
    "track_process",
    "virtual_server",
    "virtual_server_group",
    "vrrp_instance",
    "vrrp_script",
    "vrrp_sync_group",
    "vrrp_track_bfd",
    "vrrp_track_file",
    "vrrp_track_process",
];
/// Sections of mongod's file.
const MONGOD: [&str; 14] = [
    "__exec",
    "__rest",
    "auditLog",
    "cloud",
    "net",
    "operationProfiling",
    "processManagement",
    "replication",
    "security",
    "setParameter",
    "sharding",
    "snmp",
    "storage",
    "systemLog",
];

/// The kind of the file called `name` that holds `text`, if it is one that `lint` knows.
pub fn recognise(name: &str, text: &str) -> Option<Kind> {
    let kind = of_text(name, text);
    // What a template becomes can't be known.
    kind.filter(|kind| *kind == Kind::Address || !is_template(text))
}

fn of_text(name: &str, text: &str) -> Option<Kind> {
    if text.trim_start().starts_with('{') {
        return of_json(text);
    }
    if is_keepalived(text) {
        Some(Kind::Keepalived)
    } else if is_haproxy(text) {
        Some(Kind::Haproxy)
    } else if mongod::is_ini(text) || is_mongod(name, text) {
        Some(Kind::Mongod)
    } else if is_address(text) {
        Some(Kind::Address)
    } else {
        None
    }
}

fn of_json(text: &str) -> Option<Kind> {
    let value: serde_json::Value = serde_json::from_str(text).ok()?;
    let keys = value.as_object()?;
    let section = |key: &String| MONGOD.contains(&key.split('.').next().unwrap_or_default());
    if !keys.is_empty() && keys.keys().all(section) {
        return Some(Kind::Mongod);
    }
    let set = value.get("database").unwrap_or(&value);
    if set.get("members").is_some() || value.get("node").is_some() {
        return Some(Kind::ReplicaSet);
    }
    is_address(text).then_some(Kind::Address)
}

fn is_address(text: &str) -> bool {
    text.contains("mongodb://") || text.contains("mongodb+srv://")
}

/// The lines that are neither empty nor a remark.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    let lines = text.lines().map(str::trim);
    lines.filter(|line| !line.is_empty() && !line.starts_with(['#', '!']))
}

fn is_keepalived(text: &str) -> bool {
    let mut lines = lines(text).peekable();
    while let Some(line) = lines.next() {
        let word = line.split([' ', '\t', '{']).next().unwrap_or_default();
        let opens = line.contains('{') || lines.peek().is_some_and(|next| next.starts_with('{'));
        if KEEPALIVED.contains(&word) && opens {
            return true;
        }
    }
    false
}

/// Whether the first line begins a section, or several do: words before the first are a mistake.
fn is_haproxy(text: &str) -> bool {
    let mut lines = lines(text).filter(|line| !line.starts_with('.')).peekable();
    let begins = |line: &&str| {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_whitespace();
        let kind = words.next().unwrap_or_default();
        haproxy::SECTIONS.contains(&kind) && words.count() < 6 && !line.contains(['{', '=', ';'])
    };
    lines.peek().is_some_and(begins) || lines.filter(begins).nth(1).is_some()
}

fn is_mongod(name: &str, text: &str) -> bool {
    let file = name.rsplit('/').next().unwrap_or(name);
    let named = file.contains("mongo");
    let known = |key: &str| MONGOD.contains(&key.split('.').next().unwrap_or_default());
    match serde_yaml_ng::from_str::<serde_yaml_ng::Value>(text) {
        Ok(serde_yaml_ng::Value::Mapping(map)) => {
            let keys = || map.keys().map(|key| key.as_str().unwrap_or_default());
            (map.keys().next().is_some() && keys().all(known)) || (named && keys().any(known))
        }
        Ok(_) => false,
        // YAML with a mistake: mongod's own sections stand at the margin.
        Err(_) => {
            let sections = text.lines().filter(|line| {
                let key = line.split(':').next().unwrap_or_default();
                line.contains(':') && known(key)
            });
            sections.count() > usize::from(!named)
        }
    }
}

/// Whether placeholders of a template engine stand in the text, outside of remarks.
fn is_template(text: &str) -> bool {
    lines(text).any(|line| {
        let jinja = line.contains("{{") && line.contains("}}");
        jinja
            || ["{% ", "{%- ", "<%= ", "<% ", "<%- "]
                .iter()
                .any(|mark| line.contains(mark))
    })
}

/// Why the file called `name` is not one that `lint` knows, and what to do.
pub fn refusal(name: &str, text: &str) -> String {
    if text.contains('\0') {
        return "this is no text".into();
    }
    if lines(text).next().is_none() {
        return "it has no line that is not a remark".into();
    }
    if is_template(text) {
        return "this is a template: render it first".into();
    }
    if text.trim_start().starts_with('{')
        && let Err(error) = serde_json::from_str::<serde_json::Value>(text)
    {
        return format!("this is no JSON: {error}");
    }
    let file = name.rsplit('/').next().unwrap_or(name);
    let daemons = [
        ("haproxy", "haproxy", "begins no section such as `global`"),
        (
            "keepalived",
            "Keepalived",
            "has no block such as `vrrp_instance NAME {`",
        ),
        ("mongo", "mongod", "has no section such as `storage:`"),
    ];
    let meant = daemons.into_iter().find(|(stem, _, _)| file.contains(stem));
    let why = meant.map_or(String::new(), |(_, daemon, why)| {
        format!("; for {daemon} it {why}")
    });
    format!(
        "this is no configuration of haproxy, Keepalived or mongod, no replica set as JSON, and holds no mongodb:// address{why}"
    )
}
