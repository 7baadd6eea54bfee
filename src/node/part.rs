//! Whether this load balancer takes part: the switch that keepalived watches, and who throws it.
//!
//! [`keep`] waits until haproxy can serve, throws it without breaking what others serve, and then asks
//! haproxy every [`ASK_EVERY`] whether it is still there: a haproxy that hangs has not ended, so nobody else
//! would say so before keepalived's own check, which starts a program for each question and asks rarely.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::servers;
use crate::config::{ASK_EVERY, ASK_PATIENCE, HAPROXY_STATE, LoadBalancerFacts, NodeFacts};
use crate::health::http;

/// How long a question to a neighbour may take.
pub(super) const QUESTION: Duration = Duration::from_millis(300);

/// How much later than meant this process may be woken for a question without an answer to count: a
/// machine on which it is not woken does not run haproxy either.
const LATE: Duration = Duration::from_millis(50);

/// How long haproxy may take to ask each server once before visitors come. It asks within a second; what
/// it has not asked counts as up.
const FIRST_CHECKS: Duration = Duration::from_secs(2);

/// Takes part while haproxy is well, until it is `over`.
pub(super) fn keep(
    facts: &NodeFacts,
    settings: &LoadBalancerFacts,
    over: &AtomicBool,
    say: &(dyn Fn(&str) + Sync),
) {
    let is_over = || over.load(Ordering::SeqCst);
    while !is_over() {
        join(facts, settings, over, say);
        guard(settings, over);
        if is_over() {
            return;
        }
        match write_state(-254) {
            Ok(()) => say(&format!(
                "haproxy did not answer for {} ms; this node takes no part until it does",
                ASK_PATIENCE.as_millis()
            )),
            Err(error) => say(&format!("{error:#}")),
        }
    }
}

/// Returns once haproxy has not answered for [`ASK_PATIENCE`], or it is `over`.
fn guard(settings: &LoadBalancerFacts, over: &AtomicBool) {
    let mut answered = Instant::now();
    while !over.load(Ordering::SeqCst) {
        let begun = Instant::now();
        let answers = check(settings, ASK_PATIENCE).is_ok();
        let is_late = begun.elapsed() > ASK_PATIENCE + LATE;
        if answers || is_late {
            answered = Instant::now();
        } else if answered.elapsed() >= ASK_PATIENCE {
            return;
        }
        std::thread::sleep(ASK_EVERY.saturating_sub(begun.elapsed()));
        if begun.elapsed() > ASK_PATIENCE + LATE {
            answered = Instant::now();
        }
    }
}

/// Asks haproxy itself whether it is well, not the servers behind it.
///
/// # Errors
/// If it is not, with the reason.
pub fn check_haproxy(facts: &NodeFacts) -> anyhow::Result<()> {
    check(settings(facts)?, Duration::from_millis(800))
}

fn check(settings: &LoadBalancerFacts, patience: Duration) -> anyhow::Result<()> {
    let answer = http::get(
        &http::client(patience),
        Ipv4Addr::LOCALHOST,
        settings.internal_port,
        "/alive",
    )?;
    anyhow::ensure!(answer.status == 200, "haproxy answers {}", answer.status);
    Ok(())
}

/// Lets this node take part once haproxy answers, without breaking what others serve.
fn join(
    facts: &NodeFacts,
    settings: &LoadBalancerFacts,
    over: &AtomicBool,
    say: &(dyn Fn(&str) + Sync),
) {
    let is_over = || over.load(Ordering::SeqCst);
    let well = || check_haproxy(facts).is_ok();
    while !is_over() && !well() {
        std::thread::sleep(Duration::from_millis(10));
    }
    let begun = Instant::now();
    while !is_over() && begun.elapsed() < FIRST_CHECKS && !servers::are_checked() {
        std::thread::sleep(Duration::from_millis(20));
    }
    let takes_over = settings.preempt && !settings.lower_priority.is_empty();
    let served = || http::accepts(facts.virtual_ip, settings.port, QUESTION);
    if takes_over && served() {
        let delay = Duration::from_millis(settings.preempt_delay_ms);
        let begun = Instant::now();
        // Well all the time, and somebody else serves all the time; else there is nothing to wait for.
        while begun.elapsed() < delay && served() && !is_over() {
            std::thread::sleep(Duration::from_millis(100));
        }
        if !is_over() && well() {
            drain_others(settings, &is_over, say);
        }
    }
    if !is_over() && well() {
        match write_state(0) {
            Ok(()) => say("haproxy is well; this node takes part"),
            Err(error) => say(&format!("{error:#}")),
        }
    }
}

/// Lets the others drain before this node takes the virtual IP from them, so that no open
/// connection has to move with it.
pub(super) fn drain_others(
    settings: &LoadBalancerFacts,
    is_over: &dyn Fn() -> bool,
    say: &(dyn Fn(&str) + Sync),
) {
    if !ask_to_drain(settings) {
        return;
    }
    say("the others drain");
    let drain = Duration::from_millis(settings.drain_time_ms);
    let begun = Instant::now();
    while begun.elapsed() < drain && !is_over() {
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Asks the load balancers of lower priority to drain; whether any will.
fn ask_to_drain(settings: &LoadBalancerFacts) -> bool {
    std::thread::scope(|scope| {
        let asked: Vec<_> = settings
            .lower_priority
            .iter()
            .map(|peer| scope.spawn(move || drain(*peer, settings.internal_port)))
            .collect();
        // All are asked before the first answer counts.
        let answers: Vec<bool> = asked
            .into_iter()
            .map(|thread| thread.join().unwrap_or(false))
            .collect();
        answers.contains(&true)
    })
}

pub(super) fn drain(load_balancer: Ipv4Addr, port: u16) -> bool {
    let answer = http::post(
        &http::client(QUESTION),
        load_balancer,
        port,
        "/drain",
        "text/plain",
        "",
    );
    answer.is_ok_and(|answer| answer.status == 204)
}

pub(super) fn settings(facts: &NodeFacts) -> anyhow::Result<&LoadBalancerFacts> {
    facts
        .load_balancer
        .as_ref()
        .with_context(|| format!("{} is no load balancer", facts.name))
}

pub(super) fn write_state(value: i32) -> anyhow::Result<()> {
    let path = Path::new(HAPROXY_STATE);
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)
            .with_context(|| format!("creating {}", directory.display()))?;
    }
    // Written in place: keepalived watches this very file.
    fs::write(path, format!("{value}\n")).with_context(|| format!("writing {}", path.display()))
}
