//! The cluster that config servers, shards and routers form. The config servers bring it to
//! what the topology says, through any router: they have the administration's password, and
//! app servers need not.
//!
//! Nothing here takes data away. A shard that the topology does not know any more is a
//! person's matter: [`remove_shard`] moves its data to the others first.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use mongodb::bson::{Bson, Document, doc};

use super::{CONNECT, Run, Step, Verdict, needs_person, not_yet, words};
use crate::config::{Cluster, Window};
use crate::health::mongo::{self, number};
use crate::secrets::{Kind, Login};

/// Pause between two looks at a shard whose data move.
const MOVING: Duration = Duration::from_secs(1);
/// What a router says that it is.
const ROUTER: &str = "isdbgrid";

/// One change on the way to the wanted cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Change {
    AddShard { name: String, address: String },
    Spread { collection: String, field: String },
    Window(Option<Window>),
}

/// The cluster as its routers see it.
#[derive(Clone, Debug, Default, PartialEq)]
struct Seen {
    /// Its shards, and whether data leave them for good.
    shards: BTreeMap<String, bool>,
    /// Keys of those of the wanted collections that are spread.
    keys: BTreeMap<String, Document>,
    window: Option<Window>,
}

/// The next change; none when nothing can be done without a person or is to be done at all.
fn next(wanted: &Cluster, seen: &Seen) -> Option<Change> {
    let missing = |name: &String| !seen.shards.contains_key(name);
    // The first may bring the data that were there before the cluster; the others must be empty.
    let mut shards: Vec<&String> = wanted.shards.keys().filter(|name| missing(name)).collect();
    shards.sort_by_key(|name| **name != wanted.first_shard);
    if let Some(name) = shards.first() {
        return Some(Change::AddShard {
            name: (*name).clone(),
            address: wanted.shards[*name].clone(),
        });
    }
    let mut collections = wanted.collections.iter();
    if let Some((collection, field)) = collections.find(|(name, _)| !seen.keys.contains_key(*name))
    {
        let (collection, field) = (collection.clone(), field.clone());
        return Some(Change::Spread { collection, field });
    }
    (seen.window != wanted.balancer_window).then(|| Change::Window(wanted.balancer_window.clone()))
}

/// What only a person can change, or time.
fn verdict(wanted: &Cluster, seen: &Seen) -> Verdict {
    let mut strange = seen.shards.iter();
    if let Some((name, is_draining)) = strange.find(|(name, _)| !wanted.shards.contains_key(*name))
    {
        return if *is_draining {
            Verdict::NotYet(format!(
                "data leave the shard {name}; `gen-topology node remove-shard {name}` goes on with it"
            ))
        } else {
            Verdict::NeedsPerson(format!(
                "the cluster has the shard {name}, which the topology does not know: it keeps its data; see \
                 \"Taking a shard away\" in docs/database.md"
            ))
        };
    }
    for (collection, field) in &wanted.collections {
        let key = seen.keys.get(collection).cloned().unwrap_or_default();
        if key != hashed(field) {
            return Verdict::NeedsPerson(format!(
                "{collection} is spread by {key}, and the topology says by the hash of {field}: MongoDB \
                 changes a shard key only by `reshardCollection`, which copies the collection"
            ));
        }
    }
    let count = wanted.shards.len();
    Verdict::Done(format!(
        "the cluster is as it should be: {count} shard{}",
        if count == 1 { "" } else { "s" }
    ))
}

fn hashed(field: &str) -> Document {
    let mut key = Document::new();
    key.insert(field, "hashed");
    key
}

