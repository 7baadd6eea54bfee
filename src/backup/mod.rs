//! Copies of the application's database: every document as it was at one moment, read
//! from a member that serves on meanwhile, in the format of `mongodump`, so that
//! `mongorestore` can read it where this program can't.
//!
//! Users and members are no part of it: those come from the secrets and the topology.

mod copy;
mod manifest;
mod restore;
mod scratch;
mod shape;

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use mongodb::bson::{Document, doc};
use mongodb::sync::Collection;

use self::manifest::MANIFEST;
pub use self::manifest::{Contents, Manifest};
use self::scratch::Scratch;
use crate::health::mongo::{self, Member};

/// `SnapshotUnavailable` among the server's error codes.
const SNAPSHOT_UNAVAILABLE: i32 = 246;
/// How long a new collection or index may take until it can be read as it was at a moment.
const SETTLED: Duration = Duration::from_secs(20);

/// Why a stack without database is refused.
pub const NO_DATABASE: &str =
    "this stack has no database, so there is nothing to copy or to put back";

/// Why a sharded stack is refused.
pub const SHARDED: &str = "the data are spread over several shards, and this copies one replica set: take a copy of a sharded \
     stack through mongos, with the balancer stopped; see \"Backups\" in docs/database.md";

/// Copies a database from `member` into a new directory. With a `mongod` the copy is restored
/// into one of its own, and counted. Of a copy that fails nothing is left.
///
/// # Errors
/// If the directory is there already, the member can't be read, the count differs, or it takes
/// so long that the member does not remember the moment any more (five minutes, unless it was
/// told otherwise).
pub fn take(
    member: &Member,
    database: &str,
    directory: &Path,
    mongod: Option<&Path>,
) -> anyhow::Result<Manifest> {
    let deadline = Instant::now() + SETTLED;
    make(directory, mongod, || {
        loop {
            match copy::copy(member, database, directory) {
                Err(error) if is_too_new(&error) && Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(500));
                }
                other => return other,
            }
        }
    })
}

/// As [`take`], where `fill` brings a copy that was taken elsewhere into the new directory.
///
/// # Errors
/// If the directory is there already, `fill` fails, something is missing or damaged, or the
/// count differs.
pub fn receive(
    directory: &Path,
    mongod: Option<&Path>,
    fill: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<Manifest> {
    make(directory, mongod, || {
        fill()?;
        check(directory)
    })
}

fn make(
    directory: &Path,
    mongod: Option<&Path>,
    fill: impl FnOnce() -> anyhow::Result<Manifest>,
) -> anyhow::Result<Manifest> {
    make_new(directory)?;
    let taken = fill().and_then(|manifest| match mongod {
        Some(mongod) => verify(mongod, directory).context("trying the copy"),
        None => Ok(manifest),
    });
    if taken.is_err() {
        // Without its manifest, which comes last, what can't be removed is no backup either.
        let _ = fs::remove_file(directory.join(MANIFEST));
        let _ = fs::remove_dir_all(directory);
    }
    taken
}

/// Whether something was created so short a time ago that no moment to read it at is known yet.
fn is_too_new(error: &anyhow::Error) -> bool {
    let refused = error.downcast_ref();
    refused.and_then(mongo::code) == Some(SNAPSHOT_UNAVAILABLE)
}

/// Makes a directory that was not there.
fn make_new(directory: &Path) -> anyhow::Result<()> {
    let creating = || format!("creating {}", directory.display());
    if let Some(parent) = directory.parent() {
        fs::create_dir_all(parent).with_context(creating)?;
    }
    match DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            bail!("{} is there already; choose another", directory.display())
        }
        made => made.with_context(creating),
    }
}

/// Writes a backup into the database that it is of.
///
/// # Errors
/// If a collection of it is there already and holds something, unless `overwrite` says that
/// it may be replaced; if the backup is damaged; if the member can't make it as it was. Until
/// all of it is written, nothing is replaced.
pub fn put_back(member: &Member, directory: &Path, overwrite: bool) -> anyhow::Result<Manifest> {
    let manifest = check(directory)?;
    restore::put_back(member, directory, &manifest, overwrite)?;
    Ok(manifest)
}

/// Makes sure that every file of a copy is there and as it was written.
///
/// # Errors
/// If one is not, or there is no copy.
pub fn check(directory: &Path) -> anyhow::Result<Manifest> {
    let manifest = Manifest::read(directory)?;
    manifest.check(directory)?;
    Ok(manifest)
}

/// Restores a backup into a mongod of its own, which nobody else reaches, and counts.
fn verify(mongod: &Path, directory: &Path) -> anyhow::Result<Manifest> {
    let scratch = Scratch::start(mongod)?;
    let member = scratch.member()?;
    let manifest = put_back(&member, directory, false)?;
    let database = member.client().database(&manifest.database);
    for (name, contents) in &manifest.collections {
        let collection: Collection<Document> = database.collection(name);
        let documents = collection.count_documents(doc! {}).run()?;
        if documents != contents.documents {
            bail!(
                "{name}: {} documents were copied, and {documents} came back",
                contents.documents
            );
        }
    }
    Ok(manifest)
}
