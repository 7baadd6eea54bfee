//! The engine of `lab apply` and `deploy` against a model of a stack: every order, every
//! failure of a host, and sharded stacks, which need no mongos here. What real daemons make
//! of it is tested in `apply` and `machines`.

#![expect(clippy::expect_used, reason = "a test may stop")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard};

use anyhow::{Context as _, bail, ensure};
use gen_topology::config::{Action, NodeFacts};
use gen_topology::deploy::journal::{Journal, Unfinished};
use gen_topology::deploy::{Choice, Engine, Failure, Now, Options, plan};
use gen_topology::health::http::{Answer, Entrance};
use gen_topology::health::mongo::Role;
use gen_topology::health::report::{Balancer, Member, Report};
use gen_topology::site::{Fleet, Host, NodeState, Site};
use gen_topology::topology::Tier;

use crate::common::{TOPOLOGY, TestEnvironment};
use crate::plan::fleet;

#[derive(Clone)]
struct Node {
    runs: bool,
    is_new: bool,
    /// Process of haproxy.
    process: u32,
    /// App servers that its haproxy sends nothing new.
    drained: BTreeSet<String>,
}

#[derive(Default)]
struct State {
    nodes: BTreeMap<String, Node>,
    /// Replica set → its members' names and the primary.
    sets: BTreeMap<String, (Vec<String>, Option<String>)>,
    /// What was done to nodes.
    calls: Vec<String>,
    /// Which of those fails.
    fails: Option<usize>,
    /// After which of those visitors had no answer.
    outages: Vec<String>,
    serves: bool,
    /// After this many calls no replica set has a primary any more.
    sets_end: Option<usize>,
    /// The application answers 200 to everything, whatever its databases do.
    app_answers_all: bool,
}

/// A stack in memory.
struct Model {
    old: Fleet,
    new: Fleet,
    state: Mutex<State>,
}

impl Model {
    fn new(old: Fleet, new: Fleet) -> Self {
        let mut state = State::default();
        for node in old.nodes() {
            let node_state = Node {
                runs: true,
                is_new: false,
                process: 1,
                drained: BTreeSet::new(),
            };
            state.nodes.insert(node.name().into(), node_state);
            if let Some(set) = node.set() {
                let names: Vec<String> = set.members.iter().map(|m| m.name.clone()).collect();
                let first = names.first().cloned();
                state.sets.insert(set.name.clone(), (names, first));
            }
        }
        let model = Self {
            old,
            new,
            state: Mutex::new(state),
        };
        let serves = model.serves(&model.state());
        model.state().serves = serves;
        model
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("a state")
    }

    fn planned(&self, state: &State, name: &str) -> anyhow::Result<&NodeState> {
        let node = state.nodes.get(name).filter(|node| node.runs);
        let node = node.with_context(|| format!("{name} is not reachable"))?;
        let fleet = if node.is_new { &self.new } else { &self.old };
        fleet
            .node(name)
            .with_context(|| format!("{name} is not planned"))
    }

    fn runs(state: &State, name: &str) -> bool {
        state.nodes.get(name).is_some_and(|node| node.runs)
    }

    /// The app servers that a load balancer knows: those of the topology that it has.
    fn known(&self, node: &Node) -> Vec<String> {
        let fleet = if node.is_new { &self.new } else { &self.old };
        let apps = fleet.tier(Tier::App);
        apps.map(|app| app.name().to_owned()).collect()
    }

    fn owner(&self, state: &State) -> Option<String> {
        let order = self
            .new
            .tier(Tier::LoadBalancer)
            .chain(self.old.tier(Tier::LoadBalancer));
        let mut running = order.filter(|node| Self::runs(state, node.name()));
        running.next().map(|node| node.name().to_owned())
    }

