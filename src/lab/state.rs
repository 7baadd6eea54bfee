//! Where labs are: directories of files, and anchors among the processes.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};

use crate::exec;
use crate::topology::Name;

/// Word of the anchor's command line that marks it as ours.
const ANCHOR: &str = "anchor";

/// What a lab's directory says about it; `lab.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// Version of the directory's layout.
    pub version: u32,
    /// Name of the lab.
    pub name: String,
    /// Topology file it was made from, absolute.
    pub topology: PathBuf,
}

/// The directory of one lab.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Name of the lab.
    pub name: String,
    /// Its directory.
    pub directory: PathBuf,
}

/// A lab that has its anchor.
#[derive(Clone, Debug)]
pub struct RunningLab {
    /// Where its files are.
    pub place: Place,
    /// The anchor's process id, as seen from here.
    pub anchor: i32,
}

/// Directory of all labs of this user: `GEN_TOPOLOGY_STATE`, else below `XDG_STATE_HOME`.
///
/// # Errors
/// If neither those nor HOME are set.
pub fn labs_directory() -> anyhow::Result<PathBuf> {
    base("GEN_TOPOLOGY_STATE", "XDG_STATE_HOME", ".local/state").map(|base| base.join("labs"))
}

/// Directory of what was measured, beside the labs, which come and go.
///
/// # Errors
/// As [`labs_directory`].
pub fn runs_directory() -> anyhow::Result<PathBuf> {
    base("GEN_TOPOLOGY_STATE", "XDG_STATE_HOME", ".local/state").map(|base| base.join("runs"))
}

/// Directory of what can be fetched again: `GEN_TOPOLOGY_CACHE`, else below `XDG_CACHE_HOME`.
///
/// # Errors
/// If neither those nor HOME are set.
pub fn cache_directory() -> anyhow::Result<PathBuf> {
    base("GEN_TOPOLOGY_CACHE", "XDG_CACHE_HOME", ".cache")
}

fn base(own: &str, xdg: &str, fallback: &str) -> anyhow::Result<PathBuf> {
    let set = |name: &str| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    if let Some(directory) = set(own) {
        return std::path::absolute(&directory)
            .with_context(|| format!("{own}={}", directory.display()));
    }
    let parent = set(xdg).or_else(|| set("HOME").map(|home| home.join(fallback)));
    parent
        .map(|parent| parent.join("gen-topology"))
        .with_context(|| format!("set {own} or HOME"))
}

impl Place {
    /// The place of the lab called `name`, whether it exists or not.
    ///
    /// # Errors
    /// If the name can't be a lab's.
    pub fn of(name: &str) -> anyhow::Result<Self> {
        if let Err(why) = name.parse::<Name>() {
            bail!("`{name}` can't be the name of a lab: {why}");
        }
        Ok(Self {
            name: name.to_owned(),
            directory: labs_directory()?.join(name),
        })
    }

