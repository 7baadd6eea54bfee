//! Which daemon a file is for, by what it holds; names are only believed where that leaves doubt.

/// Which daemon reads a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// haproxy's configuration.
    Haproxy,
    /// Keepalived's configuration.
    Keepalived,
    /// mongod's configuration.
    Mongod,
    /// A replica set as JSON: `rs.conf()`, or a `node.json` of ours.
    ReplicaSet,
    /// Anything that holds a `mongodb://` address.
    Address,
}

/// The kind of the file called `name` that holds `text`, if it is one that `lint` knows.
pub fn recognise(name: &str, text: &str) -> Option<Kind> {
    let starts = |words: &[&str]| {
        text.lines().any(|line| {
            let word = line
                .split([' ', '\t', '\r', '{', ':'])
                .next()
                .unwrap_or_default();
            words.contains(&word)
        })
    };
    let begins = |words: &[&str]| {
        text.lines().any(|line| {
            let line = line.trim_start();
            let word = line
                .split([' ', '\t', '\r', '{'])
                .next()
                .unwrap_or_default();
            words.contains(&word)
        })
    };
    let file = name.rsplit('/').next().unwrap_or(name);
    if text.trim_start().starts_with('{') {
        return serde_json::from_str::<serde_json::Value>(text)
            .ok()
            .and(Some(Kind::ReplicaSet));
    }
    if begins(&[
        "vrrp_instance",
        "vrrp_script",
        "global_defs",
        "vrrp_sync_group",
        "virtual_server",
    ]) {
        return Some(Kind::Keepalived);
    }
    if starts(&["frontend", "backend", "listen", "defaults"]) {
        return Some(Kind::Haproxy);
    }
    if starts(&[
        "storage",
        "systemLog",
        "replication",
        "sharding",
        "net",
        "processManagement",
        "storage.dbPath",
    ]) {
        return Some(Kind::Mongod);
    }
    if text.contains("mongodb://") || text.contains("mongodb+srv://") {
        return Some(Kind::Address);
    }
    [
        ("haproxy", Kind::Haproxy),
        ("keepalived", Kind::Keepalived),
        ("mongod", Kind::Mongod),
    ]
    .into_iter()
    .find(|(stem, _)| file.contains(stem))
    .map(|(_, kind)| kind)
}
