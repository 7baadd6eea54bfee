//! Files that are there as a whole or not at all: each is made beside its place and then
//! renamed, so that a reader never sees half of one and a failure leaves the old one.

use std::fs::{self, File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use tempfile::{Builder, NamedTempFile};

/// Writes `path`, whose permissions stay as they are; a new file can be read by all.
pub fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let mode = path
        .metadata()
        .map_or(0o644, |data| data.permissions().mode() & 0o7777);
    let mut file = beside(path, mode)?;
    file.write_all(content)?;
    keep(file, path).map(drop)
}

/// Writes `path` for its owner only; it is on the disk afterwards.
pub fn replace_private(path: &Path, content: &[u8]) -> io::Result<()> {
    keep(private(path, content)?, path).map(drop)
}

/// Writes `path` for its owner only, unless there is such a file: then the error is
/// [`io::ErrorKind::AlreadyExists`].
pub fn create_private(path: &Path, content: &[u8]) -> io::Result<()> {
    let kept: Result<File, _> = private(path, content)?.persist_noclobber(path);
    kept.map_err(|error| error.error).map(drop)
}

/// A file beside `path`, for [`keep`] to put there; it is removed when it is dropped.
pub fn beside(path: &Path, mode: u32) -> io::Result<NamedTempFile> {
    let file = Builder::new().tempfile_in(parent(path))?;
    // Set afterwards, because the mode of an open is narrowed by the umask.
    file.as_file()
        .set_permissions(Permissions::from_mode(mode))?;
    Ok(file)
}

/// Puts what [`beside`] has made in its place.
pub fn keep(file: NamedTempFile, path: &Path) -> io::Result<File> {
    file.persist(path).map_err(|error| error.error)
}

/// Makes `path` a link to `target`; an old link points to the one or the other at any time.
pub fn link(path: &Path, target: &Path) -> io::Result<()> {
    let link = Builder::new().make_in(parent(path), |new| symlink(target, new))?;
    link.into_temp_path()
        .persist(path)
        .map_err(|error| error.error)
}

/// A directory that only its owner enters, with those above it that are missing.
pub fn create_private_directory(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
}

/// Removes a file that may be gone already.
pub fn remove(path: &Path) -> io::Result<()> {
    absent_is_fine(fs::remove_file(path))
}

/// Removes a directory that may be gone already, and all that is in it.
pub fn remove_directory(path: &Path) -> io::Result<()> {
    absent_is_fine(fs::remove_dir_all(path))
}

fn absent_is_fine(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

fn private(path: &Path, content: &[u8]) -> io::Result<NamedTempFile> {
    let mut file = beside(path, 0o600)?;
    file.write_all(content)?;
    file.as_file().sync_all()?;
    Ok(file)
}

fn parent(path: &Path) -> &Path {
    path.parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        path.metadata().unwrap().permissions().mode() & 0o7777
    }

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_replaced_file_keeps_its_permissions() {
        let room = tempfile::tempdir().unwrap();
        let path = room.path().join("file");
        replace(&path, b"one").unwrap();
        assert_eq!(mode(&path), 0o644);
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        replace(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(mode(&path), 0o640);
        assert_eq!(names(room.path()), ["file"]);
    }

    #[test]
    fn what_can_not_be_put_in_place_leaves_nothing() {
        let room = tempfile::tempdir().unwrap();
        let path = room.path().join("file");
        fs::create_dir(&path).unwrap();
        assert!(replace(&path, b"one").is_err());
        assert!(link(&path, Path::new("/")).is_err());
        assert_eq!(names(room.path()), ["file"]);
    }

    #[test]
    fn private_files_are_the_owners_and_a_new_one_replaces_nothing() {
        let room = tempfile::tempdir().unwrap();
        let path = room.path().join("key");
        create_private(&path, b"one").unwrap();
        assert_eq!(mode(&path), 0o600);
        let again = create_private(&path, b"two").unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"one");
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        replace_private(&path, b"three").unwrap();
        assert_eq!(mode(&path), 0o600);
        assert_eq!(names(room.path()), ["key"]);
    }

    #[test]
    fn a_link_is_exchanged_and_not_followed() {
        let room = tempfile::tempdir().unwrap();
        let (path, one) = (room.path().join("link"), room.path().join("one"));
        fs::create_dir(&one).unwrap();
        link(&path, &one).unwrap();
        link(&path, Path::new("/two")).unwrap();
        assert_eq!(fs::read_link(&path).unwrap(), Path::new("/two"));
        assert_eq!(names(room.path()), ["link", "one"]);
    }

    #[test]
    fn removing_what_is_gone_is_no_error() {
        let room = tempfile::tempdir().unwrap();
        let path = room.path().join("file");
        remove(&path).unwrap();
        remove_directory(&path).unwrap();
        fs::create_dir(&path).unwrap();
        remove_directory(&path).unwrap();
        assert!(names(room.path()).is_empty());
    }
}
