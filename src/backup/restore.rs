//! Writing a copy into the database that it is of.
//!
//! Each collection is first made beside the one that it replaces, with its options, documents and
//! indexes, and compared with the copy. Only when all of them are complete does each take its
//! place, by a renaming that the server does in one step. What can't be put back as it was
//! shows before anything is dropped.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, anyhow, bail};
use mongodb::bson::{Document, RawDocumentBuf, doc};
use mongodb::options::{CollectionOptions, WriteConcern};
use mongodb::sync::{Collection, Database};

use super::manifest::{Manifest, each_document};
use super::shape::{self, STAGING, Shape, Type};
use crate::health::mongo::{self, Member};

/// Documents written at the same time.
const BATCH: usize = 500;
/// `NamespaceExists` among the server's error codes.
const NAMESPACE_EXISTS: i32 = 48;

/// Writes the copy in `directory`, whose files are whole, into the database that it is of.
pub(super) fn put_back(
    member: &Member,
    directory: &Path,
    manifest: &Manifest,
    overwrite: bool,
) -> anyhow::Result<()> {
    let restore = Restore::plan(member, directory, manifest)?;
    restore.look(overwrite)?;
    restore.clear()?;
    if let Err(error) = restore.stage() {
        let left = restore.clear().is_err();
        let rest = if left {
            ", and collections `gen-topology-restore.…` are left"
        } else {
            ""
        };
        return Err(error.context(format!("nothing was replaced{rest}")));
    }
    restore.replace(overwrite)
}

struct Restore<'r> {
    directory: &'r Path,
    manifest: &'r Manifest,
    member: &'r Member,
    target: Database,
    /// What the copy holds, by name. The position says the name until it takes its place.
    shapes: BTreeMap<String, Shape>,
    /// What is there, by name.
    there: BTreeMap<String, Shape>,
}

impl<'r> Restore<'r> {
    fn plan(
        member: &'r Member,
        directory: &'r Path,
        manifest: &'r Manifest,
    ) -> anyhow::Result<Self> {
        let target = member.client().database(&manifest.database);
        let names = manifest.collections.keys().chain(manifest.views.keys());
        let read = |name: &String| {
            let shape = Shape::read(&manifest.metadata_file(directory, name))?;
            Ok((name.clone(), shape))
        };
        let shapes = names.map(read).collect::<anyhow::Result<_>>()?;
        let there = shape::list(&target)?;
        Ok(Self {
            directory,
            manifest,
            member,
            target,
            shapes,
            there,
        })
    }

    /// Refuses what can be seen to go wrong, all of it at once.
    fn look(&self, overwrite: bool) -> anyhow::Result<()> {
        let mut problems = Vec::new();
        let mut full = Vec::new();
        for (name, shape) in &self.shapes {
            problems.extend(shape.obstacle(name));
            let Some(there) = self.there.get(name) else {
                continue;
            };
            if there.kind != shape.kind {
                let (there, copied) = (there.kind.words(), shape.kind.words());
                problems.push(format!(
                    "{name} is {there} now, and was {copied}: drop or rename it"
                ));
            } else if self.is_in_the_way(name, shape, there)? {
                full.push(name.as_str());
            }
        }
        if !full.is_empty() && !overwrite {
            let verb = if full.len() == 1 { "holds" } else { "hold" };
            problems.push(format!(
                "{} of the database {} {verb} something; nothing was changed (--overwrite replaces it)",
                full.join(", "),
                self.manifest.database,
            ));
        }
        if problems.is_empty() {
            return Ok(());
        }
        Err(anyhow!("{}", problems.join("; ")))
    }

    /// Whether putting `name` back replaces something.
    fn is_in_the_way(&self, name: &str, shape: &Shape, there: &Shape) -> anyhow::Result<bool> {
        match shape.kind {
            Type::View => Ok(!shape.differences(there).is_empty()),
            Type::Collection | Type::TimeSeries => self.holds_something(name),
        }
    }

    fn holds_something(&self, name: &str) -> anyhow::Result<bool> {
        let collection: Collection<RawDocumentBuf> = self.target.collection(name);
        Ok(collection.find_one(doc! {}).run()?.is_some())
    }

    /// Removes what an earlier attempt left behind.
    fn clear(&self) -> anyhow::Result<()> {
        for name in self.target.list_collection_names().run()? {
            if name.starts_with(STAGING) {
                if name == aside() && self.holds_something(&name)? {
                    bail!(
                        "{name} holds what was written during an earlier restore: look at it, then drop it"
                    );
                }
                self.command(doc! { "drop": name })?;
            }
        }
        Ok(())
    }

    fn command(&self, mut command: Document) -> anyhow::Result<()> {
        command.insert("writeConcern", doc! { "w": "majority" });
        self.target.run_command(command).run()?;
        Ok(())
    }

