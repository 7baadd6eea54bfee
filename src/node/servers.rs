//! What haproxy thinks of the app servers: requests that wait for one that is gone are taken back, and
//! what it has found out is kept over a reload.
//!
//! A new haproxy takes every server for well until its own first checks, and would send requests to
//! those that the old one knew to be gone. So it reads what the old one knew from [`HAPROXY_SERVERS`].

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::config::{HAPROXY_SERVERS, HAPROXY_SOCKET, RELEASE_AFTER, RELEASE_PAUSE};
use crate::files;
use crate::health::haproxy::{self, ServerState};

/// Time between two looks for servers that are down where asking takes long.
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

/// Whether haproxy has asked each app server at least once.
pub(super) fn are_checked() -> bool {
    let servers = haproxy::servers(Path::new(HAPROXY_SOCKET));
    servers.is_ok_and(|servers| servers.iter().all(|server| server.checked))
}

/// Leaves nothing for haproxy to read when it starts.
///
/// # Errors
/// If the file can't be written.
pub(super) fn forget() -> anyhow::Result<()> {
    write(haproxy::NO_SERVERS)
}

/// Writes which servers haproxy knows to be gone, for the one that comes after it.
///
/// # Errors
/// If haproxy does not say, or the file can't be written. Then the next one knows nothing.
pub(super) fn remember(configuration: Option<&Path>) -> anyhow::Result<()> {
    forget()?;
    let configuration = configuration.context("haproxy was started without `-f FILE`")?;
    let text = fs::read_to_string(configuration)
        .with_context(|| format!("reading {}", configuration.display()))?;
    let all = haproxy::ask(Path::new(HAPROXY_SOCKET), "show servers state")?;
    write(&haproxy::gone(&all, &text))
}

fn write(content: &str) -> anyhow::Result<()> {
    let path = Path::new(HAPROXY_SERVERS);
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)
            .with_context(|| format!("creating {}", directory.display()))?;
    }
    files::replace(path, content.as_bytes()).with_context(|| format!("writing {HAPROXY_SERVERS}"))
}

/// Ends the requests that wait for a server that is down, so that haproxy repeats
/// those that may be repeated. haproxy could do so itself the moment it marks the
/// server down (`on-marked-down shutdown-sessions`), but that also ends requests
/// that are still connecting, and those it does not repeat. After [`RELEASE_AFTER`]
/// they have given up by themselves and gone elsewhere.
pub(super) fn release(over: &AtomicBool, say: &(dyn Fn(&str) + Sync)) {
    let socket = Path::new(HAPROXY_SOCKET);
    let mut down: BTreeMap<(String, String), Option<Instant>> = BTreeMap::new();
    while !over.load(Ordering::SeqCst) {
        let begun = Instant::now();
        let servers = haproxy::servers(socket).unwrap_or_default();
        let asked = begun.elapsed();
        let is_down = |server: &&ServerState| server.status.starts_with("DOWN");
        let key = |server: &ServerState| (server.backend.clone(), server.name.clone());
        let now: BTreeSet<_> = servers.iter().filter(is_down).map(key).collect();
        down.retain(|server, _| now.contains(server));
        for server in servers.iter().filter(is_down) {
            let since = down
                .entry(key(server))
                .or_insert_with(|| Some(Instant::now()));
            // With nobody else to ask, an answer that comes late is the best there is.
            let elsewhere = servers
                .iter()
                .any(|other| other.backend == server.backend && other.status.starts_with("UP"));
            if elsewhere && since.is_some_and(|since| since.elapsed() > RELEASE_AFTER) {
                // None: done for this time.
                *since = None;
                for backend in [server.backend.clone(), server.twin()] {
                    let place = format!("{backend}/{}", server.name);
                    if let Err(error) =
                        haproxy::ask(socket, &format!("shutdown sessions server {place}"))
                    {
                        say(&format!("{error:#}"));
                    }
                }
            }
        }
        // Where there are very many, asking takes its time. A haproxy that hung does not say how much.
        std::thread::sleep((asked * 10).clamp(RELEASE_PAUSE, LONGEST_PAUSE));
    }
}