    /// Every place that has a directory, by name.
    ///
    /// # Errors
    /// If the directory of labs can't be read.
    pub fn all() -> anyhow::Result<Vec<Self>> {
        let labs = labs_directory()?;
        let Ok(entries) = fs::read_dir(&labs) else {
            return Ok(Vec::new());
        };
        let names = entries
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok());
        let mut names: Vec<String> = names
            .filter(|name| labs.join(name).join("lab.json").is_file())
            .collect();
        names.sort();
        names.iter().map(|name| Self::of(name)).collect()
    }

    /// What the directory says about the lab, if it is one.
    pub fn about(&self) -> Option<About> {
        let text = fs::read_to_string(self.directory.join("lab.json")).ok()?;
        serde_json::from_str(&text).ok()
    }

    /// Makes the directory, or takes it over if it is for the same topology file.
    ///
    /// # Errors
    /// If a lab of the same name belongs to another topology file, or the disk is full.
    pub fn claim(&self, topology: &Path) -> anyhow::Result<()> {
        let about = About {
            version: 1,
            name: self.name.clone(),
            topology: topology.to_path_buf(),
        };
        match self.about() {
            Some(old) if old == about => return Ok(()),
            Some(old) if self.anchor().is_some() => bail!(
                "a lab called {} runs from {}; choose another name with --lab, or end it with `gen-topology lab down --lab {}`",
                self.name,
                old.topology.display(),
                self.name
            ),
            _ => {}
        }
        let text = serde_json::to_string_pretty(&about)? + "\n";
        fs::create_dir_all(&self.directory)
            .and_then(|()| crate::files::replace(&self.directory.join("lab.json"), text.as_bytes()))
            .with_context(|| format!("writing to {}", self.directory.display()))
    }

    /// Keeps other commands from changing the same lab until the result is dropped.
    ///
    /// # Errors
    /// If another command is at it.
    pub fn lock(&self) -> anyhow::Result<File> {
        let labs = labs_directory()?;
        fs::create_dir_all(&labs).with_context(|| format!("creating {}", labs.display()))?;
        let path = labs.join(format!(".{}.lock", self.name));
        // Not truncated: it tells who has the lock.
        let mut file = File::options()
            .create(true)
            .read(true)
            .write(true)
            .truncate(false)
            .open(&path)
            .with_context(|| format!("creating {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => {
                // For whoever comes second; without it he is told less.
                let _ = file
                    .set_len(0)
                    .and_then(|()| file.write_all(exec::me().as_bytes()));
                Ok(file)
            }
            Err(fs::TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let _ = file.read_to_string(&mut holder);
                let holder = if holder.is_empty() {
                    "another command"
                } else {
                    holder.trim()
                };
                bail!(
                    "{holder} is changing the lab {}; try again when it is done",
                    self.name
                )
            }
            Err(fs::TryLockError::Error(error)) => {
                Err(error).with_context(|| format!("locking {}", path.display()))
            }
        }
    }

    /// Removes the file that [`Self::lock`] made; the lock itself lives until it is dropped.
    pub fn forget_lock(&self) {
        if let Ok(labs) = labs_directory() {
            let _ = fs::remove_file(labs.join(format!(".{}.lock", self.name)));
        }
    }

    /// The anchor's process id, if the lab runs.
    pub fn anchor(&self) -> Option<i32> {
        anchors()
            .into_iter()
            .find(|(directory, _)| *directory == self.directory)
            .map(|(_, pid)| pid)
    }

    /// The lab, if it runs.
    pub fn running(&self) -> Option<RunningLab> {
        self.anchor().map(|anchor| RunningLab {
            place: self.clone(),
            anchor,
        })
    }

    /// Directory of a node's files.
    pub fn node(&self, name: &str) -> PathBuf {
        self.directory.join("nodes").join(name)
    }

    /// Directory of the app's versions.
    pub fn app_versions(&self) -> PathBuf {
        self.directory.join("app")
    }

    /// Our program as the lab runs it: a copy, so that building a new one does not disturb the lab.
    pub fn program(&self) -> PathBuf {
        self.directory.join("bin/gen-topology")
    }
}

/// The anchors among the processes that can be seen: lab directory and process id.
/// Each is a child of the `unshare` that made its namespaces, which has the same
/// words in its command line; only the first process of a PID namespace counts.
fn anchors() -> Vec<(PathBuf, i32)> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let pids = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let mut found: Vec<(PathBuf, i32)> = pids
        .filter_map(|pid| Some((anchor_of(pid)?, pid)))
        .collect();
    found.sort();
    found
}

fn anchor_of(pid: i32) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStrExt as _;
    let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let mut words = line.split(|byte| *byte == 0);
    let program = Path::new(std::ffi::OsStr::from_bytes(words.next()?));
    if program.file_name()? != "gen-topology"
        || words.next()? != b"lab"
        || words.next()? != ANCHOR.as_bytes()
    {
        return None;
    }
    let directory = PathBuf::from(std::ffi::OsStr::from_bytes(words.next()?));
    // A dead process waiting to be reaped has no command line, so this one lives.
    Some(directory)
}
