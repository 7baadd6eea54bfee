//! Rendered files and the directory `hosts/`: what differs, and making it equal.
//!
//! Everything is looked at before anything is written. Only files that carry our
//! mark are ever replaced or removed. An export is written the same way ([`Tree`]).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::files;
use crate::render::{FACTS, Rendered, is_generated};

/// What has to happen to make a directory equal to what was rendered.
#[derive(Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Changes {
    /// Files to create, relative to the directory.
    pub created: Vec<PathBuf>,
    /// Files to replace.
    pub changed: Vec<PathBuf>,
    /// Files of ours that are no longer rendered.
    pub removed: Vec<PathBuf>,
    /// Files that are as they should be.
    pub unchanged: usize,
    /// Files that are in the way and not ours. With one of them nothing is written.
    pub foreign: Vec<PathBuf>,
}

impl Changes {
    /// Whether the directory is as it should be.
    pub fn is_empty(&self) -> bool {
        self.created.is_empty()
            && self.changed.is_empty()
            && self.removed.is_empty()
            && self.foreign.is_empty()
    }

    fn absorb(&mut self, other: Changes) {
        self.created.extend(other.created);
        self.changed.extend(other.changed);
        self.removed.extend(other.removed);
        self.unchanged += other.unchanged;
        self.foreign.extend(other.foreign);
    }

    fn sort(&mut self) {
        for list in [
            &mut self.created,
            &mut self.changed,
            &mut self.removed,
            &mut self.foreign,
        ] {
            list.sort();
        }
    }
}

/// The files that belong below one directory: a node's, or an export.
#[derive(Clone, Debug)]
pub struct Tree<'a> {
    /// Name of the directory.
    pub name: &'a str,
    /// Path below it → text.
    pub files: BTreeMap<&'a str, &'a str>,
}

impl<'a> From<&'a Rendered> for Tree<'a> {
    fn from(node: &'a Rendered) -> Self {
        let files = node.files.iter();
        let files = files.map(|(path, text)| (path.as_ref(), text.as_ref()));
        Self {
            name: &node.node,
            files: files.collect(),
        }
    }
}

fn trees(rendered: &[Rendered]) -> Vec<Tree<'_>> {
    rendered.iter().map(Tree::from).collect()
}

/// Compares `directory` with `rendered`; reads only.
pub fn diff(directory: &Path, rendered: &[Rendered]) -> anyhow::Result<Changes> {
    let mut changes = diff_trees(directory, &trees(rendered))?;
    let wanted: BTreeSet<&str> = rendered.iter().map(|node| node.node.as_str()).collect();
    for entry in entries(directory)? {
        let name = entry.file_name();
        let known = name.to_str().is_some_and(|name| wanted.contains(name));
        if known || !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        // A directory without our facts is none of ours, whatever it holds.
        let is_ours = fs::read(entry.path().join(FACTS)).is_ok_and(|text| is_generated(&text));
        if is_ours {
            sort_out(
                directory,
                &PathBuf::from(&name),
                &BTreeSet::new(),
                true,
                &mut changes,
            )?;
        }
    }
    changes.sort();
    Ok(changes)
}

