//! The application's data copied out of a lab, and put back.

use std::path::Path;

use anyhow::{Context as _, bail};

use super::plan::NodePlan;
use super::run::Lab;
use super::supplies;
use crate::backup::{self, Manifest};
use crate::config::NodeFacts;
use crate::health::mongo::Role;
use crate::secrets::Kind;
use crate::topology::Tier;

impl Lab {
    /// Copies the application's database from a secondary, or from the primary where there
    /// is no other, into a new directory; then restores the copy into a mongod of its own and
    /// counts. Says from which node it copied.
    ///
    /// # Errors
    /// If no member can be read, the directory is there already, or the count differs.
    pub fn back_up(&self, directory: &Path) -> anyhow::Result<(Manifest, String)> {
        self.refuse_shards()?;
        let mongod = supplies::mongod()?.context("there is no mongod to try the copy with")?;
        let node = self
            .database_that_is(Role::Secondary)
            .or_else(|| self.database_that_is(Role::Primary))
            .context("no database can be read")?;
        let member = self.mongod_as(node, Kind::Application)?;
        let database = application_database(node)?;
        let manifest = backup::take(&member, &database, directory, Some(&mongod))?;
        Ok((manifest, node.name.clone()))
    }

    /// Writes a copy back into the database that it is of.
    ///
    /// # Errors
    /// If there is no primary, the copy is of another database or damaged, or something is
    /// there already and may not be overwritten.
    pub fn put_back(&self, directory: &Path, overwrite: bool) -> anyhow::Result<Manifest> {
        self.refuse_shards()?;
        let node = self
            .database_that_is(Role::Primary)
            .context("no database is primary")?;
        let (of, database) = (
            Manifest::read(directory)?.database,
            application_database(node)?,
        );
        if of != database {
            bail!("the copy is of the database {of}, and the application's is {database}");
        }
        // As a member: what is older than a collection's validator takes more than the application may.
        let member = self.mongod_as_member(node)?;
        backup::put_back(&member, directory, overwrite)
    }

    fn refuse_shards(&self) -> anyhow::Result<()> {
        if self.plan.database_port.is_none() {
            bail!("{}", backup::NO_DATABASE);
        }
        if self.plan.is_sharded() {
            bail!("{}", backup::SHARDED);
        }
        Ok(())
    }

    fn database_that_is(&self, role: Role) -> Option<&NodePlan> {
        self.plan
            .tier(Tier::Database)
            .find(|node| self.role(node) == Some(role))
    }
}

/// Name of the application's database, from the node's facts.
fn application_database(node: &NodePlan) -> anyhow::Result<String> {
    let facts = node.etc.get("gen-topology/node.json");
    let facts = facts.with_context(|| format!("{} has no facts", node.name))?;
    let facts: NodeFacts = serde_json::from_str(facts).context("reading the node's facts")?;
    let database = facts.database.context("this is no database")?;
    Ok(database.application_database.clone())
}
