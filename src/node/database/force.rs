//! What is done only when somebody asks for it by name: going on without a majority, which
//! may lose acknowledged writes, and taking the administration over with the members' key.

use anyhow::{Context as _, anyhow, bail};
use mongodb::bson::doc;

use super::{CONNECT, NoAdmin, Run, Step, members, users};
use crate::health::mongo::{self, Role, User};

/// Leaves in the set only the members that answer, this one among them.
pub(super) fn reconfigure(run: &Run<'_>) -> anyhow::Result<()> {
    let hello = run.hello(&run.local).context("asking this node's mongod")?;
    if hello.role == Role::Uninitialized {
        bail!("this node is in no replica set: there is nothing to force");
    }
    if let Some(primary) = &hello.primary {
        bail!("{primary} is primary: there is nothing to force");
    }
    let admin = run.admin(&run.local).map_err(|why| match why {
        NoAdmin::Unreachable(error) => error,
        NoAdmin::Refused => anyhow!("this node does not know the administration user"),
    })?;
    let answer = admin.command(doc! { "replSetGetConfig": 1 })?;
    let current = answer
        .get_document("config")
        .context("the answer holds no configuration")?;
    let seats = members::seats(current);
    let belongs = |host: &str| {
        let answer = run.hello(host);
        answer.is_ok_and(|hello| hello.set.as_ref() == Some(&run.wanted.name))
    };
    let survivors: Vec<String> = seats
        .iter()
        .map(|(host, _)| host.clone())
        .filter(|host| *host == run.me.host || belongs(host))
        .collect();
    let voters = seats.iter().filter(|(_, votes)| *votes);
    let (alive, all) = voters.fold((0, 0), |(alive, all), (host, _)| {
        (alive + usize::from(survivors.contains(host)), all + 1)
    });
    if alive * 2 > all {
        bail!("{alive} of {all} voting members answer: they will elect a primary by themselves");
    }
    let next = members::only(current, &survivors)?;
    admin
        .command(doc! { "replSetReconfig": next, "force": true })
        .map_err(|error| anyhow!("forcing the configuration: {}", mongo::words(&error)))?;
    let names: Vec<&str> = survivors.iter().map(|host| run.name_of(host)).collect();
    (run.say)(&format!(
        "forced: the set goes on with {}; what only the others had is lost",
        names.join(", ")
    ));
    run.acted()
}

/// Gives the primary at `host` the administration user of the secrets.
pub(super) fn reset_administration(run: &Run<'_>, host: &str) -> anyhow::Result<Step> {
    let wanted = run.wanted_users()?;
    let user = wanted.first().context("there is no administration user")?;
    let database = &run.wanted.application_database;
    let keys = run.options.secrets.keys()?;
    let key = keys.last().context("there is no database key")?;
    let member = mongo::Member::login(host, CONNECT, User::member(key.reveal()))?;
    let known = member.command(doc! { "usersInfo": &user.login.user })?;
    let is_there = known
        .get_array("users")
        .is_ok_and(|users| !users.is_empty());
    let command = if is_there {
        users::set_password(user)
    } else {
        users::create(user, database)
    };
    member.command(command)?;
    (run.say)(&format!(
        "made {} as its file says, with the members' key",
        user.login.user
    ));
    run.acted()?;
    Ok(Step::Again)
}