/// One step towards the wanted cluster.
pub(super) fn converge(run: &Run<'_>, wanted: &Cluster) -> anyhow::Result<Step> {
    let router = match router(run, wanted)? {
        Ok(router) => router,
        Err(why) => return Ok(not_yet(why)),
    };
    let database = &run.wanted.application_database;
    let seen = look(&router, wanted, database)?;
    let Some(change) = next(wanted, &seen) else {
        return Ok(Step::Wait(verdict(wanted, &seen)));
    };
    match change {
        Change::AddShard { name, address } => {
            if let Err(error) = router.command(doc! { "addShard": &address, "name": &name }) {
                return Ok(refused(&name, &error));
            }
            (run.say)(&format!("added the shard {name}"));
        }
        Change::Spread { collection, field } => {
            spread(run, &router, &collection, &field)?;
            (run.say)(&format!("{collection}: spread by the hash of {field}"));
        }
        Change::Window(window) => {
            set_window(&router, window.as_ref())?;
            (run.say)(&match window {
                Some(Window { start, stop }) => {
                    format!("data move between shards from {start} to {stop} only")
                }
                None => "data may move between shards at any time".to_owned(),
            });
        }
    }
    run.acted()?;
    Ok(Step::Again)
}

/// Whether a shard that can't be added is another cluster's, or has data that are here already.
fn refused(name: &str, error: &mongodb::error::Error) -> Step {
    let why = mongo::words(error);
    let belongs_elsewhere = ["exists in another", "cluster", "already part", "belongs to"];
    if mongo::code(error).is_some() && belongs_elsewhere.iter().any(|part| why.contains(part)) {
        return needs_person(format!(
            "{name} can't become a shard: {why}; {}",
            super::join::FOREIGN
        ));
    }
    not_yet(format!("{name} can't become a shard yet: {why}"))
}

/// A connection as administrator to a router that answers; or why there is none.
fn router(run: &Run<'_>, wanted: &Cluster) -> anyhow::Result<Result<mongo::Member, String>> {
    let logins = run.options.secrets.logins(Kind::Administration)?;
    let mut why = "there is no app server, and so no mongos".to_owned();
    for router in &wanted.routers {
        let users = logins.iter().map(Login::as_user);
        match mongo::Member::login_as_any(&router.host, CONNECT, users) {
            Ok(Some(member)) => {
                let hello = member.command(doc! { "hello": 1 })?;
                if hello.get_str("msg").is_ok_and(|what| what == ROUTER) {
                    return Ok(Ok(member));
                }
                why = format!(
                    "what answers at {} of {} is no mongos",
                    router.host, router.name
                );
            }
            Ok(None) => {
                why = format!(
                    "mongos of {} does not know the administration user",
                    router.name
                );
            }
            Err(error) => {
                why = format!("waiting for mongos of {}: {}", router.name, words(&error));
            }
        }
    }
    Ok(Err(why))
}

fn look(router: &mongo::Member, wanted: &Cluster, database: &str) -> anyhow::Result<Seen> {
    let answer = router.command(doc! { "listShards": 1 })?;
    let shards = answer
        .get_array("shards")
        .context("there is no list of shards")?;
    let shards = shards.iter().filter_map(Bson::as_document).map(|shard| {
        let name = shard.get_str("_id").unwrap_or_default().to_owned();
        (name, shard.get_bool("draining").unwrap_or(false))
    });
    let config = router.client().database("config");
    let find = |collection: &str, id: &str| -> anyhow::Result<Option<Document>> {
        let all = config.collection::<Document>(collection);
        Ok(all.find_one(doc! { "_id": id }).run()?)
    };
    let mut keys = BTreeMap::new();
    for collection in wanted.collections.keys() {
        let entry = find("collections", &format!("{database}.{collection}"))?;
        let key = entry.and_then(|entry| entry.get_document("key").ok().cloned());
        keys.extend(key.map(|key| (collection.clone(), key)));
    }
    let balancer = find("settings", "balancer")?.unwrap_or_default();
    let window = balancer.get_document("activeWindow").ok().map(|window| {
        let text = |key: &str| window.get_str(key).unwrap_or_default().to_owned();
        Window {
            start: text("start"),
            stop: text("stop"),
        }
    });
    Ok(Seen {
        shards: shards.collect(),
        keys,
        window,
    })
}

