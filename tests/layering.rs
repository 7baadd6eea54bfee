//! Who may use whom, and where the world may be touched. The rooms of the crate
//! are only worth something as long as the doors between them stay shut.

#![expect(clippy::unwrap_used, reason = "a test may stop")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::common::REPOSITORY;

/// Rooms that compute and touch nothing: no files, processes, clocks or environment.
/// They may use only each other.
const PURE: [&str; 9] = [
    "topology", "flows", "config", "render", "lint", "native", "whatif", "import", "export",
];

/// Each room and the rooms it may use. `cli` may use all; a new room has to be added here.
const DOORS: [(&str, &[&str]); 26] = [
    (
        "deploy",
        &[
            "config", "flows", "health", "render", "topology", "secrets", "site",
        ],
    ),
    // Certificates are judged, made and kept; only `store` touches files.
    ("certificate", &["secrets", "topology"]),
    ("site", &["config", "health", "render", "topology"]),
    (
        "lab",
        &[
            "backup",
            "certificate",
            "config",
            "health",
            "render",
            "topology",
            "hosts",
            "secrets",
            "site",
        ],
    ),
    (
        "faults",
        &[
            "certificate",
            "config",
            "health",
            "render",
            "topology",
            "lab",
            "native",
        ],
    ),
    (
        "node",
        &[
            "backup",
            "certificate",
            "config",
            "health",
            "topology",
            "secrets",
        ],
    ),
    ("machines", &["config", "health", "site", "topology"]),
    ("backup", &["health"]),
    ("import", &["native", "topology"]),
    (
        "export",
        &["config", "flows", "render", "secrets", "topology"],
    ),
    ("hosts", &["render"]),
    ("render", &["config", "topology"]),
    ("lint", &["config", "native", "topology"]),
    ("native", &["topology"]),
    ("whatif", &["topology"]),
    ("config", &["flows", "topology", "secrets"]),
    ("flows", &["topology"]),
    ("health", &["topology"]),
    ("secrets", &["health", "topology"]),
    ("topology", &[]),
    ("exec", &["wait"]),
    ("failure", &[]),
    ("files", &[]),
    ("sink", &[]),
    ("wait", &[]),
    ("main", &[]),
];

/// What a pure room may use although it isn't pure: `config` names the kinds of secrets.
const IMPURE: [(&str, &str); 2] = [("config", "secrets"), ("export", "secrets")];

/// Rooms that any room may use which is not pure: the plumbing, how work fails, and where it
/// tells of itself.
const SHARED: [&str; 5] = ["exec", "failure", "files", "sink", "wait"];

/// Circles of files that are left. None may be added.
const CIRCLES: [&[&str]; 1] = [&["lab/plan.rs", "lab/supplies.rs"]];

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
    let bad = rooms(&line.code).into_iter().find(|used| {
        let used = used.as_str();
        let is_below = PURE.contains(room) || SHARED.contains(room);
        let is_shared = SHARED.contains(&used) && !is_below;
        used != *room && !is_shared && !allowed.contains(&used)
    })?;
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
fn pure_rooms_use_only_pure_rooms() {
    for (room, used) in DOORS.iter().filter(|(room, _)| PURE.contains(room)) {
        for used in *used {
            let is_fine = PURE.contains(used) || IMPURE.contains(&(room, used));
            assert!(
                is_fine,
                "`{room}` is pure and may use `{used}`, which isn't"
            );
        }
    }
}

