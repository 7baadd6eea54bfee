//! The watcher on an app node: is told which databases are gone, and ends the connections to them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::advert::Datagram;
use super::metrics::Metrics;
use super::{interval, place, receive, send, sockets};
use crate::config::NodeFacts;
use crate::health::mongo;

/// Time between two reminders to the databases.
const REMIND: Duration = Duration::from_secs(1);
/// Time between two looks at the same database.
const AGAIN: Duration = Duration::from_millis(300);
/// What is said of it within so long is no news.
const EPISODE: Duration = Duration::from_secs(5);

/// Listens until `changed` says that the facts are others.
pub(super) fn listen(
    facts: &NodeFacts,
    say: &(dyn Fn(&str) + Sync),
    changed: &mut dyn FnMut() -> bool,
) -> anyhow::Result<()> {
    let app = facts.app.as_ref().context("this is no app node")?;
    let watch = app.watch.as_ref().context("no database is watched")?;
    let socket = super::socket(facts, watch)?;
    let mut metrics = Metrics::default();
    let mut reminded: Option<Instant> = None;
    let mut tried: BTreeMap<String, Instant> = BTreeMap::new();
    say("listening for databases that are gone");
    while !changed() {
        if reminded.is_none_or(|at| at.elapsed() >= REMIND) {
            reminded = Some(Instant::now());
            for host in app.databases.iter().filter_map(|host| place(host).ok()) {
                metrics.sent += u64::from(send(&socket, *host.ip(), watch, &Datagram::Listen));
            }
        }
        metrics.write();
        let Some((from, Datagram::Gone(host))) = receive(&socket) else {
            continue;
        };
        metrics.received += 1;
        let is_ours = |address| {
            let mut hosts = app.databases.iter().filter_map(|host| place(host).ok());
            hosts.any(|host| *host.ip() == address)
        };
        let fresh = tried.get(&host).is_none_or(|at| at.elapsed() >= AGAIN);
        if fresh && is_ours(from) && app.databases.contains(&host) {
            let known = tried.get(&host).is_some_and(|at| at.elapsed() < EPISODE);
            let say: &dyn Fn(&str) = if known { &|_| () } else { say };
            leave(&host, interval(watch), &mut metrics, say);
            tried.insert(host, Instant::now());
        }
    }
    Ok(())
}

/// Ends the connections to a database, unless it answers.
fn leave(host: &str, patience: Duration, metrics: &mut Metrics, say: &dyn Fn(&str)) {
    if mongo::answers(host, patience) {
        metrics.false_alarms += 1;
        say(&format!("{host} is said to be gone, but answers"));
        return;
    }
    match place(host).and_then(sockets::end) {
        Ok(0) => {}
        Ok(ended) => {
            metrics.sockets_ended += u64::try_from(ended).unwrap_or_default();
            say(&format!(
                "{host} is gone; connections to it that were ended: {ended}"
            ));
        }
        Err(error) => say(&format!("{error:#}")),
    }
}