    /// Whether a visitor gets an answer with what is stored.
    fn serves(&self, state: &State) -> bool {
        let Some(owner) = self.owner(state) else {
            return false;
        };
        let balancer = &state.nodes[&owner];
        let usable = |app: &String| Self::runs(state, app) && !balancer.drained.contains(app);
        let has_primary = |(_, primary): &(Vec<String>, Option<String>)| primary.is_some();
        let stored = !state.sets.is_empty() && state.sets.values().all(has_primary);
        (stored || state.app_answers_all) && self.known(balancer).iter().any(usable)
    }

    /// Something is done to nodes, unless it is its turn to fail.
    fn act(&self, call: String, work: impl FnOnce(&mut State)) -> anyhow::Result<()> {
        let state = &mut *self.state();
        let turn = state.calls.len();
        state.calls.push(call.clone());
        if state.fails == Some(turn) {
            bail!("the host failed");
        }
        work(state);
        self.elect(state);
        if state.serves && !self.serves(state) {
            state.outages.push(call);
        }
        Ok(())
    }

    /// A set whose majority runs has a primary; one that nobody has made yet is made by its
    /// planned members, which do so by themselves.
    fn elect(&self, state: &mut State) {
        for node in self.new.tier(Tier::Database) {
            let set = node.set().expect("a set");
            let members: Vec<String> = set.members.iter().map(|m| m.name.clone()).collect();
            let all = members.iter().all(|name| Self::runs(state, name));
            if all && !state.sets.contains_key(&set.name) {
                state.sets.insert(set.name.clone(), (members, None));
            }
        }
        let running: BTreeSet<String> = state
            .nodes
            .iter()
            .filter(|(_, node)| node.runs)
            .map(|(name, _)| name.clone())
            .collect();
        for (members, primary) in state.sets.values_mut() {
            let up: Vec<&String> = members
                .iter()
                .filter(|name| running.contains(*name))
                .collect();
            let stays = primary.as_ref().is_some_and(|name| up.contains(&name));
            if up.len() * 2 <= members.len() {
                *primary = None;
            } else if !stays {
                *primary = up.first().map(|name| (*name).clone());
            }
            if state.sets_end.is_some_and(|turn| state.calls.len() >= turn) {
                *primary = None;
            }
        }
    }

    fn set_node(state: &mut State, name: &str, runs: bool, is_new: bool) {
        let node = state.nodes.entry(name.to_owned()).or_insert(Node {
            runs,
            is_new,
            process: 1,
            drained: BTreeSet::new(),
        });
        (node.runs, node.is_new) = (runs, is_new);
    }

    fn report(&self, name: &str) -> anyhow::Result<Report> {
        let state = self.state();
        let planned = self.planned(&state, name)?;
        let sums = planned.facts.files.iter();
        let set = planned.set();
        Ok(Report {
            facts: serde_json::to_value(&planned.facts)?,
            files: sums
                .map(|(path, sum)| (path.clone(), Some(sum.clone())))
                .collect(),
            app: None,
            apps: BTreeMap::new(),
            load_balancer: (planned.tier() == Tier::LoadBalancer).then(|| Balancer {
                certificate_problem: None,
                has_virtual_ip: self.owner(&state).as_deref() == Some(name),
                takes_part: true,
                certificate_days: None,
            }),
            database: set.map(|set| {
                let made = state.sets.get(&set.name);
                let is_in = made.is_some_and(|(members, _)| members.iter().any(|it| it == name));
                let is_primary = made.is_some_and(|(_, primary)| primary.as_deref() == Some(name));
                let host = |name: &String| {
                    let fleets = [&self.new, &self.old].into_iter();
                    let mut facts =
                        fleets.filter_map(|fleet| fleet.node(name)?.facts.membership().ok());
                    facts.next().map(|(_, me)| me.host.clone())
                };
                let members = made.map(|(members, _)| members.iter().filter_map(host).collect());
                Member {
                    role: match (is_primary, is_in) {
                        (true, _) => Role::Primary,
                        (_, true) => Role::Secondary,
                        _ => Role::Uninitialized,
                    },
                    primary: None,
                    members: members.unwrap_or_default(),
                    last_write_ms: None,
                }
            }),
        })
    }
}

