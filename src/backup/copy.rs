//! Reading a database into files.

use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::Path;

use anyhow::{Context as _, bail};
use mongodb::bson::{RawDocumentBuf, doc};
use mongodb::error::Error;
use mongodb::options::ReadConcern;
use mongodb::sync::{ClientSession, Database};
use sha2::{Digest as _, Sha256};

use super::manifest::{self, Contents, MANIFEST, Manifest};
use super::shape::{self, Shape, Type};
use crate::health::mongo::Member;

/// Copies a database from `member` into `directory`, which is there and empty.
pub(super) fn copy(member: &Member, database: &str, directory: &Path) -> anyhow::Result<Manifest> {
    let files = directory.join(database);
    fs::create_dir_all(&files).with_context(|| format!("creating {}", files.display()))?;
    let source = member.client().database(database);
    let mut manifest = Manifest::of(database);
    let shapes = shape::list(&source)?;
    let obstacles = shapes
        .iter()
        .filter_map(|(name, shape)| shape.obstacle(name));
    let obstacles: Vec<String> = obstacles.collect();
    if !obstacles.is_empty() {
        bail!("{}; use mongodump for this database", obstacles.join("; "));
    }
    // All reads of such a session see the set as it was at the first one.
    let mut session = member.client().start_session().snapshot(true).run()?;
    // What can't be read that way comes last: close behind the moment.
    let (capped, plain): (Vec<_>, Vec<_>) = shapes.iter().partition(|(_, shape)| shape.is_capped());
    for (name, shape) in plain.into_iter().chain(capped) {
        let text = shape.write(name);
        manifest::write(&manifest.metadata_file(directory, name), &text)?;
        let metadata = hex::encode(Sha256::digest(&text));
        if shape.kind == Type::View {
            manifest.views.insert(name.clone(), metadata);
            continue;
        }
        let path = manifest.data_file(directory, name);
        let (documents, sha256) = documents(&source, &mut session, name, shape, &path)?;
        let contents = Contents {
            documents,
            sha256,
            metadata: Some(metadata),
        };
        manifest.collections.insert(name.clone(), contents);
    }
    let time = session.cluster_time().cloned();
    let time = time.and_then(|time| mongodb::bson::serialize_to_document(&time).ok());
    manifest.taken = time
        .and_then(|time| time.get_timestamp("clusterTime").ok())
        .map_or(0, |at| at.time);
    let text = serde_json::to_string_pretty(&manifest)? + "\n";
    manifest::write(&directory.join(MANIFEST), &text)?;
    Ok(manifest)
}

/// Writes the documents of a collection into a file: how many, and their checksum.
fn documents(
    source: &Database,
    session: &mut ClientSession,
    name: &str,
    shape: &Shape,
    path: &Path,
) -> anyhow::Result<(u64, String)> {
    let mut file = Summed::create(path)?;
    let collection = source.collection::<RawDocumentBuf>(name);
    let find = collection.find(doc! {});
    if shape.is_capped() {
        // No server before 8.0 reads a capped collection as it was at a moment.
        let committed = find.read_concern(ReadConcern::majority());
        file.take_all(committed.run()?)?;
    } else {
        let mut cursor = find.session(&mut *session).run()?;
        file.take_all(cursor.iter(session))?;
    }
    file.finish()
}

/// A file of documents that counts and sums what it is given.
struct Summed<'p> {
    path: &'p Path,
    file: BufWriter<File>,
    sum: Sha256,
    documents: u64,
}

impl<'p> Summed<'p> {
    fn create(path: &'p Path) -> anyhow::Result<Self> {
        let file = File::create(path).with_context(|| format!("creating {}", path.display()))?;
        Ok(Self {
            path,
            file: BufWriter::new(file),
            sum: Sha256::new(),
            documents: 0,
        })
    }

    fn take_all(
        &mut self,
        documents: impl Iterator<Item = Result<RawDocumentBuf, Error>>,
    ) -> anyhow::Result<()> {
        for document in documents {
            let document = document?;
            self.sum.update(document.as_bytes());
            self.file
                .write_all(document.as_bytes())
                .with_context(|| format!("writing {}", self.path.display()))?;
            self.documents += 1;
        }
        Ok(())
    }

    fn finish(self) -> anyhow::Result<(u64, String)> {
        self.file
            .into_inner()
            .map_err(|error| anyhow::anyhow!("{error}"))
            .and_then(|file| Ok(file.sync_all()?))
            .with_context(|| format!("writing {}", self.path.display()))?;
        Ok((self.documents, hex::encode(self.sum.finalize())))
    }
}
