//! Copies of the application's database: every document as it was at one moment, read
//! from a member that serves on meanwhile, in the format of `mongodump`, so that
//! `mongorestore` can read it where this program can't.
//!
//! Users and members are no part of it: those come from the secrets and the topology.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File};
use std::io::{BufReader, BufWriter, Read as _, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use mongodb::bson::{Bson, Document, RawDocumentBuf, doc};
use mongodb::options::{CollectionOptions, WriteConcern};
use mongodb::sync::{Collection, Database};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::exec;
use crate::health::mongo::{self, Member};
use crate::wait;

/// File that says what a backup holds. It is written last: without it there is none.
const MANIFEST: &str = "backup.json";
/// Documents written at the same time.
const BATCH: usize = 500;
/// `SnapshotUnavailable` among the server's error codes.
const SNAPSHOT_UNAVAILABLE: i32 = 246;
/// How long a new collection or index may take until it can be read as it was at a moment.
const SETTLED: Duration = Duration::from_secs(20);

/// What is said where the data are spread over several replica sets.
pub const SHARDED: &str = "the data are spread over several shards, and this copies one replica set: take a copy of a sharded \
     stack through mongos, with the balancer stopped; see \"Backups\" in docs/database.md";

/// What a backup holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of the directory's layout.
    pub version: u32,
    /// Name of the database.
    pub database: String,
    /// The moment, in seconds since 1970, by the clock of the set.
    pub taken: u32,
    /// Its collections, by name.
    pub collections: BTreeMap<String, Contents>,
}

/// A collection of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contents {
    /// How many documents.
    pub documents: u64,
    /// SHA-256 of its file, in hexadecimal.
    pub sha256: String,
}

impl Manifest {
    /// Reads what a backup holds.
    ///
    /// # Errors
    /// If there is none, or it was not completed.
    pub fn read(directory: &Path) -> anyhow::Result<Self> {
        let path = directory.join(MANIFEST);
        let text = fs::read_to_string(&path).with_context(|| {
            format!(
                "{} is no complete backup: reading {MANIFEST}",
                directory.display()
            )
        })?;
        let manifest: Self =
            serde_json::from_str(&text).with_context(|| format!("reading {}", path.display()))?;
        if manifest.version != 1 {
            bail!("{}: unknown version {}", path.display(), manifest.version);
        }
        Ok(manifest)
    }

    /// Documents of all collections.
    pub fn documents(&self) -> u64 {
        self.collections.values().map(|c| c.documents).sum()
    }
}

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
            match copy(member, database, directory) {
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

fn copy(member: &Member, database: &str, directory: &Path) -> anyhow::Result<Manifest> {
    let files = directory.join(database);
    fs::create_dir_all(&files).with_context(|| format!("creating {}", files.display()))?;
    let source = member.client().database(database);
    let mut manifest = Manifest {
        version: 1,
        database: database.to_owned(),
        taken: 0,
        collections: BTreeMap::new(),
    };
    // All reads of such a session see the set as it was at the first one.
    let mut session = member.client().start_session().snapshot(true).run()?;
    for name in names(&source)? {
        describe(&source, &name, &files)?;
        let path = files.join(format!("{name}.bson"));
        let collection: Collection<RawDocumentBuf> = source.collection(&name);
        let mut cursor = collection.find(doc! {}).session(&mut session).run()?;
        let mut file = BufWriter::new(
            File::create(&path).with_context(|| format!("creating {}", path.display()))?,
        );
        let (mut sum, mut documents) = (Sha256::new(), 0);
        while let Some(document) = cursor.next(&mut session).transpose()? {
            sum.update(document.as_bytes());
            file.write_all(document.as_bytes())
                .with_context(|| format!("writing {}", path.display()))?;
            documents += 1;
        }
        file.into_inner()
            .map_err(|error| anyhow::anyhow!("{error}"))
            .and_then(|file| Ok(file.sync_all()?))
            .with_context(|| format!("writing {}", path.display()))?;
        let sha256 = hex::encode(sum.finalize());
        let contents = Contents { documents, sha256 };
        manifest.collections.insert(name, contents);
    }
    let time = session.cluster_time().cloned();
    let time = time.and_then(|time| mongodb::bson::serialize_to_document(&time).ok());
    manifest.taken = time
        .and_then(|time| time.get_timestamp("clusterTime").ok())
        .map_or(0, |at| at.time);
    let text = serde_json::to_string_pretty(&manifest)? + "\n";
    write(&directory.join(MANIFEST), &text)?;
    Ok(manifest)
}

/// Writes a file down to the disk.
fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    File::create(path)
        .and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()
        })
        .with_context(|| format!("writing {}", path.display()))
}

