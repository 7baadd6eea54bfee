//! Traps around `MongoDB`: mongod's file, a replica set's members, and the address
//! that the app is given.

use std::net::IpAddr;
use std::ops::Range;

use serde_json::Value;

use super::cost::time;
use super::{Code, Cost, Finding, Findings};
use crate::config::longest_election;
use crate::native::mongod::Config;
use crate::topology::Millis;

/// `MongoDB`'s own election time-out, in milliseconds.
const ELECTION_TIMEOUT: u64 = 10_000;
/// Longest election time-out that is not called slow, in milliseconds.
const PATIENCE: u64 = 5000;

/// mongod's configuration.
pub(super) fn mongod(config: &Config, findings: &mut Findings<'_>) {
    // mongos stores nothing, and what a program or a server tells can't be known.
    if ["sharding.configDB", "__exec", "__rest"]
        .iter()
        .any(|path| config.has(path))
    {
        return;
    }
    let at = |path: &str| config.place(path).map_or(config.start(), |(_, span)| span);
    // A file without these may be a part of what mongod is told.
    let whole = ["storage", "net", "storage.dbPath", "net.port", "net.bindIp"];
    let is_whole = whole.iter().any(|path| config.has(path));
    let set = config.has("replication.replSetName") || config.has("replication.replSet");
    if !set && is_whole {
        findings.costly(
            Code::NoReplication,
            at("replication"),
            "this mongod belongs to no replica set",
            "`replication.replSetName`, also for a single one: it can grow to three members then",
            Cost::endless("this machine is away"),
        );
    }
    let on = |path: &str| config.setting(path).and_then(serde_yaml_ng::Value::as_bool);
    if on("storage.journal.enabled") == Some(false) {
        findings.costly(
            Code::JournalDisabled,
            at("storage.journal.enabled"),
            "without the journal a crash loses what the last checkpoint does not have",
            "remove the line",
            Cost::loss("up to 60 s of acknowledged writes, with one checkpoint a minute"),
        );
    }
    let hosts = match config.setting("net.bindIp") {
        // Before version 2.6, whose files these are, mongod listened on every address.
        None if config.is_old() => None,
        None => Some("127.0.0.1"),
        Some(value) => value.as_str(),
    };
    let local = |hosts: &str| hosts.split(',').all(|host| is_local(host.trim()));
    if on("net.bindIpAll") != Some(true) && set && hosts.is_some_and(local) {
        findings.costly(
            Code::BindLocalhost,
            at("net.bindIp"),
            "the other members of the replica set can't reach this mongod: it listens on this machine only",
            "name its address in `net.bindIp`",
            Cost::endless("the set has one member"),
        );
    }
}

/// Whether only this machine reaches the host.
fn is_local(host: &str) -> bool {
    let loopback = host
        .parse::<IpAddr>()
        .is_ok_and(|address| address.is_loopback());
    loopback || host == "localhost" || host.starts_with('/')
}

/// A replica set's member, as far as it matters here.
struct Member {
    votes: bool,
    arbiter: bool,
}

/// A replica set as JSON: what `rs.conf()` prints, or the `database` of a `node.json`.
pub(super) fn replica_set(text: &str, findings: &mut Findings<'_>) {
    let Ok(value) = serde_json::from_str::<Value>(text) else {
        return;
    };
    let set = value
        .get("database")
        .filter(|set| set.is_object())
        .unwrap_or(&value);
    let Some(members) = set.get("members").and_then(Value::as_array) else {
        return;
    };
    let members: Vec<Member> = members
        .iter()
        .map(|member| Member {
            votes: member
                .get("voting")
                .and_then(Value::as_bool)
                .unwrap_or(true)
                && member.get("votes").and_then(Value::as_u64) != Some(0),
            arbiter: member.get("arbiterOnly").and_then(Value::as_bool) == Some(true),
        })
        .collect();
    let at = word(text, "members");
    let voters = members.iter().filter(|member| member.votes).count();
    let spare = voters.saturating_sub(1) / 2;
    if voters % 2 == 0 && voters > 0 {
        findings.costly(
            Code::EvenReplicaSet,
            at.clone(),
            format!(
                "{voters} voting members survive the loss of {spare}, like {}",
                voters - 1
            ),
            "add a member, or take one's vote: `votes: 0, priority: 0`",
            Cost::endless(format!("{} of {voters} members are away", spare + 1)),
        );
    } else if voters < 3 {
        findings.costly(
            Code::TooFewVoters,
            at.clone(),
            "the loss of the only voting member stops reading and writing",
            "three members survive the loss of one",
            Cost::endless("1 of 1 member is away"),
        );
    }
    if members.iter().any(|member| member.arbiter) {
        findings.costly(
            Code::Arbiter,
            word(text, "arbiterOnly"),
            "an arbiter votes and stores nothing: with one data member less no majority write completes",
            "use a third data member",
            Cost::endless("writes with `w=majority`, while a data member is away"),
        );
    }
    election(set, text, at, findings);
}

