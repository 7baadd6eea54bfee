//! Who may use whom, and where the world may be touched. The rooms of the crate
//! are only worth something as long as the doors between them stay shut.

#![expect(clippy::unwrap_used, reason = "a test may stop")]

use std::fs;
use std::path::{Path, PathBuf};

use crate::common::REPOSITORY;

/// Each room and the rooms it may use. `cli` may use all; a new room has to be added here.
const DOORS: [(&str, &[&str]); 19] = [
    (
        "deploy",
        &["config", "health", "render", "topology", "exec", "secrets"],
    ),
    (
        "lab",
        &[
            "backup", "config", "health", "render", "topology", "exec", "hosts", "secrets",
        ],
    ),
    (
        "faults",
        &[
            "config", "health", "render", "topology", "exec", "lab", "native",
        ],
    ),
    (
        "node",
        &["backup", "config", "health", "exec", "topology", "secrets"],
    ),
    ("machines", &["exec"]),
    ("backup", &["health", "exec"]),
    ("import", &["native", "topology"]),
    ("export", &["config", "render", "topology"]),
    ("hosts", &["render"]),
    ("render", &["config", "topology"]),
    ("lint", &["config", "native", "topology"]),
    ("native", &["topology"]),
    ("whatif", &["topology"]),
    ("config", &["topology", "secrets"]),
    ("health", &["topology", "exec"]),
    ("secrets", &["health", "topology"]),
    ("topology", &[]),
    ("exec", &[]),
    ("main", &[]),
];

/// One line of code, without remarks and without the tests behind it.
struct Line {
    /// Path below `src`.
    file: String,
    number: usize,
    code: String,
}

impl Line {
    /// The room it stands in: the first part of the path.
    fn room(&self) -> &str {
        self.file.split(['/', '.']).next().unwrap_or_default()
    }

    fn at(&self) -> String {
        format!("src/{}:{}", self.file, self.number)
    }
}

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn lines() -> Vec<Line> {
    let root = Path::new(REPOSITORY).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    files.sort();
    let mut all = Vec::new();
    for path in files {
        let text = fs::read_to_string(&path).unwrap();
        let file = path.strip_prefix(&root).unwrap().display().to_string();
        all.extend(code_of(&file, &text));
    }
    all
}

/// The code of `text`; unit tests may do what they need.
fn code_of(file: &str, text: &str) -> Vec<Line> {
    let before_tests = text
        .split("#[cfg(test)]\nmod tests")
        .next()
        .unwrap_or_default();
    before_tests
        .lines()
        .enumerate()
        .map(|(index, line)| Line {
            file: file.to_owned(),
            number: index + 1,
            code: line.split("//").next().unwrap_or_default().to_owned(),
        })
        .collect()
}

/// The rooms that a line names: `crate::room`, `crate::{room, room::…}`, or `super::super::room`.
fn rooms(code: &str) -> Vec<String> {
    let word = |text: &str| {
        text.chars()
            .take_while(|c| c.is_ascii_alphanumeric() || *c == '_')
            .collect::<String>()
    };
    let mut found = Vec::new();
    for start in ["crate::", "super::super::"] {
        for (_, rest) in code
            .match_indices(start)
            .map(|(at, _)| code.split_at(at + start.len()))
        {
            let Some(group) = rest.strip_prefix('{') else {
                found.push(word(rest));
                continue;
            };
            let mut depth = 0_usize;
            let mut part = String::new();
            for c in group.chars().chain([',']) {
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => found.push(word(std::mem::take(&mut part).trim())),
                    _ => part.push(c),
                }
            }
            found.push(word(part.trim()));
        }
    }
    found.retain(|room| !room.is_empty() && room != "super" && room != "self");
    found
}

fn forbidden(line: &Line) -> Option<String> {
    if line.room() == "cli" || line.room() == "lib" {
        return None;
    }
    let Some((room, allowed)) = DOORS.iter().find(|(room, _)| *room == line.room()) else {
        return Some(format!(
            "{}: the room `{}` is not in this test's list",
            line.at(),
            line.room()
        ));
    };
    let bad = rooms(&line.code)
        .into_iter()
        .find(|used| used != room && !allowed.contains(&used.as_str()))?;
    Some(format!(
        "{}: `{room}` may not use `{bad}`: {}",
        line.at(),
        line.code.trim()
    ))
}

