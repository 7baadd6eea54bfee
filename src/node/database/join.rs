//! Making a set, and looking at whoever is to join one. The server asks a newcomer nothing:
//! it takes one that is not there, one of another set, and one with data, which it
//! deletes to copy its own. So the newcomer is asked first, as another member would, with
//! the members' common key: it has no users yet.

use std::time::{Duration, Instant};

use mongodb::bson::{Bson, Document, doc};

use super::{CONNECT, PAUSE, Run, Step, Verdict, members, needs_person, not_yet};
use crate::config::Member;
use crate::health::mongo::{self, Role, User, number};

/// What a person may do about data that belongs elsewhere.
pub(super) const FOREIGN: &str =
    "a person has to decide what becomes of it: see \"Foreign data\" in docs/database.md";

/// What a mongod holds.
enum Holds {
    Nothing,
    /// A configuration, and of which set: one that it was removed from, perhaps.
    Set(String),
    /// So many collections, of a mongod that was in no set.
    Data(i64),
}

/// Makes the set, if it is this node's turn and nobody would lose anything.
pub(super) fn initiate(run: &Run<'_>) -> anyhow::Result<Step> {
    let address = |member: &&Member| {
        let address = member.host.parse::<std::net::SocketAddrV4>().ok();
        (address, member.host.clone())
    };
    let voters = run.wanted.members.iter().filter(|member| member.voting);
    // By address and not by place in the file: nodes may have files of different age.
    let first = voters.min_by_key(address);
    if first != Some(run.me) {
        return Ok(not_yet("waiting for the first member to make the set"));
    }
    for member in &run.wanted.members {
        let verdict = match look(run, member) {
            Ok(Holds::Nothing) => continue,
            // Its own data becomes the set's: so a mongod without a set can grow.
            Ok(Holds::Data(_)) if member == run.me => continue,
            Ok(Holds::Data(count)) => with_data(member, count),
            Ok(Holds::Set(_)) => Verdict::NeedsPerson(format!(
                "{} was in a replica set before, which the others do not know; {FOREIGN}",
                member.name
            )),
            Err(verdict) => verdict,
        };
        return Ok(Step::Wait(verdict));
    }
    let own = run.to(&run.local)?;
    match own.command(doc! { "replSetInitiate": members::initial(run.wanted) }) {
        Ok(_) => {
            (run.say)(&format!(
                "made the replica set {} of {} members",
                run.wanted.name,
                run.wanted.members.len()
            ));
            run.acted()?;
            step_up(run, &own);
            Ok(Step::Again)
        }
        Err(error) if mongo::words(&error).contains("replica set ID") => {
            Ok(needs_person(format!("{}; {FOREIGN}", mongo::words(&error))))
        }
        Err(error) => Ok(not_yet(format!(
            "the set could not be made yet: {}",
            mongo::words(&error)
        ))),
    }
}

/// Somebody else has a set and this node is in none. The members add it when it is in the
/// topology that they know: the files of a node that is new may be ahead of the others'.
pub(super) fn wait_to_be_added(run: &Run<'_>, other: &Member) -> Step {
    match (look(run, run.me), look(run, other)) {
        (Ok(Holds::Data(count)), _) => Step::Wait(with_data(run.me, count)),
        (Ok(Holds::Set(own)), Ok(Holds::Set(theirs))) if own != theirs => {
            Step::Wait(of_another_set(run.me))
        }
        _ => not_yet(format!(
            "{} has a replica set; waiting to be added",
            other.name
        )),
    }
}

/// Asks for an election now. Other members may need a moment until they take part.
fn step_up(run: &Run<'_>, own: &mongo::Member) {
    let Ok(keys) = run.options.secrets.keys() else {
        return;
    };
    let Some(key) = keys.last() else { return };
    let member = mongo::Member::login(&run.local, CONNECT, User::member(key.reveal()));
    let Ok(member) = member else { return };
    let deadline = Instant::now() + Duration::from_secs(2);
    while Instant::now() < deadline {
        if own.hello().is_ok_and(|hello| hello.role == Role::Primary)
            || member.command(doc! { "replSetStepUp": 1 }).is_ok()
        {
            return;
        }
        std::thread::sleep(PAUSE);
    }
}

/// Why `member` can't join the set with the id `set`; none when it can.
pub(super) fn refusal(run: &Run<'_>, member: &Member, set: &str) -> Option<Verdict> {
    match look(run, member) {
        Ok(Holds::Nothing) => None,
        Ok(Holds::Set(id)) if id == set => None,
        Ok(Holds::Set(_)) => Some(of_another_set(member)),
        Ok(Holds::Data(count)) => Some(with_data(member, count)),
        Err(verdict) => Some(verdict),
    }
}

fn of_another_set(member: &Member) -> Verdict {
    Verdict::NeedsPerson(format!(
        "{} is not added: its data belongs to another replica set; {FOREIGN}",
        member.name
    ))
}

fn with_data(member: &Member, count: i64) -> Verdict {
    Verdict::NeedsPerson(format!(
        "{} is not added: it holds {count} {} of its own, which joining would delete; {FOREIGN}",
        member.name,
        if count == 1 {
            "collection"
        } else {
            "collections"
        },
    ))
}

/// The id of the set that a configuration is of.
pub(super) fn id_of(config: &Document) -> String {
    let settings = config.get_document("settings").ok();
    let id = settings.and_then(|settings| settings.get("replicaSetId"));
    id.map_or_else(String::new, Bson::to_string)
}

/// Asks a mongod what it holds.
fn look(run: &Run<'_>, member: &Member) -> Result<Holds, Verdict> {
    const NOT_YET_INITIALIZED: i32 = 94;
    let waiting = |why: String| Verdict::NotYet(format!("waiting for {}: {why}", member.name));
    let host = if member == run.me {
        &run.local
    } else {
        &member.host
    };
    let keys = run.options.secrets.keys();
    for key in keys.map_err(|error| waiting(format!("{error:#}")))? {
        let known = mongo::Member::login(host, CONNECT, User::member(key.reveal()))
            .map_err(|error| waiting(format!("{error:#}")))?;
        match known.command(doc! { "replSetGetConfig": 1 }) {
            Ok(answer) => {
                let config = answer.get_document("config");
                return Ok(Holds::Set(config.map(id_of).unwrap_or_default()));
            }
            Err(error) if mongo::code(&error) == Some(NOT_YET_INITIALIZED) => {
                // In no set it would list no database, but it counts.
                let status = known.command(doc! { "serverStatus": 1 });
                let status = status.map_err(|error| waiting(mongo::words(&error)))?;
                return match collections(&status) {
                    0 => Ok(Holds::Nothing),
                    count => Ok(Holds::Data(count)),
                };
            }
            Err(error) if mongo::is_unknown_user(&error) => {}
            Err(error) => return Err(waiting(mongo::words(&error))),
        }
    }
    Err(Verdict::NeedsPerson(format!(
        "{} does not accept this stack's database key; give it the same secrets as the others",
        member.name
    )))
}

/// Collections and views that somebody has made; mongod's own are counted apart.
fn collections(status: &Document) -> i64 {
    let count = status.get_document("catalogStats").ok();
    ["collections", "views"]
        .iter()
        .filter_map(|key| number(count?, key))
        .sum()
}
