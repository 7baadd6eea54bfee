//! `check`: every problem has a code, a place and a message, and nothing that
//! stands in a file can make the program panic, hang or disturb a terminal.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test may stop")]

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use gen_topology::topology::{Code, Severity, Source, Topology};
use proptest::prelude::*;

use crate::common::{Output, REPOSITORY, TOPOLOGY, TestEnvironment};

/// Nothing that a user can write may take longer; unoptimized code gets more, since CI builds that.
const PATIENCE: Duration =
    Duration::from_millis(if cfg!(debug_assertions) { 30_000 } else { 1000 });

fn fixtures() -> Vec<(String, PathBuf)> {
    let directory = Path::new(REPOSITORY).join("tests/fixtures/invalid");
    let mut found: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_stem().unwrap().to_str().unwrap().to_owned(), path))
        .collect();
    found.sort();
    found
}

fn code_of(fixture: &str) -> &str {
    fixture.split("--").next().unwrap_or(fixture)
}

fn named(code: &str) -> Option<Code> {
    Code::ALL.iter().copied().find(|known| known.name() == code)
}

/// Checks `bytes` and holds what is true of every file, however damaged.
#[track_caller]
fn check(bytes: impl AsRef<[u8]>) -> Output {
    let environment = TestEnvironment::with(bytes);
    let start = Instant::now();
    let output = environment.run(&["check"]);
    let json = environment.run(&["check", "--format", "json"]);
    let took = start.elapsed();
    assert!(took < PATIENCE * 2, "checking twice took {took:?}");
    assert!(matches!(output.code, 0 | 3), "{}", output.text());
    let text = output.text();
    assert!(!text.contains("panicked"), "{text}");
    let disturbs =
        |c: char| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let raw = text.chars().find(|c| disturbs(*c) && *c != '\n');
    assert_eq!(
        raw,
        None,
        "a control character reached the terminal:\n{}",
        text.escape_debug()
    );
    let longest = text
        .lines()
        .map(|line| line.chars().count())
        .max()
        .unwrap_or_default();
    assert!(longest < 1000, "a line of {longest} characters");
    assert!(text.len() < 100_000, "{} bytes of messages", text.len());
    assert_eq!(
        codes(&json).is_empty(),
        output.stderr.contains("no problems"),
        "{text}"
    );
    assert_eq!(json.code, output.code);
    output
}

fn codes(json: &Output) -> Vec<String> {
    let value: serde_json::Value =
        serde_json::from_str(&json.stdout).expect("--format json prints JSON");
    value["problems"]
        .as_array()
        .unwrap()
        .iter()
        .map(|problem| problem["code"].as_str().unwrap().to_owned())
        .collect()
}

/// The codes in the drawn text: `error[code]: …`.
fn drawn_codes(output: &Output) -> Vec<String> {
    let heads = output
        .stderr
        .lines()
        .filter(|line| line.starts_with("error[") || line.starts_with("warning["));
    heads
        .map(|line| line.split(['[', ']']).nth(1).unwrap().to_owned())
        .collect()
}

#[test]
fn every_code_has_a_fixture() {
    let fixtures = fixtures();
    // Those of certificates and packages are not in a topology alone, and `tests/export.rs` tries what can't be exported.
    let elsewhere = [Code::NotExportable, Code::UnlockedRequirements];
    let alone = |code: &&Code| !crate::tls::FLAWS.contains(code) && !elsewhere.contains(code);
    for code in Code::ALL.iter().filter(alone) {
        assert!(
            fixtures
                .iter()
                .any(|(name, _)| code_of(name) == code.name()),
            "no tests/fixtures/invalid/{code}.json"
        );
    }
    for (name, _) in fixtures {
        assert!(
            named(code_of(&name)).is_some(),
            "{name}.json is named after no code"
        );
    }
}

/// Packages without hashes are said by `check`, with file and line, and by the lab before pip has a word.
#[test]
fn requirements_are_a_lock() {
    let environment = TestEnvironment::with(TOPOLOGY);
    assert_eq!(
        codes(&environment.run(&["check", "--format", "json"])).len(),
        0
    );
    environment.write("app/requirements.txt", "# mine\nflask\n-e .\n");
    let json = environment.run(&["check", "--format", "json"]).exits(0);
    assert_eq!(codes(&json), ["unlocked-requirements"]);
    insta::assert_snapshot!(environment.run(&["check"]).exits(0).text());
    environment.run(&["check", "--strict"]).exits(3);
    environment.run(&["generate"]).exits(0);
    let refused = environment.run(&["lab", "up", "--dry-run"]).exits(1);
    let said = "app/requirements.txt, line 2: `flask` has no version";
    assert!(refused.stderr.contains(said), "{}", refused.text());
}

