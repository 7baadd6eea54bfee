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

/// Each directory holds the smallest files of a kind and an `expect`: the codes of all
/// findings, and what is said or not said of them. A `--near-miss` differs in what matters.
#[test]
fn each_kind_of_foreign_file_is_read_as_its_daemon_reads_it() {
    let environment = TestEnvironment::new();
    let mut wrong = Vec::new();
    let mut count = 0;
    for directory in fs::read_dir(fixtures().join("kinds")).unwrap() {
        let directory = directory.unwrap().path();
        let name = directory.file_name().unwrap().to_str().unwrap().to_owned();
        let path = directory.to_str().unwrap();
        let expect = fs::read_to_string(directory.join("expect")).unwrap_or_default();
        let rest = |word: &str| -> Vec<String> {
            let lines = expect.lines().filter_map(|line| line.strip_prefix(word));
            lines.map(str::to_owned).collect()
        };
        let codes = expect.lines().filter(|line| !line.contains(' '));
        let expected: BTreeSet<String> = codes.map(str::to_owned).collect();
        let text = environment.run(&["lint", path]);
        let said = text.text();
        if let [why] = &rest("refused ")[..] {
            // A directory skips what is named by itself here.
            let mut files = fs::read_dir(&directory)
                .unwrap()
                .map(|entry| entry.unwrap().path());
            let file = files.find(|path| !path.ends_with("expect")).unwrap();
            let output = environment.run(&["lint", file.to_str().unwrap()]).exits(1);
            if !output.stderr.contains(why.as_str()) {
                wrong.push(format!("{name}: {}", output.text()));
            }
            count += 1;
            continue;
        }
        let output = environment.run(&["lint", "--format", "json", path]);
        let codes: BTreeSet<String> = found(&output).into_iter().collect();
        if codes != expected && directory.join("expect").exists() {
            wrong.push(format!("{name}: {codes:?}, not {expected:?}\n{said}"));
        }
        for words in rest("says ")
            .iter()
            .filter(|words| !said.contains(words.as_str()))
        {
            wrong.push(format!("{name}: does not say {words}\n{said}"));
        }
        for words in rest("silent ")
            .iter()
            .filter(|words| said.contains(words.as_str()))
        {
            wrong.push(format!("{name}: says {words}\n{said}"));
        }
        count += 1;
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n\n"));
    assert!(count > 60, "{count}");
}

#[test]
fn standard_input_and_links_are_read() {
    let (environment, _) = with("good");
    let path = environment.path("haproxy.cfg");
    let mut command = environment.command();
    environment
        .finish(command.args(["lint", "-"]).pipe_stdin(path).unwrap())
        .exits(0);
    std::os::unix::fs::symlink("haproxy.cfg", environment.path("link.cfg")).unwrap();
    // One file under two names is one file.
    let output = environment
        .run(&["lint", "haproxy.cfg", "link.cfg"])
        .exits(0);
    assert!(output.stderr.contains("1 file:"), "{}", output.text());
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
fn no_credential_of_a_file_is_printed() {
    let environment = TestEnvironment::new();
    for (name, text) in [
        ("app.env", "URI=mongodb://u:geheim@db/x?w=1\n"),
        (
            "keepalived.conf",
            "vrrp_instance A {\n authentication { auth_pass geheim\n}\n state MASTER\n}\n",
        ),
        (
            "haproxy.cfg",
            "defaults\n stats auth a:geheim\nbackend b\n server a 10.0.0.1:80\n",
        ),
        (
            "mongod.conf",
            "net:\n  tls: { certificateKeyFilePassword: geheim }\n",
        ),
    ] {
        environment.write(name, text);
        for more in [&[][..], &["--format", "json"]] {
            let output = run(&environment, &[name.to_owned()], more);
            let said = output.text();
            assert!(said.contains(name) && !said.contains("geheim"), "{said}");
        }
    }
    let output = run(&environment, &["app.env".to_owned()], &[]);
    assert!(
        output.stderr.contains("u:******@db/x?w=1"),
        "{}",
        output.text()
    );
}

#[test]
fn what_is_no_configuration_is_refused() {
    let (environment, _) = with("good");
    environment.write("notes.txt", "nothing of interest\n");
    environment.write("damaged.json", "{");
    for (names, code, said) in [
        (&["nowhere.cfg"][..], 1, "reading nowhere.cfg"),
        (
            &["notes.txt", "haproxy.cfg"],
            1,
            "notes.txt: this is no configuration",
        ),
        (&["damaged.json"], 1, "damaged.json: this is no JSON"),
    ] {
        let output = environment.run(&[&["lint"], names].concat()).exits(code);
        assert!(output.stderr.contains(said), "{names:?}: {}", output.text());
    }
    TestEnvironment::with("{").run(&["lint"]).exits(3);
    // The spelling that it had first.
    environment
        .run(&["lint", "--foreign", "haproxy.cfg", "mongod.conf"])
        .exits(0);
    environment
        .run(&["lint", "-f", "topology.json", "haproxy.cfg"])
        .exits(64);
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

/// What `keepalived -t` says of the fixture of each of these rules: it is no invention of ours.
const SAID_BY_KEEPALIVED: [(Code, &str); 7] = [
    (Code::NopreemptIgnored, "nopreempt will not work"),
    (Code::AdvertsRounded, "must be an integer"),
    (Code::TrackUndefined, "not found, ignoring"),
    (Code::ScriptIntervalFraction, "- ignoring"),
    (Code::ScriptMayBeIgnored, "Unable to set default user"),
    (
        Code::AuthenticationIgnored,
        "does not support authentication",
    ),
    (Code::Unreadable, "missing '}'"),
];

/// Everything that a daemon's own check of a file says; nothing where there is no such daemon.
fn said(program: &str, arguments: &[&str], file: &Path) -> Option<(bool, String)> {
    let Ok(output) = std::process::Command::new(program)
        .args(arguments)
        .arg(file)
        .output()
    else {
        crate::common::not_run(&format!("{program} is missing"));
        return None;
    };
    let text = [output.stdout, output.stderr].concat();
    Some((
        output.status.success(),
        String::from_utf8_lossy(&text).into_owned(),
    ))
}

#[test]
fn keepalived_says_the_same() {
    let rules = fixtures().join("rules");
    for (code, words) in SAID_BY_KEEPALIVED {
        for (directory, says) in [
            (code.name().to_owned(), true),
            (format!("{code}--near-miss"), false),
        ] {
            let file = rules.join(&directory).join("keepalived.conf");
            let Some((_, text)) = said("keepalived", &["-t", "-f"], &file) else {
                return;
            };
            // `-t` writes to the log where it has no terminal to write to.
            if text.is_empty() && says {
                crate::common::not_run("keepalived -t says nothing here");
                return;
            }
            // An include that is not there is the near miss of what is not declared.
            let included = code == Code::TrackUndefined && !says;
            assert!(
                included || text.contains(words) == says,
                "{directory}: {text}"
            );
        }
    }
}

#[test]
fn haproxy_accepts_what_has_traps() {
    let mut checked = 0;
    for directory in fs::read_dir(fixtures().join("rules")).unwrap() {
        let file = directory.unwrap().path().join("haproxy.cfg");
        if !file.exists() {
            continue;
        }
        let Some((accepted, text)) = said("haproxy", &["-c", "-f"], &file) else {
            return;
        };
        // What a newer haproxy refuses is refused by the one that is here.
        let refused = file.parent().unwrap().ends_with("removed-word");
        assert_eq!(accepted, !refused, "{}: {text}", file.display());
        checked += 1;
    }
    assert!(checked > 30, "{checked}");
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
                if let Some(kind) = lint::recognise(name, &text) {
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
