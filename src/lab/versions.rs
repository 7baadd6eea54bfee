//! Versions of the application, side by side: a copy of its code in the lab's
//! directory for each, named after its content. A node has a link to the one that it
//! runs, as on NixOS it has a link into the store, so that a new version is put in
//! place by changing the link, and the old one is there to go back to.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use ignore::WalkBuilder;
use sha2::{Digest as _, Sha256};

/// Where nodes see the directory of versions.
pub const INSIDE: &str = "/opt/gen-topology/app";

/// What tools leave beside the code and no app needs; and `.env`, where many frameworks have a developer's
/// secrets. Those of the stack have a place of their own. `nix/stack.nix` leaves out the same.
const LEFT_OUT: [&str; 9] = [
    ".env",
    ".gen-topology",
    ".git",
    ".venv",
    ".mypy_cache",
    ".pytest_cache",
    ".ruff_cache",
    "__pycache__",
    "node_modules",
];

/// Files beside the topology that are no part of an application in the same directory.
const OURS: [&str; 2] = ["topology.json", "topology.schema.json"];

/// Where `generate` writes; it changes with every setting, and no application reads it.
const RENDERED: &str = "hosts";

/// The name of what `source` holds now: the first 12 hexadecimal digits of the
/// SHA-256 of its files with their paths, and whether they may be run. `built` is a directory
/// in it that counts although git may ignore it: the static files.
///
/// # Errors
/// If something in it can't be read.
pub fn of(source: &Path, built: Option<&Path>) -> anyhow::Result<String> {
    let mut sum = Sha256::new();
    for (relative, kind) in files(source, built)? {
        let path = source.join(&relative);
        let content = match kind {
            Kind::Link => fs::read_link(&path)
                .with_context(|| format!("reading {}", path.display()))?
                .as_os_str()
                .as_bytes()
                .to_vec(),
            Kind::File | Kind::Program => {
                fs::read(&path).with_context(|| format!("reading {}", path.display()))?
            }
        };
        // Lengths, so that no other tree gives the same bytes.
        for part in [relative.as_os_str().as_bytes(), &content] {
            sum.update((part.len() as u64).to_le_bytes());
            sum.update(part);
        }
        sum.update([kind as u8]);
    }
    Ok(hex::encode(sum.finalize())[..12].to_owned())
}

/// Copies `source`, which is `version`, below `versions`, unless it is there.
///
/// # Errors
/// If it can't be copied, or changed since [`of`] was asked.
pub fn keep(
    source: &Path,
    built: Option<&Path>,
    versions: &Path,
    version: &str,
) -> anyhow::Result<()> {
    let target = versions.join(version);
    if target.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(versions).with_context(|| format!("creating {}", versions.display()))?;
    let copy = tempfile::Builder::new()
        .prefix(".new-")
        .permissions(fs::Permissions::from_mode(0o755))
        .tempdir_in(versions)
        .with_context(|| format!("making room in {}", versions.display()))?;
    for (relative, kind) in files(source, built)? {
        let (from, to) = (source.join(&relative), copy.path().join(&relative));
        let copied =
            fs::create_dir_all(to.parent().unwrap_or(copy.path())).and_then(|()| match kind {
                Kind::Link => symlink(fs::read_link(&from)?, &to),
                Kind::File | Kind::Program => fs::copy(&from, &to).map(drop),
            });
        copied.with_context(|| format!("copying {} to {}", from.display(), to.display()))?;
    }
    ensure!(
        of(copy.path(), built)? == version,
        "{} was changed while it was copied; try again",
        source.display()
    );
    fs::rename(copy.path(), &target).with_context(|| format!("creating {}", target.display()))?;
    Ok(())
}

