//! Bringing the replica set to what the topology says, from whatever it is now.
//! Every database node runs this; it can be run again and again, and at the same
//! time on all of them.
//!
//! - Nobody has a replica set, and every member says so: the first voting member
//!   initiates, with all members and settings, and then asks to be elected, which
//!   saves waiting for the first election time-out.
//! - There is one: the node that is primary changes it, one step at a time, and
//!   waits for each to be committed. The others have nothing to do.
//!
//! A set is never initiated while any member is silent: the silent one may be in
//! a set already. Reconfiguration is never forced.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use mongodb::bson::{Bson, Document, doc};

use crate::config::{Member, NodeFacts, ReplicaSet};
use crate::health::mongo::{self, Role};

/// How long one connection may take to be accepted.
const CONNECT: Duration = Duration::from_millis(300);
/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(25);

/// Works until the set is as it should be, or it is another node's turn.
///
/// # Errors
/// If members stay silent or refuse for longer than `patience`, or this node's
/// data belongs to another set.
pub fn reconcile(facts: &NodeFacts, patience: Duration, say: &dyn Fn(&str)) -> anyhow::Result<()> {
    let wanted = facts
        .database
        .as_deref()
        .with_context(|| format!("{} is no database", facts.name))?;
    let me = wanted
        .members
        .iter()
        .find(|member| member.name == facts.name);
    let me = me.with_context(|| format!("{} is not among the members", facts.name))?;
    let deadline = Instant::now() + patience;
    let own = loop {
        match mongo::Member::connect(&me.host, CONNECT) {
            Ok(member) => break member,
            Err(error) if Instant::now() > deadline => {
                return Err(error).context("waiting for this node's mongod");
            }
            Err(_) => std::thread::sleep(PAUSE),
        }
    };
    let mut last = String::new();
    while Instant::now() < deadline {
        match step(wanted, me, &own, say)? {
            Step::Done(why) => {
                say(&why);
                return Ok(());
            }
            Step::Again => {}
            Step::Wait(why) => {
                if why != last {
                    say(&why);
                    last = why;
                }
                std::thread::sleep(PAUSE);
            }
        }
    }
    bail!("gave up after {} s: {last}", patience.as_secs())
}

enum Step {
    /// Nothing is left to do here.
    Done(String),
    /// Something was done; look again.
    Again,
    /// Nothing can be done yet, and why.
    Wait(String),
}

fn step(
    wanted: &ReplicaSet,
    me: &Member,
    own: &mongo::Member,
    say: &dyn Fn(&str),
) -> anyhow::Result<Step> {
    let Ok(hello) = own.hello() else {
        return Ok(Step::Wait("this node's mongod does not answer".into()));
    };
    match hello.role {
        Role::Uninitialized => Ok(initiate(wanted, me, own, say)),
        _ if hello.set.as_deref().is_some_and(|set| set != wanted.name) => bail!(
            "this node's data belongs to the replica set {}, not to {}; a person has to decide what becomes of it",
            hello.set.unwrap_or_default(),
            wanted.name
        ),
        Role::Primary => reconfigure(wanted, own, say),
        _ => match hello.primary {
            Some(primary) if primary != me.host => Ok(Step::Done(format!(
                "{primary} is primary and looks after the set"
            ))),
            _ => Ok(Step::Wait("there is no primary yet".into())),
        },
    }
}

fn initiate(wanted: &ReplicaSet, me: &Member, own: &mongo::Member, say: &dyn Fn(&str)) -> Step {
    for other in wanted.members.iter().filter(|member| *member != me) {
        let answer =
            mongo::Member::connect(&other.host, CONNECT).and_then(|member| Ok(member.hello()?));
        match answer {
            Ok(hello) if hello.role == Role::Uninitialized => {}
            Ok(_) => {
                return Step::Wait(format!(
                    "{} has a replica set; waiting to be added",
                    other.name
                ));
            }
            Err(_) => {
                return Step::Wait(format!("waiting for {}, before a set is made", other.name));
            }
        }
    }
    let first = wanted.members.iter().find(|member| member.voting);
    if first != Some(me) {
        return Step::Wait("waiting for the first member to make the set".into());
    }
    let members: Vec<Bson> = wanted
        .members
        .iter()
        .zip(0..)
        .map(|(member, id)| Bson::Document(entry(id, member)))
        .collect();
    let config = doc! { "_id": &wanted.name, "members": members, "settings": settings(wanted) };
    match own.command(doc! { "replSetInitiate": config }) {
        Ok(_) => {
            say(&format!(
                "made the replica set {} of {} members",
                wanted.name,
                wanted.members.len()
            ));
            step_up(own);
            Step::Again
        }
        Err(error) => Step::Wait(format!("the set could not be made yet: {}", short(&error))),
    }
}