impl Site for Model {
    fn reachable(&self, node: &str) -> anyhow::Result<()> {
        self.planned(&self.state(), node).map(drop)
    }

    fn run(&self, node: &str, argv: &[&str], input: Option<&str>) -> anyhow::Result<String> {
        match argv {
            [_, "node", "report"] => Ok(serde_json::to_string(&self.report(node)?)?),
            [_, "node", "step-down"] => {
                self.act(format!("step down {node}"), |state| {
                    let running: BTreeSet<String> = state
                        .nodes
                        .iter()
                        .filter(|(_, it)| it.runs)
                        .map(|(name, _)| name.clone())
                        .collect();
                    for (members, primary) in state.sets.values_mut() {
                        if primary.as_deref() == Some(node) {
                            let mut others = members
                                .iter()
                                .filter(|it| *it != node && running.contains(*it));
                            *primary = others.next().cloned();
                        }
                    }
                })?;
                Ok(String::new())
            }
            [_, "node", "--facts", _, "reconcile-database"] => {
                let facts: NodeFacts = serde_json::from_str(input.unwrap_or_default())?;
                let set = facts.database.context("a set")?;
                let names: Vec<String> = set.members.iter().map(|it| it.name.clone()).collect();
                self.act(
                    format!("{} becomes {}", set.name, names.join(" ")),
                    |state| {
                        state.sets.entry(set.name.clone()).or_default().0 = names;
                    },
                )?;
                Ok(String::new())
            }
            [_, "node", "open-firewall"] => {
                // Asked of one that runs, for one that does not run yet.
                let newcomers: BTreeMap<String, Vec<std::net::Ipv4Addr>> =
                    serde_json::from_str(input.unwrap_or_default())?;
                ensure!(!newcomers.is_empty(), "{node} opens its doors for no one");
                Ok(String::new())
            }
            other => bail!("nobody knows {other:?}"),
        }
    }

    fn haproxy(&self, node: &str, command: &str) -> anyhow::Result<String> {
        let state = &mut *self.state();
        self.planned(state, node)?;
        let words: Vec<&str> = command.split(' ').collect();
        match words.as_slice() {
            ["show", "info"] => Ok(format!("Pid: {}\n", state.nodes[node].process)),
            ["show", "stat"] => {
                let balancer = &state.nodes[node];
                let line = |app: &String| {
                    let status = match (balancer.drained.contains(app), Self::runs(state, app)) {
                        (true, _) => "DRAIN",
                        (false, true) => "UP",
                        (false, false) => "DOWN",
                    };
                    format!("app,{app},{status},L7OK,0\n")
                };
                let lines: String = self.known(balancer).iter().map(line).collect();
                Ok(format!("# pxname,svname,status,check_status,scur\n{lines}"))
            }
            ["set", "server", server, "state", wanted] => {
                let app = server.trim_start_matches("app/");
                let drained = &mut state.nodes.get_mut(node).expect("a node").drained;
                if *wanted == "drain" {
                    drained.insert(app.to_owned());
                } else {
                    drained.remove(app);
                }
                state.calls.push(format!("{wanted} {app} on {node}"));
                if state.serves && !self.serves(state) {
                    state.outages.push(command.to_owned());
                }
                Ok(String::new())
            }
            other => bail!("haproxy knows no {other:?}"),
        }
    }

    fn visit(&self, entrance: Entrance, _: &str) -> anyhow::Result<Answer> {
        let address = entrance.address;
        let state = self.state();
        let fleets = [&self.new, &self.old].into_iter();
        let all: Vec<&NodeState> = fleets.flat_map(Fleet::nodes).collect();
        let is_virtual = all.iter().any(|node| node.facts.virtual_ip == address);
        let node = all.iter().find(|node| node.facts.address == address);
        let is_well = match node {
            None => is_virtual && self.serves(&state),
            Some(node) => Self::runs(&state, node.name()),
        };
        if !is_well {
            bail!("nobody answers at {address}");
        }
        Ok(Answer {
            status: 200,
            node: None,
            body: String::new(),
        })
    }
}

