//! Certificates of a load balancer: judged, written for haproxy's next start, and loaded into the
//! one that runs, by its runtime socket. Connections that are open go on with the old ones.

use std::path::Path;

use anyhow::{Context as _, ensure};

use crate::certificate::Bundle;
use crate::certificate::store::{Store, now};
use crate::config::{HAPROXY_SOCKET, NodeFacts};
use crate::health::haproxy;
use crate::secrets::{CERTIFICATES, DIRECTORY, TICKET_KEYS};

/// Loads the certificates that `from` has, or those that are in their place already. With `only_files`
/// haproxy is not told: it is about to start. Returns what was done.
///
/// # Errors
/// If one is not fit to be served: then nothing was touched. If haproxy refuses one.
pub fn load(
    facts: &NodeFacts,
    from: Option<&Path>,
    only_files: bool,
) -> anyhow::Result<Vec<String>> {
    let tls = facts
        .load_balancer
        .as_ref()
        .and_then(|settings| settings.tls.as_ref());
    let tls = tls.with_context(|| format!("{} serves no HTTPS", facts.name))?;
    let place = Store::at(Path::new(DIRECTORY).join(CERTIFICATES));
    let now = now()?;
    let source = from.map_or_else(|| place.clone(), Store::at);
    if from.is_some() {
        source.give(&tls.certificates, &place, now)?;
    }
    let mut fit = Vec::new();
    for file in &tls.certificates {
        fit.push((file, place.fit(file, now)?));
    }
    let mut done = Vec::new();
    if only_files {
        return Ok(done);
    }
    for (file, pem) in fit {
        let path = place.path(file).display().to_string();
        if let Some(days) = replace(&path, &pem, now)? {
            done.push(format!("loaded {file}, {days} days left"));
        }
    }
    let added = tickets(&place)?;
    if added > 0 {
        done.push("loaded new keys of session tickets".into());
    }
    Ok(done)
}

/// The days until the first of this node's certificates expires; none where there is none.
pub fn days_left(facts: &NodeFacts) -> Option<i64> {
    let tls = facts.load_balancer.as_ref()?.tls.as_ref()?;
    let place = Store::at(Path::new(DIRECTORY).join(CERTIFICATES));
    let now = now().ok()?;
    place.days_left(&tls.certificates, now)
}

/// Gives the running haproxy a certificate, unless it has it. The days that it is still valid for.
fn replace(path: &str, pem: &[u8], now: i64) -> anyhow::Result<Option<i64>> {
    let bundle = Bundle::read(pem)
        .ok()
        .context("the file was changed meanwhile")?;
    if has(path, &bundle)? {
        return Ok(None);
    }
    let text = String::from_utf8_lossy(pem);
    // An empty line ends what is handed over.
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    let text = lines.collect::<Vec<_>>().join("\n") + "\n";
    let said = ask(&format!("set ssl cert {path} <<\n{text}"))?;
    ensure!(
        said.contains("ransaction"),
        "haproxy does not take {path}: {}",
        said.trim()
    );
    let said = ask(&format!("commit ssl cert {path}"))?;
    if !said.contains("Success") {
        let _ = ask(&format!("abort ssl cert {path}"));
        anyhow::bail!("haproxy does not load {path}: {}", said.trim());
    }
    Ok(Some(bundle.days_left(now)))
}

/// Whether the running haproxy has this very certificate.
fn has(path: &str, bundle: &Bundle) -> anyhow::Result<bool> {
    let said = ask(&format!("show ssl cert {path}"))?;
    let serial = said.lines().find_map(|line| line.strip_prefix("Serial: "));
    let plain = |serial: &str| serial.trim().trim_start_matches('0').to_ascii_uppercase();
    Ok(serial.is_some_and(|serial| plain(serial) == plain(bundle.serial())))
}

/// Gives the running haproxy the keys of tickets that it has not; how many.
fn tickets(place: &Store) -> anyhow::Result<usize> {
    let path = place.path(TICKET_KEYS).display().to_string();
    let known = ask("show tls-keys *")?;
    let keys = place.ticket_keys()?;
    let new: Vec<&String> = keys
        .iter()
        .filter(|key| !known.contains(key.as_str()))
        .collect();
    for key in &new {
        let said = ask(&format!("set ssl tls-key {path} {key}"))?;
        ensure!(
            said.contains("updated"),
            "haproxy does not take a key of tickets: {}",
            said.trim()
        );
    }
    Ok(new.len())
}

fn ask(command: &str) -> anyhow::Result<String> {
    haproxy::ask_in_confidence(Path::new(HAPROXY_SOCKET), command)
}
