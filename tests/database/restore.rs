//! What a copy brings back: every option and kind of index that `MongoDB` has; and that a copy
//! which can't be put back as it was is refused while what is there still stands.

use std::fs;
use std::path::{Path, PathBuf};

use gen_topology::backup::Manifest;
use gen_topology::health::mongo::{Member, User};
use gen_topology::node::backup;
use mongodb::bson::{Bson, DateTime, Document, doc};
use mongodb::options::WriteConcern;
use mongodb::sync::Database;
use sha2::Digest as _;

use super::{CONNECT, Cluster};

/// A set of one member, its application's database, and the directory of a copy.
struct Bench {
    cluster: Cluster,
    web: Database,
    copy: PathBuf,
}

impl Bench {
    fn new() -> Option<Self> {
        let cluster = Cluster::of(1)?;
        // As a member, who may do what the application may not: change a rule, store a function.
        let key = cluster.secrets.keys().expect("a key").remove(0);
        let host = &cluster.expected(&[0])[0];
        let member = Member::login(host, CONNECT, User::member(key.reveal())).expect("a login");
        let web = member.client().database("web");
        let copy = cluster.directory.path().join("copy");
        Some(Self { cluster, web, copy })
    }

    fn take(&self) -> anyhow::Result<Manifest> {
        let facts = self.cluster.facts(0, &[0]);
        let mongod = Some(self.cluster.program.as_path());
        backup::take(&facts, &self.cluster.secrets, &self.copy, mongod)
    }

    fn put_back(&self, overwrite: bool) -> anyhow::Result<Manifest> {
        let facts = self.cluster.facts(0, &[0]);
        backup::put_back(&facts, &self.cluster.secrets, &self.copy, overwrite)
    }

    #[track_caller]
    fn run(&self, command: Document) {
        self.web.run_command(command).run().expect("a command");
    }

    fn batch(&self, command: Document) -> Vec<Document> {
        let cursor = self.web.run_cursor_command(command).run();
        cursor
            .expect("a cursor")
            .map(|document| document.expect("a document"))
            .collect()
    }

    fn documents(&self, name: &str) -> Vec<Document> {
        self.batch(doc! { "find": name })
    }

    /// Everything that the database holds: each name with its type, options, indexes and documents.
    fn everything(&self) -> Vec<(String, Document, Vec<Document>, Vec<Document>)> {
        let mut all: Vec<_> = self
            .batch(doc! { "listCollections": 1 })
            .into_iter()
            .filter(|entry| entry.get_str("name").ok() != Some("system.views"))
            .map(|mut entry| {
                let name = entry.get_str("name").expect("a name").to_owned();
                // Its identity and the remark on its `_id` index say nothing of what it is.
                entry.remove("info");
                entry.remove("idIndex");
                let is_view = entry.get_str("type").ok() == Some("view");
                let indexes = if is_view {
                    Vec::new()
                } else {
                    let mut indexes = self.batch(doc! { "listIndexes": &name });
                    indexes.sort_by_key(ToString::to_string);
                    indexes
                };
                let documents = self.documents(&name);
                (name, entry, indexes, documents)
            })
            .collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }
}

fn french() -> Document {
    doc! { "locale": "fr", "strength": 1 }
}

