//! `lint`: each rule finds its trap and nothing beside it, our own files have none,
//! and nothing that stands in a file makes it panic.

#![expect(clippy::unwrap_used, reason = "a test may stop")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use gen_topology::lint::{self, Code, File, Kind};
use gen_topology::render::recipes;
use gen_topology::topology::{self, Severity};
use proptest::prelude::*;

use crate::common::{Output, REPOSITORY, TestEnvironment};

mod daemons;
mod foreign;

fn fixtures() -> PathBuf {
    Path::new(REPOSITORY).join("tests/fixtures/lint")
}

/// The files of a directory in the order of their names.
fn files(directory: &Path) -> Vec<File> {
    let mut paths: Vec<PathBuf> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    let file = |path: &PathBuf| {
        let text = fs::read_to_string(path).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let kind = lint::recognise(&name, &text);
        let kind = kind.unwrap_or_else(|| unreachable!("{}", path.display()));
        File {
            path: name,
            text,
            kind,
            included: BTreeMap::new(),
        }
    };
    paths.iter().map(file).collect()
}

fn codes(directory: &Path) -> BTreeSet<&'static str> {
    lint::lint(&files(directory))
        .iter()
        .map(|finding| finding.code.name())
        .collect()
}

#[test]
fn each_rule_finds_its_trap_and_nothing_else() {
    let rules = fixtures().join("rules");
    let mut wrong = Vec::new();
    for code in Code::ALL {
        // Version 2 can't be without slow adverts.
        let mut expected = BTreeSet::from([code.name()]);
        if *code == Code::InstancesDisagree {
            expected.insert("slow-adverts");
        }
        let found = codes(&rules.join(code.name()));
        if found != expected {
            wrong.push(format!("{code}: found {found:?}"));
        }
        let near = codes(&rules.join(format!("{code}--near-miss")));
        if !near.is_empty() {
            wrong.push(format!("{code}--near-miss: found {near:?}"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    let directories = fs::read_dir(rules).unwrap().count();
    assert_eq!(
        directories,
        2 * Code::ALL.len(),
        "a fixture of a rule that is not there"
    );
}

#[test]
fn good_files_have_no_traps() {
    assert_eq!(codes(&fixtures().join("good")), BTreeSet::new());
}

#[test]
fn every_finding_is_complete() {
    for code in Code::ALL {
        let files = files(&fixtures().join("rules").join(code.name()));
        for finding in lint::lint(&files) {
            let places = finding
                .related
                .iter()
                .map(|(at, _)| at)
                .chain([&finding.at]);
            for at in places {
                assert!(
                    files[at.file].text.get(at.span.clone()).is_some(),
                    "{code}: {at:?}"
                );
            }
            assert!(
                !finding.message.is_empty() && !finding.message.ends_with('.'),
                "{}",
                finding.message
            );
            assert!(
                !finding.hint.is_empty() && !finding.hint.ends_with('.'),
                "{}",
                finding.hint
            );
            let costs = finding.cost.is_some();
            assert!(
                costs || finding.severity != Severity::Error || *code == Code::Unreadable,
                "{code} costs something"
            );
        }
    }
}

fn seconds(directory: &str, code: Code) -> Option<f64> {
    let found = lint::lint(&files(&fixtures().join(directory)));
    let finding = found.iter().find(|finding| finding.code == code).unwrap();
    finding.cost.as_ref().unwrap().seconds
}

#[test]
fn costs_follow_from_the_files_own_values() {
    let close = |found: Option<f64>, expected: f64| {
        assert!(
            (found.unwrap() - expected).abs() < 1e-6,
            "{found:?} is not {expected}"
        );
    };
    // 3 × 1 s + 2/256 × 1 s.
    close(
        seconds("rules/slow-adverts", Code::SlowAdverts),
        3.0 + 2.0 / 256.0,
    );
    // 2 s + 2 × 2 s.
    close(seconds("rules/slow-detection", Code::SlowDetection), 6.0);
    // 3 runs, 2 s apart, and the skew of 0.1 s adverts.
    close(
        seconds("rules/slow-script", Code::SlowScript),
        6.0 + 0.2 / 256.0,
    );
    // 1.15 × 10 s + 50 ms.
    close(seconds("rules/slow-election", Code::SlowElection), 11.55);
    // 10 runs, 3 s apart, then the backup's patience: a weight is not FAULT. 32.2 s were measured.
    close(
        seconds("recipes/kubeadm", Code::SlowScript),
        30.0 + 3.0 + 155.0 / 256.0,
    );
    // 2 runs, 2 s apart, and the skew; 2.6 s were measured.
    close(
        seconds("recipes/blog", Code::SlowScript),
        4.0 + 155.0 / 256.0,
    );
    assert_eq!(seconds("recipes/weight-2", Code::WeightBelowGap), None);
}

#[test]
fn recipes_that_people_copy_have_their_traps() {
    let found = |name: &str| codes(&fixtures().join("recipes").join(name));
    for name in ["kubeadm", "blog", "weight-2"] {
        let found = found(name);
        for code in [
            "slow-adverts",
            "slow-hand-over",
            "no-reload-check",
            "multicast",
            "slow-detection",
        ] {
            assert!(found.contains(code), "{name}: {code} is not in {found:?}");
        }
        assert_eq!(
            found.contains("weight-below-gap"),
            name == "weight-2",
            "{name}"
        );
        assert_eq!(found.contains("check-tcp-only"), name == "blog", "{name}");
    }
    assert!(found("kubeadm").contains("slow-script"));
}

fn shipped(example: &str) -> TestEnvironment {
    let text = fs::read_to_string(Path::new(REPOSITORY).join(example)).unwrap();
    TestEnvironment::with(text.replace("../app", "./app"))
}

#[test]
fn our_own_files_have_no_traps() {
    for example in [
        "examples/ha.json",
        "examples/large.json",
        "examples/sharded.json",
    ] {
        let output = shipped(example).run(&["lint", "--strict"]).exits(0);
        assert!(output.stderr.contains("no traps"), "{}", output.text());
    }
    // What `check` warns of, too: a single database.
    let environment = shipped("topology.json");
    insta::assert_snapshot!(environment.run(&["lint"]).exits(0).text());
    environment.run(&["lint", "--strict"]).exits(1);
    // Without preemption, and with a slow heart.
    let text = environment.read("topology.json");
    let slow = text.replacen(
        "\"app\":",
        "\"load_balancer\": { \"preempt\": false, \"advert_interval\": \"1s\" }, \"app\":",
        1,
    );
    let output = TestEnvironment::with(slow)
        .run(&["lint", "--format", "json"])
        .exits(0);
    assert_eq!(
        found(&output),
        ["slow-adverts", "slow-adverts", "too-few-voters"]
    );
}

fn found(output: &Output) -> Vec<String> {
    let value: serde_json::Value = serde_json::from_str(&output.stdout).unwrap();
    let findings = value["findings"].as_array().unwrap();
    findings
        .iter()
        .map(|finding| finding["code"].as_str().unwrap().to_owned())
        .collect()
}

/// An environment with the files of a fixture in its work directory.
fn with(fixture: &str) -> (TestEnvironment, Vec<String>) {
    let environment = TestEnvironment::new();
    let files = files(&fixtures().join(fixture));
    for file in &files {
        environment.write(&file.path, &file.text);
    }
    (
        environment,
        files.into_iter().map(|file| file.path).collect(),
    )
}

fn run(environment: &TestEnvironment, names: &[String], more: &[&str]) -> Output {
    let names = names.iter().map(String::as_str);
    let arguments: Vec<&str> = ["lint"]
        .into_iter()
        .chain(more.iter().copied())
        .chain(names)
        .collect();
    environment.run(&arguments)
}

#[test]
fn findings_read_well() {
    for fixture in [
        "rules/weight-below-gap",
        "rules/slow-detection",
        "recipes/kubeadm",
    ] {
        let (environment, names) = with(fixture);
        let output = run(&environment, &names, &[]);
        insta::assert_snapshot!(fixture.replace('/', "-"), output.text());
    }
}

#[test]
fn errors_end_with_1_and_warnings_only_when_told() {
    for (fixture, plain, strict) in [
        ("rules/no-tracking", 1, 1),
        ("rules/slow-adverts", 0, 1),
        ("rules/multicast", 0, 0),
        ("good", 0, 0),
    ] {
        let (environment, names) = with(fixture);
        run(&environment, &names, &[]).exits(plain);
        run(&environment, &names, &["--strict"]).exits(strict);
        let json = run(&environment, &names, &["--format", "json"]).exits(plain);
        assert_eq!(found(&json).is_empty(), fixture == "good");
    }
    let (environment, names) = with("rules/slow-adverts");
    insta::assert_snapshot!(
        run(&environment, &names, &["--format", "json"])
            .exits(0)
            .stdout
    );
}

#[test]
fn codes_are_documented_and_none_has_two_meanings() {
    let documentation = fs::read_to_string(Path::new(REPOSITORY).join("docs/lint.md")).unwrap();
    let rows: Vec<&str> = documentation
        .lines()
        .filter(|line| line.starts_with("| `"))
        .collect();
    for code in Code::ALL {
        let row = format!("| `{code}` | {} |", code.severity().name());
        assert_eq!(
            rows.iter().filter(|line| line.starts_with(&row)).count(),
            1,
            "docs/lint.md: {row}"
        );
        assert!(
            topology::Code::ALL
                .iter()
                .all(|other| other.name() != code.name()),
            "{code}"
        );
    }
    assert_eq!(
        rows.len(),
        Code::ALL.len(),
        "docs/lint.md has a code that is not there"
    );
    let environment = TestEnvironment::new();
    let output = environment.run(&["explain", "weight-below-gap"]).exits(0);
    assert!(
        output.stdout.contains("acassen/keepalived#2599"),
        "{}",
        output.text()
    );
    assert!(
        environment
            .run(&["explain"])
            .exits(0)
            .stdout
            .contains("weight-below-gap")
    );
    let mistyped = environment.run(&["explain", "weight-below-gapp"]).exits(64);
    assert!(
        mistyped.stderr.contains("did you mean `weight-below-gap`?"),
        "{}",
        mistyped.text()
    );
}

#[test]
fn the_recipes_of_faults_compare_have_their_traps() {
    let path = Path::new(REPOSITORY).join("examples/ha.json");
    let source = topology::Source {
        base: path.parent().unwrap().to_path_buf(),
        bytes: fs::read(&path).unwrap(),
        path,
    };
    let topology = topology::Topology::check(&source, &|path| path.exists())
        .topology
        .unwrap();
    let nodes = gen_topology::config::resolve(&topology);
    for recipe in recipes::RECIPES {
        let mut all = Vec::new();
        for (node, rendered) in recipes::files(recipe, &nodes).unwrap() {
            for (name, text) in rendered {
                if let Some(kind) = lint::recognise(&name, &text) {
                    all.push(File {
                        path: format!("{node}/{name}"),
                        text: text.to_string(),
                        kind,
                        included: BTreeMap::new(),
                    });
                }
            }
        }
        let found: BTreeSet<&str> = lint::lint(&all)
            .iter()
            .map(|finding| finding.code.name())
            .collect();
        let stuck = recipe.recipe == "weight-2";
        assert_eq!(
            found.contains("weight-below-gap"),
            stuck,
            "{}: {found:?}",
            recipe.recipe
        );
        for code in [
            "slow-adverts",
            "slow-script",
            "check-tcp-only",
            "no-redispatch",
        ] {
            assert!(
                found.contains(code),
                "{}: {code} is not in {found:?}",
                recipe.recipe
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn damaged_files_make_nothing_panic(
        which in 0_usize..8, at in 0_usize..2000, length in 0_usize..80, insert in "[ {}\"'#\\\\a-z0-9:.\n-]{0,20}", kind in 0_usize..5
    ) {
        let kinds = [Kind::Haproxy, Kind::Keepalived, Kind::Mongod, Kind::ReplicaSet, Kind::Address];
        let all: Vec<File> = ["good", "recipes/kubeadm"].iter().flat_map(|name| files(&fixtures().join(name))).collect();
        let mut damaged = all[which % all.len()].clone();
        let start = at.min(damaged.text.len());
        damaged.text.replace_range(start..(start + length).min(damaged.text.len()), &insert);
        let mut swapped = damaged.clone();
        swapped.kind = kinds[kind];
        let mut all = all;
        all.extend([damaged, swapped]);
        for finding in lint::lint(&all) {
            let text = &all[finding.at.file].text;
            prop_assert!(text.get(finding.at.span.clone()).is_some(), "{:?}", finding);
        }
    }
}