#[test]
fn every_fixture_is_reported_as_what_it_is() {
    for (name, path) in fixtures() {
        let environment = TestEnvironment::with(fs::read(path).unwrap());
        let json = environment.run(&["check", "--format", "json"]);
        let code = named(code_of(&name)).unwrap();
        let found = codes(&json);
        assert_eq!(
            found.first().map(String::as_str),
            Some(code.name()),
            "{name}: {found:?}"
        );
        let is_error = code.severity() == Severity::Error;
        assert_eq!(
            json.code,
            if is_error { 3 } else { 0 },
            "{name}: {}",
            json.text()
        );
        assert_eq!(environment.run(&["check", "--strict"]).code, 3, "{name}");
        let drawn = environment
            .run(&["check"])
            .exits(if is_error { 3 } else { 0 });
        assert_eq!(
            drawn_codes(&drawn),
            found[..found.len().min(40)],
            "{name}: {}",
            drawn.text()
        );
    }
}

#[test]
fn every_message_reads_well() {
    insta::glob!("fixtures/invalid/*.json", |path| {
        let output = check(fs::read(path).unwrap());
        insta::assert_snapshot!(output.text());
    });
}

#[test]
fn json_tells_places() {
    let environment = TestEnvironment::with(TOPOLOGY.replace("10.20.0.65", "10.20.0.64"));
    let output = environment.run(&["check", "--format", "json"]).exits(3);
    insta::assert_snapshot!(output.text());
}

#[test]
fn a_sound_file_has_no_problems() {
    let output = check(TOPOLOGY).exits(0);
    insta::assert_snapshot!(output.text());
    for path in [
        "topology.json",
        "examples/ha.json",
        "examples/large.json",
        "examples/sharded.json",
    ] {
        let environment = TestEnvironment::new();
        environment
            .run(&["check", "-f", &format!("{REPOSITORY}/{path}")])
            .exits(0);
    }
}

#[test]
fn all_problems_are_told_at_once() {
    let shape = check(
        r#"{ "version": 3, "name": "Web", "nam": "x", "network": { "subnet": "10.0.0.0/33", "virtual_ip": 7 },
  "app": { "source": "./app", "threads": 0, "port": 1.5 }, "database": { "cache_size": "lots", "cache_size": "more" },
  "nodes": { "a": { "tier": "ap" }, "B": { "tier": "app", "address": "10.0.0.1" }, "a": 1 } }"#,
    );
    insta::assert_snapshot!(shape.text());
    let mut found = drawn_codes(&shape);
    found.sort();
    found.dedup();
    let expected = [
        "bad-name",
        "bad-value",
        "duplicate-key",
        "duplicate-name",
        "missing-key",
        "out-of-range",
        "unknown-key",
        "unsupported-version",
        "wrong-type",
    ];
    assert_eq!(found, expected);
    let meaning = check(
        r#"{ "version": 1, "name": "web", "network": { "subnet": "10.0.0.5/29", "virtual_ip": "10.1.0.1" },
  "load_balancer": { "port": 8404, "advert_interval": "5ms", "drain_time": "2h" },
  "app": { "source": "./none", "env": { "DRAIN_FILE": "x", "a b": "y" } },
  "database": { "election_timeout": "1s", "heartbeat_interval": "1s", "cache_size": "1KiB" },
  "nodes": {
    "a": { "tier": "load-balancer", "address": "10.0.0.1", "voting": true },
    "b": { "tier": "database", "address": "10.0.0.1" },
    "c": { "tier": "database", "address": "10.0.0.7" },
    "d": { "tier": "load-balancer", "address": "10.9.0.1" },
    "e": { "tier": "load-balancer", "address": "10.9.0.2" } } }"#,
    );
    insta::assert_snapshot!(meaning.text());
    let mut found = drawn_codes(&meaning);
    found.sort();
    found.dedup();
    let expected = [
        "address-outside-subnet",
        "address-reserved",
        "bad-advert-interval",
        "bad-subnet",
        "duplicate-address",
        "empty-tier",
        "even-voters",
        "heartbeat-too-slow",
        "misplaced-key",
        "missing-source",
        "out-of-range",
        "port-clash",
        "reserved-variable",
        "subnet-too-small",
        "vip-outside-subnet",
    ];
    assert_eq!(found, expected);
}

