//! The application's data copied from this database node, and put back through the primary.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::backup::{self, Manifest};
use crate::config::{NodeFacts, ReplicaSet};
use crate::health::mongo;
use crate::secrets::{Kind, Login, Secrets};

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
    let set = set_of(facts)?;
    let member = login(secrets, &own(facts, set)?)?;
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
    let set = set_of(facts)?;
    let of = Manifest::read(directory)?.database;
    if of != set.application_database {
        let own = &set.application_database;
        bail!("the copy is of the database {of}, and the application's is {own}");
    }
    let hello = mongo::Member::connect(&own(facts, set)?, CONNECT)?.hello()?;
    let primary = hello.primary.context("no database is primary")?;
    backup::put_back(&login(secrets, &primary)?, directory, overwrite)
}

fn set_of(facts: &NodeFacts) -> anyhow::Result<&ReplicaSet> {
    let set = facts.database.as_deref();
    let set = set.with_context(|| format!("{} is no database", facts.name))?;
    if set.role.is_some() {
        bail!("{}", backup::SHARDED);
    }
    Ok(set)
}

fn own(facts: &NodeFacts, set: &ReplicaSet) -> anyhow::Result<String> {
    let own = set.members.iter().find(|member| member.name == facts.name);
    let own = own.with_context(|| format!("{} is not among the members", facts.name))?;
    Ok(own.host.clone())
}

/// A connection as the application, whose data it is.
fn login(secrets: &Secrets, host: &str) -> anyhow::Result<mongo::Member> {
    let logins = secrets.logins(Kind::Application)?;
    let users = logins.iter().map(Login::as_user);
    mongo::Member::login_as_any(host, CONNECT, users)?
        .with_context(|| format!("{host} does not know the application's user"))
}
