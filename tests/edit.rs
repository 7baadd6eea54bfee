//! `add`, `remove` and `scale`: what they change in the file, what they leave
//! alone, and what they refuse.

#![expect(clippy::unwrap_used, reason = "a test may stop")]

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::net::Ipv4Addr;

use gen_topology::topology::{self, EditError, Source, Tier, Topology};
use proptest::prelude::*;

use crate::common::{Output, TOPOLOGY, TestEnvironment};

/// Runs an edit on `text` and returns what it said and the file afterwards.
#[track_caller]
fn edited(text: &str, arguments: &[&str]) -> (Output, String) {
    let environment = TestEnvironment::with(text);
    let output = environment.run(arguments).exits(0);
    environment.run(&["check"]).exits(0);
    let after = environment.read("topology.json");
    (output, after)
}

/// Runs an edit that must be refused, twice as a dry run and in earnest, and
/// returns what was said. The file stays as it is.
#[track_caller]
fn refused(text: &str, arguments: &[&str], code: i32) -> String {
    let environment = TestEnvironment::with(text);
    let before = fs::metadata(environment.path("topology.json"))
        .unwrap()
        .modified()
        .unwrap();
    let output = environment.run(arguments).exits(code);
    let dry = environment
        .run(&[arguments, &["--dry-run"]].concat())
        .exits(code);
    assert!(code == 64 || dry.text() == output.text(), "{}", dry.text());
    assert_eq!(environment.read("topology.json"), text);
    assert_eq!(
        fs::metadata(environment.path("topology.json"))
            .unwrap()
            .modified()
            .unwrap(),
        before
    );
    assert!(!output.stderr.is_empty());
    output.text()
}

const LAST: &str = "    \"db-3\": { \"tier\": \"database\", \"address\": \"10.20.0.34\" }\n";

#[test]
fn add_writes_one_line_behind_the_tier() {
    let (output, after) = edited(TOPOLOGY, &["add", "app"]);
    let line = "    \"app-2\": { \"tier\": \"app\", \"address\": \"10.20.0.65\" },\n";
    let new = "    \"app-3\": { \"tier\": \"app\", \"address\": \"10.20.0.66\" },\n";
    assert_eq!(after, TOPOLOGY.replace(line, &format!("{line}{new}")));
    insta::assert_snapshot!(output.text());
}

#[test]
fn add_at_the_end_moves_the_comma() {
    let (_, after) = edited(TOPOLOGY, &["add", "database", "--count", "2"]);
    let old = LAST.trim_end();
    let new = format!(
        "{old},\n    \"db-4\": {{ \"tier\": \"database\", \"address\": \"10.20.0.35\" }},\n    \
         \"db-5\": {{ \"tier\": \"database\", \"address\": \"10.20.0.36\" }}\n"
    );
    assert_eq!(after, TOPOLOGY.replace(LAST, &new));
}

#[test]
fn names_go_on() {
    let (_, after) = edited(
        include_str!("../topology.json"),
        &["add", "app", "--count", "2"],
    );
    assert!(
        after.contains("\"node-6\": { \"tier\": \"app\", \"address\": \"10.20.0.66\" }"),
        "{after}"
    );
    assert!(
        after.contains("\"node-7\": { \"tier\": \"app\", \"address\": \"10.20.0.67\" }"),
        "{after}"
    );
    for (last, next) in [
        ("web009", "web010"),
        ("web-09", "web-10"),
        ("app", "app-1"),
        ("a-9", "a-10"),
        ("007", "008"),
    ] {
        let (_, after) = edited(&TOPOLOGY.replace("app-2", last), &["add", "app"]);
        let next = if last == "app" { "app-2" } else { next };
        assert!(
            after.contains(&format!("\"{next}\": {{")),
            "{next} after {last}: {after}"
        );
    }
    let (_, after) = edited(TOPOLOGY, &["add", "app", "shop"]);
    assert!(
        after.contains("\"shop\": { \"tier\": \"app\", \"address\": \"10.20.0.66\" }"),
        "{after}"
    );
}