/// Asks for an election now. Other members may need a moment until they take part.
fn step_up(own: &mongo::Member) {
    let deadline = Instant::now() + Duration::from_secs(2);
    while Instant::now() < deadline {
        if own.hello().is_ok_and(|hello| hello.role == Role::Primary)
            || own.command(doc! { "replSetStepUp": 1 }).is_ok()
        {
            return;
        }
        std::thread::sleep(PAUSE);
    }
}

/// One step towards the wanted configuration, as the primary.
fn reconfigure(
    wanted: &ReplicaSet,
    own: &mongo::Member,
    say: &dyn Fn(&str),
) -> anyhow::Result<Step> {
    let Ok(answer) = own.command(doc! { "replSetGetConfig": 1 }) else {
        return Ok(Step::Wait("the configuration can't be read".into()));
    };
    let current = answer
        .get_document("config")
        .context("the answer holds no configuration")?;
    let Some((next, what)) = next_config(current, wanted)? else {
        return Ok(Step::Done(format!(
            "{} is as it should be: {} members",
            wanted.name,
            wanted.members.len()
        )));
    };
    match own.command(doc! { "replSetReconfig": next, "maxTimeMS": 5000 }) {
        Ok(_) => {
            say(&what);
            Ok(Step::Again)
        }
        // Another change is under way, the last one is not committed yet, or a member is not there yet.
        Err(error) => Ok(Step::Wait(format!("{what}: not yet ({})", short(&error)))),
    }
}

/// The next configuration on the way to `wanted`, and what it changes; none when
/// there is nothing to do. One voting change at a time, as `MongoDB` demands:
/// settings, then a new member, then votes, then a member that leaves.
fn next_config(
    current: &Document,
    wanted: &ReplicaSet,
) -> anyhow::Result<Option<(Document, String)>> {
    let mut next = current.clone();
    let version = number(current, "version").context("the configuration has no version")?;
    next.insert("version", i32::try_from(version + 1)?);
    let members: Vec<Document> = current
        .get_array("members")
        .context("the configuration has no members")?
        .iter()
        .filter_map(Bson::as_document)
        .cloned()
        .collect();
    let mut set = current
        .get_document("settings")
        .cloned()
        .unwrap_or_default();
    let differs = settings(wanted).iter().any(|(key, value)| {
        number(&set, key) != value.as_i64().or_else(|| value.as_i32().map(i64::from))
    });
    if differs {
        set.extend(settings(wanted));
        next.insert("settings", set);
        return Ok(Some((
            next,
            "set the election time-out and the heartbeat".into(),
        )));
    }
    let host = |member: &Document| member.get_str("host").unwrap_or_default().to_owned();
    let with = |members: Vec<Document>| {
        members
            .into_iter()
            .map(Bson::Document)
            .collect::<Vec<Bson>>()
    };
    for member in &wanted.members {
        let Some(position) = members.iter().position(|old| host(old) == member.host) else {
            let id = members
                .iter()
                .filter_map(|old| number(old, "_id"))
                .max()
                .unwrap_or(-1)
                + 1;
            let mut more = members.clone();
            more.push(entry(i32::try_from(id)?, member));
            next.insert("members", with(more));
            return Ok(Some((next, format!("add {}", member.name))));
        };
        let votes = i64::from(member.voting);
        let old = &members[position];
        if number(old, "votes").unwrap_or(1) != votes
            || number(old, "priority").unwrap_or(1) != votes
        {
            let mut changed = members.clone();
            changed[position].extend(
                doc! { "votes": i32::from(member.voting), "priority": i32::from(member.voting) },
            );
            next.insert("members", with(changed));
            return Ok(Some((
                next,
                format!(
                    "{} {}",
                    member.name,
                    if member.voting {
                        "votes"
                    } else {
                        "does not vote"
                    }
                ),
            )));
        }
    }
    let leaver = members
        .iter()
        .position(|old| wanted.members.iter().all(|member| member.host != host(old)));
    if let Some(position) = leaver {
        let mut fewer = members;
        let gone = fewer.remove(position);
        next.insert("members", with(fewer));
        return Ok(Some((next, format!("remove {}", host(&gone)))));
    }
    Ok(None)
}

