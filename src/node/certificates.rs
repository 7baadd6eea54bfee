//! Certificates of a load balancer: judged, written for haproxy's next start, and loaded into the
//! one that runs, by its runtime socket. Connections that are open go on with the old ones.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use crate::certificate::store::{Store, now};
use crate::certificate::{Bundle, acme, authority};
use crate::config::{ACME_STATE, ACME_THUMBPRINT, HAPROXY_SOCKET, NodeFacts, TlsFacts};
use crate::health::haproxy;
use crate::secrets::{CERTIFICATES, DIRECTORY, TICKET_KEYS};
use crate::topology::ACME_FILE;

use super::figures;

/// Days for which the first, self-signed certificate is valid. Nobody trusts it anyway.
const PLACEHOLDER_DAYS: i64 = 3650;
/// A clock may be a little late.
const MARGIN: i64 = 3600;
/// How long the certificates are valid, for a collector of figures.
const FIGURES: &str = "/run/gen-topology/certificates.prom";
/// Time between two writings of it; whoever waits for a renewal sees it that soon.
const TOLD_EVERY: Duration = Duration::from_secs(10);
/// How late the end is noticed.
const PAUSE: Duration = Duration::from_millis(200);

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
    let place = place();
    let now = now()?;
    let source = from.map(Store::at);
    match (&tls.acme, source) {
        (Some(acme), source) => {
            source.map_or(Ok(()), |source| source.give_acme(acme, &place))?;
            prepare(tls, &place, now)?;
        }
        (None, Some(source)) => source.give(&tls.certificates, &place, now)?,
        (None, None) => {}
    }
    let served = served(tls);
    let mut fit = Vec::new();
    for file in &tls.certificates {
        fit.push((file, served.fit(file, now)?));
    }
    let mut done = Vec::new();
    if only_files {
        return Ok(done);
    }
    for (file, pem) in fit {
        let path = served.path(file).display().to_string();
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

/// Has a certificate where haproxy reads it when it starts: the one that was got last, or one that is
/// signed by itself, so that haproxy starts at all.
///
/// # Errors
/// If the keys are missing, or nothing can be written.
fn prepare(tls: &TlsFacts, place: &Store, now: i64) -> anyhow::Result<()> {
    let state = Store::at(ACME_STATE);
    let last = state.read(ACME_FILE).ok();
    let last = last.and_then(|pem| Bundle::read(&pem).ok());
    if last.is_some_and(|last| last.is_valid(now)) {
        return Ok(());
    }
    let from = now - MARGIN;
    let key = place.acme_key()?;
    let pem = authority::self_signed(&tls.names, &key, from, PLACEHOLDER_DAYS)?;
    state.put(ACME_FILE, pem.as_bytes())?;
    state.note_problem(Some("no authority has given one yet"))
}

/// Where haproxy reads its certificates: those that somebody brought can't be changed here, those of ACME are.
fn served(tls: &TlsFacts) -> Store {
    match tls.acme {
        Some(_) => Store::at(ACME_STATE),
        None => place(),
    }
}

/// Where the secrets of HTTPS are.
pub(super) fn place() -> Store {
    Store::at(Path::new(DIRECTORY).join(CERTIFICATES))
}

/// Why this node has no new certificate, if it should have one.
pub fn problem(facts: &NodeFacts) -> Option<String> {
    let tls = facts.load_balancer.as_ref()?.tls.as_ref()?;
    served(tls).problem()
}

/// What haproxy has to be told by its environment: the thumbprint of the ACME account, if there is one.
///
/// # Errors
/// If the account's key can't be read.
pub(super) fn environment(tls: &TlsFacts) -> anyhow::Result<Option<(&'static str, String)>> {
    if tls.acme.is_none() {
        return Ok(None);
    }
    let thumbprint = acme::thumbprint(&place().acme_account()?)?;
    Ok(Some((ACME_THUMBPRINT, thumbprint)))
}

/// The days until the first of this node's certificates expires; none where there is none.
pub fn days_left(facts: &NodeFacts) -> Option<i64> {
    let tls = facts.load_balancer.as_ref()?.tls.as_ref()?;
    let now = now().ok()?;
    served(tls).days_left(&tls.certificates, now)
}

/// Writes how long this node's certificates are valid, until it is `over`.
pub(super) fn tell(facts: &NodeFacts, over: &AtomicBool) {
    let tls = facts.load_balancer.as_ref().and_then(|it| it.tls.as_ref());
    let Some(tls) = tls else { return };
    let mut told: Option<Instant> = None;
    while !over.load(Ordering::SeqCst) {
        if told.is_none_or(|at| at.elapsed() >= TOLD_EVERY) {
            told = Some(Instant::now());
            figures::write(FIGURES, &validity(tls, &served(tls)));
        }
        std::thread::sleep(PAUSE);
    }
}

/// The figures: when each certificate expires, and whether the last try to get another one failed.
fn validity(tls: &TlsFacts, store: &Store) -> String {
    let expiry = "gen_topology_certificate_expiry_timestamp_seconds";
    let failed = "gen_topology_certificate_renewal_failed";
    let help = "When a certificate expires, in seconds since 1970.";
    let mut text = figures::heading(expiry, "gauge", help);
    for file in &tls.certificates {
        let bundle = store
            .read(file)
            .ok()
            .and_then(|pem| Bundle::read(&pem).ok());
        if let Some(bundle) = bundle {
            text += &format!("{expiry}{{file=\"{file}\"}} {}\n", bundle.expires_at());
        }
    }
    let value = u8::from(store.problem().is_some());
    let help = "Whether the last try to get another certificate failed.";
    text + &figures::heading(failed, "gauge", help) + &format!("{failed} {value}\n")
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
