//! `whatif`: what is said of kinds of failures is true of every single failure and
//! of every pair, and what is advised helps.

#![expect(clippy::unwrap_used, reason = "a test may stop")]

use gen_topology::topology::{Node, Source, Tier, Topology};
use gen_topology::whatif::{Service, Survival};
use proptest::prelude::*;

use crate::common::{REPOSITORY, TOPOLOGY, TestEnvironment};

/// A topology with so many load balancers, app servers, voting and other databases.
fn stack(balancers: usize, apps: usize, voters: usize, copies: usize) -> Topology {
    let mut nodes = Vec::new();
    let sizes = [
        ("load-balancer", balancers, ""),
        ("app", apps, ""),
        ("database", voters, ""),
        ("database", copies, ", \"voting\": false"),
    ];
    for (block, (tier, count, more)) in sizes.into_iter().enumerate() {
        for index in 0..count {
            let address = format!("10.20.{}.{}", block + 1, index + 1);
            nodes.push(format!(
                "\"n{block}-{index}\": {{ \"tier\": \"{tier}\", \"address\": \"{address}\"{more} }}"
            ));
        }
    }
    let text = format!(
        "{{ \"version\": 1, \"name\": \"s\", \"network\": {{ \"subnet\": \"10.20.0.0/16\", \"virtual_ip\": \"10.20.0.10\" }}, \
         \"app\": {{ \"source\": \"app\" }}, \"nodes\": {{ {} }} }}",
        nodes.join(", ")
    );
    let source = Source {
        path: "-".into(),
        base: ".".into(),
        bytes: text.into_bytes(),
    };
    let checked = Topology::check(&source, &|_| true);
    checked
        .topology
        .unwrap_or_else(|| unreachable!("{:?}", checked.problems))
}

/// Which services work without `failed`, said without any of the code under test.
fn works(topology: &Topology, failed: &[&Node]) -> [bool; 3] {
    let left = |wanted: &dyn Fn(&Node) -> bool| {
        let stands = |node: &&Node| failed.iter().all(|other| other.name != node.name);
        topology
            .nodes()
            .iter()
            .filter(stands)
            .filter(|node| wanted(node))
            .count()
    };
    let voters = topology
        .nodes()
        .iter()
        .filter(|node| node.voting == Some(true))
        .count();
    let page = left(&|node| node.tier == Tier::LoadBalancer) > 0
        && left(&|node| node.tier == Tier::App) > 0;
    let reading = page && left(&|node| node.tier == Tier::Database) > 0;
    let writing = page && 2 * left(&|node| node.voting == Some(true)) > voters;
    [page, reading, writing]
}

fn verdict(survival: &Survival<'_>, failed: &[&Node]) -> [bool; 3] {
    let outcome = survival.without(failed);
    Service::ALL.map(|service| !outcome.lost.contains_key(&service))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn what_is_said_of_kinds_is_true_of_each_pair(
        balancers in 1_usize..5, apps in 1_usize..6, half in 0_usize..3, copies in 0_usize..3
    ) {
        let topology = stack(balancers, apps, 2 * half + 1, copies);
        let survival = Survival::of(&topology);
        let nodes = topology.nodes();
        let whole = [true; 3];
        let mut points = Vec::new();
        for node in nodes {
            prop_assert_eq!(verdict(&survival, &[node]), works(&topology, &[node]));
            if works(&topology, &[node]) != whole {
                points.push(&node.name);
            }
        }
        let said: Vec<_> = survival.next_to_break(&[]).iter().map(|node| &node.name).collect();
        prop_assert_eq!(&said, &points);
        prop_assert_eq!(survival.survives_any(1), points.is_empty());
        // Every pair: those that break more than their nodes alone are named, and only those.
        let (mut fatal, mut count, mut robust) = (Vec::new(), 0, true);
        for (at, one) in nodes.iter().enumerate() {
            for other in &nodes[at + 1..] {
                let together = works(&topology, &[one, other]);
                prop_assert_eq!(verdict(&survival, &[one, other]), together);
                count += 1;
                robust &= together == whole;
                let alone = [works(&topology, &[one]), works(&topology, &[other])];
                if (0..3).any(|service| !together[service] && alone.iter().all(|works| works[service])) {
                    fatal.push(if one.name < other.name { (&one.name, &other.name) } else { (&other.name, &one.name) });
                }
            }
        }
        let pairs = survival.pairs();
        prop_assert_eq!(pairs.iter().map(|case| case.count).sum::<usize>(), count);
        prop_assert_eq!(survival.survives_any(2), robust);
        let mut named: Vec<_> = pairs
            .iter()
            .filter(|case| case.breaks)
            .flat_map(|case| survival.names(case))
            .map(|pair| if pair[0] < pair[1] { (pair[0], pair[1]) } else { (pair[1], pair[0]) })
            .collect();
        named.sort();
        fatal.sort();
        prop_assert_eq!(named, fatal);
        // What is advised for one failure, and for two, helps.
        for failures in [1, 2] {
            let advice = survival.advice(failures);
            let size = |tier: Tier, now| advice.iter().find(|(of, _)| *of == tier.name()).map_or(now, |(_, size)| *size);
            let databases = size(Tier::Database, 2 * half + 1 + copies);
            let larger = stack(size(Tier::LoadBalancer, balancers), size(Tier::App, apps), databases - copies, copies);
            let survival = Survival::of(&larger);
            prop_assert!(survival.survives_any(1) && survival.survives_any(failures));
            prop_assert_eq!(survival.advice(failures), vec![]);
        }
    }
}

