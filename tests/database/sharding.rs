//! Config servers and shards of real mongods in their roles, and the cluster that they form
//! behind a stand-in for mongos ([`super::router`]). The whole of it, with a real mongos, is
//! `lab::a_sharded_stack_answers`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use gen_topology::config::{self, SetRole, Window};
use gen_topology::node::database::remove_shard;

use super::router::Router;
use super::*;

/// A replica set of a cluster: its name and the places of its members.
type Set<'s> = (&'s str, &'s [usize]);

impl Cluster {
    fn start_in(&mut self, (set, members): Set<'_>) {
        let role = if set == "config" {
            "--configsvr"
        } else {
            "--shardsvr"
        };
        for index in members {
            self.start_as(*index, set, &[role]);
        }
    }

    fn address(&self, (set, members): Set<'_>) -> String {
        let hosts: Vec<String> = members.iter().map(|index| self.host(*index)).collect();
        format!("{set}/{}", hosts.join(","))
    }

    /// What a member of a set knows, where `cluster` is what the config servers know.
    fn facts_in(&self, index: usize, set: Set<'_>, cluster: &config::Cluster) -> NodeFacts {
        let mut facts = self.facts(index, set.1);
        let mut own = facts.database.as_deref().expect("a set").clone();
        own.name = set.0.into();
        own.role = Some(SetRole::Shard);
        if set.0 == "config" {
            own.role = Some(SetRole::Config);
            own.cluster = Some(cluster.clone());
        }
        facts.database = Some(Arc::new(own));
        facts
    }

