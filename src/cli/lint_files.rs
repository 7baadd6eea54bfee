//! The files that `lint` is told to check: those that are named, those in a directory, and
//! those that Keepalived's include.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};

use super::diagnostics::readable;
use crate::lint::{self, File, Kind};
use crate::native::keepalived::Config;

/// The most files that are included.
const MOST: usize = 1000;

/// What was read.
#[derive(Default)]
pub(super) struct Input {
    pub files: Vec<File>,
    /// For each directory the files in it that `lint` does not know.
    pub skipped: Vec<String>,
    /// Each file's path without links; none for standard input.
    paths: Vec<Option<PathBuf>>,
}

/// Reads what `named` names: files, directories, `-` for standard input.
///
/// # Errors
/// If a file can't be read, or none of `lint`'s kinds fits one that is named.
pub(super) fn read(named: &[PathBuf]) -> anyhow::Result<Input> {
    let mut read = Input::default();
    let mut refused = Vec::new();
    for path in named {
        if path == Path::new("-") {
            let text =
                std::io::read_to_string(std::io::stdin()).context("reading standard input")?;
            read.add("-".into(), None, &text, &mut refused);
        } else if path.is_dir() {
            read.directory(path)?;
        } else {
            let name = path.display().to_string();
            let bytes = std::fs::read(path).with_context(|| format!("reading {name}"))?;
            read.add(
                name,
                path.canonicalize().ok(),
                &readable(&bytes),
                &mut refused,
            );
        }
    }
    if !refused.is_empty() {
        return Err(anyhow!("{}", refused.join("\n")));
    }
    let mut at = 0;
    while at < read.files.len() {
        read.include(at);
        at += 1;
    }
    Ok(read)
}

impl Input {
    /// A file, unless it is there already under another name.
    fn add(&mut self, name: String, path: Option<PathBuf>, text: &str, refused: &mut Vec<String>) {
        if path.is_some() && self.paths.contains(&path) {
            return;
        }
        match lint::recognise(&name, text) {
            Some(kind) => self.push(name, path, text, kind),
            None => refused.push(format!("{name}: {}", lint::refusal(&name, text))),
        }
    }

    fn push(&mut self, path: String, real: Option<PathBuf>, text: &str, kind: Kind) {
        self.files.push(File {
            path,
            text: text.to_owned(),
            kind,
            included: BTreeMap::new(),
        });
        self.paths.push(real);
    }

    /// The files of a directory in the order of their names, as haproxy reads them.
    fn directory(&mut self, directory: &Path) -> anyhow::Result<()> {
        let reading = || format!("reading {}", directory.display());
        let mut paths = Vec::new();
        for entry in std::fs::read_dir(directory).with_context(reading)? {
            paths.push(entry.with_context(reading)?.path());
        }
        paths.sort();
        let before = self.files.len();
        let mut unknown = Vec::new();
        for path in paths.iter().filter(|path| path.is_file()) {
            let name = path.display().to_string();
            match std::fs::read(path) {
                Ok(bytes) => {
                    let real = path.canonicalize().ok();
                    self.add(name, real, &readable(&bytes), &mut unknown);
                }
                Err(error) => unknown.push(format!("{name}: {error}")),
            }
        }
        if self.files.len() == before {
            let what = directory.display();
            return Err(anyhow!(
                "{what}: no file in this directory is one that lint knows"
            ));
        }
        if !unknown.is_empty() {
            let (count, what) = (unknown.len(), directory.display());
            let names = unknown.iter().filter_map(|line| line.split(": ").next());
            let names: Vec<&str> = names.filter_map(|name| name.rsplit('/').next()).collect();
            self.skipped
                .push(format!("{count} of {what}: {}", names.join(", ")));
        }
        Ok(())
    }

    /// What the `include` lines of a Keepalived file name.
    fn include(&mut self, index: usize) {
        let Some((file, Some(path))) = self.files.get(index).zip(self.paths.get(index)) else {
            return;
        };
        if !matches!(file.kind, Kind::Keepalived | Kind::KeepalivedPart) {
            return;
        }
        let Ok(config) = Config::parse(&file.text) else {
            return;
        };
        let directory = path.parent().unwrap_or(Path::new("/")).to_owned();
        for line in &config.includes {
            let Some(paths) = matching(&directory, line.word(1)) else {
                continue;
            };
            let named: Vec<usize> = paths.iter().filter_map(|path| self.part(path)).collect();
            if named.len() == paths.len()
                && let Some(file) = self.files.get_mut(index)
            {
                file.included.insert(line.word(1).to_owned(), named);
            }
        }
    }

    /// The place of a file that is included; it is not looked at by itself.
    fn part(&mut self, path: &Path) -> Option<usize> {
        let real = Some(path.canonicalize().ok()?);
        if let Some(at) = self.paths.iter().position(|path| *path == real) {
            self.files.get_mut(at)?.kind = Kind::KeepalivedPart;
            return Some(at);
        }
        let bytes = std::fs::read(path)
            .ok()
            .filter(|_| self.files.len() < MOST)?;
        let name = path.display().to_string();
        self.push(name, real, &readable(&bytes), Kind::KeepalivedPart);
        Some(self.files.len() - 1)
    }
}

/// The files that a pattern names on this machine; nothing if none is there, unless the
/// directory of a wildcard is.
fn matching(directory: &Path, pattern: &str) -> Option<Vec<PathBuf>> {
    let whole = directory.join(pattern);
    let found = glob::glob(whole.to_str()?).ok()?;
    let files: Vec<PathBuf> = found.flatten().filter(|path| path.is_file()).collect();
    let wild = pattern.contains(['*', '?', '[']) && whole.parent().is_some_and(Path::is_dir);
    (wild || !files.is_empty()).then_some(files)
}
