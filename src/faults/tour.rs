//! The demonstration: what the old stack promised, each promise tried under load
//! and measured from a client's place.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use rustix::process::Signal;
use serde::Serialize;

use super::load::{self, Load, Sample, Summary, Target, summary};
use crate::exec;
use crate::health::http;
use crate::lab::{Lab, NodePlan};
use crate::topology::Tier;

/// What a client may notice at most.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Promise {
    /// Longest time without a good answer, in milliseconds; none where requests are only slower.
    pub gap_ms: Option<f64>,
    /// Requests without a good answer.
    pub lost: Lost,
}

/// Which requests may be without a good answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lost {
    /// None at all.
    None,
    /// What the dead app had in hand: writes, because nobody can know whether to repeat
    /// them, and answers that it had begun.
    InHand,
    /// What was in flight on the dead load balancer.
    InFlight,
}

impl Lost {
    /// Whether that is all that was lost.
    fn covers(self, seen: &Summary) -> bool {
        match self {
            Lost::None => seen.lost() == 0,
            Lost::InHand => {
                let in_hand = |lost: &load::Lost| lost.write || lost.why == load::CUT_SHORT;
                seen.failures.len() == seen.lost() && seen.failures.iter().all(in_hand)
            }
            Lost::InFlight => true,
        }
    }
}

/// One thing that was tried.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// What was done.
    pub what: String,
    /// What was promised.
    pub promise: Promise,
    /// What was seen.
    pub seen: Summary,
    /// What else is worth telling.
    pub note: String,
    /// Stored entries that were acknowledged and are not there afterwards.
    pub writes_lost: usize,
}

impl Finding {
    /// Whether the promise was kept.
    pub fn is_kept(&self) -> bool {
        self.promise
            .gap_ms
            .is_none_or(|most| self.seen.longest_gap_ms <= most)
            && self.promise.lost.covers(&self.seen)
            && self.writes_lost == 0
    }
}

/// How the demonstration is run.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Requests a second.
    pub rate: u32,
    /// Requests that are sent at least, for each thing that is tried.
    pub requests: u32,
    /// Time between two VRRP adverts, in milliseconds.
    pub advert_ms: u64,
}

/// Gap that a handover on purpose, or a dead haproxy, may cost.
const HANDOVER_MS: f64 = 50.0;
/// How long anything may take to be as before.
const PATIENCE: Duration = Duration::from_secs(30);
/// Load before something is done, so that a gap at the start is seen as one.
const WARM_UP: Duration = Duration::from_secs(1);

/// Shows that the page and its data come through the virtual IP, and which app
/// servers answer different visitors. Returns a sentence for each.
///
/// # Errors
/// If there is no page or the entry is not on it.
pub fn look(lab: &Lab) -> anyhow::Result<Vec<String>> {
    let Target { address, port } = target(lab);
    let client = http::client(Duration::from_secs(10));
    let first = lab
        .plan()
        .tier(Tier::LoadBalancer)
        .next()
        .context("there is no load balancer")?;
    wait("the first load balancer to have the virtual IP", || {
        lab.owners() == [first.name.as_str()]
    })?;
    apps_in_use(lab)?;
    let entry = "stored through the virtual IP";
    let body = serde_json::json!({ "text": entry }).to_string();
    let stored = http::post(
        &client,
        address,
        port,
        "/api/entries",
        "application/json",
        &body,
    )?;
    ensure!(
        stored.status == 201,
        "an entry could not be stored: HTTP {} {}; the demonstration needs the demo app",
        stored.status,
        stored.body
    );
    let page = http::get(&client, address, port, "/")?;
    ensure!(
        page.status == 200 && page.body.contains(entry),
        "the page does not show what was stored"
    );
    let mut by_node = std::collections::BTreeMap::<String, usize>::new();
    for _ in 0..40 {
        let node = http::get(&client, address, port, "/")?
            .node
            .unwrap_or_default();
        *by_node.entry(node).or_default() += 1;
    }
    let shares: Vec<String> = by_node
        .iter()
        .map(|(node, count)| format!("{node} {count}"))
        .collect();
    Ok(vec![
        format!("the page and what was stored come through {address}"),
        format!("40 visitors were served by {}", shares.join(", ")),
    ])
}