#[test]
fn a_file_that_is_no_text() {
    for (bytes, offset) in [
        (&b"\xff\xfe{\0}\0"[..], 0),
        (b"{ \"name\": \"\xc3\x28\" }", 11),
        (b"\n\n{}\x80", 4),
    ] {
        let output = check(bytes).exits(3);
        assert!(
            output.stderr.contains(&format!("byte {offset} ")),
            "{}",
            output.text()
        );
    }
    check([0_u8; 4096]).exits(3);
    check(&fs::read(crate::common::PROGRAM).unwrap()[..500_000]).exits(3);
}

#[test]
fn a_directory_or_nothing_instead_of_a_file() {
    let environment = TestEnvironment::with(TOPOLOGY);
    let texts = [
        environment.run(&["check", "-f", "app"]).exits(1).text(),
        environment
            .run(&["check", "-f", "missing.json"])
            .exits(1)
            .text(),
        environment.run(&["check", "-f", ""]).exits(64).text(),
        TestEnvironment::new().run(&["check"]).exits(1).text(),
    ];
    insta::assert_snapshot!(texts.join("\n"));
}

#[test]
fn a_line_of_two_megabytes() {
    let filler = "x".repeat(2_000_000);
    // As a value that is never looked at, as one that is wrong, as a key, as a name, beside a problem and as plain noise.
    check(TOPOLOGY.replace(
        "\"version\"",
        &format!("\"x-note\": \"{filler}\", \"version\""),
    ))
    .exits(0);
    check(TOPOLOGY.replace("\"web-stack\"", &format!("\"{filler}\""))).exits(3);
    check(TOPOLOGY.replace("\"app-2\"", &format!("\"{filler}\""))).exits(3);
    check(TOPOLOGY.replace("\"source\"", &format!("\"{filler}\": 1, \"source\""))).exits(3);
    check(TOPOLOGY.replace("10.20.0.65", &filler)).exits(3);
    check(TOPOLOGY.replace("\"./app\"", &format!("\"./{filler}\""))).exits(3);
    check(TOPOLOGY.replace(
        "10.20.0.65\" }",
        &format!("10.20.0.64\" }}, \"{filler}\": 7"),
    ))
    .exits(3);
    check(TOPOLOGY.replace(
        "  \"app\"",
        &format!("\"x-n\": \"{filler}\",\n\"x-m\": {{ \"a\": 1, \"a\": 1 }},\n\"app\""),
    ))
    .exits(3);
    check(format!("{{ {filler}")).exits(3);
    check(filler).exits(3);
    check(
        TOPOLOGY
            .replace("10.20.0.65", "10.20.0.64")
            .replace('\n', &" ".repeat(100_000)),
    )
    .exits(3);
    check("9".repeat(2_000_000)).exits(3);
    check(TOPOLOGY.replace(
        "\"version\": 1",
        &format!("\"version\": {}", "9".repeat(2_000_000)),
    ))
    .exits(3);
}

#[test]
fn thousands_of_problems() {
    for newline in ["\n", " "] {
        let mut keys = String::new();
        for index in 0..5_000 {
            write!(keys, "\"wrong-{index}\": {index},{newline}").unwrap();
        }
        let output = check(TOPOLOGY.replace("\"version\"", &format!("{keys}\"version\""))).exits(3);
        assert!(output.stderr.contains("and 4960 more"), "{}", output.stderr);
        check(TOPOLOGY.replace(
            "\"version\"",
            &format!("{}\"version\"", "\"x\": 1, ".repeat(5_000)),
        ))
        .exits(3);
    }
}

#[test]
fn nesting_of_a_hundred_thousand() {
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        for depth in [511, 513, 100_000] {
            let deep = open.repeat(depth) + "1" + &close.repeat(depth);
            check(&deep).exits(3);
            let inside =
                TOPOLOGY.replace("\"version\"", &format!("\"x-deep\": {deep}, \"version\""));
            check(inside);
            check(open.repeat(depth)).exits(3);
        }
    }
}