#[test]
fn numbers_have_an_end() {
    let longest = format!("a{}", u64::MAX);
    refused(&TOPOLOGY.replace("app-2", &longest), &["add", "app"], 1);
    let (_, after) = edited(
        &TOPOLOGY.replace("app-2", &format!("a{}", u128::MAX)),
        &["add", "app"],
    );
    assert!(after.contains("\"app-2\": {"), "{after}");
    let long = format!("{}9", "a".repeat(62));
    assert!(
        refused(&TOPOLOGY.replace("app-2", &long), &["add", "app"], 3).contains("63 characters")
    );
}

#[test]
fn removed_addresses_are_given_again_and_nobody_is_renumbered() {
    let environment = TestEnvironment::with(TOPOLOGY);
    environment.run(&["add", "app", "--count", "3"]).exits(0);
    environment.run(&["remove", "app-1", "app-3"]).exits(0);
    let before = addresses(&environment.read("topology.json"));
    environment.run(&["scale", "app=5"]).exits(0);
    let after = addresses(&environment.read("topology.json"));
    assert!(
        before
            .iter()
            .all(|(name, address)| after.get(name) == Some(address))
    );
    assert_eq!(after["app-6"], "10.20.0.64".parse::<Ipv4Addr>().unwrap());
    assert_eq!(after["app-7"], "10.20.0.66".parse::<Ipv4Addr>().unwrap());
}

#[test]
fn remove_takes_whole_lines() {
    let lines: Vec<&str> = TOPOLOGY.split_inclusive('\n').collect();
    let without = |names: &[&str]| {
        let kept = lines.iter().filter(|line| {
            names
                .iter()
                .all(|name| !line.contains(&format!("\"{name}\"")))
        });
        let text: String = kept.copied().collect();
        text.replace("},\n  }", "}\n  }")
    };
    for names in [
        &["app-1"][..],
        &["lb-1"],
        &["db-2", "db-3"],
        &["db-1", "lb-2", "app-2", "db-3"],
    ] {
        let (_, after) = edited(TOPOLOGY, &[&["remove"], names].concat());
        assert_eq!(after, without(names), "{names:?}");
    }
    let (output, _) = edited(TOPOLOGY, &["remove", "db-2", "db-3", "db-2"]);
    insta::assert_snapshot!(output.text());
}

#[test]
fn scale_up_and_down_ends_where_it_began() {
    let environment = TestEnvironment::with(TOPOLOGY);
    let up = environment
        .run(&["scale", "app=6", "database=5", "load-balancer=3"])
        .exits(0);
    insta::assert_snapshot!(up.text());
    insta::assert_snapshot!(environment.read("topology.json"));
    environment
        .run(&["scale", "app=2", "database=3", "load-balancer=2"])
        .exits(0);
    assert_eq!(environment.read("topology.json"), TOPOLOGY);
}

#[test]
fn scale_to_what_is_there_writes_nothing() {
    let environment = TestEnvironment::with(TOPOLOGY);
    let file = environment.path("topology.json");
    let before = fs::metadata(&file).unwrap().modified().unwrap();
    let output = environment.run(&["scale", "app=2", "database=3"]).exits(0);
    assert!(
        output.stderr.contains("nothing to change"),
        "{}",
        output.text()
    );
    assert_eq!(fs::metadata(&file).unwrap().modified().unwrap(), before);
}

#[test]
fn dry_run_writes_nothing_and_says_the_same() {
    for arguments in [
        &["add", "app"][..],
        &["remove", "app-2"],
        &["scale", "database=5"],
    ] {
        let environment = TestEnvironment::with(TOPOLOGY);
        let file = environment.path("topology.json");
        let before = fs::metadata(&file).unwrap().modified().unwrap();
        let dry = environment
            .run(&[arguments, &["--dry-run"]].concat())
            .exits(0);
        assert_eq!(environment.read("topology.json"), TOPOLOGY);
        assert_eq!(fs::metadata(&file).unwrap().modified().unwrap(), before);
        assert!(dry.stderr.contains("nothing was written"), "{}", dry.text());
        let wet = environment.run(arguments).exits(0);
        let changes = |text: &str| {
            text.lines()
                .filter(|line| line.starts_with(['+', '-']))
                .collect::<Vec<_>>()
                .join("\n")
        };
        assert_eq!(changes(&dry.stderr), changes(&wet.stderr));
        assert_ne!(environment.read("topology.json"), TOPOLOGY);
    }
}

