//! The members and settings of a replica set: the next change on the way from what they
//! are to what the topology says, and what stands in its way. Pure.
//!
//! One voting change at a time, as `MongoDB` demands. Whoever joins comes before whoever
//! leaves, so that there are never fewer copies than before or after.

use anyhow::Context as _;
use mongodb::bson::{Bson, Document, doc};

use crate::config::{Member, ReplicaSet, SetRole};
use crate::health::mongo::number;

/// `MongoDB` takes no more voting members, and no more members.
const MOST_VOTERS: usize = 7;
const MOST_MEMBERS: usize = 50;

/// States of a member in `replSetGetStatus`.
const PRIMARY: i64 = 1;
const SECONDARY: i64 = 2;
/// Those in which a member reads its configuration or copies data: STARTUP, STARTUP2.
const COPYING: [i64; 2] = [0, 5];

/// One change of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Settings,
    Join(Member),
    GainVote(Member),
    LoseVote(Member),
    /// By address: the topology does not know it any more.
    Leave(String),
}

impl Change {
    /// What is done, for people.
    pub(super) fn words(&self) -> String {
        match self {
            Change::Settings => "set the election time-out and the heartbeat".into(),
            Change::Join(member) => format!("add {}", member.name),
            Change::GainVote(member) => format!("{} votes", member.name),
            Change::LoseVote(member) => format!("{} does not vote", member.name),
            Change::Leave(host) => format!("remove {host}"),
        }
    }

    /// The member that has to hand over before this can be done, should it be primary.
    pub(super) fn retires(&self) -> Option<&str> {
        match self {
            Change::LoseVote(member) => Some(&member.host),
            Change::Leave(host) => Some(host),
            Change::Settings | Change::Join(_) | Change::GainVote(_) => None,
        }
    }
}

/// A member as the set itself sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) host: String,
    pub(super) state: i64,
    pub(super) answers: bool,
}

/// The members in an answer to `replSetGetStatus`.
pub(super) fn seen(status: &Document) -> Vec<Seen> {
    let members = documents(status);
    let seen = members.iter().map(|member| Seen {
        // Here, and only here, the address is called a name.
        host: member.get_str("name").unwrap_or_default().to_owned(),
        state: number(member, "state").unwrap_or(-1),
        // The member that was asked has no `health` in some versions.
        answers: number(member, "health").unwrap_or(1) == 1,
    });
    seen.collect()
}

/// The next change; none when the configuration is as it should be.
pub(super) fn next(current: &Document, wanted: &ReplicaSet) -> Option<Change> {
    let members = documents(current);
    let old = |host_wanted: &str| members.iter().find(|old| host(old) == host_wanted);
    let own = current.get_document("settings").ok();
    let differs = settings(wanted)
        .iter()
        .any(|(key, value)| own.and_then(|own| number(own, key)) != value.as_i64());
    if differs {
        return Some(Change::Settings);
    }
    let joins = wanted
        .members
        .iter()
        .find(|member| old(&member.host).is_none());
    let gains = wanted
        .members
        .iter()
        .find(|member| member.voting && old(&member.host).is_some_and(|old| !has_vote(old)));
    let loses = wanted
        .members
        .iter()
        .find(|member| !member.voting && old(&member.host).is_some_and(has_vote));
    let leaves = members
        .iter()
        .map(host)
        .find(|old| wanted.members.iter().all(|member| member.host != *old));
    let more = joins
        .cloned()
        .map(Change::Join)
        .or_else(|| gains.cloned().map(Change::GainVote));
    let fewer = loses
        .cloned()
        .map(Change::LoseVote)
        .or_else(|| leaves.map(|host| Change::Leave(host.to_owned())));
    let voters = members.iter().filter(|member| has_vote(member)).count();
    // A set that is full has no room for one more before one has left.
    if voters >= MOST_VOTERS || members.len() >= MOST_MEMBERS {
        return fewer.or(more);
    }
    more.or(fewer)
}

/// The configuration after a change.
///
/// # Errors
/// If the current one is not what a server sends.
pub(super) fn apply(
    current: &Document,
    change: &Change,
    wanted: &ReplicaSet,
) -> anyhow::Result<Document> {
    let version = number(current, "version").context("the configuration has no version")?;
    let mut members = documents(current);
    let mut next = current.clone();
    next.insert("version", i32::try_from(version + 1)?);
    match change {
        Change::Settings => {
            let mut own = current
                .get_document("settings")
                .cloned()
                .unwrap_or_default();
            own.extend(settings(wanted));
            next.insert("settings", own);
        }
        Change::Join(member) => {
            let ids = members.iter().filter_map(|old| number(old, "_id"));
            let id = ids.max().unwrap_or(-1) + 1;
            members.push(entry(i32::try_from(id)?, member));
        }
        Change::GainVote(member) | Change::LoseVote(member) => {
            let vote = i32::from(member.voting);
            members
                .iter_mut()
                .filter(|old| host(old) == member.host)
                .for_each(|old| old.extend(doc! { "votes": vote, "priority": vote }));
        }
        Change::Leave(leaver) => members.retain(|old| host(old) != leaver),
    }
    next.insert("members", array(members));
    Ok(next)
}