#[test]
fn the_deepest_that_parses_can_be_used() {
    // serde_json has a limit of its own, 128, which must not be the one that a user meets.
    let deep = "[".repeat(400) + &"]".repeat(400);
    check(TOPOLOGY.replace("\"version\"", &format!("\"x-deep\": {deep}, \"version\""))).exits(0);
}

#[test]
fn duplicate_keys_at_every_level() {
    for (once, twice) in [
        ("\"version\": 1", "\"version\": 1, \"version\": 1"),
        (
            "\"virtual_ip\"",
            "\"virtual_ip\": \"10.20.0.11\", \"virtual_ip\"",
        ),
        ("\"source\"", "\"source\": \"./app\", \"source\""),
        (
            "{ \"tier\": \"app\",",
            "{ \"tier\": \"app\", \"tier\": \"app\",",
        ),
        (
            "\"version\": 1",
            "\"x-a\": [{ \"b\": [{ \"c\": 1, \"c\": 2 }] }], \"version\": 1",
        ),
        (
            "\"version\": 1",
            "\"x-\\u00e9\": 1, \"x-é\": 1, \"version\": 1",
        ),
    ] {
        let output = check(TOPOLOGY.replacen(once, twice, 1)).exits(3);
        assert_eq!(drawn_codes(&output), ["duplicate-key"], "{}", output.text());
    }
}

#[test]
fn numbers_of_every_kind() {
    let port = |number: &str| {
        check(TOPOLOGY.replace("\"./app\"", &format!("\"./app\", \"port\": {number}")))
    };
    for (number, code) in [
        ("1e999", "wrong-type"),
        ("3.0", "wrong-type"),
        ("1e2", "wrong-type"),
        ("-0", "out-of-range"),
        ("-1", "out-of-range"),
        ("0", "out-of-range"),
        ("65536", "out-of-range"),
        ("99999999999999999999999999", "out-of-range"),
        ("+1", "syntax"),
        ("0x50", "syntax"),
        ("080", "syntax"),
        (".5", "syntax"),
        ("5.", "syntax"),
        ("NaN", "syntax"),
        ("Infinity", "syntax"),
        ("-", "syntax"),
        ("1e", "syntax"),
    ] {
        let output = port(number).exits(3);
        assert_eq!(drawn_codes(&output), [code], "{number}: {}", output.text());
    }
    port("65535").exits(0);
    // Whatever stands under a key of the user's own is theirs, as long as it is JSON.
    for number in ["1e999", "-0", "3.0", "99999999999999999999999999"] {
        check(TOPOLOGY.replace("\"version\"", &format!("\"x-n\": [{number}], \"version\"")))
            .exits(0);
    }
}

#[test]
fn durations_and_sizes_of_every_length() {
    for text in [
        "",
        "ms",
        "-1s",
        "1",
        "1S",
        "1.5s",
        "18446744073709551616ms",
        "99999999999999999999h",
        "0x1s",
        "１s",
        " 1s",
    ] {
        let setting = format!("\"database\": {{ \"election_timeout\": \"{text}\" }}, \"version\"");
        let output = check(TOPOLOGY.replace("\"version\"", &setting)).exits(3);
        assert_eq!(
            drawn_codes(&output),
            ["bad-value"],
            "{text:?}: {}",
            output.text()
        );
    }
    let keys = [
        "database/election_timeout",
        "database/heartbeat_interval",
        "load_balancer/advert_interval",
        "load_balancer/preempt_delay",
        "load_balancer/drain_time",
    ];
    for key in keys {
        let (section, key) = key.split_once('/').unwrap();
        for text in [
            "18446744073709551615ms",
            "5000000000000000000ms",
            "5124095576030h",
        ] {
            let setting = format!("\"{section}\": {{ \"{key}\": \"{text}\" }}, \"version\"");
            check(TOPOLOGY.replace("\"version\"", &setting)).exits(3);
        }
    }
}