#[test]
fn every_room_of_the_list_is_there() {
    let root = Path::new(REPOSITORY).join("src");
    for (room, used) in DOORS {
        for room in used.iter().chain([&room]) {
            let is_there = root.join(room).is_dir() || root.join(format!("{room}.rs")).is_file();
            assert!(is_there, "there is no room `{room}`");
        }
    }
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

/// A module's path below the crate: `cli/ui.rs` is `cli::ui`, `cli/mod.rs` is `cli`.
fn module(file: &str) -> Vec<String> {
    let path = file.strip_suffix(".rs").unwrap_or(file);
    let mut parts: Vec<String> = path.split('/').map(str::to_owned).collect();
    if matches!(parts.last().map(String::as_str), Some("mod" | "lib")) {
        parts.pop();
    }
    parts
}

/// The paths that a `use` names, `a::{b, c::d}` taken apart.
fn leaves(tree: &str) -> Vec<String> {
    let tree = tree.trim();
    let Some((start, group)) = tree.split_once('{') else {
        return vec![tree.to_owned()];
    };
    let group = group.trim_end().trim_end_matches('}');
    let (mut depth, mut part, mut found) = (0_usize, String::new(), Vec::new());
    for c in group.chars().chain([',']) {
        match c {
            ',' if depth == 0 => {
                let leaves = leaves(&std::mem::take(&mut part));
                let named = leaves.into_iter().filter(|leaf| !leaf.is_empty());
                found.extend(named.map(|leaf| format!("{start}{leaf}")));
                continue;
            }
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        part.push(c);
    }
    found
}

/// The paths of our own that a file names, from the crate's root: in `use`, and in code.
fn named(file: &str, code: &str) -> Vec<Vec<String>> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut paths = Vec::new();
    for start in ["crate::", "super::", "self::"] {
        for (at, _) in code.match_indices(start) {
            let before = code[..at].chars().next_back();
            if before.is_some_and(|c| is_word(c) || c == ':') {
                continue;
            }
            let rest = &code[at..];
            let is_use = code[..at].ends_with("use ");
            let end = if is_use {
                rest.find(';')
            } else {
                rest.find(|c| !is_word(c) && c != ':')
            };
            paths.extend(leaves(&rest[..end.unwrap_or(rest.len())]));
        }
    }
    let absolute = |path: String| {
        let mut at = module(file);
        let path = path.split(" as ").next().unwrap_or_default();
        for part in path.split("::") {
            match part.trim() {
                "crate" => at.clear(),
                "super" => drop(at.pop()),
                "self" | "" => {}
                part => at.push(part.to_owned()),
            }
        }
        at
    };
    paths.into_iter().map(absolute).collect()
}

/// What modules hand on: the path of a `pub use` → the path of the item itself.
fn handed_on(file: &str, code: &str) -> Vec<(Vec<String>, Vec<String>)> {
    let own = module(file);
    let mut found = Vec::new();
    for statement in code
        .split(';')
        .filter_map(|part| part.split("pub use ").nth(1))
    {
        for leaf in leaves(statement) {
            let parts: Vec<String> = leaf.split("::").map(|it| it.trim().to_owned()).collect();
            if let Some(name) = parts.last() {
                let at = |parts: &[String]| own.iter().chain(parts).cloned().collect();
                found.push((at(std::slice::from_ref(name)), at(&parts)));
            }
        }
    }
    found
}

/// Which file uses which, `mod.rs` as the face of its folder: what a file takes from
/// the `mod.rs` above it doesn't count, what it takes through one from elsewhere does.
fn arrows(files: &BTreeMap<String, String>) -> BTreeMap<String, BTreeSet<String>> {
    let modules: BTreeMap<Vec<String>, &String> =
        files.keys().map(|file| (module(file), file)).collect();
    let faces: BTreeMap<Vec<String>, Vec<String>> = files
        .iter()
        .flat_map(|(file, code)| handed_on(file, code))
        .collect();
    let target = |path: &Vec<String>| {
        let path = faces.get(path).unwrap_or(path);
        let mut ends = (0..=path.len()).rev();
        ends.find_map(|end| modules.get(&path[..end]))
    };
    let uses = |file: &String, code: &String| {
        let own = module(file);
        let targets = named(file, code);
        let targets = targets.iter().filter_map(target);
        targets
            .filter(|target| !own.starts_with(&module(target)))
            .map(|target| (*target).clone())
            .collect()
    };
    let arrow = |(file, code): (&String, &String)| (file.clone(), uses(file, code));
    files.iter().map(arrow).collect()
}

/// Every file to which one comes from `from`.
fn reached<'a>(
    arrows: &'a BTreeMap<String, BTreeSet<String>>,
    from: &'a String,
) -> BTreeSet<&'a String> {
    let mut seen = BTreeSet::new();
    let mut next = vec![from];
    while let Some(file) = next.pop() {
        let used = arrows.get(file).into_iter().flatten();
        next.extend(used.filter(|file| seen.insert(*file)));
    }
    seen
}