/// Compares the directories of `trees` below `directory`, whatever is beside them.
pub fn diff_trees(directory: &Path, trees: &[Tree<'_>]) -> anyhow::Result<Changes> {
    let mut changes = in_parallel(trees, |tree| diff_node(directory, tree))?
        .into_iter()
        .fold(Changes::default(), |mut all, one| {
            all.absorb(one);
            all
        });
    changes.sort();
    Ok(changes)
}

/// Makes `directory` equal to `rendered`. Does nothing where a foreign file is in the way.
pub fn write(directory: &Path, rendered: &[Rendered], changes: &Changes) -> anyhow::Result<()> {
    write_trees(directory, &trees(rendered), changes)
}

/// Makes the directories of `trees` below `directory` equal to them, likewise.
pub fn write_trees(directory: &Path, trees: &[Tree<'_>], changes: &Changes) -> anyhow::Result<()> {
    if !changes.foreign.is_empty() || changes.is_empty() {
        return Ok(());
    }
    fs::create_dir_all(directory).with_context(|| format!("creating {}", directory.display()))?;
    // What goes goes first: a node's facts, written last, then say that all is done.
    let mut emptied = BTreeSet::new();
    for file in &changes.removed {
        let path = directory.join(file);
        fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))?;
        emptied.extend(file.ancestors().skip(1).map(Path::to_path_buf));
    }
    // Deepest first; a directory that still holds something stays.
    for below in emptied
        .iter()
        .rev()
        .filter(|path| !path.as_os_str().is_empty())
    {
        let _ = fs::remove_dir(directory.join(below));
    }
    let touched: BTreeSet<&Path> = changes
        .created
        .iter()
        .chain(&changes.changed)
        .map(PathBuf::as_path)
        .collect();
    in_parallel(trees, |tree| write_node(directory, tree, &touched)).map(drop)
}

fn diff_node(directory: &Path, node: &Tree<'_>) -> anyhow::Result<Changes> {
    let mut changes = Changes::default();
    let root = PathBuf::from(node.name);
    if let Some(obstacle) = obstacle(directory, &root) {
        changes.foreign.push(obstacle);
        return Ok(changes);
    }
    let mut same_facts = false;
    for (path, text) in &node.files {
        let relative = root.join(path);
        match fs::read(directory.join(&relative)) {
            Ok(old) if old == text.as_bytes() => {
                changes.unchanged += 1;
                same_facts |= *path == FACTS;
            }
            Ok(old) if is_generated(&old) => changes.changed.push(relative),
            Err(error) if error.kind() == io::ErrorKind::NotFound => changes.created.push(relative),
            // Somebody else's, or a directory or a device stands where ours belongs.
            Ok(_) | Err(_) => changes.foreign.push(relative),
        }
    }
    let below: BTreeSet<&Path> = changes
        .created
        .iter()
        .chain(&changes.changed)
        .chain(&changes.foreign)
        .filter_map(|path| path.parent())
        .collect();
    let obstacles: BTreeSet<PathBuf> = below
        .into_iter()
        .filter_map(|path| obstacle(directory, path))
        .collect();
    changes
        .foreign
        .retain(|path| obstacles.iter().all(|obstacle| !path.starts_with(obstacle)));
    changes.foreign.extend(obstacles);
    // The facts list the files: as long as they are the same, none is left over.
    if !same_facts && directory.join(&root).is_dir() {
        let wanted: BTreeSet<PathBuf> = node.files.keys().map(|path| root.join(path)).collect();
        sort_out(directory, &root, &wanted, false, &mut changes)?;
    }
    Ok(changes)
}

/// Looks through a directory for files that are not `wanted`: ours are to be
/// removed; others are in the way only if the whole node goes.
fn sort_out(
    directory: &Path,
    below: &Path,
    wanted: &BTreeSet<PathBuf>,
    whole: bool,
    changes: &mut Changes,
) -> anyhow::Result<()> {
    for entry in entries(&directory.join(below))? {
        let relative = below.join(entry.file_name());
        let kind = entry.file_type()?;
        if kind.is_dir() {
            sort_out(directory, &relative, wanted, whole, changes)?;
        } else if !wanted.contains(&relative) {
            let is_ours =
                kind.is_file() && fs::read(entry.path()).is_ok_and(|text| is_generated(&text));
            match (is_ours, whole) {
                (true, _) => changes.removed.push(relative),
                (false, true) => changes.foreign.push(relative),
                (false, false) => {}
            }
        }
    }
    Ok(())
}