/// Collections that hold something of the application's; views and mongod's own do not.
fn names(database: &Database) -> anyhow::Result<Vec<String>> {
    let mut names = Vec::new();
    for collection in database.list_collections().run()? {
        let collection = collection?;
        let kind = mongodb::bson::serialize_to_bson(&collection.collection_type)?;
        if collection.name.starts_with("system.") {
            continue;
        }
        if kind.as_str() != Some("collection") {
            bail!(
                "{} is no plain collection; use mongodump for this database",
                collection.name
            );
        }
        names.push(collection.name);
    }
    names.sort();
    Ok(names)
}

/// Writes a collection's options and indexes as mongodump does.
fn describe(database: &Database, name: &str, files: &Path) -> anyhow::Result<()> {
    let list = doc! { "listCollections": 1, "filter": { "name": name } };
    let answer = database.run_command(list).run()?;
    let options = first_batch(&answer)
        .first()
        .and_then(|collection| collection.get_document("options").ok().cloned())
        .unwrap_or_default();
    let answer = database.run_command(doc! { "listIndexes": name }).run()?;
    let indexes: Vec<Bson> = first_batch(&answer)
        .into_iter()
        .map(Bson::Document)
        .collect();
    let metadata = Bson::Document(doc! {
        "options": options,
        "indexes": indexes,
        "collectionName": name,
        "type": "collection",
    });
    let text = metadata.into_canonical_extjson().to_string();
    write(&files.join(format!("{name}.metadata.json")), &text)
}

fn first_batch(answer: &Document) -> Vec<Document> {
    let cursor = answer.get_document("cursor").ok();
    let batch = cursor.and_then(|cursor| cursor.get_array("firstBatch").ok());
    let documents = batch.into_iter().flatten().filter_map(Bson::as_document);
    documents.cloned().collect()
}

/// Writes a backup into the database that it is of.
///
/// # Errors
/// If a collection of it is there already and holds something, unless `overwrite` says that
/// it may be replaced; if the backup is damaged; if the member refuses.
pub fn put_back(member: &Member, directory: &Path, overwrite: bool) -> anyhow::Result<Manifest> {
    let manifest = check(directory)?;
    let target = member.client().database(&manifest.database);
    let options = CollectionOptions::builder()
        .write_concern(WriteConcern::majority())
        .build();
    let collections: BTreeMap<&str, Collection<RawDocumentBuf>> = manifest
        .collections
        .keys()
        .map(|name| {
            let collection = target.collection_with_options(name, options.clone());
            (name.as_str(), collection)
        })
        .collect();
    let mut full = Vec::new();
    for (name, collection) in &collections {
        if collection.find_one(doc! {}).run()?.is_some() {
            full.push(*name);
        }
    }
    if !full.is_empty() && !overwrite {
        bail!(
            "{} of the database {} {} something; nothing was changed (--overwrite replaces it)",
            full.join(", "),
            manifest.database,
            if full.len() == 1 { "holds" } else { "hold" },
        );
    }
    for (name, collection) in &collections {
        if full.contains(name) {
            collection.drop().run()?;
        }
        let files = directory.join(&manifest.database);
        let path = files.join(format!("{name}.bson"));
        let mut batch = Vec::with_capacity(BATCH);
        each_document(&path, &mut |document| {
            batch.push(document);
            if batch.len() == BATCH {
                collection.insert_many(batch.drain(..)).run()?;
            }
            Ok(())
        })?;
        if !batch.is_empty() {
            collection.insert_many(batch).run()?;
        }
        let indexes = indexes(&files.join(format!("{name}.metadata.json")))?;
        if !indexes.is_empty() {
            let create = doc! { "createIndexes": *name, "indexes": indexes };
            target.run_command(create).run()?;
        }
    }
    Ok(manifest)
}