/// What stands in the way of a change at the moment. Nobody joins while another one
/// still copies data, and nobody leaves or loses its vote before all that stay are well.
pub(super) fn hindrance(change: &Change, wanted: &ReplicaSet, seen: &[Seen]) -> Option<String> {
    let is_well = |host: &str| {
        seen.iter().any(|member| {
            member.host == host && member.answers && [PRIMARY, SECONDARY].contains(&member.state)
        })
    };
    match change {
        Change::Settings => None,
        Change::Join(_) => seen
            .iter()
            .find(|member| member.answers && COPYING.contains(&member.state))
            .map(|member| format!("{} still copies data", member.host)),
        Change::GainVote(member) => {
            (!is_well(&member.host)).then(|| format!("{} is not well yet", member.name))
        }
        Change::LoseVote(_) | Change::Leave(_) => wanted
            .members
            .iter()
            .find(|member| member.voting && !is_well(&member.host))
            .map(|member| format!("{} is not well yet", member.name)),
    }
}

/// The configuration of a new set.
pub(super) fn initial(wanted: &ReplicaSet) -> Document {
    let members = wanted.members.iter().zip(0..);
    let members = members.map(|(member, id)| entry(id, member)).collect();
    let mut config =
        doc! { "_id": &wanted.name, "members": array(members), "settings": settings(wanted) };
    if wanted.role == Some(SetRole::Config) {
        config.insert("configsvr", true);
    }
    config
}

/// The configuration that is left of one when only `survivors` are.
///
/// # Errors
/// If the current one is not what a server sends.
pub(super) fn only(current: &Document, survivors: &[String]) -> anyhow::Result<Document> {
    let version = number(current, "version").context("the configuration has no version")?;
    let mut members = documents(current);
    members.retain(|member| survivors.iter().any(|survivor| survivor == host(member)));
    // Without a single vote there could be no primary.
    if !members.iter().any(has_vote) {
        members
            .iter_mut()
            .take(1)
            .for_each(|member| member.extend(doc! { "votes": 1, "priority": 1 }));
    }
    let mut next = current.clone();
    next.insert("version", i32::try_from(version + 1)?);
    next.insert("members", array(members));
    Ok(next)
}

/// Addresses of the members in a configuration, and whether each votes.
pub(super) fn seats(config: &Document) -> Vec<(String, bool)> {
    let members = documents(config);
    let seats = members
        .iter()
        .map(|member| (host(member).to_owned(), number(member, "votes") != Some(0)));
    seats.collect()
}

fn documents(of: &Document) -> Vec<Document> {
    let members = of.get_array("members").ok().into_iter().flatten();
    members.filter_map(Bson::as_document).cloned().collect()
}

fn array(members: Vec<Document>) -> Vec<Bson> {
    members.into_iter().map(Bson::Document).collect()
}

fn host(member: &Document) -> &str {
    member.get_str("host").unwrap_or_default()
}

/// A vote and the chance to become primary: here nobody has one without the other.
fn has_vote(member: &Document) -> bool {
    number(member, "votes").unwrap_or(1) == 1 && number(member, "priority").unwrap_or(1) == 1
}

fn entry(id: i32, member: &Member) -> Document {
    let vote = i32::from(member.voting);
    doc! { "_id": id, "host": &member.host, "votes": vote, "priority": vote }
}

