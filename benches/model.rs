//! How long the model takes for ten thousand nodes: the numbers of `docs/`, each
//! measured as a user meets it, through the program. `cargo bench` runs it.

#![expect(clippy::print_stdout, reason = "its output is the result")]

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use gen_topology::exec;

/// Runs of which the median counts.
const RUNS: usize = 5;
/// Hosts that Nix parses.
const PARSED: usize = 300;
const LOAD_BALANCERS: usize = 3;
const APPS: usize = 9_990;
const DATABASES: usize = 7;

/// What is measured, and the time in which it has to be done.
struct Row {
    what: &'static str,
    /// None for what is there to compare with: the time that this disk takes for as many files.
    limit: Option<Duration>,
    times: Vec<Duration>,
}

impl Row {
    fn median(&self) -> Duration {
        let mut times = self.times.clone();
        times.sort();
        times.get(times.len() / 2).copied().unwrap_or_default()
    }

    fn is_fast_enough(&self) -> bool {
        self.limit.is_none_or(|limit| self.median() <= limit)
    }
}

fn main() -> anyhow::Result<ExitCode> {
    let directory = tempfile::tempdir().context("making room")?;
    let base = directory.path();
    fs::create_dir(base.join("app"))?;
    fs::write(base.join("app/requirements.txt"), "")?;
    fs::write(base.join("topology.json"), topology(APPS))?;
    fs::write(base.join("smaller.json"), topology(290))?;
    let hosts = base.join("hosts");
    let mut rows = vec![
        row("check", Some(200), || run(base, &["check"]))?,
        row("whatif, 300 nodes", Some(1000), || {
            run(base, &["whatif", "-f", "smaller.json"])
        })?,
        row("generate, cold", Some(1000), || {
            if hosts.exists() {
                fs::remove_dir_all(&hosts)?;
            }
            run(base, &["generate"])
        })?,
        row("generate, unchanged", Some(300), || {
            run(base, &["generate"])
        })?,
        row("cold, by mkdir and write", None, || {
            copy(&hosts, &base.join("copy"))
        })?,
        row("generate, one app more", Some(2000), || {
            run(base, &["add", "app"])?;
            run(base, &["generate"])
        })?,
    ];
    if let Some(nix) = exec::find("nix-instantiate") {
        rows.push(row("Nix parses 300 hosts", Some(1000), || {
            parse(&nix, &hosts)
        })?);
    }
    println!(
        "{} nodes, median of {RUNS}:",
        LOAD_BALANCERS + APPS + DATABASES
    );
    println!("{:<24} {:>9} {:>9} {:>10}", "WHAT", "TIME", "LIMIT", "");
    for row in &rows {
        let verdict = if row.limit.is_none() {
            "to compare"
        } else if row.is_fast_enough() {
            "ok"
        } else {
            "TOO SLOW"
        };
        let limit = row
            .limit
            .map_or_else(String::new, |limit| format!("{} ms", limit.as_millis()));
        let (what, time) = (row.what, row.median().as_millis());
        println!("{what:<24} {time:>6} ms {limit:>9} {verdict:>10}");
    }
    Ok(if rows.iter().all(Row::is_fast_enough) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Measures `work`, which returns how long its last step took.
fn row(
    what: &'static str,
    limit: Option<u64>,
    mut work: impl FnMut() -> anyhow::Result<Duration>,
) -> anyhow::Result<Row> {
    let times = (0..RUNS)
        .map(|_| work())
        .collect::<anyhow::Result<Vec<Duration>>>()
        .context(what)?;
    Ok(Row {
        what,
        limit: limit.map(Duration::from_millis),
        times,
    })
}

/// Runs the program and returns how long it took.
fn run(directory: &Path, arguments: &[&str]) -> anyhow::Result<Duration> {
    let start = Instant::now();
    let status = Command::new(env!("CARGO_BIN_EXE_gen-topology"))
        .args(arguments)
        .current_dir(directory)
        .env_remove("GEN_TOPOLOGY_FILE")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .context("starting gen-topology")?;
    let took = start.elapsed();
    ensure!(
        status.success(),
        "gen-topology {} ended with {status}",
        arguments.join(" ")
    );
    Ok(took)
}

/// Has Nix parse the files that machines are made from, and returns how long it took.
fn parse(nix: &Path, hosts: &Path) -> anyhow::Result<Duration> {
    let files = fs::read_dir(hosts)?
        .take(PARSED)
        .map(|entry| Ok(entry?.path().join("default.nix")))
        .collect::<anyhow::Result<Vec<PathBuf>>>()?;
    ensure!(files.len() == PARSED, "only {} hosts", files.len());
    let start = Instant::now();
    let status = Command::new(nix)
        .args(["--store", "dummy://", "--readonly-mode", "--parse"])
        .args(files)
        .stdout(Stdio::null())
        .status()
        .context("starting nix-instantiate")?;
    let took = start.elapsed();
    ensure!(status.success(), "nix-instantiate ended with {status}");
    Ok(took)
}

/// Makes the same files anew, by nothing but the system calls that it takes: what
/// is below this is out of reach on this disk with one thread.
fn copy(from: &Path, to: &Path) -> anyhow::Result<Duration> {
    let mut files = Vec::new();
    let mut directories = vec![PathBuf::new()];
    let mut next = 0;
    while let Some(below) = directories.get(next).cloned() {
        next += 1;
        for entry in fs::read_dir(from.join(&below))? {
            let entry = entry?;
            let path = below.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                directories.push(path);
            } else {
                files.push((path, fs::read(entry.path())?));
            }
        }
    }
    if to.exists() {
        fs::remove_dir_all(to)?;
    }
    let start = Instant::now();
    for directory in &directories {
        fs::create_dir(to.join(directory))?;
    }
    for (path, content) in &files {
        fs::write(to.join(path), content)?;
    }
    Ok(start.elapsed())
}

fn topology(apps: usize) -> String {
    let mut nodes = Vec::new();
    for (tier, stem, count, block) in [
        ("load-balancer", "lb", LOAD_BALANCERS, 16_usize),
        ("database", "db", DATABASES, 32),
        ("app", "app", apps, 64),
    ] {
        for index in 0..count {
            let mut node = String::new();
            let (high, low) = (block + index / 250, 1 + index % 250);
            let written = write!(
                node,
                "    \"{stem}-{}\": {{ \"tier\": \"{tier}\", \"address\": \"10.20.{high}.{low}\" }}",
                index + 1
            );
            debug_assert!(written.is_ok(), "a string takes everything");
            nodes.push(node);
        }
    }
    format!(
        "{{\n  \"version\": 1,\n  \"name\": \"large\",\n  \"network\": {{ \"subnet\": \"10.20.0.0/16\", \
         \"virtual_ip\": \"10.20.0.10\" }},\n  \"app\": {{ \"source\": \"./app\" }},\n  \"nodes\": {{\n{}\n  }}\n}}\n",
        nodes.join(",\n")
    )
}
