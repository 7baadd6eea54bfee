//! The primary hands its part over before it is touched: the others elect a new one
//! at once, instead of waiting until they miss it.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use mongodb::bson::doc;

use crate::config::NodeFacts;
use crate::health::mongo::{self, Role};
use crate::secrets::{Kind, Login, Secrets};

/// How long a connection may take to be accepted.
const CONNECT: Duration = Duration::from_millis(500);
/// How long a secondary may take to catch up, in seconds.
const CATCH_UP: u32 = 10;
/// How long this node does not stand for election afterwards, in seconds.
const AWAY: u32 = 60;
/// How long a new primary may take to be there.
const PATIENCE: Duration = Duration::from_secs(15);

/// Hands the primary's part over and waits until another member has it. Does
/// nothing where this node is not primary.
///
/// # Errors
/// If no other member can take over, or nobody has in time.
pub fn step_down(facts: &NodeFacts, secrets: &Secrets, say: &dyn Fn(&str)) -> anyhow::Result<()> {
    let set = facts
        .database
        .as_deref()
        .with_context(|| format!("{} is no database", facts.name))?;
    let me = set.members.iter().find(|member| member.name == facts.name);
    let me = me.with_context(|| format!("{} is not among the members", facts.name))?;
    let own = mongo::Member::connect(&me.host, CONNECT)?;
    if own.hello()?.role != Role::Primary {
        return Ok(());
    }
    let logins = secrets.logins(Kind::Administration)?;
    let users = logins.iter().map(Login::as_user);
    let admin = mongo::Member::login_as_any(&me.host, CONNECT, users)?
        .with_context(|| format!("{} does not know the administration user", facts.name))?;
    admin
        .command(doc! {
            "replSetStepDown": AWAY,
            "secondaryCatchUpPeriodSecs": CATCH_UP,
        })
        .with_context(|| format!("{} can't hand the primary's part over", facts.name))?;
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if let Some(primary) = own.hello().ok().and_then(|hello| hello.primary)
            && primary != me.host
        {
            say(&format!("{primary} is primary now"));
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    bail!("nobody became primary within {} s", PATIENCE.as_secs())
}