/// The same nodes, each over several lines.
fn spread(indent: &str) -> String {
    let value: serde_json::Value = serde_json::from_str(TOPOLOGY).unwrap();
    let mut text = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(indent.as_bytes());
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, formatter);
    serde::Serialize::serialize(&value, &mut serializer).unwrap();
    String::from_utf8(text).unwrap() + "\n"
}

#[test]
fn layouts_are_kept() {
    let crlf = TOPOLOGY.replace('\n', "\r\n");
    let tabs = TOPOLOGY.replace("    ", "\t\t").replace("  ", "\t");
    let no_end = TOPOLOGY.trim_end().to_owned();
    let compact: serde_json::Value = serde_json::from_str(TOPOLOGY).unwrap();
    let one_line = serde_json::to_string(&compact).unwrap();
    let spread_crlf = spread("  ").replace('\n', "\r\n");
    let layouts = [
        ("as it comes", TOPOLOGY.to_owned()),
        ("CRLF", crlf),
        ("tabs", tabs),
        ("no final line break", no_end),
        ("several lines", spread("  ")),
        ("several lines, four blanks", spread("    ")),
        ("several lines, tabs", spread("\t")),
        ("several lines, CRLF", spread_crlf),
        ("one line", one_line),
        ("blanks around", format!("\n\n {TOPOLOGY}\n\n")),
    ];
    let mut shown = String::new();
    for (name, text) in layouts {
        for arguments in [
            &["add", "app", "--count", "2"][..],
            &["add", "database", "--count", "2"],
            &["add", "load-balancer"],
        ] {
            let (_, after) = edited(&text, arguments);
            // What was there is there still, in its order; only a comma may have come to the last node.
            let mut rest = after.as_str();
            for piece in text.split_inclusive(['\n', '{', '}', ',']) {
                let at = rest
                    .find(piece)
                    .unwrap_or_else(|| panic!("{name}: {piece:?} is lost in\n{after}"));
                rest = &rest[at + piece.len()..];
            }
            let bare = after.replace("\r\n", "");
            assert!(
                !text.contains("\r\n") || !bare.contains('\n'),
                "{name}: line ends are mixed\n{after:?}"
            );
            assert_eq!(text.ends_with('\n'), after.ends_with('\n'), "{name}");
            let shown_as = after.replace('\t', "→").replace('\r', "␍");
            let heading = format!("=== {name}: {}", arguments.join(" "));
            shown.extend([heading.as_str(), "\n", &shown_as, "\n"]);
            // And back again, byte for byte.
            let names: Vec<String> = addresses(&after)
                .into_keys()
                .filter(|node| !addresses(&text).contains_key(node))
                .collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let (_, back) = edited(&after, &[&["remove"], &names[..]].concat());
            assert_eq!(back, text, "{name}: {arguments:?} and back");
        }
    }
    insta::assert_snapshot!(shown);
}

#[test]
fn what_would_break_the_stack_is_refused() {
    let texts = [
        refused(TOPOLOGY, &["remove", "app-1", "app-2"], 1),
        refused(TOPOLOGY, &["scale", "database=0"], 1),
        refused(TOPOLOGY, &["remove", "db-3"], 3),
        refused(TOPOLOGY, &["scale", "database=4"], 3),
        refused(TOPOLOGY, &["add", "database"], 3),
        refused(TOPOLOGY, &["remove", "app-3"], 1),
        refused(TOPOLOGY, &["remove", "App-1"], 1),
        refused(TOPOLOGY, &["remove", "something-else"], 1),
        refused(TOPOLOGY, &["remove", "app-1", "nobody"], 1),
        refused(TOPOLOGY, &["add", "app", "db-1"], 1),
        refused(TOPOLOGY, &["add", "app", "App_3"], 1),
        refused(TOPOLOGY, &["add", "app", ""], 1),
        refused(TOPOLOGY, &["add", "app", "--count", "500"], 1),
        refused(TOPOLOGY, &["scale", "load-balancer=250"], 1),
        refused(
            &TOPOLOGY.replace("/24", "/16"),
            &["scale", "load-balancer=255"],
            3,
        ),
        refused(
            &TOPOLOGY.replace("10.20.0.65", "10.20.0.64"),
            &["add", "app"],
            3,
        ),
        refused("", &["add", "app"], 3),
    ];
    insta::assert_snapshot!(texts.join("\n"));
}