#[test]
fn rooms_use_only_the_rooms_below() {
    let problems: Vec<String> = lines().iter().filter_map(forbidden).collect();
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

#[test]
fn uses_of_several_lines_are_seen() {
    for line in lines() {
        let open = line.code.contains("crate::{") && !line.code.contains('}');
        assert!(
            !open,
            "{}: write `use crate::{{…}}` on one line, or this test can't read it",
            line.at()
        );
        let alias = line.code.contains("use crate as") || line.code.contains("use gen_topology");
        assert!(!alias, "{}: this test can't follow it", line.at());
    }
}

#[test]
fn only_the_ui_prints() {
    let macros = ["print!", "println!", "eprint!", "eprintln!", "dbg!"];
    for line in lines().iter().filter(|line| line.file != "cli/ui.rs") {
        let prints = macros.iter().any(|name| line.code.contains(name));
        let writes = line.room() != "cli"
            && (line.code.contains("io::stdout") || line.code.contains("io::stderr"));
        assert!(
            !prints && !writes,
            "{}: only src/cli/ui.rs prints: {}",
            line.at(),
            line.code.trim()
        );
    }
}

#[test]
fn only_the_command_line_knows_clap() {
    for line in lines().iter().filter(|line| line.room() != "cli") {
        assert!(
            !line.code.contains("clap"),
            "{}: clap belongs to src/cli",
            line.at()
        );
    }
}

/// What a pure room may not name.
const WORLD: [&str; 13] = [
    "std::fs",
    "fs::",
    "std::process",
    "process::",
    "std::env",
    "env::",
    "SystemTime",
    "Instant",
    "std::net::Tcp",
    "std::net::Udp",
    "std::thread",
    "std::io",
    "rustix",
];

fn is_pure(file: &str) -> bool {
    let room = file.split(['/', '.']).next().unwrap_or_default();
    matches!(
        room,
        "topology" | "config" | "render" | "lint" | "native" | "whatif" | "import"
    ) || file.ends_with("/plan.rs")
        || file.starts_with("faults/report/")
        || matches!(
            file,
            "deploy/fleet.rs" | "deploy/impact.rs" | "deploy/obstacle.rs"
        )
}

fn touches_the_world(line: &Line) -> Option<String> {
    let word = |code: &str, name: &str| {
        code.match_indices(name).any(|(at, _)| {
            let before = code[..at].chars().next_back();
            !before.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_' || c == '"')
        })
    };
    let named = WORLD
        .iter()
        .find(|name| is_pure(&line.file) && word(&line.code, name))?;
    Some(format!(
        "{}: what is pure may not use `{named}`: {}",
        line.at(),
        line.code.trim()
    ))
}

#[test]
fn what_is_pure_touches_nothing() {
    let problems: Vec<String> = lines().iter().filter_map(touches_the_world).collect();
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

#[test]
fn these_tests_see_what_is_wrong() {
    let line = |file: &str, code: &str| code_of(file, code).remove(0);
    for (file, code) in [
        ("topology/check.rs", "use crate::render;"),
        (
            "topology/mod.rs",
            "    let x = crate::exec::run(command, None);",
        ),
        ("config/mod.rs", "use crate::{topology::Node, lab::Lab};"),
        (
            "render/nix.rs",
            "use crate::topology::Tier; use crate::hosts::diff;",
        ),
        ("hosts.rs", "use crate::config;"),
        ("native/mod.rs", "use crate::config::Haproxy;"),
        ("health/http.rs", "use super::super::lab::net;"),
        ("lab/run.rs", "use crate::cli::ui::Ui;"),
        ("lab/run.rs", "use crate::deploy;"),
        ("unheard_of/mod.rs", "fn nothing() {}"),
    ] {
        assert!(forbidden(&line(file, code)).is_some(), "{file}: {code}");
    }
    for (file, code) in [
        ("cli/lab.rs", "use crate::lab;"),
        ("lab/run.rs", "use crate::hosts::replace;"),
        ("hosts.rs", "use crate::render::{FACTS, Rendered};"),
        (
            "topology/edit.rs",
            "use crate::topology::Tier; // crate::lab",
        ),
    ] {
        assert_eq!(forbidden(&line(file, code)), None, "{file}: {code}");
    }
    for (file, code) in [
        ("topology/mod.rs", "    std::fs::read(path)"),
        ("native/mongod.rs", "    std::fs::read(path)"),
        ("render/mod.rs", "use std::{env, fs};  fs::read"),
        ("lab/plan.rs", "let now = SystemTime::now();"),
        ("faults/report/html.rs", "let now = SystemTime::now();"),
        ("deploy/plan.rs", "Command::from(process::id())"),
    ] {
        assert!(
            touches_the_world(&line(file, code)).is_some(),
            "{file}: {code}"
        );
    }
    assert_eq!(
        touches_the_world(&line("lab/run.rs", "std::fs::read(path)")),
        None
    );
    assert_eq!(
        rooms("use crate::{config, hosts::{self, diff}, render};"),
        ["config", "hosts", "render"]
    );
}