fn settings(wanted: &ReplicaSet) -> Document {
    let whole = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX);
    let mut settings = doc! {
        "electionTimeoutMillis": whole(wanted.election_timeout_ms),
        "heartbeatIntervalMillis": whole(wanted.heartbeat_interval_ms),
    };
    if let Some(watch) = &wanted.watch {
        settings.insert("catchUpTimeoutMillis", whole(watch.catch_up_ms));
    }
    settings
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
            role: None,
            cluster: None,
            application_database: "web".into(),
            election_timeout_ms: 2000,
            heartbeat_interval_ms: 500,
            watch: None,
            members: members.collect(),
        }
    }

    fn voters(names: &str) -> ReplicaSet {
        let names: Vec<String> = names.chars().map(String::from).collect();
        let names: Vec<(&str, bool)> = names.iter().map(|name| (name.as_str(), true)).collect();
        set(&names)
    }

    /// Every step's description on the way from one set to another.
    fn way(from: &ReplicaSet, to: &ReplicaSet) -> Vec<String> {
        let mut current = initial(from);
        current.insert("version", 1);
        let mut steps = Vec::new();
        while let Some(change) = next(&current, to) {
            let after = apply(&current, &change, to).unwrap();
            let voters = |c: &Document| seats(c).iter().filter(|(_, votes)| *votes).count();
            let what = change.words();
            assert!(
                voters(&after).abs_diff(voters(&current)) <= 1,
                "{what}: more than one vote at a time"
            );
            assert!(voters(&after) <= MOST_VOTERS, "{what}: too many votes");
            assert_eq!(
                number(&after, "version"),
                Some(number(&current, "version").unwrap() + 1)
            );
            current = after;
            steps.push(what);
            assert!(steps.len() < 50);
        }
        steps
    }

    #[test]
    fn a_set_that_is_right_is_left_alone() {
        assert!(way(&voters("abc"), &voters("abc")).is_empty());
    }

    #[test]
    fn config_servers_are_marked_as_such() {
        let mut servers = voters("abc");
        assert!(!initial(&servers).contains_key("configsvr"));
        servers.role = Some(SetRole::Shard);
        assert!(!initial(&servers).contains_key("configsvr"));
        servers.role = Some(SetRole::Config);
        assert!(initial(&servers).get_bool("configsvr").unwrap());
    }

    #[test]
    fn grows_and_shrinks_one_member_at_a_time() {
        assert_eq!(way(&voters("a"), &voters("abc")), ["add b", "add c"]);
        assert_eq!(
            way(&voters("abc"), &voters("a")),
            ["remove b:1", "remove c:1"]
        );
    }

    #[test]
    fn a_new_member_comes_before_an_old_one_leaves() {
        assert_eq!(way(&voters("abc"), &voters("abd")), ["add d", "remove c:1"]);
    }

    #[test]
    fn a_full_set_makes_room_first() {
        assert_eq!(
            way(&voters("abcdefg"), &voters("abcdefh")),
            ["remove g:1", "add h"]
        );
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
        assert_eq!(way(&after, &voters("ab")), ["b votes"]);
    }

    #[test]
    fn ids_are_never_used_twice() {
        let mut current = initial(&voters("abc"));
        current.insert("version", 1);
        let wanted = voters("acd");
        let change = next(&current, &wanted).unwrap();
        let after = apply(&current, &change, &wanted).unwrap();
        let ids: Vec<_> = documents(&after)
            .iter()
            .filter_map(|m| number(m, "_id"))
            .collect();
        assert_eq!(ids, [0, 1, 2, 3]);
    }

    #[test]
    fn nobody_leaves_before_all_that_stay_are_well() {
        let wanted = voters("ad");
        let member = |name: &str, state, answers| Seen {
            host: format!("{name}:1"),
            state,
            answers,
        };
        let leave = Change::Leave("b:1".into());
        let join = Change::Join(wanted.members[1].clone());
        let copying = [member("a", PRIMARY, true), member("d", 5, true)];
        assert!(hindrance(&leave, &wanted, &copying).is_some());
        assert!(hindrance(&join, &wanted, &copying).is_some());
        let silent = [member("a", PRIMARY, true), member("d", SECONDARY, false)];
        assert!(hindrance(&leave, &wanted, &silent).is_some());
        // A dead member is no reason against a new one: it may be its replacement.
        assert_eq!(hindrance(&join, &wanted, &silent), None);
        let well = [member("a", PRIMARY, true), member("d", SECONDARY, true)];
        assert_eq!(hindrance(&leave, &wanted, &well), None);
        assert_eq!(hindrance(&Change::Settings, &wanted, &silent), None);
    }

    #[test]
    fn a_status_is_read() {
        let status = doc! { "members": [
            { "_id": 0, "name": "a:1", "health": 1.0, "state": 1, "stateStr": "PRIMARY" },
            { "_id": 1, "name": "b:1", "health": 0.0, "state": 8, "stateStr": "(not reachable/healthy)" },
        ] };
        let expected = [("a:1", PRIMARY, true), ("b:1", 8, false)];
        let seen: Vec<_> = seen(&status);
        let seen: Vec<_> = seen
            .iter()
            .map(|member| (member.host.as_str(), member.state, member.answers))
            .collect();
        assert_eq!(seen, expected);
    }

    #[test]
    fn what_is_left_of_a_set_has_a_vote() {
        let mut current = initial(&set(&[("a", true), ("b", false)]));
        current.insert("version", 4);
        let left = only(&current, &["b:1".into()]).unwrap();
        assert_eq!(seats(&left), [("b:1".to_owned(), true)]);
        assert_eq!(number(&left, "version"), Some(5));
    }
}
