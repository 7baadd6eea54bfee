//! Open connections live on when the virtual IP moves.
//!
//! A move by gratuitous ARP changes who gets the packets, not who has the
//! connections. Without more, the new owner answers the next packet of each open
//! connection with a reset. With the rules here
//!
//! - the new owner gives packets of connections that it does not know to the other
//!   load balancers instead (nftables `dup`), and drops its own copy;
//! - whoever has the connection takes them although the address is gone: connection
//!   tracking knows it, a mark leads to a routing table in which the address is
//!   still local, and haproxy's socket is transparent;
//! - whoever no longer has the address serves those who still come to it, as long as
//!   haproxy listens: between two owners there are some milliseconds, and a first
//!   packet that is dropped in them is sent again a second later.
//!
//! So answers that are on their way when the address moves arrive, and the old
//! owner ends its connections in its own time (`Connection: close`, or its last
//! requests before it stops).
//!
//! Only peers that answer are given packets, and only for [`WINDOW`] after a move:
//! for a dead peer's connections the quick reset is right. Without nftables or
//! connection tracking in the kernel everything else works, and a move costs what
//! is in flight.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::config::{CONNECTION_TRACKING, LoadBalancerFacts, NodeFacts};
use crate::exec;
use crate::health::{http, vrrp};

/// How long after a move the others are given what is theirs: longer than haproxy
/// lets a connection live once it drains or stops.
const WINDOW: Duration = Duration::from_secs(60);
/// Pause between two looks at the peers.
const PAUSE: Duration = Duration::from_millis(300);
/// How long a peer may take to accept a connection.
const QUESTION: Duration = Duration::from_millis(200);
/// Mark of packets that are for a connection of this node.
const MARK: u32 = 0x6774;
/// Routing table in which the virtual IP is local.
const TABLE: u32 = 26484;

/// Keeps the rules in step with who is alive, until `over`.
pub(super) fn keep(
    facts_file: &Path,
    facts: &NodeFacts,
    over: &AtomicBool,
    say: &(dyn Fn(&str) + Sync),
) {
    if let Err(error) = prepare(facts.virtual_ip) {
        say(&format!("open connections can't be handed over: {error:#}"));
        return;
    }
    let mut loaded: Option<BTreeSet<Ipv4Addr>> = None;
    let late = serves_late();
    let mut owner_since: Option<Instant> = None;
    while !over.load(Ordering::SeqCst) {
        // Read anew each time: load balancers come and go while this one serves.
        let now = super::facts(facts_file).ok();
        let Some(settings) = now.as_ref().and_then(|facts| facts.load_balancer.as_ref()) else {
            std::thread::sleep(PAUSE);
            continue;
        };
        let mut peers = alive(settings);
        owner_since =
            vrrp::is_local(facts.virtual_ip).then(|| owner_since.unwrap_or_else(Instant::now));
        if let Some(since) = owner_since {
            // A peer that was dead in the meantime has no connections from before the move.
            let before = loaded.clone().unwrap_or_default();
            peers.retain(|peer| since.elapsed() < WINDOW && before.contains(peer));
        }
        if loaded.as_ref() != Some(&peers) {
            if let Err(error) = load(&rules(facts, settings, &peers, late)) {
                say(&format!("open connections can't be handed over: {error:#}"));
                return;
            }
            loaded = Some(peers);
        }
        std::thread::sleep(PAUSE);
    }
}

fn alive(settings: &LoadBalancerFacts) -> BTreeSet<Ipv4Addr> {
    let answers = |peer: &&Ipv4Addr| http::accepts(**peer, settings.internal_port, QUESTION);
    settings.peers.iter().filter(answers).copied().collect()
}

/// The table in which the virtual IP stays local, and strict connection tracking:
/// a packet from the middle of an unknown connection must not begin a new one, nor
/// belong to an old one.
fn prepare(virtual_ip: Ipv4Addr) -> anyhow::Result<()> {
    let ip = exec::find("ip").context("ip is missing")?;
    let (mark, table, address) = (MARK.to_string(), TABLE.to_string(), virtual_ip.to_string());
    let rules = exec::run(Command::new(&ip).args(["rule", "show"]), None)?;
    if !rules.contains(&format!("lookup {table}")) {
        exec::run(
            Command::new(&ip).args(["rule", "add", "fwmark", &mark, "lookup", &table]),
            None,
        )?;
    }
    exec::run(
        Command::new(&ip).args([
            "route", "replace", "local", &address, "dev", "lo", "table", &table,
        ]),
        None,
    )?;
    // Loaded once, so that the settings exist.
    load("  ct state established accept\n")?;
    for (name, value) in CONNECTION_TRACKING {
        let path = format!("/proc/sys/net/netfilter/{name}");
        // In a container they can only be read, and whoever starts it has set them.
        let is_set = std::fs::read_to_string(&path).is_ok_and(|now| now.trim() == value);
        if !is_set {
            std::fs::write(&path, value).with_context(|| format!("writing {path}"))?;
        }
    }
    Ok(())
}

/// Whether the kernel can tell that a socket listens (`nft_socket`).
fn serves_late() -> bool {
    load("  socket transparent 1 accept\n").is_ok()
}

fn rules(
    facts: &NodeFacts,
    settings: &LoadBalancerFacts,
    peers: &BTreeSet<Ipv4Addr>,
    late: bool,
) -> String {
    let first = "tcp flags & (syn | ack) == syn";
    let late = if late {
        format!("  {first} socket transparent 1 meta mark set {MARK} accept\n")
    } else {
        String::new()
    };
    let (virtual_ip, interface) = (facts.virtual_ip, &facts.interface);
    let tls = settings.tls.as_ref().map(|tls| tls.port);
    let ports = std::iter::once(settings.port)
        .chain(tls)
        .map(|port| port.to_string());
    let ports = ports.collect::<Vec<_>>().join(", ");
    let mut give = String::new();
    for peer in peers {
        give.push_str("  fib daddr type local dup to ");
        give.push_str(&peer.to_string());
        give.push_str(&format!(" device \"{interface}\"\n"));
    }
    if !peers.is_empty() {
        give.push_str("  fib daddr type local drop\n");
    }
    format!(
        "  ip daddr != {virtual_ip} accept\n  tcp dport != {{ {ports} }} accept\n{late}  {first} accept\n  \
         ct state established meta mark set {MARK} accept\n{give}"
    )
}

/// Puts these rules in place of what was in our table, in one step.
fn load(rules: &str) -> anyhow::Result<()> {
    let nft = exec::find("nft").context("nft is missing (Debian package nftables)")?;
    let batch = format!(
        "table ip gen_topology\ndelete table ip gen_topology\ntable ip gen_topology {{\n chain handover {{\n  \
         type filter hook prerouting priority mangle;\n{rules} }}\n}}\n"
    );
    exec::run(Command::new(nft).args(["-f", "-"]), Some(&batch)).map(drop)
}