/// Removes the versions that are not in `used`.
pub fn forget(versions: &Path, used: &BTreeSet<&str>) {
    for entry in fs::read_dir(versions).into_iter().flatten().flatten() {
        if entry
            .file_name()
            .to_str()
            .is_some_and(|name| !used.contains(name))
        {
            // What can't be removed costs room, nothing else.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

#[derive(Clone, Copy)]
enum Kind {
    File,
    Program,
    Link,
}

/// Every file below `source` that git would not ignore, and all of `built` below it, sorted.
fn files(source: &Path, built: Option<&Path>) -> anyhow::Result<BTreeMap<PathBuf, Kind>> {
    let mut found = below(source, source, true)?;
    if let Some(directory) = built.map(|built| source.join(built)) {
        found.extend(below(source, &directory, false)?);
    }
    Ok(found)
}

fn below(source: &Path, directory: &Path, as_git: bool) -> anyhow::Result<BTreeMap<PathBuf, Kind>> {
    let has_rendered = is_rendered(&source.join(RENDERED));
    // Only what stands in the source itself counts, so that the same source is the same version everywhere.
    let walk = WalkBuilder::new(directory)
        .standard_filters(false)
        .git_ignore(as_git)
        .require_git(false)
        .filter_entry(move |entry| {
            // Where the application's directory is the topology's own.
            let name = entry.file_name();
            let is_ours =
                OURS.iter().any(|ours| name == *ours) || (has_rendered && name == RENDERED);
            let is_ours = is_ours && entry.depth() == 1;
            !is_ours && !is_left_out(name)
        })
        .build();
    let mut found = BTreeMap::new();
    for entry in walk {
        let entry = entry.with_context(|| format!("reading {}", directory.display()))?;
        let relative = entry.path().strip_prefix(source).context("a path")?;
        let data = entry
            .metadata()
            .with_context(|| format!("reading {}", entry.path().display()))?;
        let runs = data.permissions().mode() & 0o111 != 0;
        let kind = match (data.is_symlink(), data.is_file()) {
            (true, _) => Kind::Link,
            (_, true) if runs => Kind::Program,
            (_, true) => Kind::File,
            _ => continue,
        };
        found.insert(relative.to_path_buf(), kind);
    }
    Ok(found)
}

/// Whether a directory holds nodes that were rendered, and not an application's own module of that name.
fn is_rendered(directory: &Path) -> bool {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.path())
        .any(|node| node.join("node.json").is_file() && node.join("default.nix").is_file())
}

fn is_left_out(name: &OsStr) -> bool {
    let compiled = Path::new(name).extension() == Some(OsStr::new("pyc"));
    compiled || name.to_str().is_some_and(|name| LEFT_OUT.contains(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_its_content() {
        let room = tempfile::tempdir().unwrap();
        let source = room.path().join("app");
        fs::create_dir_all(source.join("templates")).unwrap();
        fs::write(source.join("app.py"), "one").unwrap();
        fs::write(source.join("templates/index.html"), "page").unwrap();
        fs::create_dir(source.join("static")).unwrap();
        fs::write(source.join("static/site.css"), "built").unwrap();
        let built = Some(Path::new("static"));
        let first = of(&source, built).unwrap();
        assert_eq!(first.len(), 12);
        fs::create_dir(source.join("__pycache__")).unwrap();
        fs::write(source.join("__pycache__/app.cpython-311.pyc"), "x").unwrap();
        assert_eq!(
            of(&source, built).unwrap(),
            first,
            "what is compiled does not count"
        );

        for left_out in [".env", "notes.txt"] {
            fs::write(source.join(left_out), "SECRET=1").unwrap();
        }
        fs::create_dir(source.join("node_modules")).unwrap();
        fs::write(source.join("node_modules/a.js"), "x").unwrap();
        assert_ne!(
            of(&source, built).unwrap(),
            first,
            "notes are not ignored yet"
        );
        fs::write(
            source.join(".gitignore"),
            "/notes.txt\n/.gitignore\n/static\n",
        )
        .unwrap();
        assert_eq!(
            of(&source, built).unwrap(),
            first,
            "what git ignores does not count"
        );
        assert_ne!(of(&source, None).unwrap(), first, "static files do");

        fs::create_dir_all(source.join("hosts/node-1")).unwrap();
        fs::write(source.join("hosts/__init__.py"), "").unwrap();
        let with_module = of(&source, built).unwrap();
        assert_ne!(with_module, first, "a module called hosts does");
        fs::remove_file(source.join("hosts/__init__.py")).unwrap();
        for rendered in ["node.json", "default.nix"] {
            fs::write(source.join("hosts/node-1").join(rendered), "x").unwrap();
        }
        assert_eq!(
            of(&source, built).unwrap(),
            first,
            "what is rendered does not count"
        );

        let versions = room.path().join("versions");
        keep(&source, built, &versions, &first).unwrap();
        keep(&source, built, &versions, &first).unwrap();
        assert_eq!(
            fs::read_to_string(versions.join(&first).join("templates/index.html")).unwrap(),
            "page"
        );
        for left_out in ["__pycache__", ".env", "node_modules", "notes.txt", "hosts"] {
            assert!(!versions.join(&first).join(left_out).exists(), "{left_out}");
        }

        fs::rename(source.join("app.py"), source.join("web.py")).unwrap();
        let second = of(&source, built).unwrap();
        assert_ne!(second, first, "a file's name counts");
        fs::set_permissions(source.join("web.py"), fs::Permissions::from_mode(0o755)).unwrap();
        assert_ne!(
            of(&source, built).unwrap(),
            second,
            "whether it may be run counts"
        );
        let changed = keep(&source, built, &versions, &second)
            .unwrap_err()
            .to_string();
        assert!(
            changed.contains("was changed while it was copied"),
            "{changed}"
        );
        let names = || fs::read_dir(&versions).unwrap().count();
        assert_eq!(names(), 1, "half a copy is not left");

        forget(&versions, &BTreeSet::new());
        assert_eq!(names(), 0);
    }
}
