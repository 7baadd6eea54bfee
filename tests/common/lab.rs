//! A place of its own for each test of the lab.

#![expect(clippy::expect_used, reason = "a test may stop")]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use serde_json::Value;

use super::turn::Turn;
use super::{PROGRAM, REPOSITORY, not_run};

/// A state directory of its own and a topology that can be changed.
pub(crate) struct Bench {
    pub(crate) directory: tempfile::TempDir,
    _turn: Turn,
}

impl Bench {
    /// A bench with a copy of one of the shipped topologies, or none where the lab can't run.
    pub(crate) fn new(test: &str, topology: &str) -> Option<Self> {
        Self::with(Turn::beside_others(), test, topology)
    }

    /// The same with no other lab or database beside it, because it measures times.
    pub(crate) fn alone(test: &str, topology: &str) -> Option<Self> {
        Self::with(Turn::alone(), test, topology)
    }

    fn with(turn: Turn, test: &str, topology: &str) -> Option<Self> {
        if let Some(why) = unable() {
            not_run(&format!("{test}: {why}"));
            return None;
        }
        let directory = tempfile::Builder::new()
            .prefix("gen-topology-lab-")
            .tempdir()
            .expect("a temporary directory");
        // Rootless tests enter it as another user.
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755))
            .expect("permissions");
        let text =
            fs::read_to_string(Path::new(REPOSITORY).join(topology)).expect("a shipped topology");
        let app = Path::new(REPOSITORY).join("app").display().to_string();
        let text = text
            .replace("\"./app\"", &format!("\"{app}\""))
            .replace("\"../app\"", &format!("\"{app}\""));
        let bench = Self {
            directory,
            _turn: turn,
        };
        fs::write(bench.topology(), text).expect("a topology");
        Some(bench)
    }

    pub(crate) fn topology(&self) -> PathBuf {
        self.directory.path().join("topology.json")
    }

    pub(crate) fn labs(&self) -> PathBuf {
        self.directory.path().join("state/labs")
    }

    /// The program with this bench's topology and state.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command
            .args(arguments)
            .current_dir(self.directory.path())
            .env("GEN_TOPOLOGY_STATE", self.directory.path().join("state"))
            .env("GEN_TOPOLOGY_CACHE", cache())
            .env("NO_COLOR", "1")
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("the program")
    }

    /// Runs, demands an exit code, and returns both outputs.
    #[track_caller]
    pub(crate) fn expect(&self, arguments: &[&str], code: i32) -> String {
        let output = self.run(arguments);
        let said = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        assert_eq!(output.status.code(), Some(code), "{arguments:?}:\n{said}");
        said
    }

    #[track_caller]
    pub(crate) fn status(&self) -> Value {
        let output = self.run(&["lab", "status", "--format", "json"]);
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    /// The state of one node.
    #[track_caller]
    pub(crate) fn node(&self, name: &str) -> Value {
        let status = self.status();
        let nodes = status["nodes"].as_array().expect("nodes").clone();
        nodes
            .into_iter()
            .find(|node| node["name"] == name)
            .expect("the node")
    }

    /// Process ids of the nodes' first processes, by node.
    pub(crate) fn pids(&self, lab: &str) -> BTreeSet<String> {
        let nodes = fs::read_dir(self.labs().join(lab).join("nodes")).expect("nodes");
        nodes
            .flatten()
            .map(|node| {
                let pid = fs::read_to_string(node.path().join("pid")).unwrap_or_default();
                format!("{} {}", node.file_name().to_string_lossy(), pid.trim())
            })
            .collect()
    }

    /// The anchor of a lab of this bench, found as a person would find it.
    pub(crate) fn anchor(&self, lab: &str) -> Option<String> {
        let directory = self.labs().join(lab).display().to_string();
        processes()
            .into_iter()
            .find(|(_, line)| {
                line.contains("lab\0anchor\0")
                    && line.contains(&directory)
                    && !line.starts_with("unshare")
                    && !line.contains("setsid")
            })
            .map(|(pid, _)| pid)
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        // Whatever a failed test has left.
        for entry in fs::read_dir(self.labs()).into_iter().flatten().flatten() {
            if let Some(name) = entry
                .file_name()
                .to_str()
                .filter(|name| !name.starts_with('.'))
            {
                let _ = self.run(&["lab", "down", "--lab", name]);
            }
        }
    }
}

/// Where fetched things are kept from one test run to the next.
pub(crate) fn cache() -> PathBuf {
    std::env::var_os("GEN_TOPOLOGY_CACHE").map_or_else(
        || {
            let home = std::env::var_os("HOME").unwrap_or_default();
            let base = std::env::var_os("XDG_CACHE_HOME")
                .map_or_else(|| PathBuf::from(home).join(".cache"), PathBuf::from);
            base.join("gen-topology")
        },
        PathBuf::from,
    )
}

/// Why no lab can run on this machine, if so.
pub(crate) fn unable() -> Option<&'static str> {
    static WHY: OnceLock<Option<String>> = OnceLock::new();
    WHY.get_or_init(|| {
        let doctor = Command::new(PROGRAM)
            .args(["doctor"])
            .env("GEN_TOPOLOGY_CACHE", cache())
            .output()
            .expect("doctor");
        (!doctor.status.success()).then(|| {
            String::from_utf8_lossy(&doctor.stderr)
                .trim()
                .replace('\n', "; ")
        })
    })
    .as_deref()
}

pub(crate) fn processes() -> Vec<(String, String)> {
    let entries = fs::read_dir("/proc").expect("/proc").flatten();
    let pids = entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.bytes().all(|b| b.is_ascii_digit()));
    pids.filter_map(|pid| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        Some((pid, String::from_utf8_lossy(&line).into_owned()))
    })
    .collect()
}