#[test]
fn control_characters_and_unicode() {
    // As escapes and, where JSON allows it, as they are: ESC, C1, right-to-left override, line separator, emoji, NUL.
    for character in [
        "\\u001b[31m",
        "\\u009b",
        "\u{9b}31m",
        "\u{202e}",
        "\u{2028}",
        "\u{feff}",
        "😀",
        "\\ud83d\\ude00",
        "\\u0000",
        "\\n",
        "\u{7f}",
        "é",
    ] {
        for (from, to) in [
            ("\"web-stack\"", format!("\"web{character}\"")),
            ("\"app-2\"", format!("\"app{character}\"")),
            (
                "\"version\"",
                format!("\"x-{character}\": 1, \"{character}\": 1, \"version\""),
            ),
            ("10.20.0.65", format!("10.20.0.65{character}")),
            ("\"./app\"", format!("\"./app{character}\"")),
            (
                "\"./app\"",
                format!("\"./app\", \"env\": {{ \"A{character}\": \"b\" }}"),
            ),
            (
                "\"./app\"",
                format!("\"./app\", \"requirements\": \"{character}\""),
            ),
        ] {
            check(TOPOLOGY.replacen(from, &to, 1)).exits(3);
        }
        let env = format!("\"./app\", \"env\": {{ \"A\": \"{character}\" }}");
        let wanted = if character == "\\u0000" { 3 } else { 0 };
        check(TOPOLOGY.replacen("\"./app\"", &env, 1)).exits(wanted);
    }
    for broken in [
        "\\ud83d",
        "\\ude00\\ud83d",
        "\\u12",
        "\\x41",
        "\u{1}",
        "\t",
        "\u{1b}[2J",
    ] {
        let output = check(TOPOLOGY.replace("web-stack", broken)).exits(3);
        assert_eq!(drawn_codes(&output).len(), 1, "{}", output.text());
        check(TOPOLOGY.replace("\"version\"", &format!("\"x-{broken}\": 1, \"version\"")));
    }
    // Outside of strings.
    for noise in ["\u{1b}[2J", "\u{9b}", "\0", "\u{202e}", "\u{a0}", "é"] {
        check(TOPOLOGY.replace("\"version\"", &format!("{noise}\"version\""))).exits(3);
        check(TOPOLOGY.replace(": 1,", &format!(": {noise},"))).exits(3);
        check(format!("{TOPOLOGY}{noise}")).exits(3);
    }
}

#[test]
fn keys_of_the_users_own_are_never_looked_at() {
    let own = "\"x-note\": [1, null, { \"y\": true }], ";
    let mut text = TOPOLOGY.replace("\"version\"", &format!("{own}\"version\""));
    for place in ["\"subnet\"", "\"source\"", "\"tier\""] {
        text = text.replace(place, &format!("{own}{place}"));
    }
    check(&text).exits(0);
    // Among the nodes there is no room for them: each key is a host name.
    check(TOPOLOGY.replace("\"app-2\"", &format!("{own} \"app-2\""))).exits(3);
}

/// A topology from bytes that may be anything.
fn read(bytes: &[u8]) -> Result<(), TestCaseError> {
    let source = Source {
        path: "topology.json".into(),
        base: ".".into(),
        bytes: bytes.to_vec(),
    };
    let checked = Topology::check(&source, &|_| true);
    let has_error = checked
        .problems
        .iter()
        .any(|problem| problem.severity == Severity::Error);
    prop_assert_eq!(checked.topology.is_some(), !has_error);
    for problem in &checked.problems {
        prop_assert!(problem.at.span.is_some(), "{} has no place", problem);
        let span = problem.at.span.clone().unwrap_or_default();
        prop_assert!(
            span.start <= span.end && span.end <= bytes.len(),
            "{problem}: {span:?} of {}",
            bytes.len()
        );
        prop_assert!(
            !problem.message.contains(char::is_control),
            "{:?}",
            problem.message
        );
    }
    if let Some(topology) = checked.topology {
        let rendered = gen_topology::render::render(&gen_topology::config::resolve(&topology));
        prop_assert!(rendered.is_ok(), "{:?}", rendered.err());
    }
    Ok(())
}

/// One way of damaging a text.
#[derive(Clone, Debug)]
enum Damage {
    Delete(prop::sample::Index, usize),
    Repeat(prop::sample::Index, usize),
    Replace(prop::sample::Index, u8),
    Swap(prop::sample::Index, prop::sample::Index),
}