fn election(set: &Value, text: &str, members: Range<usize>, findings: &mut Findings<'_>) {
    let ours = set.get("election_timeout_ms");
    let theirs = set.pointer("/settings/electionTimeoutMillis");
    let timeout = ours.or(theirs).and_then(Value::as_u64);
    let milliseconds = timeout.unwrap_or(ELECTION_TIMEOUT);
    if milliseconds > PATIENCE {
        let at = if timeout.is_some() {
            word(text, "electionTimeoutMillis")
        } else {
            members
        };
        let pause = longest_election(Millis::new(milliseconds.min(u64::MAX / 200))).seconds();
        let seconds = Millis::new(milliseconds).seconds();
        findings.costly(
            Code::SlowElection,
            at,
            format!(
                "a dead primary is replaced after {} and more",
                time(seconds)
            ),
            "`settings: { electionTimeoutMillis: 2000, heartbeatIntervalMillis: 500 }`",
            Cost::of(
                pause,
                format!("electionTimeoutMillis {} × 1.15 + 50 ms", time(seconds)),
            ),
        );
    }
}

/// Bytes of the first place where `key` stands in quotes.
fn word(text: &str, key: &str) -> Range<usize> {
    let quoted = format!("\"{key}\"");
    text.find(&quoted).map_or(0..0, |at| at..at + quoted.len())
}

/// Every `mongodb://` address in a text.
pub(super) fn addresses(text: &str, findings: &mut Findings<'_>) {
    for scheme in ["mongodb://", "mongodb+srv://"] {
        for (start, _) in text.match_indices(scheme) {
            let rest = &text[start..];
            let ends = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '`' | '<' | '>');
            let end = start + rest.find(ends).unwrap_or(rest.len());
            if !is_remark(&text[..start]) {
                address(&text[start..end], start, findings);
            }
        }
    }
}

/// Whether what follows on the last line of `before` is a remark.
fn is_remark(before: &str) -> bool {
    let line = before.rsplit('\n').next().unwrap_or_default();
    let first = line.trim_start();
    ["#", "//", ";", "--", "* ", "<!--"]
        .iter()
        .any(|mark| first.starts_with(mark))
        || line.contains(" #")
        || line.contains("\t#")
        || line.contains(" // ")
}

/// Whether an address leads to this machine alone: to a mongos, which knows the sets itself.
fn is_router(hosts: &str) -> bool {
    let hosts = hosts.split_once("://").map_or(hosts, |(_, rest)| rest);
    let hosts = hosts.rsplit_once('@').map_or(hosts, |(_, rest)| rest);
    let host = hosts.split(['/', ':']).next().unwrap_or_default();
    matches!(host, "127.0.0.1" | "localhost") && !hosts.contains(',')
}

fn address(uri: &str, start: usize, findings: &mut Findings<'_>) {
    // Not the whole address: it may hold a password.
    let (hosts, options) = uri.split_once('?').unwrap_or((uri, ""));
    let after = start + hosts.len() + usize::from(!options.is_empty());
    let mut at = after;
    let mut pairs = Vec::new();
    for pair in options.split('&').filter(|_| !options.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        pairs.push((key.to_lowercase(), value, at..at + pair.len()));
        at += pair.len() + 1;
    }
    let option = |name: &str| pairs.iter().rev().find(|(key, _, _)| key == name);
    let scheme = start..start + uri.find("://").unwrap_or_default() + 3;
    for (key, value, span) in &pairs {
        match (key.as_str(), *value) {
            ("w", "0" | "1") | ("journal" | "j", "false") => findings.costly(
                Code::WeakWriteConcern,
                span.clone(),
                format!("with `{key}={value}` a write is acknowledged before a majority has it"),
                "`w=majority`",
                Cost::loss("acknowledged writes that a new primary does not have are rolled back"),
            ),
            ("retrywrites", "false") => findings.costly(
                Code::RetryWritesOff,
                span.clone(),
                "every write in flight fails when the primary changes",
                "remove it: drivers repeat such writes once",
                Cost::loss("the writes in flight at each change of the primary"),
            ),
            _ => {}
        }
    }
    // What a placeholder at the end becomes can't be known.
    if uri.ends_with(['}', '%']) || options.contains('$') || options.contains('{') {
        return;
    }
    if option("replicaset").is_none() && !uri.starts_with("mongodb+srv") && !is_router(hosts) {
        findings.note(
            Code::UriWithoutReplicaSet,
            scheme.clone(),
            "the address names no `replicaSet`",
            "add `replicaSet=NAME`, and every member as a host",
        );
    }
    if option("sockettimeoutms").is_none() && option("timeoutms").is_none() {
        findings.add(
            Finding::new(
                Code::NoSocketTimeout,
                findings.spot(scheme),
                "an operation on a member that was cut off waits until the kernel gives up",
                "`socketTimeoutMS=5000`, longer than the longest legal query",
            )
            .costs(Cost::endless("each operation in flight to that member")),
        );
    }
}