/// Collections with every option, and every kind of index.
fn furnish(bench: &Bench) {
    let is_text = doc! { "$jsonSchema": { "required": ["text"] } };
    // A document that is older than the rule that it breaks.
    let ruled = bench.web.collection::<Document>("ruled");
    ruled
        .insert_one(doc! { "_id": 1, "older": true })
        .run()
        .expect("a write");
    bench.run(doc! {
        "collMod": "ruled", "validator": is_text,
        "validationLevel": "moderate", "validationAction": "error",
    });
    bench.run(doc! { "create": "french", "collation": french() });
    bench.run(doc! { "create": "log", "capped": true, "size": 65_536, "max": 3 });
    bench.run(doc! { "create": "watched", "changeStreamPreAndPostImages": { "enabled": true } });
    bench.run(doc! {
        "create": "clustered", "expireAfterSeconds": 86_400_i64,
        "clusteredIndex": { "key": { "_id": 1 }, "unique": true, "name": "by id" },
    });
    bench.run(doc! {
        "create": "stored",
        "storageEngine": { "wiredTiger": { "configString": "block_compressor=zlib" } },
    });
    bench.run(doc! { "create": "empty" });
    bench.run(doc! { "create": "odd/name é", "capped": true, "size": 4096 });
    bench.run(doc! {
        "create": "latest", "viewOn": "french", "pipeline": [{ "$match": { "n": { "$gt": 1 } } }],
        "collation": french(),
    });
    bench.run(doc! { "create": "latest again", "viewOn": "latest", "pipeline": [], "collation": french() });
    bench.run(doc! { "createIndexes": "french", "indexes": [
        { "key": { "n": 1, "at": -1 }, "name": "two", "unique": true },
        { "key": { "word": 1 }, "name": "inherits" },
        // Simple among the French: says nothing of itself when it is listed.
        { "key": { "word": 1 }, "name": "simple", "collation": { "locale": "simple" } },
        { "key": { "word": 1 }, "name": "partial", "partialFilterExpression": { "n": { "$gt": 1 } },
          "collation": { "locale": "de", "numericOrdering": true } },
        { "key": { "at": 1 }, "name": "soon gone", "expireAfterSeconds": 5000 },
        { "key": { "body": "text", "title": "text" }, "name": "texts", "weights": { "title": 9 },
          "default_language": "french", "language_override": "speech",
          "collation": { "locale": "simple" } },
        { "key": { "place": "2dsphere" }, "name": "places" },
        { "key": { "flat": "2d" }, "name": "flat", "min": -10.0, "max": 10.0, "bits": 20,
          "collation": { "locale": "simple" } },
        { "key": { "word": "hashed" }, "name": "hashed" },
        { "key": { "sparse": 1 }, "name": "sparse", "sparse": true },
        { "key": { "hidden": 1 }, "name": "hidden", "hidden": true },
        { "key": { "$**": 1 }, "name": "wild", "wildcardProjection": { "any": 1 } },
    ]});
    for n in 0..5 {
        let entry = doc! {
            "_id": n, "n": n, "word": format!("mot {n}"), "at": DateTime::now(),
            "body": "les chats", "place": [f64::from(n), 1.0], "flat": [1.0, f64::from(n)],
        };
        for name in ["french", "log", "clustered", "odd/name é"] {
            let collection = bench.web.collection(name);
            collection.insert_one(entry.clone()).run().expect("a write");
        }
    }
}

#[test]
fn a_copy_brings_back_every_option_and_index() {
    let Some(bench) = Bench::new() else {
        return;
    };
    furnish(&bench);
    let before = bench.everything();
    bench.take().expect("a backup");
    assert_eq!(bench.everything(), before, "a backup changes nothing");
    bench.put_back(true).expect("a restore");
    assert_eq!(bench.everything(), before, "over what is there");
    // Where everything is gone, and where an empty collection with other options has come.
    for (name, ..) in &before {
        bench.run(doc! { "drop": name });
    }
    bench.run(doc! { "create": "french" });
    bench.put_back(false).expect("a restore");
    assert_eq!(bench.everything(), before, "where nothing is");
}

/// Replaces a file of the copy, and what the manifest says of it.
fn forge(copy: &Path, name: &str, change: impl FnOnce(&mut Document)) {
    let path = copy.join("web").join(format!("{name}.metadata.json"));
    let text = fs::read_to_string(&path).expect("a file");
    let json: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(&text).expect("JSON");
    let mut metadata = Document::try_from(json).expect("metadata");
    change(&mut metadata);
    let text = Bson::Document(metadata)
        .into_canonical_extjson()
        .to_string();
    fs::write(&path, &text).expect("a file");
    let manifest = copy.join("backup.json");
    let mut json: serde_json::Value =
        serde_json::from_slice(&fs::read(&manifest).expect("a file")).expect("JSON");
    json["collections"][name]["metadata"] = hex::encode(sha2::Sha256::digest(&text)).into();
    fs::write(&manifest, json.to_string()).expect("a file");
}