impl Host for Model {
    fn validate(&self, _: &[&str]) -> anyhow::Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn add(&self, node: &str) -> anyhow::Result<()> {
        self.act(format!("add {node}"), |state| {
            Self::set_node(state, node, true, true);
        })
    }

    fn change(&self, node: &str, how: &[Action]) -> anyhow::Result<()> {
        let words: Vec<&str> = how.iter().map(|action| action.words()).collect();
        let call = format!("change {node}: {}", words.join(", "));
        self.act(call, |state| {
            Self::set_node(state, node, true, true);
            let knows = self.new.tier(Tier::App).map(NodeState::name);
            let knows: BTreeSet<&str> = knows.collect();
            let changed = state.nodes.get_mut(node).expect("a node");
            changed.process += 1;
            changed.drained.retain(|app| knows.contains(app.as_str()));
        })
    }

    fn revert(&self, node: &str, _: &[Action]) -> anyhow::Result<()> {
        self.act(format!("revert {node}"), |state| {
            Self::set_node(state, node, true, false);
            state.nodes.get_mut(node).expect("a node").process += 1;
        })
    }

    fn remove(&self, node: &str) -> anyhow::Result<()> {
        self.act(format!("remove {node}"), |state| {
            let is_new = state.nodes.get(node).is_some_and(|node| node.is_new);
            Self::set_node(state, node, false, is_new);
        })
    }

    fn restore(&self, node: &str) -> anyhow::Result<()> {
        self.act(format!("restore {node}"), |state| {
            Self::set_node(state, node, true, false);
        })
    }

    fn settle(&self, _: &str) -> anyhow::Result<()> {
        Ok(())
    }

    fn forget(&self, _: &str) -> anyhow::Result<()> {
        Ok(())
    }
}

/// Brings a model from one topology to another; the call number `fails`, if any, fails.
fn apply(old: Fleet, new: &str, fails: Option<usize>) -> (Model, Result<(), Failure>) {
    apply_where(old, new, |state| state.fails = fails)
}

/// The same where something is different about the stack.
fn apply_where(
    old: Fleet,
    new: &str,
    different: impl FnOnce(&mut State),
) -> (Model, Result<(), Failure>) {
    let model = Model::new(old, fleet(new));
    different(&mut model.state());
    let primaries = model
        .state()
        .sets
        .values()
        .filter_map(|(_, primary)| primary.clone())
        .collect();
    let now = Now {
        owner: model.owner(&model.state()),
        primaries,
        ..Now::default()
    };
    let plan = plan(&model.old, &model.new, &now, &Choice::default());
    let engine = Engine {
        host: &model,
        old: &model.old,
        new: &model.new,
        plan: &plan,
        options: Options {
            canary: 0,
            bake: std::time::Duration::ZERO,
        },
        interrupted: &|| false,
    };
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("journal");
    let mut journal =
        Journal::begin(&path, plan.steps.len(), &Unfinished::default()).expect("a journal");
    let done = engine
        .preflight(&[])
        .and_then(|()| engine.run(&mut journal, &mut |_| {}));
    (model, done)
}

/// Whether no load balancer that runs keeps requests from an app server.
fn nothing_is_drained(state: &State) -> bool {
    let mut running = state.nodes.values().filter(|node| node.runs);
    running.all(|node| node.drained.is_empty())
}

