//! What a copy says that it holds, and whether its files still are what was written.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use mongodb::bson::RawDocumentBuf;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// File that says what a backup holds. It is written last: without it there is none.
pub(super) const MANIFEST: &str = "backup.json";
/// Layout of the directory. The first one had no views, and no checksum of the metadata.
const VERSION: u32 = 2;
/// What mongodump leaves as it is in the name of a file.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~')
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b'=')
    .remove(b'@');

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
    /// Its views by name, with the SHA-256 of their metadata.
    #[serde(default)]
    pub views: BTreeMap<String, String>,
}

/// A collection of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contents {
    /// How many documents.
    pub documents: u64,
    /// SHA-256 of its file, in hexadecimal.
    pub sha256: String,
    /// SHA-256 of its metadata, in hexadecimal; copies of the first version have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<String>,
}

impl Manifest {
    /// A manifest of nothing yet.
    pub(super) fn of(database: &str) -> Self {
        Self {
            version: VERSION,
            database: database.to_owned(),
            taken: 0,
            collections: BTreeMap::new(),
            views: BTreeMap::new(),
        }
    }

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
        if !(1..=VERSION).contains(&manifest.version) {
            bail!("{}: unknown version {}", path.display(), manifest.version);
        }
        Ok(manifest)
    }

    /// Documents of all collections.
    pub fn documents(&self) -> u64 {
        self.collections.values().map(|c| c.documents).sum()
    }

    /// File with the documents of a collection.
    pub(super) fn data_file(&self, directory: &Path, name: &str) -> PathBuf {
        self.file(directory, name, "bson")
    }

    /// File with the options and indexes of a collection, or the definition of a view.
    pub(super) fn metadata_file(&self, directory: &Path, name: &str) -> PathBuf {
        self.file(directory, name, "metadata.json")
    }

    fn file(&self, directory: &Path, name: &str, extension: &str) -> PathBuf {
        let name = match self.version {
            1 => name.to_owned(),
            _ => utf8_percent_encode(name, PLAIN).to_string(),
        };
        let files = directory.join(&self.database);
        files.join(format!("{name}.{extension}"))
    }

    /// Makes sure that every file of a copy is there and as it was written.
    pub(super) fn check(&self, directory: &Path) -> anyhow::Result<()> {
        for (name, contents) in &self.collections {
            let path = self.data_file(directory, name);
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
        let collections = self.collections.iter();
        let sums =
            collections.filter_map(|(name, contents)| Some((name, contents.metadata.as_ref()?)));
        for (name, sum) in sums.chain(&self.views) {
            let path = self.metadata_file(directory, name);
            let bytes = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
            if &hex::encode(Sha256::digest(&bytes)) != sum {
                bail!("{} is damaged; nothing was changed", path.display());
            }
        }
        Ok(())
    }
}

/// Writes a file down to the disk.
pub(super) fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    File::create(path)
        .and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()
        })
        .with_context(|| format!("writing {}", path.display()))
}

/// Reads the documents of a file one after the other.
pub(super) fn each_document(
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