#[test]
fn command_lines_without_sense_are_refused() {
    for arguments in [
        &["add", "apps"][..],
        &["add", "app", "--count", "0"],
        &["add", "app", "name", "--count", "2"],
        &["add", "app", "--count", "-1"],
        &["remove"],
        &["scale"],
        &["scale", "app"],
        &["scale", "app=many"],
        &["scale", "app=-1"],
        &["scale", "application=3"],
        &["scale", "app=3", "app=4"],
        &["scale", "app=99999999999999999999999"],
    ] {
        refused(TOPOLOGY, arguments, 64);
    }
    let environment = TestEnvironment::new();
    environment
        .run_in("", &["add", "app", "-f", "-"], Some(TOPOLOGY))
        .exits(64);
}

#[test]
fn a_full_subnet_refuses_one_more() {
    // 14 usable addresses: the VIP, 7 nodes, 5 more and the lab's client.
    let mut text = TOPOLOGY.replace("10.20.0.0/24", "10.20.0.0/28");
    for (old, new) in [
        ("16", "1"),
        ("17", "2"),
        ("64", "3"),
        ("65", "4"),
        ("32", "5"),
        ("33", "6"),
        ("34", "7"),
    ] {
        text = text.replace(&format!("10.20.0.{old}\""), &format!("10.20.0.{new}\""));
    }
    let (_, full) = edited(&text, &["scale", "app=7"]);
    assert!(refused(&full, &["add", "app"], 3).contains("subnet-too-small"));
    assert!(refused(&full, &["scale", "app=9"], 1).contains("widen `network.subnet`"));
    assert_eq!(
        topology::add(&full, Tier::App, None, 3)
            .map(drop)
            .unwrap_err()
            .to_string(),
        "no address of 10.20.0.0/28 is free for another app server; widen `network.subnet`"
    );
}

#[test]
fn subnets_without_room_are_no_panic() {
    for subnet in [
        "10.20.0.16/32",
        "10.20.0.16/31",
        "10.20.0.16/30",
        "255.255.255.254/31",
        "255.255.255.255/32",
        "0.0.0.0/0",
        "240.0.0.0/4",
    ] {
        let text = TOPOLOGY.replace("10.20.0.0/24", subnet);
        for tier in Tier::ALL {
            if let Err(error) = topology::add(&text, tier, None, 3) {
                assert!(matches!(error, EditError::SubnetFull { .. }), "{error}");
            }
        }
        refused(&text, &["add", "app"], 3);
    }
}

#[test]
fn a_link_to_the_file_stays_a_link() {
    let environment = TestEnvironment::new();
    environment.write("real/stack.json", TOPOLOGY);
    environment.write("real/app/requirements.txt", "");
    std::os::unix::fs::symlink("real/stack.json", environment.path("topology.json")).unwrap();
    environment.run(&["add", "app"]).exits(0);
    assert!(
        fs::symlink_metadata(environment.path("topology.json"))
            .unwrap()
            .is_symlink()
    );
    assert!(environment.read("real/stack.json").contains("app-3"));
}

#[test]
fn permissions_stay() {
    use std::os::unix::fs::PermissionsExt as _;
    let environment = TestEnvironment::with(TOPOLOGY);
    let file = environment.path("topology.json");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    environment.run(&["add", "app"]).exits(0);
    assert_eq!(
        fs::metadata(&file).unwrap().permissions().mode() & 0o7777,
        0o640
    );
    let others: Vec<_> = fs::read_dir(environment.path(""))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(others.len(), 2, "{others:?}");
}

/// Makes the current directory read-only, for root too, and runs the rest of the arguments in it.
const READ_ONLY: &str =
    r#"mount --bind . . && mount -o remount,bind,ro . && cd "$PWD" && exec "$@""#;