fn damage() -> impl Strategy<Value = Damage> {
    let at = any::<prop::sample::Index>;
    prop_oneof![
        (at(), 1..40_usize).prop_map(|(at, length)| Damage::Delete(at, length)),
        (at(), 1..40_usize).prop_map(|(at, length)| Damage::Repeat(at, length)),
        (at(), any::<u8>()).prop_map(|(at, byte)| Damage::Replace(at, byte)),
        (at(), at()).prop_map(|(one, other)| Damage::Swap(one, other)),
    ]
}

impl Damage {
    fn apply(&self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        match self {
            Damage::Delete(at, length) => {
                let at = at.index(bytes.len());
                bytes.drain(at..(at + length).min(bytes.len()));
            }
            Damage::Repeat(at, length) => {
                let at = at.index(bytes.len());
                let piece = bytes[at..(at + length).min(bytes.len())].to_vec();
                bytes.splice(at..at, piece);
            }
            Damage::Replace(at, byte) => {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            Damage::Swap(one, other) => swap_values(bytes, *one, *other),
        }
    }
}

/// Exchanges two members' values: still JSON, with meanings in the wrong places.
fn swap_values(bytes: &mut Vec<u8>, one: prop::sample::Index, other: prop::sample::Index) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let lines: Vec<&str> = text.lines().collect();
    let with_value: Vec<usize> = (0..lines.len())
        .filter(|at| lines[*at].contains(": "))
        .collect();
    if with_value.is_empty() {
        return;
    }
    let (one, other) = (*one.get(&with_value), *other.get(&with_value));
    let value = |at: usize| lines[at].split_once(": ").map_or("", |(_, value)| value);
    let swapped: Vec<String> = (0..lines.len())
        .map(|at| match at {
            at if at == one => lines[at].replace(value(one), value(other)),
            at if at == other => lines[at].replace(value(other), value(one)),
            _ => lines[at].to_owned(),
        })
        .collect();
    *bytes = swapped.join("\n").into_bytes();
}

/// A sound topology with every setting written out.
const FULL: &str = r#"{
  "$schema": "./topology.schema.json",
  "version": 1,
  "name": "web-stack",
  "x-note": [1, "two", { "three": null }],
  "network": { "subnet": "10.20.0.0/24", "virtual_ip": "10.20.0.10", "interface": "eth0", "virtual_router_id": 7 },
  "load_balancer": {
    "port": 80,
    "internal_port": 8404,
    "advert_interval": "100ms",
    "preempt": false,
    "preempt_delay": "2s",
    "drain_time": "1s",
    "max_connections": 8000
  },
  "app": {
    "source": "./app",
    "entry": "app:app",
    "requirements": "requirements.txt",
    "env": { "GREETING": "hello \"world\"" },
    "health_path": "/readyz",
    "port": 80,
    "instances": 2,
    "workers": 1,
    "threads": 8
  },
  "database": {
    "replica_set": "rs0",
    "name": "web",
    "port": 27017,
    "election_timeout": "2s",
    "heartbeat_interval": "500ms",
    "cache_size": "256MiB"
  },
  "nodes": {
    "lb-1": { "tier": "load-balancer", "address": "10.20.0.16" },
    "app-1": {
      "tier": "app",
      "address": "10.20.0.64"
    },
    "db-1": { "tier": "database", "address": "10.20.0.32", "voting": true },
    "db-2": { "tier": "database", "address": "10.20.0.33", "voting": false }
  }
}
"#;

#[test]
fn the_full_example_is_sound() {
    check(FULL).exits(0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_files_are_read_or_refused(which in 0..2, damages in prop::collection::vec(damage(), 0..6)) {
        let mut bytes = [TOPOLOGY, FULL][usize::try_from(which).unwrap_or_default()].as_bytes().to_vec();
        for damage in &damages {
            damage.apply(&mut bytes);
        }
        read(&bytes)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        read(&bytes)?;
    }

    #[test]
    fn any_json_like_text_is_read_or_refused(text in "[\\[\\]{}:,\"a1e.\\\\u-]{0,80}") {
        read(text.as_bytes())?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    // Through the program, drawing included.
    #[test]
    fn damaged_files_are_drawn(damages in prop::collection::vec(damage(), 1..5)) {
        let mut bytes = FULL.as_bytes().to_vec();
        for damage in &damages {
            damage.apply(&mut bytes);
        }
        check(&bytes);
    }
}