/// Things to try, in order. Each is given the lab and returns what was seen.
pub type Act = fn(&Lab, Pace) -> anyhow::Result<Vec<Finding>>;

/// Everything that is tried, with a title to show while it runs.
pub const ACTS: [(&str, Act); 7] = [
    (
        "rebooting the load balancer that has the virtual IP",
        reboot_load_balancer,
    ),
    ("rebooting an app server", reboot_app),
    ("stopping gunicorn while nginx lives", stop_gunicorn),
    ("killing gunicorn", kill_gunicorn),
    ("pulling the plug of an app server", power_off_app),
    ("killing haproxy", kill_haproxy),
    (
        "pulling the plug of the load balancer that has the virtual IP",
        power_off_load_balancer,
    ),
];

fn reboot_load_balancer(lab: &Lab, pace: Pace) -> anyhow::Result<Vec<Finding>> {
    let owner = owner(lab)?;
    let (samples, marks) = under_load(lab, pace, "reboot", |load, mark| {
        mark(load.now());
        lab.stop(&owner)?;
        settle();
        let heir = self::owner(lab)?;
        ensure!(
            heir != owner,
            "{owner} is stopped and still has the virtual IP"
        );
        mark(load.now());
        lab.start(std::slice::from_ref(&owner))?;
        back_at(lab, &owner)?;
        settle();
        Ok(format!("{owner} → {heir}"))
    })?;
    let promise = Promise {
        gap_ms: Some(HANDOVER_MS),
        lost: Lost::None,
    };
    let away = summary(&samples.list, Duration::ZERO, marks[1]);
    let back = summary(&samples.list, marks[1], samples.end);
    let writes_lost = missing_writes(lab, &samples.list)?;
    Ok(vec![
        Finding {
            what: format!("{owner} rebooted: the virtual IP leaves it"),
            promise,
            seen: away,
            note: samples.note.clone(),
            writes_lost,
        },
        Finding {
            what: format!("{owner} is back and takes the virtual IP again"),
            promise,
            seen: back,
            note: samples
                .note
                .split(" → ")
                .collect::<Vec<_>>()
                .into_iter()
                .rev()
                .collect::<Vec<_>>()
                .join(" → "),
            writes_lost: 0,
        },
    ])
}

fn reboot_app(lab: &Lab, pace: Pace) -> anyhow::Result<Vec<Finding>> {
    let app = an_app(lab)?.name.clone();
    let (samples, _) = under_load(lab, pace, "app", |_, _| {
        lab.stop(&app)?;
        lab.start(std::slice::from_ref(&app))?;
        back_in_use(lab, &app)?;
        Ok(String::new())
    })?;
    whole(
        lab,
        format!("app server {app} rebooted"),
        Promise {
            gap_ms: None,
            lost: Lost::None,
        },
        samples,
    )
}

fn stop_gunicorn(lab: &Lab, pace: Pace) -> anyhow::Result<Vec<Finding>> {
    let app = an_app(lab)?.name.clone();
    let (samples, _) = under_load(lab, pace, "gunicorn", |load, _| {
        let stopped = load.now();
        lab.supervisorctl(&app, &["stop", "gunicorn:*"])?;
        wait("haproxy to notice", || server_is(lab, &app, "DOWN"))?;
        let noticed = load.now().saturating_sub(stopped);
        let nginx = lab
            .processes(&app)?
            .iter()
            .any(|process| process.name == "nginx");
        ensure!(nginx, "nginx should have lived");
        lab.supervisorctl(&app, &["start", "gunicorn:*"])?;
        back_in_use(lab, &app)?;
        Ok(format!("haproxy noticed within {} ms", noticed.as_millis()))
    })?;
    whole(
        lab,
        format!("gunicorn dead on {app}, nginx alive"),
        Promise {
            gap_ms: None,
            lost: Lost::None,
        },
        samples,
    )
}