#[test]
fn a_directory_that_can_not_be_written() {
    let environment = TestEnvironment::with(TOPOLOGY);
    let run = |command: &[&str]| {
        let mut room = assert_cmd::Command::new("unshare");
        room.args([
            "--mount",
            "--user",
            "--map-root-user",
            "sh",
            "-c",
            READ_ONLY,
            "room",
        ]);
        environment.finish(
            room.args(command)
                .env("NO_COLOR", "1")
                .current_dir(environment.path("")),
        )
    };
    let probe = run(&["true"]);
    if probe.code != 0 {
        return crate::common::not_run(&format!("no namespaces: {}", probe.stderr.trim()));
    }
    let output = run(&[crate::common::PROGRAM, "add", "app", "-f", "topology.json"]).exits(1);
    assert!(
        output
            .stderr
            .contains("writing topology.json: Read-only file system"),
        "{}",
        output.text()
    );
    assert_eq!(environment.read("topology.json"), TOPOLOGY);
}

#[test]
fn many_nodes_are_added_in_a_moment() {
    let environment = TestEnvironment::with(
        TOPOLOGY
            .replace("/24", "/16")
            .replace("10.20.0.6", "10.20.64.6"),
    );
    let start = std::time::Instant::now();
    environment.run(&["scale", "app=3000"]).exits(0);
    let took = start.elapsed();
    assert!(
        took.as_secs() < if cfg!(debug_assertions) { 20 } else { 2 },
        "{took:?}"
    );
    assert_eq!(addresses(&environment.read("topology.json")).len(), 3005);
}

/// Every node's address, as the file says.
fn addresses(text: &str) -> BTreeMap<String, Ipv4Addr> {
    let value: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
    let nodes = value["nodes"].as_object().cloned().unwrap_or_default();
    let address =
        |node: &serde_json::Value| node["address"].as_str().and_then(|text| text.parse().ok());
    nodes
        .iter()
        .filter_map(|(name, node)| Some((name.clone(), address(node)?)))
        .collect()
}

#[derive(Clone, Debug)]
enum Step {
    Add(Tier, usize),
    Scale(Tier, usize),
    Remove(prop::sample::Index),
}

