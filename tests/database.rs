//! Replica sets of real mongods, reconciled: from every state that a set can be in, by
//! one run or several at once, and killed after each step.
//!
//! The mongods of a test listen on ports of the loopback interface; one such test runs at a time, so
//! that no other one takes a port that it has found free.

#![expect(clippy::expect_used, clippy::panic, reason = "a test may stop")]
#![expect(clippy::print_stdout, reason = "shown when a test fails")]

mod restore;
mod router;
mod sharding;

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use gen_topology::config::{Member, NodeFacts, ReplicaSet};
use gen_topology::health::mongo::{self, Role, User, number};
use gen_topology::lab::supplies;
use gen_topology::node::database::{Options, Verdict, reconcile};
use gen_topology::secrets::{Kind, Login, Secrets};
use gen_topology::topology::Tier;
use mongodb::bson::{Bson, Document, doc};

use crate::common::not_run;
use crate::common::turn::Turn;
use crate::lab::is_root;

static PORTS: Mutex<()> = Mutex::new(());

/// How long a test waits for what has to happen.
const PATIENCE: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_secs(2);
const CONNECT: Duration = Duration::from_millis(500);

/// Some mongods with common secrets.
struct Cluster {
    directory: tempfile::TempDir,
    program: PathBuf,
    secrets: Secrets,
    members: Vec<Mongod>,
    _ports: MutexGuard<'static, ()>,
    _turn: Turn,
}

struct Mongod {
    port: u16,
    process: Option<Child>,
}

impl Cluster {
    /// Room for `count` mongods, none of which runs; none where there is no mongod.
    fn new(count: usize) -> Option<Self> {
        let ports_are_ours = PORTS.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = Turn::beside_others();
        let Some(program) = supplies::mongod().expect("a home directory") else {
            not_run("mongod is missing; `gen-topology lab up` fetches one");
            return None;
        };
        let directory = tempfile::Builder::new()
            .prefix("gen-topology-database-")
            .tempdir()
            .expect("a temporary directory");
        let secrets = Secrets::at(directory.path().join("secrets"));
        secrets.init().expect("secrets");
        // All at once, so that each gets another one.
        let ports: Vec<TcpListener> = (0..count)
            .map(|_| TcpListener::bind("127.0.0.1:0").expect("a port"))
            .collect();
        let mongod = |listener: &TcpListener| Mongod {
            port: listener.local_addr().expect("an address").port(),
            process: None,
        };
        Some(Self {
            members: ports.iter().map(mongod).collect(),
            directory,
            program,
            secrets,
            _ports: ports_are_ours,
            _turn: turn,
        })
    }

    /// The same, with all of them running and a set made of them.
    fn of(count: usize) -> Option<Self> {
        let mut cluster = Self::new(count)?;
        (0..count).for_each(|index| cluster.start(index));
        let all: Vec<usize> = (0..count).collect();
        cluster.converge(&all);
        Some(cluster)
    }

    fn data(&self, index: usize) -> PathBuf {
        self.directory.path().join(format!("data-{index}"))
    }

    fn start(&mut self, index: usize) {
        self.start_as(index, "rs0", &[]);
    }

    /// Starts a member of the set `set`.
    fn start_as(&mut self, index: usize, set: &str, more: &[&str]) {
        let key = self.secrets.directory().join("database-key");
        let key = key.display().to_string();
        let member = ["--replSet", set, "--keyFile", &key];
        self.spawn(index, &[&member, more].concat());
    }

    fn spawn(&mut self, index: usize, arguments: &[&str]) {
        let data = self.data(index);
        fs::create_dir_all(&data).expect("a directory");
        let port = self.members[index].port;
        let mut command = Command::new(&self.program);
        command
            .args(["--bind_ip", "127.0.0.1", "--nounixsocket", "--logappend"])
            .args(["--wiredTigerCacheSizeGB", "0.25"])
            .args(["--port", &port.to_string(), "--dbpath"])
            .arg(&data)
            .arg("--logpath")
            .arg(self.directory.path().join(format!("log-{index}")))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        self.members[index].process = Some(command.spawn().expect("mongod"));
    }

    fn restart(&mut self, index: usize) {
        self.kill(index);
        self.start(index);
    }