    /// Each name of a kind, with what it is called until it takes its place.
    fn staged(&self, kind: Type) -> impl Iterator<Item = (String, &String, &Shape)> {
        let numbered = self.shapes.iter().enumerate();
        numbered
            .filter(move |(_, (_, shape))| shape.kind == kind)
            .map(|(number, (name, shape))| (format!("{STAGING}{number}"), name, shape))
    }

    /// Makes everything beside what is there.
    fn stage(&self) -> anyhow::Result<()> {
        for (staging, name, shape) in self.staged(Type::Collection) {
            self.command(shape.create(&staging))
                .with_context(|| format!("creating {name} with its options"))?;
            self.fill(&staging, name)
                .with_context(|| format!("writing the documents of {name}"))?;
            if let Some(create) = shape.create_indexes(&staging) {
                self.command(create)
                    .with_context(|| format!("making the indexes of {name}"))?;
            }
        }
        for (staging, name, shape) in self.staged(Type::View) {
            self.command(shape.create(&staging))
                .with_context(|| format!("creating the view {name}"))?;
        }
        self.compare()
    }

    fn fill(&self, staging: &str, name: &str) -> anyhow::Result<()> {
        let options = CollectionOptions::builder()
            .write_concern(WriteConcern::majority())
            .build();
        let collection: Collection<RawDocumentBuf> =
            self.target.collection_with_options(staging, options);
        // Documents may be older than the rule that they break.
        let write = |batch: Vec<RawDocumentBuf>| -> anyhow::Result<()> {
            let insert = collection.insert_many(batch);
            insert.bypass_document_validation(true).run()?;
            Ok(())
        };
        let mut batch = Vec::with_capacity(BATCH);
        each_document(
            &self.manifest.data_file(self.directory, name),
            &mut |document| {
                batch.push(document);
                if batch.len() == BATCH {
                    write(std::mem::take(&mut batch))?;
                }
                Ok(())
            },
        )?;
        if batch.is_empty() {
            Ok(())
        } else {
            write(batch)
        }
    }

    /// Compares what was made with what was copied.
    fn compare(&self) -> anyhow::Result<()> {
        let made = shape::list_staged(&self.target)?;
        let mut different = Vec::new();
        for kind in [Type::Collection, Type::View] {
            for (staging, name, shape) in self.staged(kind) {
                let made = made.get(&staging);
                let made = made.with_context(|| format!("{name} is not there"))?;
                let found = shape.differences(made);
                if !found.is_empty() {
                    different.push(format!("{name} ({})", found.join(", ")));
                }
            }
        }
        if !different.is_empty() {
            bail!(
                "this server does not make as it was: {}",
                different.join("; ")
            );
        }
        Ok(())
    }

    /// Everything takes its place.
    fn replace(&self, overwrite: bool) -> anyhow::Result<()> {
        for (staging, name, _) in self.staged(Type::Collection) {
            if !overwrite && self.there.contains_key(name) {
                self.move_empty_aside(name)?;
            }
            match self.rename(&staging, name, overwrite) {
                Err(error) if code(&error) == Some(NAMESPACE_EXISTS) => {
                    bail!(
                        "{name} was created by another client meanwhile; what is not in its place waits in {STAGING}…"
                    )
                }
                done => done.with_context(|| format!("putting {name} in its place"))?,
            }
        }
        for (staging, name, shape) in self.staged(Type::View) {
            let there = self.there.get(name);
            if there.is_none_or(|there| !shape.differences(there).is_empty()) {
                if there.is_some() {
                    self.command(doc! { "drop": name })?;
                }
                self.command(shape.create(name))
                    .with_context(|| format!("creating the view {name}"))?;
            }
            self.command(doc! { "drop": staging })?;
        }
        self.clear()
    }

    /// A collection that held nothing when it was looked at goes, unless something came since.
    fn move_empty_aside(&self, name: &str) -> anyhow::Result<()> {
        let aside = aside();
        self.rename(name, &aside, true)?;
        if self.holds_something(&aside)? {
            self.rename(&aside, name, false)?;
            bail!("{name} was written to meanwhile, and stays as it is");
        }
        Ok(())
    }

    fn rename(&self, from: &str, to: &str, over: bool) -> anyhow::Result<()> {
        let full = |name: &str| format!("{}.{name}", self.manifest.database);
        let command = doc! {
            "renameCollection": full(from), "to": full(to), "dropTarget": over,
            "writeConcern": { "w": "majority" },
        };
        self.member.command(command)?;
        Ok(())
    }
}

/// Where a collection goes that held nothing.
fn aside() -> String {
    format!("{STAGING}aside")
}

fn code(error: &anyhow::Error) -> Option<i32> {
    error.downcast_ref().and_then(mongo::code)
}