fn step() -> impl Strategy<Value = Step> {
    let tier = || prop::sample::select(&Tier::ALL[..]);
    prop_oneof![
        (tier(), 1..9_usize).prop_map(|(tier, count)| Step::Add(tier, count)),
        (tier(), 0..12_usize).prop_map(|(tier, count)| Step::Scale(tier, count)),
        any::<prop::sample::Index>().prop_map(Step::Remove),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_edits_keep_what_is_there(prefix in 26..29_u8, steps in prop::collection::vec(step(), 1..12)) {
        let subnet: ipnet::Ipv4Net = format!("10.20.0.0/{prefix}").parse().unwrap();
        let mut text = TOPOLOGY.replace("10.20.0.0/24", &subnet.to_string());
        for (old, new) in [("16", "1"), ("17", "2"), ("64", "12"), ("65", "4"), ("32", "5"), ("33", "6"), ("34", "7")] {
            text = text.replace(&format!("10.20.0.{old}\""), &format!("10.20.0.{new}\""));
        }
        for step in steps {
            let before = addresses(&text);
            let edit = match &step {
                Step::Add(tier, count) => topology::add(&text, *tier, None, *count),
                Step::Scale(tier, count) => topology::scale(&text, &BTreeMap::from([(*tier, *count)])),
                Step::Remove(index) => topology::remove(&text, &[before.keys().nth(index.index(before.len())).unwrap().clone()]),
            };
            let Ok(edit) = edit else { continue };
            let after = addresses(&edit.text);
            let gone: HashSet<&String> = edit.removed.iter().map(|(name, _)| name).collect();
            for (name, address) in &before {
                prop_assert_eq!(after.get(name), (!gone.contains(name)).then_some(address), "{} after {:?}", name, step);
            }
            prop_assert_eq!(after.len(), before.len() + edit.added.len() - edit.removed.len());
            prop_assert_eq!(after.values().collect::<HashSet<_>>().len(), after.len());
            for address in after.values() {
                prop_assert!(subnet.contains(address) && *address != subnet.network() && *address != subnet.broadcast());
                prop_assert!(*address != Ipv4Addr::new(10, 20, 0, 10), "the virtual IP was given away");
            }
            // What the program would write passes the check, or it writes nothing.
            let source = Source { path: "t".into(), base: ".".into(), bytes: edit.text.clone().into_bytes() };
            if Topology::check(&source, &|_| true).topology.is_some() {
                text = edit.text;
            }
        }
    }
}

/// The databases of a topology, each with its address and its set.
fn databases(text: &str) -> BTreeMap<String, (Ipv4Addr, String)> {
    let environment = TestEnvironment::with(text);
    let shown = environment.run(&["show", "--format", "json"]).exits(0);
    let topology: serde_json::Value = serde_json::from_str(&shown.stdout).unwrap();
    let nodes = topology["nodes"].as_array().unwrap().iter();
    nodes
        .filter(|node| node["tier"] == "database")
        .map(|node| {
            let text = |key: &str| node[key].as_str().unwrap_or_default().to_owned();
            let address = text("address").parse().unwrap();
            (text("name"), (address, text("replica_set")))
        })
        .collect()
}

#[test]
fn shards_come_and_go_and_no_database_changes_its_set() {
    let (output, sharded) = edited(TOPOLOGY, &["scale", "shards=1"]);
    insta::assert_snapshot!(format!("{}\n{sharded}", output.text()));
    let steps: [&[&str]; 6] = [
        &["scale", "shards=3", "app=3"],
        &["scale", "members=5"],
        &["remove", "db-2", "db-3"],
        &["add", "database", "--replica-set", "rs0", "--count", "2"],
        &["scale", "config-servers=1", "members=3"],
        &["scale", "shards=2"],
    ];
    let mut text = sharded;
    for step in steps {
        let before = databases(&text);
        let (_, after) = edited(&text, step);
        for (name, now) in databases(&after) {
            let then = before.get(&name);
            assert!(then.is_none_or(|then| *then == now), "{step:?}: {name}");
        }
        text = after;
    }
    let mut sizes: BTreeMap<String, usize> = BTreeMap::new();
    for (_, (_, set)) in databases(&text) {
        *sizes.entry(set).or_default() += 1;
    }
    let expected = [("config", 1), ("rs0", 3), ("shard-2", 3)];
    assert_eq!(
        sizes,
        expected.map(|(set, size)| (set.to_owned(), size)).into()
    );
}

#[test]
fn databases_of_a_sharded_stack_say_their_set() {
    let sharded = edited(TOPOLOGY, &["scale", "shards=2"]).1;
    let said = refused(&sharded, &["add", "database"], 1);
    assert!(
        said.contains("say with `--replica-set` which set"),
        "{said}"
    );
    let said = refused(&sharded, &["scale", "database=9"], 1);
    assert!(said.contains("`scale` with shards, members"), "{said}");
    let said = refused(
        &sharded,
        &["add", "database", "--replica-set", "shard-3"],
        1,
    );
    assert!(said.contains("there are config, rs0, shard-2"), "{said}");
    refused(&sharded, &["add", "app", "--replica-set", "rs0"], 64);
    let said = refused(TOPOLOGY, &["scale", "members=5"], 1);
    assert!(said.contains("this stack is not sharded"), "{said}");
    refused(&sharded, &["scale", "shards=0"], 1);
    refused(&sharded, &["scale", "members=2"], 3);
    // A shard that has nobody left.
    refused(&sharded, &["remove", "db-4", "db-5", "db-6"], 3);
}

#[test]
fn a_sharded_stack_to_start_from() {
    let environment = TestEnvironment::new();
    environment
        .run(&["init", "fresh", "--shards", "2"])
        .exits(0);
    let topology = environment.path("fresh/topology.json");
    let file = topology.display().to_string();
    let checked = environment
        .run(&["-f", &file, "check", "--strict"])
        .exits(0);
    assert!(checked.stderr.contains("9 databases"), "{}", checked.text());
}