/// Spreads a collection over the shards. One that has documents needs the index of the key
/// first, which only the application may make.
fn spread(
    run: &Run<'_>,
    router: &mongo::Member,
    collection: &str,
    field: &str,
) -> anyhow::Result<()> {
    let database = &run.wanted.application_database;
    let application = run
        .log_in(Kind::Application, router.host())?
        .context("mongos does not know the application's user yet")?;
    let index = doc! { "key": hashed(field), "name": format!("{field}_hashed") };
    let create = doc! { "createIndexes": collection, "indexes": [index] };
    application
        .client()
        .database(database)
        .run_command(create)
        .run()?;
    let namespace = format!("{database}.{collection}");
    router.command(doc! { "shardCollection": namespace, "key": hashed(field) })?;
    Ok(())
}

fn set_window(router: &mongo::Member, window: Option<&Window>) -> anyhow::Result<()> {
    let change = if let Some(Window { start, stop }) = window {
        doc! { "$set": { "activeWindow": { "start": start, "stop": stop } } }
    } else {
        doc! { "$unset": { "activeWindow": "" } }
    };
    let update = doc! {
        "update": "settings",
        "updates": [{ "q": { "_id": "balancer" }, "u": change, "upsert": true }],
        "writeConcern": { "w": "majority" },
    };
    router
        .client()
        .database("config")
        .run_command(update)
        .run()?;
    Ok(())
}

/// Moves a shard's data to the others and takes it out of the cluster. Databases whose
/// collections are not spread move only to a shard that somebody has named: while they move
/// they can't be written.
pub(super) fn remove_shard(
    run: &Run<'_>,
    name: &str,
    databases_to: Option<&str>,
) -> anyhow::Result<Verdict> {
    let wanted = run.wanted.cluster.as_ref();
    let wanted = wanted.context("this node is no config server of a sharded stack")?;
    if wanted.shards.contains_key(name) {
        bail!(
            "the topology has the shard {name}: take it out there first, and bring this node its new files"
        );
    }
    let router = router(run, wanted)?.map_err(|why| anyhow!(why))?;
    let deadline = Instant::now() + run.options.patience;
    let mut last = String::new();
    loop {
        let answer = match router.command(doc! { "removeShard": name }) {
            Ok(answer) => answer,
            Err(error) if mongo::code(&error) == Some(SHARD_NOT_FOUND) => {
                return Ok(Verdict::Done(format!("{name} is no shard of the cluster")));
            }
            Err(error) => bail!("removing the shard {name}: {}", mongo::words(&error)),
        };
        if answer
            .get_str("state")
            .is_ok_and(|state| state == "completed")
        {
            return Ok(Verdict::Done(format!(
                "{name} is empty, and no shard any more"
            )));
        }
        let (chunks, databases) = left(&answer);
        let why = match (chunks, databases.as_slice(), databases_to) {
            (0, [database, ..], Some(to)) => {
                router.command(doc! { "movePrimary": database, "to": to })?;
                (run.say)(&format!("{database}: moved to {to}"));
                continue;
            }
            (0, [_, ..], None) => {
                return Ok(Verdict::NeedsPerson(format!(
                    "{name} keeps what is not spread of {}: say with --databases-to which shard gets it; \
                     meanwhile it can't be written",
                    databases.join(", ")
                )));
            }
            _ => format!("{name}: {chunks} pieces of the data have still to move"),
        };
        if Instant::now() >= deadline {
            return Ok(Verdict::NotYet(format!("{why}; run it again")));
        }
        if why != last {
            (run.say)(&why);
            last = why;
        }
        std::thread::sleep(MOVING);
    }
}

/// The server's number for a shard that is not there.
const SHARD_NOT_FOUND: i32 = 70;