fn kill_gunicorn(lab: &Lab, pace: Pace) -> anyhow::Result<Vec<Finding>> {
    let app = an_app(lab)?.name.clone();
    let (samples, _) = under_load(lab, pace, "killed", |_, _| {
        let processes = lab.processes(&app)?;
        let gunicorn: Vec<_> = processes
            .iter()
            .filter(|process| process.command.contains("gunicorn"))
            .collect();
        ensure!(!gunicorn.is_empty(), "there was no gunicorn to kill");
        gunicorn
            .iter()
            .try_for_each(|process| lab.signal(process, Signal::KILL))?;
        wait("gunicorn to be back", || {
            an_app(lab).is_ok_and(|node| lab.is_ready(node))
        })?;
        Ok("supervisord started it again".into())
    })?;
    whole(
        lab,
        format!("gunicorn killed on {app}, every process"),
        Promise {
            gap_ms: None,
            lost: Lost::InHand,
        },
        samples,
    )
}

fn power_off_app(lab: &Lab, pace: Pace) -> anyhow::Result<Vec<Finding>> {
    let app = an_app(lab)?.name.clone();
    let (samples, _) = under_load(lab, pace, "plug", |load, _| {
        let begun = load.now();
        lab.power_off(&app)?;
        wait("haproxy to notice", || server_is(lab, &app, "DOWN"))?;
        let noticed = load.now().saturating_sub(begun);
        lab.start(std::slice::from_ref(&app))?;
        back_in_use(lab, &app)?;
        Ok(format!("haproxy noticed within {} ms", noticed.as_millis()))
    })?;
    whole(
        lab,
        format!("app server {app} powered off"),
        Promise {
            gap_ms: None,
            lost: Lost::InHand,
        },
        samples,
    )
}

fn kill_haproxy(lab: &Lab, pace: Pace) -> anyhow::Result<Vec<Finding>> {
    let owner = owner(lab)?;
    let (samples, _) = under_load(lab, pace, "haproxy", |_, _| {
        ensure!(
            lab.kill(&owner, "haproxy", Signal::KILL)? > 0,
            "there was no haproxy to kill"
        );
        back_at(lab, &owner)?;
        settle();
        Ok("only what was in flight on it".into())
    })?;
    whole(
        lab,
        format!("haproxy killed on {owner}"),
        Promise {
            gap_ms: Some(HANDOVER_MS),
            lost: Lost::InFlight,
        },
        samples,
    )
}

fn power_off_load_balancer(lab: &Lab, pace: Pace) -> anyhow::Result<Vec<Finding>> {
    let owner = owner(lab)?;
    let (samples, _) = under_load(lab, pace, "power", |_, _| {
        lab.power_off(&owner)?;
        wait("another to take the virtual IP", || lab.owners().len() == 1)?;
        settle();
        lab.start(std::slice::from_ref(&owner))?;
        back_at(lab, &owner)?;
        settle();
        Ok("only what was in flight on it".into())
    })?;
    // Three adverts and the skew of the second in line, priority 244 (RFC 9568), and what the rest may take.
    let advert = f64::from(u32::try_from(pace.advert_ms).unwrap_or(u32::MAX));
    let most = 3.0 * advert + (256.0 - 244.0) / 256.0 * advert + HANDOVER_MS;
    whole(
        lab,
        format!("{owner} powered off"),
        Promise {
            gap_ms: Some(most.round()),
            lost: Lost::InFlight,
        },
        samples,
    )
}

/// What a load has seen while something was done.
struct Samples {
    list: Vec<Sample>,
    end: Duration,
    note: String,
}

