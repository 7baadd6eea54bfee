//! The application's own secrets: a file for each name, below the directory of a stack's, a lab's
//! or a node's secrets. People write them; nothing but the application reads what is in them.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use anyhow::{Context as _, anyhow, ensure};

use super::Secrets;
use crate::files;

/// Directory of the application's own secrets, below the directory of secrets.
pub const APP: &str = "app";
/// Random bytes of a secret that is made.
const BYTES: usize = 32;

/// The application's own secrets in a directory of secrets.
#[derive(Clone, Debug)]
pub struct AppSecrets {
    directory: PathBuf,
}

impl AppSecrets {
    /// Those of a stack, a lab or a node.
    pub fn of(secrets: &Secrets) -> Self {
        Self {
            directory: secrets.directory().join(APP),
        }
    }

    /// Where one is.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Whether one is there.
    pub fn has(&self, name: &str) -> bool {
        self.path(name).is_file()
    }

    /// The names of those that are not there.
    pub fn missing<'n>(&self, names: impl IntoIterator<Item = &'n str>) -> Vec<&'n str> {
        let names = names.into_iter();
        names.filter(|name| !self.has(name)).collect()
    }

    /// Puts a value in its place; the one before is gone.
    ///
    /// # Errors
    /// If the value can't be a variable's, or can't be written.
    pub fn set(&self, name: &str, value: &[u8]) -> anyhow::Result<()> {
        ensure!(!value.is_empty(), "the value of {name} is empty");
        ensure!(
            !value.contains(&0) && std::str::from_utf8(value).is_ok(),
            "the value of {name} is not text: an environment variable can't hold it"
        );
        self.write(name, value)
    }

    /// Puts a random value in its place.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn make(&self, name: &str) -> anyhow::Result<()> {
        let mut random = vec![0; BYTES];
        getrandom::fill(&mut random)
            .map_err(|error| anyhow!("asking for random numbers: {error}"))?;
        self.write(name, hex::encode(random).as_bytes())
    }

    /// Brings another place to have these, and no others.
    ///
    /// # Errors
    /// If one is missing, or can't be written.
    pub fn give(&self, names: &[String], to: &Self) -> anyhow::Result<()> {
        for entry in fs::read_dir(&to.directory).into_iter().flatten().flatten() {
            let name = entry.file_name();
            if names.iter().all(|kept| **kept != *name) {
                files::remove(&entry.path())
                    .with_context(|| format!("removing {}", entry.path().display()))?;
            }
        }
        for name in names {
            let path = self.path(name);
            let value = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
            if fs::read(to.path(name)).is_ok_and(|old| old == value) {
                continue;
            }
            to.write(name, &value)?;
        }
        Ok(())
    }

    /// A text that is another one when any of these was written: when each was, and nothing
    /// of what it holds, which a short value's checksum would give away.
    ///
    /// # Errors
    /// If one can't be looked at.
    pub fn version(&self, names: &[String]) -> anyhow::Result<String> {
        let line = |name: &String| {
            let path = self.path(name);
            let written = path.metadata().and_then(|data| data.modified());
            let written = written.with_context(|| format!("looking at {}", path.display()))?;
            let since = written.duration_since(UNIX_EPOCH).unwrap_or_default();
            Ok(format!("{name} {}\n", since.as_nanos()))
        };
        names.iter().map(line).collect()
    }

    fn write(&self, name: &str, value: &[u8]) -> anyhow::Result<()> {
        let parent = self.directory.parent().unwrap_or(Path::new("."));
        Secrets::at(parent).make_ignored_directory()?;
        Secrets::at(&self.directory).make_directory()?;
        let path = self.path(name);
        files::replace_private(&path, value).with_context(|| format!("writing {}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn store(name: &str, directory: &tempfile::TempDir) -> AppSecrets {
        AppSecrets::of(&Secrets::at(directory.path().join(name)))
    }

    #[test]
    fn what_is_set_is_given_and_nothing_else_stays() {
        let directory = tempfile::tempdir().unwrap();
        let (stack, node) = (store("stack", &directory), store("node", &directory));
        assert_eq!(stack.missing(["A", "B"]), ["A", "B"]);
        stack.set("A", b"one").unwrap();
        stack.make("B").unwrap();
        assert!(stack.missing(["A", "B"]).is_empty());
        let mode = stack.path("A").metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let both = ["A".to_owned(), "B".to_owned()];
        stack.give(&both, &node).unwrap();
        assert_eq!(fs::read(node.path("A")).unwrap(), b"one");
        assert_eq!(fs::read(node.path("B")).unwrap().len(), 2 * BYTES);
        stack.give(&both[..1], &node).unwrap();
        assert!(!node.has("B"));
        let before = stack.version(&both).unwrap();
        assert_eq!(before, stack.version(&both).unwrap());
        assert!(!before.contains("one"));
        stack.set("A", b"two").unwrap();
        assert_ne!(before, stack.version(&both).unwrap());
    }

    #[test]
    fn what_no_variable_holds_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let store = store("stack", &directory);
        for value in [&b""[..], b"a\0b", b"\xff"] {
            assert!(store.set("A", value).is_err(), "{value:?}");
        }
        assert!(!store.has("A"));
    }
}
