//! What a collection is besides its documents: its type, options and indexes, as the server
//! lists them and as mongodump writes them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::Context as _;
use mongodb::bson::{Bson, Document, doc};
use mongodb::sync::Database;

/// Prefix of collections that hold a copy until it takes its place.
pub(super) const STAGING: &str = "gen-topology-restore.";

/// What a name of a database stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    /// Documents.
    Collection,
    /// A query over another one.
    View,
    /// Measurements, stored in buckets of which no document is seen.
    TimeSeries,
}

impl Type {
    const ALL: [(Type, &str, &str); 3] = [
        (Type::Collection, "collection", "a collection"),
        (Type::View, "view", "a view"),
        (Type::TimeSeries, "timeseries", "a time series"),
    ];

    fn word(self) -> &'static str {
        Self::ALL[self as usize].1
    }

    /// As in a sentence.
    pub(super) fn words(self) -> &'static str {
        Self::ALL[self as usize].2
    }

    fn read(word: &str) -> anyhow::Result<Self> {
        let found = Self::ALL.into_iter().find(|(_, known, _)| *known == word);
        let (kind, ..) = found.with_context(|| format!("unknown type `{word}` of a collection"))?;
        Ok(kind)
    }
}

/// A collection or view without its documents.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    /// What it is.
    pub kind: Type,
    /// As `create` takes them.
    pub options: Document,
    /// As `createIndexes` takes them, without those that `create` makes.
    pub indexes: Vec<Document>,
}

/// Each collection and view of a database by its name, without those of the server itself.
pub(super) fn list(database: &Database) -> anyhow::Result<BTreeMap<String, Shape>> {
    list_those(database, |name| {
        let is_servers = name.starts_with("system.") && name != "system.js";
        !is_servers && !name.starts_with(STAGING)
    })
}

/// Those that wait to take their place.
pub(super) fn list_staged(database: &Database) -> anyhow::Result<BTreeMap<String, Shape>> {
    list_those(database, |name| name.starts_with(STAGING))
}

fn list_those(
    database: &Database,
    wanted: impl Fn(&str) -> bool,
) -> anyhow::Result<BTreeMap<String, Shape>> {
    let mut found = BTreeMap::new();
    let command = doc! { "listCollections": 1 };
    for entry in database.run_cursor_command(command).run()? {
        let entry = entry?;
        let name = entry.get_str("name")?.to_owned();
        if !wanted(&name) {
            continue;
        }
        let kind = Type::read(entry.get_str("type").unwrap_or("collection"))?;
        let indexes = match kind {
            Type::Collection => indexes(database, &name)?,
            Type::View | Type::TimeSeries => Vec::new(),
        };
        let options = entry.get_document("options").cloned().unwrap_or_default();
        let shape = Shape {
            kind,
            options,
            indexes,
        };
        found.insert(name, shape);
    }
    Ok(found)
}

fn indexes(database: &Database, name: &str) -> anyhow::Result<Vec<Document>> {
    let cursor = database.run_cursor_command(doc! { "listIndexes": name });
    let all: Result<Vec<Document>, _> = cursor.run()?.collect();
    Ok(all?)
}

impl Shape {
    /// Why it can't be copied and put back as it is, if so.
    pub(super) fn obstacle(&self, name: &str) -> Option<String> {
        let why = match self.kind {
            Type::TimeSeries => "is a time series, which can't be read as it was at a moment",
            _ if name == "system.js" => "holds functions, which the application may not copy",
            _ if self.options.contains_key("encryptedFields") => {
                "has encrypted fields, whose helper collections must not be renamed"
            }
            Type::Collection | Type::View => return None,
        };
        Some(format!("{name} {why}"))
    }

    /// Whether documents beyond a size or number push out the oldest.
    pub(super) fn is_capped(&self) -> bool {
        self.options.get_bool("capped").unwrap_or(false)
    }

    /// The text of its file.
    pub(super) fn write(&self, name: &str) -> String {
        let indexes = self.indexes.iter().cloned().map(Bson::Document);
        let metadata = Bson::Document(doc! {
            "options": self.options.clone(),
            "indexes": indexes.collect::<Vec<Bson>>(),
            "collectionName": name,
            "type": self.kind.word(),
        });
        metadata.into_canonical_extjson().to_string()
    }

    /// Reads what [`Shape::write`] or mongodump wrote.
    pub(super) fn read(path: &Path) -> anyhow::Result<Self> {
        let reading = || format!("reading {}", path.display());
        let text = fs::read_to_string(path).with_context(reading)?;
        let json: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(&text).with_context(reading)?;
        let metadata = Document::try_from(json).with_context(reading)?;
        let kind = Type::read(metadata.get_str("type").unwrap_or("collection"));
        let indexes = metadata.get_array("indexes").with_context(reading)?;
        let indexes = indexes.iter().filter_map(Bson::as_document).cloned();
        Ok(Self {
            kind: kind.with_context(reading)?,
            options: metadata
                .get_document("options")
                .with_context(reading)?
                .clone(),
            indexes: indexes.collect(),
        })
    }