/// Runs a load around `act`, long enough for the wanted number of requests. `act`
/// may mark moments and returns a note.
fn under_load(
    lab: &Lab,
    pace: Pace,
    name: &str,
    act: impl FnOnce(&Load, &mut dyn FnMut(Duration)) -> anyhow::Result<String>,
) -> anyhow::Result<(Samples, Vec<Duration>)> {
    wait("every node to be ready", || {
        lab.plan().nodes.iter().all(|node| lab.is_ready(node))
    })?;
    apps_in_use(lab)?;
    // Ids are for this run only: the lab may have seen a demonstration before.
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    let load = Load::start(
        target(lab),
        pace.rate,
        &format!("{name}-{}", since.as_millis()),
    );
    std::thread::sleep(WARM_UP);
    let mut marks = Vec::new();
    let note = act(&load, &mut |moment| marks.push(moment));
    let least = Duration::from_secs(1) * pace.requests / pace.rate;
    std::thread::sleep(least.saturating_sub(load.now()));
    let end = load.now();
    let list = load.finish();
    Ok((
        Samples {
            list,
            end,
            note: note?,
        },
        marks,
    ))
}

fn whole(
    lab: &Lab,
    what: String,
    promise: Promise,
    samples: Samples,
) -> anyhow::Result<Vec<Finding>> {
    let writes_lost = missing_writes(lab, &samples.list)?;
    let seen = summary(&samples.list, Duration::ZERO, samples.end);
    Ok(vec![Finding {
        what,
        promise,
        seen,
        note: samples.note,
        writes_lost,
    }])
}

/// Acknowledged entries that the database does not have.
///
/// # Errors
/// If it can't be asked.
pub fn missing_writes(lab: &Lab, samples: &[Sample]) -> anyhow::Result<usize> {
    let Target { address, port } = target(lab);
    let client = http::client(Duration::from_secs(10));
    let mut missing = 0;
    for sample in samples.iter().filter(|sample| sample.outcome.is_ok()) {
        if let Some(id) = &sample.entry {
            match http::get(&client, address, port, &format!("/api/entries/{id}"))?.status {
                200 => {}
                404 => missing += 1,
                other => bail!("asking for the entry {id} gave HTTP {other}"),
            }
        }
    }
    Ok(missing)
}

/// Where a lab's visitors go.
pub fn target(lab: &Lab) -> Target {
    Target {
        address: lab.plan().virtual_ip,
        port: lab.plan().port,
    }
}

fn owner(lab: &Lab) -> anyhow::Result<String> {
    match lab.owners().as_slice() {
        [owner] => Ok((*owner).to_owned()),
        [] => bail!("nobody has the virtual IP"),
        many => bail!("{} all have the virtual IP", many.join(", ")),
    }
}

fn an_app(lab: &Lab) -> anyhow::Result<&NodePlan> {
    lab.plan()
        .tier(Tier::App)
        .next()
        .context("there is no app server")
}

fn apps_in_use(lab: &Lab) -> anyhow::Result<()> {
    wait("every app server to be in use", || {
        lab.plan()
            .tier(Tier::App)
            .all(|app| server_is(lab, &app.name, "UP"))
    })
}

/// Whether the haproxy that serves the virtual IP sees a server in a state.
fn server_is(lab: &Lab, app: &str, status: &str) -> bool {
    let Ok(owner) = owner(lab) else { return false };
    lab.servers(&owner).is_ok_and(|servers| {
        servers
            .iter()
            .any(|server| server.name == app && server.status == status)
    })
}

fn wait(what: &str, ready: impl FnMut() -> bool) -> anyhow::Result<()> {
    ensure!(
        exec::wait_until(PATIENCE, ready),
        "waited {} s for {what}",
        PATIENCE.as_secs()
    );
    Ok(())
}

fn back_in_use(lab: &Lab, app: &str) -> anyhow::Result<()> {
    wait("the app server to be in use again", || {
        server_is(lab, app, "UP")
    })
}

fn back_at(lab: &Lab, owner: &str) -> anyhow::Result<()> {
    wait("the virtual IP to come back", || lab.owners() == [owner])
}

/// Time for a client to notice what has just happened.
fn settle() {
    std::thread::sleep(Duration::from_millis(1500));
}