fn write_node(directory: &Path, node: &Tree<'_>, touched: &BTreeSet<&Path>) -> anyhow::Result<()> {
    let root = directory.join(node.name);
    let is_new = !root.exists();
    let target = if is_new {
        directory.join(format!(".{}.new", node.name))
    } else {
        root.clone()
    };
    let mut made = BTreeSet::new();
    for (path, text) in &node.files {
        if !touched.contains(Path::new(node.name).join(path).as_path()) {
            continue;
        }
        let file = target.join(path);
        let parent = file.parent().unwrap_or(&target).to_path_buf();
        if made.insert(parent.clone()) {
            fs::create_dir_all(&parent)
                .with_context(|| format!("creating {}", parent.display()))?;
        }
        // A new node appears as a whole by the rename below; a file of an old one by its own.
        let written = if is_new {
            fs::write(&file, text.as_bytes())
        } else {
            files::replace(&file, text.as_bytes())
        };
        written.with_context(|| format!("writing {}", file.display()))?;
    }
    if is_new && target.exists() {
        fs::rename(&target, &root).with_context(|| format!("creating {}", root.display()))?;
    }
    Ok(())
}

/// The facts of every node below `directory` that is ours: file and text, by name.
pub fn facts(directory: &Path) -> anyhow::Result<Vec<(PathBuf, String)>> {
    let mut found = Vec::new();
    for entry in entries(directory)? {
        let file = entry.path().join(FACTS);
        // What has no facts of ours is none of ours.
        if let Ok(text) = fs::read_to_string(&file)
            && is_generated(text.as_bytes())
        {
            found.push((file, text));
        }
    }
    found.sort();
    Ok(found)
}

/// A unified diff of what `write` would do, for people.
pub fn unified(directory: &Path, rendered: &[Rendered], changes: &Changes) -> String {
    unified_trees(directory, &trees(rendered), changes)
}

/// A unified diff of what `write_trees` would do, for people.
pub fn unified_trees(directory: &Path, trees: &[Tree<'_>], changes: &Changes) -> String {
    let wanted: BTreeMap<PathBuf, &str> = trees
        .iter()
        .flat_map(|node| {
            node.files
                .iter()
                .map(|(path, text)| (PathBuf::from(node.name).join(path), *text))
        })
        .collect();
    let mut text = String::new();
    for path in changes
        .created
        .iter()
        .chain(&changes.changed)
        .chain(&changes.removed)
    {
        let old = fs::read_to_string(directory.join(path)).unwrap_or_default();
        let new = wanted.get(path).copied().unwrap_or_default();
        let name = path.display().to_string();
        let diff = similar::TextDiff::from_lines(old.as_str(), new);
        text.push_str(
            &diff
                .unified_diff()
                .header(&format!("a/{name}"), &format!("b/{name}"))
                .to_string(),
        );
    }
    text
}

/// The first part of `relative` that is there and no directory. A link to one is
/// none: what is behind it is outside of `directory`.
fn obstacle(directory: &Path, relative: &Path) -> Option<PathBuf> {
    let mut path = PathBuf::new();
    for part in relative.components() {
        path.push(part);
        // Below what is not there nothing is in the way.
        if !directory.join(&path).symlink_metadata().ok()?.is_dir() {
            return Some(path);
        }
    }
    None
}

fn entries(directory: &Path) -> anyhow::Result<Vec<fs::DirEntry>> {
    match fs::read_dir(directory) {
        Ok(entries) => entries
            .collect::<io::Result<_>>()
            .with_context(|| format!("reading {}", directory.display())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error).with_context(|| format!("reading {}", directory.display())),
    }
}

/// `work` on each item, on all processors; results in the order of the items.
fn in_parallel<T: Sync, R: Send>(
    items: &[T],
    work: impl Fn(&T) -> anyhow::Result<R> + Sync,
) -> anyhow::Result<Vec<R>> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let size = items.len().div_ceil(threads).max(1);
    let work = &work;
    let chunks: Vec<anyhow::Result<Vec<R>>> = std::thread::scope(|scope| {
        let running: Vec<_> = items
            .chunks(size)
            .map(|chunk| scope.spawn(move || chunk.iter().map(work).collect()))
            .collect();
        running
            .into_iter()
            .map(|thread| {
                thread
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
            .collect()
    });
    chunks
        .into_iter()
        .collect::<anyhow::Result<Vec<Vec<R>>>>()
        .map(|all| all.into_iter().flatten().collect())
}
