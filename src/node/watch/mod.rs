//! Watching the databases, so that a dead one costs tenths of a second.
//!
//! Members of a replica set miss each other after `election_timeout`, seconds; the application's
//! connections to a machine without power wait for time-outs. So each database tells the others
//! ten times a second that it is there, as VRRP does ([`advert`]). Who misses a primary, and can't
//! reach it either, asks its own mongod to stand for election ([`view`] decides, without clocks or
//! sockets of its own). That is a request to vote: a majority still decides, so a wrong
//! watcher costs an election and never data. App nodes are told who is gone, and end their
//! connections to it ([`listener`]).
//!
//! It also keeps the other secondaries copying from the one that would be elected ([`own`]). Their
//! source then outlives the primary, and they need not look for another, which takes a second.

mod advert;
mod listener;
mod member;
mod metrics;
mod own;
mod sockets;
mod view;

use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::config::{NodeFacts, Watch};
use crate::secrets::Secrets;
use advert::Datagram;

/// Time between two looks at the facts.
const FACTS: Duration = Duration::from_secs(1);

/// Watches until the node's facts change; its supervisor starts it again then.
///
/// # Errors
/// If the node is neither database nor app node, or the port is taken.
pub fn watch(
    facts_file: &Path,
    facts: &NodeFacts,
    secrets: Secrets,
    say: &(dyn Fn(&str) + Sync),
) -> anyhow::Result<()> {
    let mut looked = Instant::now();
    // Facts that can't be read are those of a moment in which they are replaced.
    let mut changed = || {
        if looked.elapsed() < FACTS {
            return false;
        }
        looked = Instant::now();
        super::facts(facts_file).is_ok_and(|new| concerns(&new) != concerns(facts))
    };
    match (&facts.database, &facts.app) {
        (Some(set), _) if set.watch.is_some() => {
            member::watch(facts, secrets, say, &mut changed)?;
        }
        (_, Some(app)) if app.watch.is_some() => listener::listen(facts, say, &mut changed)?,
        _ => {
            say("there is no other database to watch");
            while !changed() {
                std::thread::sleep(FACTS);
            }
        }
    }
    say("the facts changed; starting again with them");
    Ok(())
}

/// What of the facts is the watcher's business.
fn concerns(facts: &NodeFacts) -> impl PartialEq + use<> {
    let database = facts.database.as_ref();
    let app = facts.app.as_ref();
    (
        facts.address,
        database.map(|set| (set.name.clone(), set.members.clone(), set.watch.clone())),
        app.map(|app| (app.watch.clone(), app.databases.clone())),
    )
}

/// A socket on the node's own address, which also is what the others know it by.
fn socket(facts: &NodeFacts, watch: &Watch) -> anyhow::Result<UdpSocket> {
    let place = SocketAddrV4::new(facts.address, watch.port);
    let socket = UdpSocket::bind(place).with_context(|| format!("listening at udp {place}"))?;
    socket
        .set_read_timeout(Some(interval(watch) / 4))
        .context("setting the socket's time-out")?;
    Ok(socket)
}

fn interval(watch: &Watch) -> Duration {
    Duration::from_millis(watch.interval_ms.max(1))
}

/// Sends a datagram. What is not sent is missed, and missing it is what the receiver is for.
fn send(socket: &UdpSocket, to: Ipv4Addr, watch: &Watch, datagram: &Datagram) -> bool {
    let bytes = datagram.bytes();
    socket
        .send_to(&bytes, SocketAddrV4::new(to, watch.port))
        .is_ok()
}

/// The next datagram and whose it is; none if there is none right now, or it is not ours.
fn receive(socket: &UdpSocket) -> Option<(Ipv4Addr, Datagram)> {
    let mut buffer = [0; advert::LONGEST];
    let (length, from) = socket.recv_from(&mut buffer).ok()?;
    let std::net::IpAddr::V4(from) = from.ip() else {
        return None;
    };
    Some((from, Datagram::parse(buffer.get(..length)?)?))
}

/// The address and port of a member, written `address:port`.
fn place(host: &str) -> anyhow::Result<SocketAddrV4> {
    host.parse()
        .with_context(|| format!("`{host}` is no address:port"))
}