#[track_caller]
fn refused(bench: &Bench, why: &str) {
    let error = bench.put_back(true).expect_err("a refusal");
    let error = format!("{error:#}");
    assert!(error.contains(why), "{error}");
}

#[test]
fn a_copy_that_cannot_be_put_back_as_it_was_changes_nothing() {
    let Some(bench) = Bench::new() else {
        return;
    };
    for name in ["a", "b"] {
        let entry = doc! { "_id": 1, "text": name };
        let collection = bench.web.collection(name);
        collection.insert_one(entry).run().expect("a write");
    }
    bench.take().expect("a backup");
    let entry = doc! { "_id": 2 };
    let collection = bench.web.collection("a");
    collection.insert_one(entry).run().expect("a write");
    let before = bench.everything();
    // Metadata that were changed behind the checksum.
    let path = bench.copy.join("web/b.metadata.json");
    let kept = fs::read(&path).expect("a file");
    fs::write(&path, "{}").expect("a file");
    refused(&bench, "b.metadata.json is damaged");
    fs::remove_file(&path).expect("a file");
    refused(&bench, "b.metadata.json");
    fs::write(&path, &kept).expect("a file");
    assert_eq!(bench.everything(), before);

    // An option that this server does not know.
    forge(&bench.copy, "b", |metadata| {
        metadata.insert("options", doc! { "newer": true });
    });
    refused(&bench, "newer");
    assert_eq!(bench.everything(), before);
    // An index that the documents don't fit.
    forge(&bench.copy, "b", |metadata| {
        metadata.insert("options", doc! {});
        let two = doc! { "v": 2, "key": { "text": "2dsphere" }, "name": "two" };
        metadata.insert("indexes", [two]);
    });
    refused(&bench, "indexes of b");
    assert_eq!(bench.everything(), before);
    // A time series, whose documents are not what its collection stores.
    forge(&bench.copy, "b", |metadata| {
        metadata.insert("type", "timeseries");
    });
    refused(&bench, "b is a time series");
    assert_eq!(bench.everything(), before);

    // What is there is of another kind.
    fs::write(&path, &kept).expect("a file");
    forge(&bench.copy, "b", |_| {});
    bench.run(doc! { "drop": "b" });
    bench.run(doc! { "create": "b", "viewOn": "a", "pipeline": [] });
    let before = bench.everything();
    refused(&bench, "b is a view");
    assert_eq!(bench.everything(), before);
}

#[test]
fn a_database_that_cannot_be_copied_as_it_is_is_refused_with_every_reason() {
    let Some(bench) = Bench::new() else {
        return;
    };
    bench.run(doc! { "create": "measured", "timeseries": { "timeField": "at" } });
    let one = WriteConcern::majority();
    let stored = doc! { "_id": "f", "value": "x" };
    let functions = bench.web.collection("system.js");
    functions
        .insert_one(stored)
        .write_concern(one)
        .run()
        .expect("a write");
    let refused = format!("{:#}", bench.take().expect_err("a refusal"));
    assert!(refused.contains("measured is a time series"), "{refused}");
    assert!(refused.contains("system.js"), "{refused}");
    assert!(refused.contains("mongodump"), "{refused}");
    assert!(!bench.copy.exists());
}

/// What an earlier version wrote: no word on the metadata in the manifest.
#[test]
fn a_copy_of_an_earlier_version_brings_its_options_back() {
    let Some(bench) = Bench::new() else {
        return;
    };
    let rule = doc! { "$jsonSchema": { "required": ["text"] } };
    bench.run(doc! { "create": "ruled", "validator": rule });
    let before = bench.everything();
    bench.take().expect("a backup");
    let manifest = bench.copy.join("backup.json");
    let mut json: serde_json::Value =
        serde_json::from_slice(&fs::read(&manifest).expect("a file")).expect("JSON");
    json["version"] = 1.into();
    let ruled = json["collections"]["ruled"].as_object_mut().expect("one");
    ruled.remove("metadata");
    fs::write(&manifest, json.to_string()).expect("a file");
    bench.run(doc! { "drop": "ruled" });
    bench.put_back(true).expect("a restore");
    assert_eq!(bench.everything(), before);
}