/// Everything runs what was planned, the sets have the planned members, and nobody noticed.
#[track_caller]
fn is_as_planned(model: &Model) {
    let state = model.state();
    assert!(model.serves(&state), "{:#?}", state.calls);
    assert_eq!(state.outages, Vec::<String>::new(), "{:#?}", state.calls);
    for node in model.new.nodes() {
        assert!(
            Model::runs(&state, node.name()),
            "{} does not run",
            node.name()
        );
        if let Some(set) = node.set() {
            let planned: BTreeSet<&String> = set.members.iter().map(|it| &it.name).collect();
            let members: BTreeSet<&String> = state.sets[&set.name].0.iter().collect();
            assert_eq!(members, planned);
        }
    }
    let gone = model
        .old
        .nodes()
        .iter()
        .filter(|node| model.new.node(node.name()).is_none());
    for node in gone {
        assert!(!Model::runs(&state, node.name()), "{} runs", node.name());
    }
    assert!(nothing_is_drained(&state));
}

/// The gate asks the databases themselves: an application that answers 200 to everything does not open it.
#[test]
fn a_gate_is_closed_without_a_primary_whatever_the_application_says() {
    let new = TOPOLOGY.replace("\"./app\"", "\"./app\", \"threads\": 5");
    for (sets_end, opens) in [(None, true), (Some(1), false)] {
        let (model, done) = apply_where(fleet(TOPOLOGY), &new, |state| {
            (state.app_answers_all, state.sets_end) = (true, sets_end);
        });
        assert_eq!(done.is_ok(), opens, "{done:?}: {:#?}", model.state().calls);
        if let Err(failure) = done {
            let said = format!("{failure:?}");
            assert!(said.contains("is primary"), "{said}");
        }
    }
}

fn sharded() -> String {
    let path = format!("{}/examples/sharded.json", crate::common::REPOSITORY);
    std::fs::read_to_string(path).expect("the example")
}

/// Calls that begin with a word.
fn calls(model: &Model, word: &str) -> Vec<String> {
    let state = model.state();
    let calls = state.calls.iter().filter(|call| call.starts_with(word));
    calls.cloned().collect()
}

#[test]
fn a_stack_that_is_nowhere_yet_is_made() {
    for topology in [TOPOLOGY.to_owned(), sharded()] {
        let (model, done) = apply(Fleet::default(), &topology, None);
        assert!(done.is_ok(), "{done:?}");
        is_as_planned(&model);
        // Databases first; nobody joins a set that its members make together.
        let added = calls(&model, "add ");
        assert!(
            added[0].starts_with("add db-") || added[0].starts_with("add config-"),
            "{added:?}"
        );
        assert!(
            added.last().is_some_and(|call| call.starts_with("add lb-")),
            "{added:?}"
        );
        assert!(
            !model
                .state()
                .calls
                .iter()
                .any(|call| call.contains(" becomes "))
        );
    }
}

#[test]
fn each_replica_set_changes_one_member_at_a_time_and_its_primary_last() {
    let old = sharded();
    let new = old.replace(
        "\"sharding\": {",
        "\"cache_size\": \"1GiB\",\n    \"sharding\": {",
    );
    let (model, done) = apply(fleet(&old), &new, None);
    assert!(done.is_ok(), "{done:?}");
    is_as_planned(&model);
    let changed = calls(&model, "change ");
    let names: Vec<&str> = changed
        .iter()
        .map(|call| &call["change ".len()..call.find(':').expect("a node")])
        .collect();
    assert_eq!(
        names,
        [
            "config-2", "config-3", "config-1", "db-2", "db-3", "db-1", "db-5", "db-6", "db-4",
            "db-8", "db-9", "db-7"
        ]
    );
    for primary in ["config-1", "db-1", "db-4", "db-7"] {
        assert!(calls(&model, "step down").contains(&format!("step down {primary}")));
    }
}

