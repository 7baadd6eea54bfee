//! The application's data copied from this database node, and put back through the primary.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::backup::{self, Manifest};
use crate::config::{Member, NodeFacts, ReplicaSet};
use crate::health::mongo;
use crate::secrets::{Kind, Secrets};

/// How long a connection may take to be accepted.
const CONNECT: Duration = Duration::from_secs(2);

/// Copies the application's database from this node's member into a new directory. With a
/// `mongod` the copy is restored into one of its own, and counted.
///
/// # Errors
/// If the member can't be read, the directory is there already, or the count differs.
pub fn take(
    facts: &NodeFacts,
    secrets: &Secrets,
    directory: &Path,
    mongod: Option<&Path>,
) -> anyhow::Result<Manifest> {
    let (set, me) = membership(facts)?;
    let member = login(secrets, &me.host)?;
    backup::take(&member, &set.application_database, directory, mongod)
}

/// Writes a copy back into the database that it is of.
///
/// # Errors
/// If there is no primary, the copy is of another database or damaged, or something is
/// there already and may not be overwritten.
pub fn put_back(
    facts: &NodeFacts,
    secrets: &Secrets,
    directory: &Path,
    overwrite: bool,
) -> anyhow::Result<Manifest> {
    let (set, me) = membership(facts)?;
    let of = Manifest::read(directory)?.database;
    if of != set.application_database {
        let own = &set.application_database;
        bail!("the copy is of the database {of}, and the application's is {own}");
    }
    let hello = mongo::Member::connect(&me.host, CONNECT)?.hello()?;
    let primary = hello.primary.context("no database is primary")?;
    // As a member: what is older than a collection's validator takes more than the application may.
    let member = secrets
        .log_in_as_member(&primary, CONNECT)?
        .with_context(|| format!("{primary} does not take the members' key"))?;
    backup::put_back(&member, directory, overwrite)
}

/// The only replica set of a stack, and this node's part in it.
fn membership(facts: &NodeFacts) -> anyhow::Result<(&ReplicaSet, &Member)> {
    let (set, me) = facts.membership()?;
    if set.role.is_some() {
        bail!("{}", backup::SHARDED);
    }
    Ok((set, me))
}

/// A connection as the application, whose data it is.
fn login(secrets: &Secrets, host: &str) -> anyhow::Result<mongo::Member> {
    secrets
        .log_in(Kind::Application, host, CONNECT)?
        .with_context(|| format!("{host} does not know the application's user"))
}
