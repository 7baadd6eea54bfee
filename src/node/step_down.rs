//! The primary hands its part over before it is touched: the others elect a new one
//! at once, instead of waiting until they miss it.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::config::NodeFacts;
use crate::health::mongo::{self, Role};
use crate::secrets::{Kind, Secrets};

/// How long a connection may take to be accepted.
const CONNECT: Duration = Duration::from_millis(500);
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
    let (_, me) = facts.membership()?;
    let own = mongo::Member::connect(&me.host, CONNECT)?;
    if own.hello()?.role != Role::Primary {
        return Ok(());
    }
    let admin = secrets
        .log_in(Kind::Administration, &me.host, CONNECT)?
        .with_context(|| format!("{} does not know the administration user", facts.name))?;
    admin
        .step_down(AWAY)
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