/// Files from which one comes back to where one began: each circle once, its files in order.
fn circles(arrows: &BTreeMap<String, BTreeSet<String>>) -> BTreeSet<Vec<String>> {
    let all: BTreeMap<&String, BTreeSet<&String>> = arrows
        .keys()
        .map(|file| (file, reached(arrows, file)))
        .collect();
    let circle = |(file, seen): (&&String, &BTreeSet<&String>)| {
        let back = seen.iter().filter(|other| all[**other].contains(*file));
        back.map(|file| (*file).clone()).collect::<Vec<_>>()
    };
    all.iter().map(circle).filter(|it| !it.is_empty()).collect()
}

#[test]
fn no_files_use_each_other_in_a_circle() {
    let mut files: BTreeMap<String, String> = BTreeMap::new();
    for line in lines() {
        let text = files.entry(line.file).or_default();
        text.push_str(&line.code);
        text.push('\n');
    }
    let arrows = arrows(&files);
    let all: usize = arrows.values().map(BTreeSet::len).sum();
    assert!(all > 300, "only {all} uses found: this test is blind");
    let found = circles(&arrows);
    let known: BTreeSet<Vec<String>> = CIRCLES
        .iter()
        .map(|files| files.iter().map(|file| (*file).to_owned()).collect())
        .collect();
    let new: Vec<String> = found.difference(&known).map(|it| it.join(", ")).collect();
    assert!(new.is_empty(), "circles of files:\n{}", new.join("\n"));
    let open: Vec<String> = known.difference(&found).map(|it| it.join(", ")).collect();
    let open = open.join("\n");
    assert!(
        open.is_empty(),
        "open now, take them from the list:\n{open}"
    );
}

#[test]
fn circles_are_seen() {
    let files = |all: &[(&str, &str)]| {
        let all = all
            .iter()
            .map(|(file, code)| ((*file).into(), (*code).into()));
        circles(&arrows(&all.collect()))
    };
    let two = ["a/one.rs".to_owned(), "a/two.rs".to_owned()];
    for (one, other) in [
        ("use super::two::Thing;", "use crate::a::{three, one};"),
        (
            "fn it() { super::two::that() }",
            "use super::{\n    one::{self, Other},\n};",
        ),
        ("use crate::a::Thing;", "use crate::a::one::Other;"),
    ] {
        let found = files(&[
            (
                "a/mod.rs",
                "mod one;\nmod two;\npub use two::{Other, Thing};\n",
            ),
            ("a/one.rs", one),
            ("a/two.rs", other),
        ]);
        assert_eq!(found, BTreeSet::from([two.to_vec()]), "{one} {other}");
    }
    // A file may use what stands in the `mod.rs` above it, and two may use a third.
    let found = files(&[
        ("a/mod.rs", "use one::thing;\npub struct Own;"),
        ("a/one.rs", "use super::Own; use super::three;"),
        ("a/two.rs", "use super::three::Thing;"),
        ("a/three.rs", ""),
    ]);
    assert_eq!(found, BTreeSet::new());
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
    PURE.contains(&room)
        || file.ends_with("/plan.rs")
        || file.starts_with("faults/report/")
        || matches!(
            file,
            "deploy/fleet.rs" | "deploy/impact.rs" | "deploy/obstacle.rs" | "deploy/terms.rs"
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
        ("export/mod.rs", "use crate::hosts::Tree;"),
        ("health/http.rs", "use super::super::lab::net;"),
        ("lab/run.rs", "use crate::cli::ui::Ui;"),
        ("lab/run.rs", "use crate::deploy;"),
        ("unheard_of/mod.rs", "fn nothing() {}"),
        ("topology/mod.rs", "use crate::sink::Sink;"),
    ] {
        assert!(forbidden(&line(file, code)).is_some(), "{file}: {code}");
    }
    for (file, code) in [
        ("cli/lab.rs", "use crate::lab;"),
        ("lab/run.rs", "use crate::hosts::replace;"),
        ("hosts.rs", "use crate::render::{FACTS, Rendered};"),
        ("machines/ssh.rs", "use crate::failure::Failure;"),
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
        ("export/mod.rs", "    std::fs::read(path)"),
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