fn shipped(file: &str) -> TestEnvironment {
    let text = std::fs::read_to_string(format!("{REPOSITORY}/{file}")).unwrap();
    TestEnvironment::with(text.replace("../app", "./app"))
}

#[test]
fn the_shipped_stack_has_one_single_point_of_failure() {
    let environment = shipped("topology.json");
    let output = environment.run(&["whatif"]).exits(0);
    insta::assert_snapshot!(output.text());
    assert_eq!(output.stdout.matches("single point of failure").count(), 1);
    // What it says to do does it.
    environment.run(&["scale", "database=3"]).exits(0);
    environment.run(&["whatif", "--require", "n-1"]).exits(0);
}

#[test]
fn three_databases_bear_one_failure_and_not_two() {
    let environment = shipped("examples/ha.json");
    insta::assert_snapshot!(
        environment
            .run(&["whatif", "--require", "n-2"])
            .exits(1)
            .text()
    );
    let large = shipped("examples/large.json");
    large.run(&["whatif", "--require", "n-2"]).exits(0);
}

#[test]
fn certain_nodes_fail() {
    let environment = shipped("topology.json");
    insta::assert_snapshot!(
        environment
            .run(&["whatif", "--fail", "node-1,node-3"])
            .exits(0)
            .text()
    );
    let everything = environment
        .run(&["whatif", "--fail", "@load-balancer,node-*"])
        .exits(0);
    assert_eq!(
        everything.stdout.matches("LOST").count(),
        3,
        "{}",
        everything.text()
    );
    let json = environment
        .run(&["whatif", "--fail", "@app", "--format", "json"])
        .exits(0);
    let value: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(value["failed"], serde_json::json!(["node-2", "node-4"]));
    assert_eq!(value["gone"], serde_json::json!(["app"]));
    assert_eq!(value["lost"].as_object().unwrap().len(), 3);
    assert_eq!(
        value["capacity"]["database"],
        serde_json::json!({ "left": 1, "of": 1 })
    );
    assert_eq!(value["quorum_lost"], false);
}

#[test]
fn scripts_get_everything() {
    let environment = shipped("topology.json");
    let output = environment.run(&["whatif", "--format", "json"]).exits(0);
    let value: serde_json::Value = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!(
        value["single_points_of_failure"],
        serde_json::json!(["node-3"])
    );
    assert_eq!(
        value["survives"],
        serde_json::json!({ "n-1": false, "n-2": false })
    );
    assert_eq!(
        value["scale_to"]["n-1"],
        serde_json::json!({ "database": 3 })
    );
    let fatal: Vec<_> = value["pairs"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|pair| pair["breaks"] == true)
        .collect();
    assert_eq!(fatal.len(), 2);
    assert_eq!(fatal[0]["nodes"], serde_json::json!([["node-1", "node-5"]]));
    // A script learns the verdict even where it is one that ends with 1.
    let required = environment
        .run(&["whatif", "--format", "json", "--require", "n-1"])
        .exits(1);
    assert_eq!(required.stdout, output.stdout);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let environment = TestEnvironment::with(TOPOLOGY);
    for (arguments, code, said) in [
        (&["--fail", "lb-3"][..], 1, "did you mean `lb-2`?"),
        (&["--fail", "ap-*"], 1, "no node is called like `ap-*`"),
        (&["--fail", ""], 64, "name nodes as"),
        (&["--fail", "lb-1,,lb-2"], 64, "name nodes as"),
        (&["--fail", "@apps"], 64, "did you mean `app`?"),
        (&["--require", "n-0"], 64, "n-1, n-2"),
        (
            &["--require", "n-1", "--fail", "lb-1"],
            64,
            "cannot be used with",
        ),
    ] {
        let output = environment
            .run(&[&["whatif"], arguments].concat())
            .exits(code);
        assert!(
            output.stderr.contains(said),
            "{arguments:?}: {}",
            output.text()
        );
        assert_eq!(output.stdout, "");
    }
    TestEnvironment::with("{").run(&["whatif"]).exits(3);
}

#[test]
fn a_sharded_stack_needs_a_majority_of_each_of_its_sets() {
    let environment = shipped("examples/sharded.json");
    let output = environment.run(&["whatif", "--require", "n-2"]).exits(1);
    insta::assert_snapshot!(output.text());
    environment.run(&["whatif", "--require", "n-1"]).exits(0);
    // One database of each set, and then a second one of the last shard.
    let one_of_each = "db-1,db-4,db-7,config-1";
    let whole = environment.run(&["whatif", "--fail", one_of_each]).exits(0);
    assert!(!whole.stdout.contains("LOST"), "{}", whole.text());
    let two = format!("{one_of_each},db-8");
    let output = environment.run(&["whatif", "--fail", &two]).exits(0);
    let lost = "writing  LOST: only 1 of 3 voting databases of shard-3 is left, and 2 are needed";
    assert!(output.stdout.contains(lost), "{}", output.text());
    let all = environment
        .run(&["whatif", "--fail", "db-7,db-8,db-9"])
        .exits(0);
    let lost = "reading  LOST: no database of shard-3 is left";
    assert!(all.stdout.contains(lost), "{}", all.text());
    // What it says to do does it.
    environment
        .run(&[
            "scale",
            "load-balancer=3",
            "app=3",
            "config-servers=5",
            "members=5",
        ])
        .exits(0);
    environment.run(&["whatif", "--require", "n-2"]).exits(0);
}