#[test]
fn a_shard_joins_and_the_config_servers_learn_of_it() {
    let new = sharded();
    let old: String = new
        .lines()
        .filter(|line| !line.contains("\"shard-3\""))
        .map(|line| line.replace("\"shards\": 3", "\"shards\": 2") + "\n")
        .collect();
    let (model, done) = apply(fleet(&old), &new, None);
    assert!(done.is_ok(), "{done:?}");
    is_as_planned(&model);
    let said = model.state().calls.clone();
    let at = |call: &str| {
        said.iter()
            .position(|it| it.starts_with(call))
            .expect("a call")
    };
    let config = at("config becomes config-1 config-2 config-3");
    assert!(
        ["add db-7", "add db-8", "add db-9"]
            .iter()
            .all(|call| at(call) < config),
        "{said:?}"
    );
    assert_eq!(calls(&model, "config becomes").len(), 1);

    // It does not leave by itself: it has data.
    let (model, done) = apply(fleet(&new), &old, None);
    let Err(Failure::Refused(why)) = done else {
        panic!("{done:?}");
    };
    assert_eq!(
        why,
        [
            "shard-3 leaves with the data that it has: follow \"Taking a shard away\" in docs/database.md first"
        ]
    );
    assert_eq!(model.state().calls, Vec::<String>::new());
}

#[test]
fn a_replica_set_becomes_the_first_shard() {
    let environment = TestEnvironment::with(TOPOLOGY);
    environment.run(&["scale", "shards=1"]).exits(0);
    let (model, done) = apply(fleet(TOPOLOGY), &environment.read("topology.json"), None);
    assert!(done.is_ok(), "{done:?}");
    is_as_planned(&model);
    // Its part is given to it by the config servers, so those come first; the app's way by mongos comes last.
    let said = model.state().calls.clone();
    let at = |call: &str| said.iter().position(|it| it.starts_with(call)).expect(call);
    let order = [
        "add config-",
        "change db-2",
        "change db-3",
        "step down db-1",
        "change db-1",
        "change app-1",
        "change app-2",
    ];
    assert!(order.map(at).is_sorted(), "{said:#?}");
}

/// From any call that fails there is a way back, and nobody notices it.
#[test]
fn whatever_fails_is_undone() {
    let grown = TOPOLOGY
        .replace(
            "\"db-3\": {",
            "\"db-4\": { \"tier\": \"database\", \"address\": \"10.20.0.35\" },\n    \
             \"db-5\": { \"tier\": \"database\", \"address\": \"10.20.0.36\" },\n    \
             \"app-3\": { \"tier\": \"app\", \"address\": \"10.20.0.66\" },\n    \
             \"lb-3\": { \"tier\": \"load-balancer\", \"address\": \"10.20.0.18\" },\n    \"db-3\": {",
        );
    let settings = TOPOLOGY.replace(
        "\"nodes\"",
        "\"database\": { \"cache_size\": \"1GiB\", \"election_timeout\": \"3s\" },\n  \"nodes\"",
    );
    let pairs = [
        (TOPOLOGY.to_owned(), grown.clone()),
        (grown, TOPOLOGY.to_owned()),
        (TOPOLOGY.to_owned(), settings),
    ];
    for (old, new) in pairs {
        let (model, done) = apply(fleet(&old), &new, None);
        assert!(done.is_ok(), "{done:?}: {:#?}", model.state().calls);
        is_as_planned(&model);
        let all = model.state().calls.clone();
        assert!(all.len() > 5, "{all:?}");
        for (turn, call) in all.iter().enumerate() {
            let (model, done) = apply(fleet(&old), &new, Some(turn));
            if call.contains(" on ") {
                // haproxy does not fail here.
                continue;
            }
            let Err(Failure::RolledBack { nodes, .. }) = done else {
                panic!("{call}: {done:?}");
            };
            let state = model.state();
            assert_eq!(state.outages, Vec::<String>::new(), "{call}");
            assert!(model.serves(&state), "{call}");
            for name in nodes {
                let was_there = model.old.node(&name).is_some();
                assert_eq!(Model::runs(&state, &name), was_there, "{call}: {name}");
                let is_old = !state
                    .nodes
                    .get(&name)
                    .is_some_and(|node| node.runs && node.is_new);
                assert!(is_old, "{call}: {name}");
            }
            assert!(nothing_is_drained(&state), "{call}");
        }
    }
}