/// What is still on a shard that is being removed: pieces, and databases that live there.
fn left(answer: &Document) -> (i64, Vec<String>) {
    let remaining = answer.get_document("remaining").ok();
    let chunks = remaining.and_then(|remaining| number(remaining, "chunks"));
    let databases = answer.get_array("dbsToMove").ok().into_iter().flatten();
    let databases = databases.filter_map(|name| Some(name.as_str()?.to_owned()));
    // Just begun, it does not say how many.
    (chunks.unwrap_or(1), databases.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted() -> Cluster {
        let shards = ["rs0", "a-2", "shard-3"];
        Cluster {
            routers: Vec::new(),
            shards: shards
                .map(|name| (name.to_owned(), format!("{name}/h:1")))
                .into(),
            first_shard: "rs0".into(),
            collections: [("entries".to_owned(), "_id".to_owned())].into(),
            balancer_window: Some(Window {
                start: "02:00".into(),
                stop: "06:00".into(),
            }),
        }
    }

    /// Does what a change says.
    fn apply(seen: &mut Seen, change: &Change) {
        match change {
            Change::AddShard { name, address } => {
                assert_eq!(*address, format!("{name}/h:1"));
                seen.shards.insert(name.clone(), false);
            }
            Change::Spread { collection, field } => {
                seen.keys.insert(collection.clone(), hashed(field));
            }
            Change::Window(window) => seen.window.clone_from(window),
        }
    }

    #[test]
    fn a_cluster_grows_from_its_first_shard_to_what_is_wanted() {
        let (wanted, mut seen) = (wanted(), Seen::default());
        let mut way = Vec::new();
        while let Some(change) = next(&wanted, &seen) {
            apply(&mut seen, &change);
            way.push(match change {
                Change::AddShard { name, .. } => name,
                Change::Spread { collection, .. } => collection,
                Change::Window(window) => window.unwrap().start,
            });
        }
        assert_eq!(way, ["rs0", "a-2", "shard-3", "entries", "02:00"]);
        let verdict = verdict(&wanted, &seen);
        assert_eq!(
            verdict,
            Verdict::Done("the cluster is as it should be: 3 shards".into())
        );
    }

    #[test]
    fn the_window_goes_when_it_is_not_wanted_any_more() {
        let mut cluster = wanted();
        let mut seen = Seen::default();
        while let Some(change) = next(&cluster, &seen) {
            apply(&mut seen, &change);
        }
        cluster.balancer_window = None;
        assert_eq!(next(&cluster, &seen), Some(Change::Window(None)));
    }

    #[test]
    fn a_shard_or_a_key_that_is_not_the_topologys_is_a_persons_matter() {
        let (mut cluster, mut seen) = (wanted(), Seen::default());
        while let Some(change) = next(&cluster, &seen) {
            apply(&mut seen, &change);
        }
        cluster.shards.remove("shard-3");
        assert_eq!(next(&cluster, &seen), None);
        let said = verdict(&cluster, &seen);
        assert!(
            matches!(&said, Verdict::NeedsPerson(why) if why.contains("the shard shard-3")),
            "{said:?}"
        );
        seen.shards.insert("shard-3".into(), true);
        let said = verdict(&cluster, &seen);
        assert!(matches!(&said, Verdict::NotYet(_)), "{said:?}");
        seen.shards.remove("shard-3");
        seen.keys.insert("entries".into(), doc! { "text": 1 });
        let said = verdict(&cluster, &seen);
        assert!(
            matches!(&said, Verdict::NeedsPerson(why) if why.contains("entries is spread by")),
            "{said:?}"
        );
    }

    #[test]
    fn what_is_left_on_a_shard_is_read() {
        let begun = doc! { "state": "started", "dbsToMove": ["web"], "ok": 1 };
        assert_eq!(left(&begun), (1, vec!["web".to_owned()]));
        let ongoing = doc! { "state": "ongoing", "remaining": { "chunks": 2_i64, "dbs": 1_i64 }, "dbsToMove": [] };
        assert_eq!(left(&ongoing), (2, vec![]));
    }
}
