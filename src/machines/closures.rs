//! Systems for machines: built by Nix or given, and copied.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, bail};

use super::Ssh;
use crate::exec::{self, all_of, in_parallel};

/// Copies that are made at the same time.
const AT_ONCE: usize = 4;

/// The file of a system that says whose it is.
const FACTS: &str = "etc/gen-topology/node.json";

/// Node → system, as it is in the Nix store.
pub type Closures = BTreeMap<String, String>;

/// Builds the systems of these nodes from the flake in a directory.
///
/// # Errors
/// If Nix can't, with what it says, or something else comes out.
pub fn build(flake: &Path, nodes: &[String]) -> anyhow::Result<Closures> {
    let mut command = nix()?;
    command.args(["build", "--no-link", "--print-out-paths"]);
    let flake = flake
        .canonicalize()
        .with_context(|| format!("finding {}", flake.display()))?;
    for node in nodes {
        let attribute = format!("nixosConfigurations.{node}.config.system.build.toplevel");
        command.arg(format!("{}#{attribute}", flake.display()));
    }
    let said = exec::run_within(&mut command, None, exec::LONG)
        .context("building the machines' systems")?;
    let paths: BTreeSet<&str> = said
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let mut closures = Closures::new();
    for path in paths {
        closures.insert(owner(Path::new(path))?, path.to_owned());
    }
    if let Some(missing) = nodes.iter().find(|node| !closures.contains_key(*node)) {
        bail!(
            "Nix built no system of {missing}; is {} fresh? `gen-topology generate` makes it so",
            flake.join("hosts").display()
        );
    }
    Ok(closures)
}

/// Whose system this is, by its own account.
fn owner(system: &Path) -> anyhow::Result<String> {
    let file = system.join(FACTS);
    let text = fs::read_to_string(&file).with_context(|| {
        format!(
            "reading {}; it is no system of a node of ours",
            file.display()
        )
    })?;
    let facts: serde_json::Value =
        serde_json::from_str(&text).with_context(|| format!("reading {}", file.display()))?;
    let name = facts.get("name").and_then(serde_json::Value::as_str);
    Ok(name
        .with_context(|| format!("{} has no name", file.display()))?
        .to_owned())
}

/// Systems that were built elsewhere: a JSON object `{ "node": "/nix/store/…" }`, or a
/// directory with a link to each, called like its node.
///
/// # Errors
/// If it can't be read, or one of them is not in the Nix store.
pub fn given(place: &Path) -> anyhow::Result<Closures> {
    let what = || format!("reading {}", place.display());
    let closures: Closures = if place.is_dir() {
        let mut links = Closures::new();
        for entry in fs::read_dir(place).with_context(what)? {
            let entry = entry.with_context(what)?;
            let target = entry.path().canonicalize().with_context(what)?;
            links.insert(
                entry.file_name().to_string_lossy().into_owned(),
                target.display().to_string(),
            );
        }
        links
    } else {
        serde_json::from_str(&fs::read_to_string(place).with_context(what)?).with_context(what)?
    };
    if let Some((node, path)) = closures
        .iter()
        .find(|(_, path)| !path.starts_with("/nix/store/"))
    {
        bail!(
            "{}: the system of {node}, {path}, is not in /nix/store",
            place.display()
        );
    }
    Ok(closures)
}

/// What copying a system to a machine would write there, in bytes.
///
/// # Errors
/// If Nix can't tell, here or there.
pub fn missing_bytes(ssh: &Ssh, node: &str, system: &str) -> anyhow::Result<u64> {
    let mut command = nix()?;
    let sizes = exec::run(
        command.args(["path-info", "--recursive", "--size", system]),
        None,
    )?;
    let sizes: BTreeMap<&str, u64> = sizes
        .lines()
        .filter_map(|line| {
            let (path, size) = line.split_once(char::is_whitespace)?;
            Some((path, size.trim().parse().ok()?))
        })
        .collect();
    let list: Vec<&str> = sizes.keys().copied().collect();
    let invalid = "xargs nix-store --check-validity --print-invalid";
    let missing = ssh.run(node, &["sh", "-c", invalid], Some(&list.join("\n")))?;
    Ok(missing
        .lines()
        .filter_map(|path| sizes.get(path.trim()))
        .sum())
}

/// Copies each system to its machine. Nothing there uses it yet.
///
/// # Errors
/// For each machine that did not get its own.
pub fn copy(ssh: &Ssh, closures: &Closures) -> Result<(), Vec<anyhow::Error>> {
    let all: Vec<(&String, &String)> = closures.iter().collect();
    let copied = in_parallel(&all, AT_ONCE, |(node, system)| copy_one(ssh, node, system));
    all_of(copied).map(drop)
}

fn copy_one(ssh: &Ssh, node: &str, system: &str) -> anyhow::Result<()> {
    let mut command = nix()?;
    let program = if ssh.becomes_root() {
        "?remote-program=sudo%20-n%20nix-daemon"
    } else {
        ""
    };
    command
        .args(["copy", "--no-check-sigs", "--to"])
        .arg(format!("ssh-ng://{node}{program}"))
        .arg(system)
        .env("NIX_SSHOPTS", ssh.for_nix());
    exec::run_within(&mut command, None, exec::LONG)
        .map(drop)
        .with_context(|| format!("copying the system of {node}"))
}

fn nix() -> anyhow::Result<Command> {
    let program = exec::find("nix").context(
        "nix is missing here; install it, or give systems built elsewhere by --closures",
    )?;
    let mut command = Command::new(program);
    command.args(["--extra-experimental-features", "nix-command flakes"]);
    Ok(command)
}