fn entry(id: i32, member: &Member) -> Document {
    let votes = i32::from(member.voting);
    doc! { "_id": id, "host": &member.host, "votes": votes, "priority": votes }
}

fn settings(wanted: &ReplicaSet) -> Document {
    doc! {
        "electionTimeoutMillis": i64::try_from(wanted.election_timeout_ms).unwrap_or(i64::MAX),
        "heartbeatIntervalMillis": i64::try_from(wanted.heartbeat_interval_ms).unwrap_or(i64::MAX),
    }
}

/// A number of whatever type the server chose.
fn number(document: &Document, key: &str) -> Option<i64> {
    match document.get(key)? {
        Bson::Int32(n) => Some(i64::from(*n)),
        Bson::Int64(n) => Some(*n),
        #[expect(
            clippy::cast_possible_truncation,
            reason = "priorities are small whole numbers"
        )]
        Bson::Double(n) => Some(*n as i64),
        _ => None,
    }
}

/// The server's own words.
fn short(error: &mongodb::error::Error) -> String {
    use mongodb::error::ErrorKind;
    match error.kind.as_ref() {
        ErrorKind::Command(refused) => refused.message.clone(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &[(&str, bool)]) -> ReplicaSet {
        let members = names.iter().map(|(name, voting)| Member {
            name: (*name).into(),
            host: format!("{name}:1"),
            voting: *voting,
        });
        ReplicaSet {
            name: "rs0".into(),
            election_timeout_ms: 2000,
            heartbeat_interval_ms: 500,
            members: members.collect(),
        }
    }

    fn config(wanted: &ReplicaSet) -> Document {
        let members: Vec<Bson> = wanted
            .members
            .iter()
            .zip(0..)
            .map(|(m, id)| Bson::Document(entry(id, m)))
            .collect();
        doc! { "_id": "rs0", "version": 1, "members": members, "settings": settings(wanted) }
    }

    /// Every step's description on the way from one set to another.
    fn way(from: &ReplicaSet, to: &ReplicaSet) -> Vec<String> {
        let mut current = config(from);
        let mut steps = Vec::new();
        while let Some((next, what)) = next_config(&current, to).unwrap() {
            let voters = |c: &Document| {
                let members = c.get_array("members").unwrap();
                members
                    .iter()
                    .filter(|m| number(m.as_document().unwrap(), "votes") == Some(1))
                    .count()
            };
            assert!(
                voters(&next).abs_diff(voters(&current)) <= 1,
                "{what}: more than one vote at a time"
            );
            assert_eq!(
                number(&next, "version"),
                Some(number(&current, "version").unwrap() + 1)
            );
            current = next;
            steps.push(what);
            assert!(steps.len() < 50);
        }
        steps
    }

    #[test]
    fn a_set_that_is_right_is_left_alone() {
        let three = set(&[("a", true), ("b", true), ("c", true)]);
        assert!(way(&three, &three).is_empty());
    }

    #[test]
    fn grows_and_shrinks_one_member_at_a_time() {
        let one = set(&[("a", true)]);
        let three = set(&[("a", true), ("b", true), ("c", true)]);
        assert_eq!(way(&one, &three), ["add b", "add c"]);
        assert_eq!(way(&three, &one), ["remove b:1", "remove c:1"]);
    }

    #[test]
    fn changes_votes_and_settings() {
        let mut before = set(&[("a", true), ("b", true)]);
        before.election_timeout_ms = 10_000;
        let after = set(&[("a", true), ("b", false)]);
        assert_eq!(
            way(&before, &after),
            [
                "set the election time-out and the heartbeat",
                "b does not vote"
            ]
        );
    }

    #[test]
    fn ids_are_never_used_twice() {
        let before = set(&[("a", true), ("b", true), ("c", true)]);
        let after = set(&[("a", true), ("c", true), ("d", true)]);
        let (next, _) = next_config(&config(&before), &after).unwrap().unwrap();
        let ids: Vec<i64> = next
            .get_array("members")
            .unwrap()
            .iter()
            .filter_map(|m| number(m.as_document()?, "_id"))
            .collect();
        assert_eq!(ids, [0, 1, 2, 3]);
    }
}