/// Makes sure that every file of a copy is there and as it was written.
///
/// # Errors
/// If one is not, or there is no copy.
pub fn check(directory: &Path) -> anyhow::Result<Manifest> {
    let manifest = Manifest::read(directory)?;
    for (name, contents) in &manifest.collections {
        let path = directory
            .join(&manifest.database)
            .join(format!("{name}.bson"));
        let mut sum = Sha256::new();
        let mut documents = 0;
        each_document(&path, &mut |document| {
            sum.update(document.as_bytes());
            documents += 1;
            Ok(())
        })?;
        if documents != contents.documents || hex::encode(sum.finalize()) != contents.sha256 {
            bail!("{} is damaged; nothing was changed", path.display());
        }
    }
    Ok(manifest)
}

/// Reads the documents of a file one after the other.
fn each_document(
    path: &Path,
    use_it: &mut dyn FnMut(RawDocumentBuf) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let reading = || format!("reading {}", path.display());
    let mut file = BufReader::new(File::open(path).with_context(reading)?);
    loop {
        let mut length = [0; 4];
        match file.read_exact(&mut length) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error).with_context(reading),
        }
        // Beginning with its own length; MongoDB takes no document above 16 MiB.
        let size = usize::try_from(i32::from_le_bytes(length)).unwrap_or(0);
        if !(5..=17 << 20).contains(&size) {
            bail!("{} is damaged", path.display());
        }
        let mut bytes = vec![0; size];
        bytes[..4].copy_from_slice(&length);
        file.read_exact(&mut bytes[4..]).with_context(reading)?;
        use_it(RawDocumentBuf::from_bytes(bytes).with_context(reading)?)?;
    }
}

/// The indexes of a collection, without the one on `_id` that each has.
fn indexes(path: &Path) -> anyhow::Result<Vec<Bson>> {
    let reading = || format!("reading {}", path.display());
    let text = fs::read_to_string(path).with_context(reading)?;
    let json: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(&text).with_context(reading)?;
    let metadata = Document::try_from(json).with_context(reading)?;
    let indexes = metadata.get_array("indexes").with_context(reading)?;
    let named = |index: &&Bson| {
        let name = index
            .as_document()
            .and_then(|index| index.get_str("name").ok());
        name != Some("_id_")
    };
    Ok(indexes.iter().filter(named).cloned().collect())
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

/// A mongod that listens on a socket in a directory that only we can enter.
struct Scratch {
    process: Child,
    directory: tempfile::TempDir,
}

impl Scratch {
    fn start(mongod: &Path) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir().context("making room for a scratch mongod")?;
        let data = directory.path().join("data");
        fs::create_dir(&data).context("making room for a scratch mongod")?;
        let mut command = Command::new(mongod);
        command
            .arg("--dbpath")
            .arg(&data)
            .arg("--logpath")
            .arg(directory.path().join("log"))
            .arg("--bind_ip")
            .arg(Self::socket(&directory))
            .arg("--unixSocketPrefix")
            .arg(directory.path())
            .args(["--wiredTigerCacheSizeGB", "0.25"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let process = command
            .spawn()
            .with_context(|| format!("starting `{}`", exec::argv(&command)))?;
        Ok(Self { process, directory })
    }

    fn socket(directory: &tempfile::TempDir) -> PathBuf {
        directory.path().join("mongod.sock")
    }

    fn member(&self) -> anyhow::Result<Member> {
        let socket = Self::socket(&self.directory);
        let mut found = None;
        wait::until(Duration::from_secs(30), || {
            found = socket
                .exists()
                .then(|| Member::at_socket(&socket).ok())
                .flatten()
                .filter(|member| member.command(doc! { "ping": 1 }).is_ok());
            found.is_some()
        });
        found.context("the scratch mongod does not answer")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