    /// As in a power cut.
    fn kill(&mut self, index: usize) {
        if let Some(mut process) = self.members[index].process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    fn wipe(&self, index: usize) {
        fs::remove_dir_all(self.data(index)).expect("data");
    }

    fn host(&self, index: usize) -> String {
        format!("127.0.0.1:{}", self.members[index].port)
    }

    /// What node `index` knows when the set should have these members.
    fn facts(&self, index: usize, members: &[usize]) -> NodeFacts {
        let member = |index: &usize| Member {
            name: format!("db-{index}"),
            host: self.host(*index),
            voting: true,
        };
        let set = ReplicaSet {
            name: "rs0".into(),
            role: None,
            cluster: None,
            application_database: "web".into(),
            election_timeout_ms: 2000,
            heartbeat_interval_ms: 500,
            watch: None,
            members: members.iter().map(member).collect(),
        };
        let here = std::net::Ipv4Addr::LOCALHOST;
        NodeFacts {
            generated: "for a test".into(),
            stack: "test".into(),
            name: format!("db-{index}"),
            tier: Tier::Database,
            address: here,
            prefix_length: 8,
            interface: "lo".into(),
            virtual_ip: here,
            load_balancer: None,
            app: None,
            database: Some(Arc::new(set)),
            files: std::collections::BTreeMap::new(),
        }
    }

    fn options(&self, patience: Duration) -> Options {
        Options {
            patience,
            secrets: self.secrets.clone(),
            force: false,
            reset_administration: false,
            stop_after: None,
        }
    }

    fn run(&self, index: usize, members: &[usize], patience: Duration) -> Verdict {
        let facts = self.facts(index, members);
        // Shown when the test fails.
        let say = |line: &str| println!("db-{index}: {line}");
        reconcile(&facts, &self.options(patience), &say).expect("a verdict")
    }

    /// What a run says that is stopped after one change; none when it came to its end.
    fn one_step(&self, index: usize, members: &[usize]) -> Option<String> {
        let said = Mutex::new(Vec::new());
        let options = Options {
            stop_after: Some(1),
            ..self.options(PATIENCE)
        };
        let say = |line: &str| said.lock().expect("a list").push(line.to_owned());
        match reconcile(&self.facts(index, members), &options, &say) {
            Ok(Verdict::Done(_)) => None,
            Ok(other) => panic!("{other:?}"),
            Err(error) => {
                assert_eq!(error.to_string(), "stopped after 1 changes");
                said.into_inner().expect("a list").pop()
            }
        }
    }

    /// Every member's run at the same time, each to its end.
    #[track_caller]
    fn converge(&self, members: &[usize]) {
        let verdicts: Vec<Verdict> = std::thread::scope(|scope| {
            let runs: Vec<_> = members
                .iter()
                .map(|index| scope.spawn(|| self.run(*index, members, PATIENCE)))
                .collect();
            let ends = runs.into_iter().map(|run| run.join().expect("no panic"));
            ends.collect()
        });
        for verdict in verdicts {
            assert!(matches!(verdict, Verdict::Done(_)), "{verdict:?}");
        }
    }

    fn as_user(&self, index: usize, login: &Login) -> mongo::Member {
        let user = User::of_stack(&login.user, login.password.reveal());
        mongo::Member::login(&self.host(index), CONNECT, user).expect("a connection")
    }

    fn admin(&self, index: usize) -> mongo::Member {
        let logins = self.secrets.logins(Kind::Administration).expect("logins");
        self.as_user(index, &logins[0])
    }

    /// As the members know each other: the only one who may look everywhere.
    fn member(&self, index: usize) -> mongo::Member {
        let keys = self.secrets.keys().expect("keys");
        let user = User::member(keys[0].reveal());
        mongo::Member::login(&self.host(index), CONNECT, user).expect("a connection")
    }

    fn hello(&self, index: usize) -> Option<mongo::Hello> {
        let member = mongo::Member::connect(&self.host(index), CONNECT).ok()?;
        member.hello().ok()
    }

    #[track_caller]
    fn primary(&self) -> usize {
        let mut found = None;
        wait("a primary", || {
            found = (0..self.members.len()).find(|index| {
                self.hello(*index)
                    .is_some_and(|hello| hello.role == Role::Primary)
            });
            found.is_some()
        });
        found.expect("a primary")
    }

    fn config(&self, index: usize) -> Document {
        let answer = self.admin(index).command(doc! { "replSetGetConfig": 1 });
        let answer = answer.expect("a configuration");
        answer.get_document("config").expect("a document").clone()
    }

    fn hosts(&self, index: usize) -> Vec<String> {
        let config = self.config(index);
        let members = config.get_array("members").expect("members");
        let mut hosts: Vec<String> = members
            .iter()
            .filter_map(|member| Some(member.as_document()?.get_str("host").ok()?.to_owned()))
            .collect();
        hosts.sort();
        hosts
    }

    fn expected(&self, members: &[usize]) -> Vec<String> {
        let mut hosts: Vec<String> = members.iter().map(|index| self.host(*index)).collect();
        hosts.sort();
        hosts
    }

    fn users(&self, index: usize) -> Vec<String> {
        let answer = self.admin(index).command(doc! { "usersInfo": 1 });
        let answer = answer.expect("users");
        let users = answer.get_array("users").expect("users");
        let mut names: Vec<String> = users
            .iter()
            .filter_map(|user| Some(user.as_document()?.get_str("user").ok()?.to_owned()))
            .collect();
        names.sort();
        names
    }

    /// A client of the application, as the demo app is one.
    fn client(&self, members: &[usize]) -> mongodb::sync::Client {
        let login = &self.secrets.logins(Kind::Application).expect("logins")[0];
        let uri = format!(
            "mongodb://{}:{}@{}/?replicaSet=rs0&authSource=admin&w=majority&wtimeoutMS=20000\
             &serverSelectionTimeoutMS=20000",
            login.user,
            login.password.reveal(),
            self.expected(members).join(",")
        );
        mongodb::sync::Client::with_uri_str(uri).expect("a client")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        (0..self.members.len()).for_each(|index| self.kill(index));
    }
}

#[track_caller]
fn wait(what: &str, mut ready: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !ready() {
        assert!(
            Instant::now() < deadline,
            "waited {} s for {what}",
            PATIENCE.as_secs()
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

const ALL_USERS: [&str; 3] = ["administration-1", "application-1", "monitoring-1"];

#[test]
fn members_may_start_in_every_order() {
    let orders = [
        [0, 1, 2],
        [0, 2, 1],
        [1, 0, 2],
        [1, 2, 0],
        [2, 0, 1],
        [2, 1, 0],
    ];
    let mut quickest = Duration::MAX;
    for order in orders {
        let Some(mut cluster) = Cluster::new(3) else {
            return;
        };
        let facts: Vec<(NodeFacts, Options)> = order
            .iter()
            .map(|index| (cluster.facts(*index, &[0, 1, 2]), cluster.options(PATIENCE)))
            .collect();
        std::thread::scope(|scope| {
            let mut runs = Vec::new();
            for (index, (facts, options)) in order.into_iter().zip(&facts) {
                cluster.start(index);
                runs.push(scope.spawn(|| reconcile(facts, options, &|_| {})));
                std::thread::sleep(Duration::from_millis(300));
            }
            wait("the last mongod", || cluster.hello(order[2]).is_some());
            let listening = Instant::now();
            for run in runs {
                let verdict = run.join().expect("no panic").expect("a verdict");
                assert!(
                    matches!(verdict, Verdict::Done(_)),
                    "{order:?}: {verdict:?}"
                );
            }
            quickest = quickest.min(listening.elapsed());
        });
        let primary = cluster.primary();
        assert_eq!(cluster.users(primary), ALL_USERS, "{order:?}");
        assert_eq!(cluster.hosts(primary), cluster.expected(&[0, 1, 2]));
    }
    // A primary, and every user known to a majority. Promised are 3 s, on a quiet machine;
    // docs/numbers.md has them.
    assert!(quickest <= Duration::from_secs(10), "{quickest:?}");
    println!("the quickest of them took {quickest:?}");
}

#[test]
fn killed_after_each_step_the_next_run_goes_on() {
    let Some(mut cluster) = Cluster::new(3) else {
        return;
    };
    cluster.start(0);
    let steps = |members: &[usize]| -> Vec<String> {
        std::iter::from_fn(|| cluster.one_step(0, members)).collect()
    };
    assert_eq!(
        steps(&[0]),
        [
            "made the replica set rs0 of 1 members",
            "add the user administration-1",
            "add the user application-1",
            "add the user monitoring-1"
        ]
    );
    cluster.start(1);
    cluster.start(2);
    let steps = |members: &[usize]| -> Vec<String> {
        std::iter::from_fn(|| cluster.one_step(0, members)).collect()
    };
    assert_eq!(steps(&[0, 1, 2]), ["add db-1", "add db-2"]);
    // The primary itself leaves: it hands over first.
    cluster.converge(&[0, 1, 2]);
    let primary = cluster.primary();
    let rest: Vec<usize> = (0..3).filter(|index| *index != primary).collect();
    let steps: Vec<String> = std::iter::from_fn(|| cluster.one_step(rest[0], &rest)).collect();
    let leaver = cluster.host(primary);
    assert_eq!(
        steps,
        [
            format!("{leaver}: asked it to hand over first"),
            format!("remove {leaver}")
        ]
    );
    assert_eq!(cluster.hosts(cluster.primary()), cluster.expected(&rest));
}

#[test]
fn racing_initiators_make_one_set() {
    for round in 0..3 {
        let Some(mut cluster) = Cluster::new(3) else {
            return;
        };
        (0..3).for_each(|index| cluster.start(index));
        wait("three mongods", || {
            (0..3).all(|index| cluster.hello(index).is_some())
        });
        // Files of different age, and two runs on each node.
        let orders = [[0, 1, 2], [2, 1, 0], [1, 0, 2]];
        let cluster = &cluster;
        std::thread::scope(|scope| {
            let runs: Vec<_> = [0, 1, 2, 0, 1, 2]
                .into_iter()
                .map(|index| scope.spawn(move || cluster.run(index, &orders[index], PATIENCE)))
                .collect();
            for run in runs {
                let verdict = run.join().expect("no panic");
                assert!(
                    matches!(verdict, Verdict::Done(_)),
                    "round {round}: {verdict:?}"
                );
            }
        });
        let ids: Vec<String> = (0..3)
            .map(|index| {
                let config = cluster.config(index);
                let settings = config.get_document("settings").expect("settings");
                settings
                    .get("replicaSetId")
                    .map(Bson::to_string)
                    .expect("an id")
            })
            .collect();
        assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
        assert_eq!(cluster.users(cluster.primary()), ALL_USERS);
    }
}

/// Everything in the oplog but what members write by themselves: the primary's regular sign
/// of life, keys that times are signed with, and what they remember of sessions.
fn writes(cluster: &Cluster, primary: usize) -> i64 {
    let own = [
        doc! { "op": "n" },
        doc! { "ns": "admin.system.keys" },
        doc! { "ns": { "$regex": r"^config\." } },
    ];
    let command = doc! {
        "aggregate": "oplog.rs",
        "pipeline": [
            { "$match": { "$nor": own } },
            { "$count": "all" },
        ],
        "cursor": {},
    };
    let login = cluster.secrets.keys().expect("keys");
    let uri = format!(
        "mongodb://__system:{}@{}/?authSource=local&directConnection=true",
        login[0].reveal(),
        cluster.host(primary)
    );
    let client = mongodb::sync::Client::with_uri_str(uri).expect("a client");
    let answer = client
        .database("local")
        .run_command(command)
        .run()
        .expect("a count");
    let batch = answer.get_document("cursor").expect("a cursor");
    let first = batch.get_array("firstBatch").expect("a batch")[0].clone();
    number(first.as_document().expect("a document"), "all").expect("a number")
}

#[test]
fn a_set_that_is_right_is_left_alone() {
    let Some(cluster) = Cluster::of(3) else {
        return;
    };
    let primary = cluster.primary();
    // What mongod and the first clients still have to write.
    let mut before = -1;
    wait("the set to come to rest", || {
        let now = writes(&cluster, primary);
        std::mem::replace(&mut before, now) == now
    });
    let version = number(&cluster.config(primary), "version");
    let mut quickest = Duration::MAX;
    for index in [0, 1, 2, 0, 1, 2] {
        let begun = Instant::now();
        let verdict = cluster.run(index, &[0, 1, 2], Duration::ZERO);
        quickest = quickest.min(begun.elapsed());
        assert_eq!(
            verdict,
            Verdict::Done("rs0 is as it should be: 3 members".into())
        );
    }
    assert_eq!(writes(&cluster, primary), before);
    assert_eq!(number(&cluster.config(primary), "version"), version);
    // Promised are 100 ms, of a release build on a quiet machine; docs/numbers.md has them.
    assert!(quickest <= Duration::from_secs(1), "{quickest:?}");
    // The count would see a write.
    let client = cluster.client(&[0, 1, 2]);
    let entries = client.database("web").collection::<Document>("entries");
    entries.insert_one(doc! {}).run().expect("a write");
    assert!(writes(&cluster, primary) > before);
}

#[test]
fn each_user_may_do_its_work_and_no_more() {
    let Some(cluster) = Cluster::of(1) else {
        return;
    };
    let login = |kind| cluster.secrets.logins(kind).expect("logins")[0].clone();
    let may = |kind, database: &str, command: Document| {
        let login = login(kind);
        let uri = format!(
            "mongodb://{}:{}@{}/?authSource=admin&directConnection=true",
            login.user,
            login.password.reveal(),
            cluster.host(0)
        );
        let client = mongodb::sync::Client::with_uri_str(uri).expect("a client");
        let answer = client.database(database).run_command(command).run();
        match answer {
            Ok(_) => true,
            Err(error) if mongo::code(&error) == Some(13) => false,
            Err(error) => panic!("{error}"),
        }
    };
    let insert = || doc! { "insert": "entries", "documents": [{}] };
    let find = || doc! { "find": "entries" };
    let status = || doc! { "replSetGetStatus": 1 };
    assert!(may(Kind::Application, "web", insert()));
    assert!(may(Kind::Application, "web", find()));
    assert!(!may(Kind::Application, "other", insert()));
    assert!(!may(Kind::Application, "admin", status()));
    assert!(!may(Kind::Application, "admin", doc! { "usersInfo": 1 }));
    assert!(may(Kind::Monitoring, "admin", status()));
    assert!(!may(Kind::Monitoring, "web", find()));
    assert!(!may(Kind::Monitoring, "web", insert()));
    assert!(may(Kind::Administration, "admin", status()));
    assert!(!may(Kind::Administration, "web", find()));
    assert!(!may(Kind::Administration, "web", insert()));
    assert!(!may(
        Kind::Administration,
        "web",
        doc! { "dropDatabase": 1 }
    ));
    // Nobody is nobody: hello, and nothing else.
    let nobody = mongo::Member::connect(&cluster.host(0), CONNECT).expect("a connection");
    assert!(nobody.hello().is_ok());
    assert!(nobody.command(status()).is_err());
    assert!(nobody.command(doc! { "listDatabases": 1 }).is_err());
}

#[test]
fn passwords_and_rights_are_what_the_files_say() {
    let Some(cluster) = Cluster::of(1) else {
        return;
    };
    let admin = cluster.admin(0);
    let command = |command| admin.command(command).expect("an answer");
    command(doc! { "updateUser": "application-1", "pwd": "another" });
    command(doc! { "updateUser": "monitoring-1", "roles": [{ "role": "readWrite", "db": "web" }] });
    command(doc! { "createUser": "anne", "pwd": "hers", "roles": [] });
    assert!(matches!(cluster.run(0, &[0], PATIENCE), Verdict::Done(_)));
    let application = cluster.secrets.logins(Kind::Application).expect("logins")[0].clone();
    let ping = |login| cluster.as_user(0, login).command(doc! { "ping": 1 });
    assert!(ping(&application).is_ok());
    assert_eq!(
        cluster.users(0),
        ["administration-1", "anne", "application-1", "monitoring-1"]
    );
    // The administrator's own password can't be set by anybody.
    command(doc! { "updateUser": "administration-1", "pwd": "another" });
    let verdict = cluster.run(0, &[0], SHORT);
    assert!(
        matches!(&verdict, Verdict::NeedsPerson(why) if why.contains("another password")),
        "{verdict:?}"
    );
    // Unless somebody asks for it, with the members' key.
    let options = Options {
        reset_administration: true,
        ..cluster.options(PATIENCE)
    };
    let verdict = reconcile(&cluster.facts(0, &[0]), &options, &|_| {});
    assert!(matches!(verdict, Ok(Verdict::Done(_))), "{verdict:?}");
}

#[test]
fn foreign_data_is_left_alone() {
    let Some(mut cluster) = Cluster::new(4) else {
        return;
    };
    cluster.start(0);
    cluster.converge(&[0]);
    // Of a mongod that was in no set and knew no users.
    cluster.spawn(1, &[]);
    let uri = format!("mongodb://{}/?journal=true", cluster.host(1));
    let entries = |uri: &str| {
        let client = mongodb::sync::Client::with_uri_str(uri).expect("a client");
        client.database("web").collection::<Document>("entries")
    };
    entries(&uri).insert_one(doc! {}).run().expect("a write");
    cluster.restart(1);
    // Of a set of the same name, and of one of another name.
    cluster.start(2);
    cluster.converge(&[2]);
    cluster.start_as(3, "other", &[]);
    wait("mongod", || cluster.hello(3).is_some());
    let other = doc! { "replSetInitiate": { "_id": "other", "members": [{ "_id": 0, "host": cluster.host(3) }] } };
    cluster.member(3).command(other).expect("a set");

    for (newcomer, why) in [(1, "1 collection of its own"), (2, "another replica set")] {
        for index in [0, newcomer] {
            let verdict = cluster.run(index, &[0, newcomer], SHORT);
            assert!(
                matches!(&verdict, Verdict::NeedsPerson(said) if said.contains(why)),
                "{newcomer} on {index}: {verdict:?}"
            );
        }
    }
    let says = |cluster: &Cluster, why: &str| {
        let verdict = cluster.run(3, &[0, 3], SHORT);
        assert!(
            matches!(&verdict, Verdict::NeedsPerson(said) if said.contains(why)),
            "{verdict:?}"
        );
    };
    says(&cluster, "belongs to the replica set other, not to rs0");
    cluster.restart(3);
    wait("mongod", || cluster.hello(3).is_some());
    says(&cluster, "another replica set");

    // Nothing was changed or deleted.
    assert_eq!(cluster.hosts(0), cluster.expected(&[0]));
    assert_eq!(cluster.hosts(2), cluster.expected(&[2]));
    cluster.kill(1);
    cluster.spawn(1, &[]);
    let count = entries(&uri).count_documents(doc! {}).run();
    assert_eq!(count.expect("a count"), 1);
    // A mongod with data makes a set of its own, and keeps them.
    cluster.restart(1);
    cluster.converge(&[1]);
    let client = cluster.client(&[1]);
    let kept = client.database("web").collection::<Document>("entries");
    assert_eq!(kept.count_documents(doc! {}).run().expect("a count"), 1);
}

#[test]
fn a_lost_majority_needs_a_person_until_it_returns() {
    let Some(mut cluster) = Cluster::of(3) else {
        return;
    };
    cluster.kill(1);
    cluster.kill(2);
    wait("the primary to step down", || {
        cluster
            .hello(0)
            .is_some_and(|hello| hello.role == Role::Secondary && hello.primary.is_none())
    });
    let verdict = cluster.run(0, &[0, 1, 2], SHORT);
    assert!(
        matches!(&verdict, Verdict::NeedsPerson(why) if why.contains("db-1, db-2 do not answer")),
        "{verdict:?}"
    );
    cluster.start(2);
    cluster.converge(&[0, 2]);
    cluster.start(1);
    cluster.converge(&[0, 1, 2]);
    assert_eq!(cluster.hosts(0), cluster.expected(&[0, 1, 2]));
}

#[test]
fn forcing_is_refused_while_there_is_a_majority_and_works_without() {
    let Some(mut cluster) = Cluster::of(3) else {
        return;
    };
    let force = |cluster: &Cluster| {
        let options = Options {
            force: true,
            ..cluster.options(SHORT)
        };
        reconcile(&cluster.facts(0, &[0, 1, 2]), &options, &|_| {})
    };
    let refused = force(&cluster).expect_err("a refusal").to_string();
    assert!(refused.contains("there is nothing to force"), "{refused}");
    cluster.kill(1);
    cluster.kill(2);
    wait("the primary to step down", || {
        cluster
            .hello(0)
            .is_some_and(|hello| hello.role == Role::Secondary && hello.primary.is_none())
    });
    let verdict = force(&cluster).expect("a verdict");
    assert!(
        matches!(&verdict, Verdict::NotYet(why) if why.contains("waiting for db-1")),
        "{verdict:?}"
    );
    assert_eq!(cluster.hosts(cluster.primary()), cluster.expected(&[0]));
    for index in [1, 2] {
        cluster.wipe(index);
        cluster.start(index);
    }
    cluster.converge(&[0, 1, 2]);
    assert_eq!(cluster.hosts(0), cluster.expected(&[0, 1, 2]));
}

/// Ends the writer, also when the test fails.
struct Ends<'e>(&'e AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Writes until told to end; every acknowledged id.
fn write_until(client: &mongodb::sync::Client, end: &AtomicBool) -> Vec<i32> {
    let entries = client.database("web").collection::<Document>("entries");
    let mut acknowledged = Vec::new();
    for id in 0.. {
        if end.load(Ordering::SeqCst) {
            break;
        }
        if entries.insert_one(doc! { "_id": id }).run().is_ok() {
            acknowledged.push(id);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    acknowledged
}

#[test]
fn grows_and_shrinks_under_load_and_loses_no_write() {
    let Some(mut cluster) = Cluster::new(5) else {
        return;
    };
    cluster.start(0);
    cluster.converge(&[0]);
    let end = AtomicBool::new(false);
    let client = cluster.client(&[0]);
    let acknowledged = std::thread::scope(|scope| {
        let writer = scope.spawn(|| write_until(&client, &end));
        let ends = Ends(&end);
        for (from, to) in [(1, 3), (3, 5)] {
            (from..to).for_each(|index| cluster.start(index));
            cluster.converge(&(0..to).collect::<Vec<_>>());
        }
        // Back to three, the first two not among them: one of them is primary, perhaps.
        cluster.converge(&[2, 3, 4]);
        for index in [0, 1] {
            cluster.kill(index);
        }
        cluster.converge(&[2, 3, 4]);
        drop(ends);
        writer.join().expect("no panic")
    });
    let primary = cluster.primary();
    assert_eq!(cluster.hosts(primary), cluster.expected(&[2, 3, 4]));
    let client = cluster.client(&[2, 3, 4]);
    let entries = client.database("web").collection::<Document>("entries");
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
    assert!(acknowledged.len() > 100, "{}", acknowledged.len());
}

#[test]
fn away_for_too_long_it_says_so_and_copies_anew_when_emptied() {
    let Some(mut cluster) = Cluster::new(3) else {
        return;
    };
    // The smallest oplog there is. What a checkpoint hasn't saved yet is not cut from it,
    // and by itself mongod makes one a minute.
    let small = ["--oplogSize", "1", "--syncdelay", "1"];
    (0..3).for_each(|index| cluster.start_as(index, "rs0", &small));
    cluster.converge(&[0, 1, 2]);
    let oplog = |cluster: &Cluster, index: usize, end: &str| {
        let status = cluster
            .admin(index)
            .command(doc! { "serverStatus": 1, "oplog": 1 })
            .expect("a status");
        let oplog = status.get_document("oplog").expect("an oplog");
        oplog.get_timestamp(end).expect("a time")
    };
    let client = cluster.client(&[0, 1]);
    let entries = client.database("web").collection::<Document>("entries");
    // Killed before its disk holds its first copy, a member would begin it again by itself.
    let on_every_disk = mongodb::options::WriteConcern::builder()
        .w(mongodb::options::Acknowledgment::Nodes(3))
        .journal(true)
        .build();
    let first = entries.insert_one(doc! {}).write_concern(on_every_disk);
    first.run().expect("a write");
    cluster.kill(2);
    let left = oplog(&cluster, cluster.primary(), "latestOptime");
    let text = "x".repeat(500_000);
    // The oplog is cut now and then only, and by each member on its own: while one of them
    // remembers, it can be copied from.
    wait("the oplog to be cut", || {
        for _ in 0..20 {
            let written = entries.insert_one(doc! { "text": &text }).run();
            written.expect("a write");
        }
        (0..2).all(|index| oplog(&cluster, index, "earliestOptime") > left)
    });
    cluster.start_as(2, "rs0", &small);
    wait("a word about it", || {
        let verdict = cluster.run(2, &[0, 1, 2], SHORT);
        println!("{verdict:?}");
        matches!(verdict, Verdict::NeedsPerson(why) if why.contains("copy all data anew"))
    });
    cluster.kill(2);
    cluster.wipe(2);
    cluster.start_as(2, "rs0", &small);
    cluster.converge(&[0, 1, 2]);
    assert!(
        cluster
            .hello(2)
            .is_some_and(|hello| hello.role == Role::Secondary)
    );
}

/// While no majority has a collection, there is no moment to read it at.
#[test]
fn what_is_new_is_copied_as_soon_as_a_majority_has_it() {
    let Some(cluster) = Cluster::of(3) else {
        return;
    };
    let primary = cluster.primary();
    let web = cluster.client(&[primary]).database("web");
    let one = mongodb::options::WriteConcern::nodes(1);
    web.create_collection("old").run().expect("a collection");
    let others = |signal: &str| {
        for index in (0..3).filter(|index| *index != primary) {
            let process = cluster.members[index].process.as_ref().expect("mongod");
            let mut kill = Command::new("kill");
            let done = kill.args([signal, &process.id().to_string()]).status();
            assert!(done.expect("kill").success());
        }
    };
    let directory = cluster.directory.path().join("copy");
    others("-STOP");
    let made = web.create_collection("new").write_concern(one).run();
    let taken = std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(700));
            others("-CONT");
        });
        let facts = cluster.facts(primary, &[0, 1, 2]);
        gen_topology::node::backup::take(&facts, &cluster.secrets, &directory, None)
    });
    made.expect("a collection");
    let taken = taken.expect("a backup");
    assert!(taken.collections.contains_key("new"), "{taken:?}");
}

#[test]
fn a_backup_is_of_one_moment_and_restores_only_where_it_may() {
    let Some(cluster) = Cluster::of(3) else {
        return;
    };
    let client = cluster.client(&[0, 1, 2]);
    let web = client.database("web");
    // Two collections of which the second never has more than the first.
    let (first, second) = (web.collection("first"), web.collection("second"));
    let index = mongodb::IndexModel::builder()
        .keys(doc! { "text": 1 })
        .options(
            mongodb::options::IndexOptions::builder()
                .unique(true)
                .build(),
        )
        .build();
    first.create_index(index).run().expect("an index");
    let end = AtomicBool::new(false);
    let end = &end;
    let directory = cluster.directory.path().join("backup");
    let facts = |index| cluster.facts(index, &[0, 1, 2]);
    let secondary = (0..3)
        .find(|index| *index != cluster.primary())
        .expect("a secondary");
    let taken = std::thread::scope(|scope| {
        scope.spawn(|| {
            for id in 0.. {
                if end.load(Ordering::SeqCst) {
                    break;
                }
                let entry = doc! { "_id": id, "text": format!("entry {id}") };
                first.insert_one(entry.clone()).run().expect("a write");
                second.insert_one(entry).run().expect("a write");
            }
        });
        let _ends = Ends(end);
        wait("some entries", || {
            second.estimated_document_count().run().expect("a count") > 50
        });
        let mongod = Some(cluster.program.as_path());
        gen_topology::node::backup::take(&facts(secondary), &cluster.secrets, &directory, mongod)
            .expect("a backup")
    });
    let documents = |name: &str| taken.collections[name].documents;
    assert!(documents("second") > 0);
    assert!(
        [0, 1].contains(&(documents("first") - documents("second"))),
        "{taken:?}"
    );

    let put_back = |overwrite| {
        let facts = facts(secondary);
        gen_topology::node::backup::put_back(&facts, &cluster.secrets, &directory, overwrite)
    };
    let count = |name: &str| {
        let collection = web.collection::<Document>(name);
        collection.count_documents(doc! {}).run().expect("a count")
    };
    let before = count("first");
    assert!(before > documents("first"));
    let refused = put_back(false).expect_err("a refusal").to_string();
    assert!(
        refused.contains("first, second of the database web hold something"),
        "{refused}"
    );
    assert_eq!(count("first"), before);
    put_back(true).expect("a restore");
    assert_eq!(count("first"), documents("first"));
    assert_eq!(count("second"), documents("second"));
    let names = first.list_index_names().run().expect("indexes");
    assert_eq!(names, ["_id_", "text_1"]);
    first.drop().run().expect("a drop");
    second.drop().run().expect("a drop");
    put_back(false).expect("a restore");
    assert_eq!(count("first"), documents("first"));

    // A damaged copy changes nothing.
    let file = directory.join("web/first.bson");
    let mut bytes = fs::read(&file).expect("a file");
    let last = bytes.len() - 3;
    bytes[last] ^= 1;
    fs::write(&file, bytes).expect("a file");
    let refused = put_back(true).expect_err("a refusal").to_string();
    assert!(refused.contains("damaged"), "{refused}");
    assert_eq!(count("first"), documents("first"));
    fs::remove_file(directory.join("backup.json")).expect("a file");
    let refused = format!("{:#}", put_back(true).expect_err("a refusal"));
    assert!(refused.contains("no complete backup"), "{refused}");
}

/// What a backup leaves in a directory that is a disk of its own with so much room; and what it said.
fn backup_on_a_disk_of(cluster: &Cluster, size: &str) -> Option<(Vec<String>, bool, String)> {
    let root = cluster.directory.path();
    let disk = root.join("disk");
    fs::create_dir_all(&disk).expect("a directory");
    let facts = serde_json::to_string(&cluster.facts(0, &[0])).expect("JSON");
    fs::write(root.join("node.json"), facts).expect("a file");
    let script = "mount -t tmpfs -o size=$0 tmpfs \"$1\" || exit 77; shift
        \"$@\"; code=$?; find \"$DISK\" -mindepth 1; exit $code";
    let mut command = Command::new("unshare");
    if !is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command
        .args(["--mount", "sh", "-c", script, size])
        .arg(&disk);
    command
        .arg(crate::common::PROGRAM)
        .args(["node", "--facts"]);
    command
        .arg(root.join("node.json"))
        .arg("backup")
        .arg(disk.join("copy"));
    command.arg("--secrets").arg(cluster.secrets.directory());
    let output = command.env("DISK", &disk).output().expect("unshare");
    if output.status.code() == Some(77) {
        not_run("no disk of its own can be mounted here");
        return None;
    }
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let left = text(&output.stdout).lines().map(str::to_owned).collect();
    Some((left, output.status.success(), text(&output.stderr)))
}

#[test]
fn a_backup_on_a_full_disk_leaves_nothing_that_looks_like_one() {
    let Some(cluster) = Cluster::of(1) else {
        return;
    };
    let client = cluster.client(&[0]);
    let entries = client.database("web").collection::<Document>("entries");
    let text = "x".repeat(100_000);
    let documents = (0..30).map(|id| doc! { "_id": id, "text": &text });
    entries.insert_many(documents).run().expect("a write");
    for size in ["16k", "1m", "2m"] {
        let Some((left, is_done, said)) = backup_on_a_disk_of(&cluster, size) else {
            return;
        };
        assert!(
            !is_done && said.contains("No space left on device"),
            "{size}: {said}"
        );
        assert!(left.is_empty(), "{size}: {left:?}");
    }
    let Some((left, is_done, said)) = backup_on_a_disk_of(&cluster, "8m") else {
        return;
    };
    assert!(
        is_done && left.iter().any(|path| path.ends_with("/backup.json")),
        "{said}"
    );
}