    fn wanted(&self, shards: &[Set<'_>], router: Option<u16>) -> config::Cluster {
        let routers = router.map(|port| config::Router {
            name: "app-1".into(),
            host: format!("127.0.0.1:{port}"),
        });
        config::Cluster {
            routers: routers.into_iter().collect(),
            shards: shards
                .iter()
                .map(|set| (set.0.to_owned(), self.address(*set)))
                .collect(),
            first_shard: "rs0".into(),
            collections: BTreeMap::from([("entries".into(), "_id".into())]),
            balancer_window: Some(Window {
                start: "02:00".into(),
                stop: "06:00".into(),
            }),
        }
    }

    #[track_caller]
    fn run_in(
        &self,
        index: usize,
        set: Set<'_>,
        cluster: &config::Cluster,
        patience: Duration,
    ) -> Verdict {
        let facts = self.facts_in(index, set, cluster);
        let say = |line: &str| println!("{} db-{index}: {line}", set.0);
        reconcile(&facts, &self.options(patience), &say).expect("a verdict")
    }

    /// Every member of a set at the same time, each until it has nothing to do but wait for a router.
    #[track_caller]
    fn converge_in(&self, set: Set<'_>, cluster: &config::Cluster) {
        std::thread::scope(|scope| {
            for index in set.1 {
                scope.spawn(|| {
                    wait("the set", || {
                        match self.run_in(*index, set, cluster, SHORT) {
                            Verdict::Done(_) => true,
                            // Only config servers have something to do that takes a router.
                            Verdict::NotYet(why) => set.0 == "config" && why.contains("mongos"),
                            Verdict::NeedsPerson(why) => panic!("{why}"),
                        }
                    });
                });
            }
        });
    }

    fn primary_in(&self, set: Set<'_>) -> usize {
        let mut found = None;
        wait("a primary", || {
            found = set.1.iter().copied().find(|index| {
                self.hello(*index)
                    .is_some_and(|hello| hello.role == Role::Primary)
            });
            found.is_some()
        });
        found.expect("a primary")
    }

    fn router(&self, config: Set<'_>) -> Router {
        let host = self.host(self.primary_in(config));
        let (at, secrets) = (host.clone(), self.secrets.clone());
        Router::to(host, move || {
            let keys = secrets.keys().expect("keys");
            mongo::Member::login(&at, CONNECT, User::member(keys[0].reveal()))
                .expect("a connection")
        })
    }
}

const CONFIG: Set<'static> = ("config", &[0, 1, 2]);
const SHARD_1: Set<'static> = ("rs0", &[3]);
const SHARD_2: Set<'static> = ("shard-2", &[4]);

/// All sets of a small cluster, running and brought to what they should be.
fn cluster() -> Option<Cluster> {
    let mut cluster = Cluster::new(5)?;
    let sets = [CONFIG, SHARD_1, SHARD_2];
    sets.into_iter().for_each(|set| cluster.start_in(set));
    let wanted = cluster.wanted(&[SHARD_1, SHARD_2], None);
    for set in sets {
        cluster.converge_in(set, &wanted);
    }
    Some(cluster)
}

#[test]
fn config_servers_and_shards_are_made_in_their_roles() {
    let Some(cluster) = cluster() else {
        return;
    };
    let primary = cluster.primary_in(CONFIG);
    let config = cluster.config(primary);
    assert!(config.get_bool("configsvr").expect("a mark"));
    assert_eq!(cluster.hosts(primary), cluster.expected(CONFIG.1));
    assert_eq!(cluster.users(primary), ALL_USERS);
    for set in [SHARD_1, SHARD_2] {
        let shard = cluster.primary_in(set);
        assert!(cluster.config(shard).get("configsvr").is_none());
        // The application comes by a router, and nobody else may pass it by.
        assert_eq!(cluster.users(shard), ["administration-1", "monitoring-1"]);
        let role = cluster.member(shard).command(doc! { "getCmdLineOpts": 1 });
        let role = role.expect("options").to_string();
        assert!(role.contains("shardsvr"), "{role}");
    }
    // Nothing is left to do but what takes a router.
    let wanted = cluster.wanted(&[SHARD_1, SHARD_2], Some(1));
    let said = cluster.run_in(primary, CONFIG, &wanted, Duration::ZERO);
    assert!(
        matches!(&said, Verdict::NotYet(why) if why.contains("waiting for mongos of app-1")),
        "{said:?}"
    );
    // What answers there is a mongod.
    let wanted = cluster.wanted(&[SHARD_1, SHARD_2], Some(cluster.members[primary].port));
    let said = cluster.run_in(primary, CONFIG, &wanted, Duration::ZERO);
    assert!(
        matches!(&said, Verdict::NotYet(why) if why.contains("is no mongos")),
        "{said:?}"
    );
}

#[test]
fn config_servers_bring_the_cluster_together_and_let_a_shard_go() {
    let Some(cluster) = cluster() else {
        return;
    };
    let router = cluster.router(CONFIG);
    let both = cluster.wanted(&[SHARD_1, SHARD_2], Some(router.port));
    // Every config server at once, and twice.
    for _ in 0..2 {
        std::thread::scope(|scope| {
            let runs: Vec<_> = CONFIG
                .1
                .iter()
                .map(|index| scope.spawn(|| cluster.run_in(*index, CONFIG, &both, PATIENCE)))
                .collect();
            for run in runs {
                let verdict = run.join().expect("no panic");
                let done = "the cluster is as it should be: 2 shards";
                assert_eq!(verdict, Verdict::Done(done.into()));
            }
        });
    }
    let primary = cluster.primary_in(CONFIG);
    let config = cluster.member(primary);
    let config = config.client().database("config");
    let find = |collection: &str, id: &str| {
        let all = config.collection::<Document>(collection);
        all.find_one(doc! { "_id": id }).run().expect("an answer")
    };
    let shard = find("shards", "shard-2").expect("a shard");
    assert_eq!(
        shard.get_str("host").expect("a host"),
        cluster.address(SHARD_2)
    );
    let balancer = find("settings", "balancer").expect("settings");
    let window = balancer.get_document("activeWindow").expect("a window");
    assert_eq!(*window, doc! { "start": "02:00", "stop": "06:00" });
    let entries = find("collections", "web.entries").expect("a collection");
    assert_eq!(
        entries.get_document("key").expect("a key"),
        &doc! { "_id": "hashed" }
    );
    // The shards know where they belong.
    for set in [SHARD_1, SHARD_2] {
        let admin = cluster.admin(cluster.primary_in(set));
        let state = admin.command(doc! { "shardingState": 1 }).expect("a state");
        assert_eq!(state.get_str("shardName").expect("a name"), set.0);
    }
    // Once all is right nothing is done.
    let before = router.done.lock().expect("a list").len();
    cluster.run_in(primary, CONFIG, &both, Duration::ZERO);
    let done = router.done.lock().expect("a list")[before..].to_vec();
    assert_eq!(done, ["listShards"]);

    // The topology has one shard less: a person's matter, until it is told to go.
    let one = cluster.wanted(&[SHARD_1], Some(router.port));
    let said = cluster.run_in(primary, CONFIG, &one, Duration::ZERO);
    assert!(
        matches!(&said, Verdict::NeedsPerson(why) if why.contains("has the shard shard-2")),
        "{said:?}"
    );
    let remove = |wanted: &config::Cluster, patience| {
        let options = cluster.options(patience);
        remove_shard(
            &cluster.facts_in(primary, CONFIG, wanted),
            &options,
            "shard-2",
            None,
            &|line| println!("{line}"),
        )
    };
    let refused = remove(&both, SHORT).expect_err("a refusal").to_string();
    assert!(refused.contains("take it out there first"), "{refused}");
    // It is told to go, and is looked at before it has gone.
    let verdict = remove(&one, Duration::ZERO).expect("a verdict");
    assert!(matches!(verdict, Verdict::NotYet(_)), "{verdict:?}");
    let said = cluster.run_in(primary, CONFIG, &one, Duration::ZERO);
    assert!(
        matches!(&said, Verdict::NotYet(why) if why.contains("data leave the shard shard-2")),
        "{said:?}"
    );
    let verdict = remove(&one, PATIENCE).expect("a verdict");
    assert!(matches!(verdict, Verdict::Done(_)), "{verdict:?}");
    let said = cluster.run_in(primary, CONFIG, &one, PATIENCE);
    let done = "the cluster is as it should be: 1 shard";
    assert_eq!(said, Verdict::Done(done.into()));
    // And again.
    let verdict = remove(&one, PATIENCE).expect("a verdict");
    assert!(matches!(verdict, Verdict::Done(_)), "{verdict:?}");
}

/// Growth, step by step as docs/database.md has it, as far as it goes without mongos.
#[test]
fn a_replica_set_becomes_a_shard_member_by_member_and_keeps_its_data() {
    const OLD: Set<'static> = ("rs0", &[1, 2, 3]);
    const CONFIG: Set<'static> = ("config", &[0]);
    let Some(mut cluster) = Cluster::new(4) else {
        return;
    };
    OLD.1.iter().for_each(|index| cluster.start(*index));
    cluster.converge(OLD.1);
    let end = AtomicBool::new(false);
    let client = cluster.client(OLD.1);
    let acknowledged = std::thread::scope(|scope| {
        let writer = scope.spawn(|| write_until(&client, &end));
        let ends = Ends(&end);
        // The config servers come first; the old set goes on meanwhile.
        cluster.start_in(CONFIG);
        let wanted = cluster.wanted(&[OLD], None);
        cluster.converge_in(CONFIG, &wanted);
        // Then the members, one after the other, the primary last.
        let primary = cluster.primary_in(OLD);
        let order = OLD.1.iter().filter(|index| **index != primary);
        for index in order.copied().chain([primary]).collect::<Vec<_>>() {
            if index == primary {
                let hand_over = doc! { "replSetStepDown": 60, "secondaryCatchUpPeriodSecs": 10 };
                cluster
                    .admin(primary)
                    .command(hand_over)
                    .expect("an answer");
            }
            cluster.kill(index);
            cluster.start_as(index, OLD.0, &["--shardsvr"]);
            wait("the member", || {
                let well = |hello: mongo::Hello| {
                    matches!(hello.role, Role::Primary | Role::Secondary) && hello.primary.is_some()
                };
                cluster.hello(index).is_some_and(well)
            });
        }
        cluster.converge_in(OLD, &wanted);
        // Not in the cluster yet: the application still comes directly.
        assert_eq!(cluster.users(cluster.primary_in(OLD)), ALL_USERS);
        // Then the set becomes a shard, by a router.
        let router = cluster.router(CONFIG);
        let wanted = cluster.wanted(&[OLD], Some(router.port));
        let verdict = cluster.run_in(0, CONFIG, &wanted, PATIENCE);
        assert!(matches!(verdict, Verdict::Done(_)), "{verdict:?}");
        // Its user stays as long as it is used, and goes with the last one who used it.
        let primary = cluster.primary_in(OLD);
        let said = cluster.run_in(primary, OLD, &wanted, SHORT);
        assert!(
            matches!(&said, Verdict::NotYet(why) if why.contains("still comes to this shard directly")),
            "{said:?}"
        );
        drop(ends);
        writer.join().expect("no panic")
    });
    assert!(acknowledged.len() > 100, "{}", acknowledged.len());
    drop(client);
    let wanted = cluster.wanted(&[OLD], None);
    let primary = cluster.primary_in(OLD);
    wait("the user to go", || {
        matches!(
            cluster.run_in(primary, OLD, &wanted, SHORT),
            Verdict::Done(_)
        )
    });
    assert_eq!(cluster.users(primary), ["administration-1", "monitoring-1"]);
    let member = cluster.member(primary);
    let entries = member
        .client()
        .database("web")
        .collection::<Document>("entries");
    let kept: std::collections::BTreeSet<i32> = entries
        .find(doc! {})
        .run()
        .expect("a cursor")
        .filter_map(|entry| entry.ok()?.get_i32("_id").ok())
        .collect();
    let lost: Vec<&i32> = acknowledged
        .iter()
        .filter(|id| !kept.contains(id))
        .collect();
    assert!(lost.is_empty(), "{lost:?} of {}", acknowledged.len());
}