    /// The command that makes it under a name, without its indexes.
    pub(super) fn create(&self, name: &str) -> Document {
        let mut command = doc! { "create": name };
        command.extend(self.options.clone());
        command
    }

    /// The command that makes its indexes, where it has some of its own.
    pub(super) fn create_indexes(&self, name: &str) -> Option<Document> {
        let has_collation = self.options.contains_key("collation");
        let own = self.indexes.iter().filter(|index| !comes_with_it(index));
        let indexes: Vec<Bson> = own
            .cloned()
            .map(|mut index| {
                // A simple one is listed without; made without, it would take the collection's.
                if has_collation && !index.contains_key("collation") {
                    index.insert("collation", doc! { "locale": "simple" });
                }
                Bson::Document(index)
            })
            .collect();
        (!indexes.is_empty()).then(|| doc! { "createIndexes": name, "indexes": indexes })
    }

    /// In what another one differs from it, in words.
    pub(super) fn differences(&self, other: &Self) -> Vec<String> {
        let mut found = Vec::new();
        if self.kind != other.kind {
            found.push(format!(
                "{} became {}",
                self.kind.words(),
                other.kind.words()
            ));
        }
        let (before, after) = (relaxed(&self.options), relaxed(&other.options));
        for (name, value) in &before {
            if after.get(name) != Some(value) {
                found.push(format!("its option {name}"));
            }
        }
        let new = after.keys().filter(|name| !before.contains_key(*name));
        found.extend(new.map(|name| format!("its option {name}")));
        let (before, after) = (comparable(&self.indexes), comparable(&other.indexes));
        let names = before.keys().chain(after.keys());
        let mut different: Vec<String> = names
            .filter(|name| before.get(*name) != after.get(*name))
            .map(|name| format!("its index {name}"))
            .collect();
        different.sort();
        different.dedup();
        found.extend(different);
        found
    }
}

/// Whether `create` makes this index.
fn comes_with_it(index: &Document) -> bool {
    index.get_str("name").ok() == Some("_id_") || index.get_bool("clustered").unwrap_or(false)
}

/// Numbers of whatever type are the same if they are as large.
fn relaxed(document: &Document) -> BTreeMap<String, serde_json::Value> {
    let fields = document.iter();
    let fields =
        fields.map(|(name, value)| (name.clone(), number(value.clone().into_relaxed_extjson())));
    fields.collect()
}

fn number(value: serde_json::Value) -> serde_json::Value {
    use serde_json::Value;
    match value {
        Value::Number(n) => n.as_f64().map_or(Value::Null, Value::from),
        Value::Array(all) => all.into_iter().map(number).collect(),
        Value::Object(all) => all
            .into_iter()
            .map(|(key, value)| (key, number(value)))
            .collect(),
        other => other,
    }
}

/// Indexes by name; the order of the fields in a key counts.
fn comparable(
    indexes: &[Document],
) -> BTreeMap<&str, (Vec<&str>, BTreeMap<String, serde_json::Value>)> {
    let one = |index| {
        let index: &Document = index;
        let name = index.get_str("name").unwrap_or_default();
        let keys = index.get_document("key").ok();
        let order = keys
            .into_iter()
            .flat_map(Document::keys)
            .map(String::as_str);
        let mut fields = relaxed(index);
        // What earlier servers list and this one may not.
        for gone in ["ns", "background"] {
            fields.remove(gone);
        }
        (name, (order.collect(), fields))
    };
    indexes.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(options: Document, indexes: &[Document]) -> Shape {
        Shape {
            kind: Type::Collection,
            options,
            indexes: indexes.to_vec(),
        }
    }

    #[test]
    fn what_is_written_is_read_and_differs_in_nothing() {
        let index = doc! { "v": 2, "key": { "b": 1, "a": -1 }, "name": "b_a" };
        let before = shape(doc! { "capped": true, "size": 4096_i64 }, &[index]);
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("it");
        fs::write(&path, before.write("it")).unwrap();
        let after = Shape::read(&path).unwrap();
        assert_eq!(before.differences(&after), [""; 0]);
        assert!(after.is_capped());
    }

    #[test]
    fn each_difference_is_named() {
        let index = |key| doc! { "key": key, "name": "it" };
        let before = shape(
            doc! { "size": 1, "max": 2 },
            &[index(doc! { "a": 1, "b": 1 })],
        );
        let after = shape(
            doc! { "size": 1.0, "capped": true },
            &[index(doc! { "b": 1, "a": 1 })],
        );
        let expected = ["its option max", "its option capped", "its index it"];
        assert_eq!(before.differences(&after), expected);
    }

    #[test]
    fn a_simple_index_stays_simple_among_others() {
        let index = doc! { "key": { "a": 1 }, "name": "a" };
        let id = doc! { "key": { "_id": 1 }, "name": "_id_" };
        let french = shape(
            doc! { "collation": { "locale": "fr" } },
            &[id.clone(), index.clone()],
        );
        let made = french.create_indexes("it").unwrap().to_string();
        assert!(made.contains("simple") && !made.contains("_id"), "{made}");
        assert!(shape(doc! {}, &[id]).create_indexes("it").is_none());
    }
}
