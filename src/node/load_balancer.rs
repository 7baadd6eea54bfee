//! Running haproxy and keepalived so that the virtual IP is only where it is
//! served, and moves without breaking a connection when it moves on purpose.
//!
//! The file [`HAPROXY_STATE`] is the switch. keepalived watches it: -254 puts the
//! node into FAULT, where it gives the virtual IP up at once; 0 lets it take part.
//!
//! - haproxy ends, for whatever reason: -254, within a millisecond or two. Where its supervisor ended
//!   with it, keepalived's supervisor writes that.
//! - haproxy hangs: -254, within half a second (`part.rs`).
//! - haproxy is back: before a node that will take the virtual IP away from another
//!   says 0, it waits until it has been well for a while, then asks the others to
//!   drain (`POST /drain`, after which their answers carry `Connection: close`),
//!   and waits until clients have gone. If nobody serves the virtual IP it says 0 at once.
//! - keepalived is told to end: first this node drains, then keepalived hands over.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM, SIGUSR2};

use super::part::{QUESTION, drain, drain_others, settings, write_state};
use super::{certificates, handover, lifeline, listen, part, real_time, servers};
use crate::config::{HAPROXY_STATE, LoadBalancerFacts, NodeFacts, RELEASE_PAUSE};
use crate::exec;
use crate::health::{http, vrrp};
use crate::wait;

pub use super::part::check_haproxy;

/// How long keepalived waits for haproxy before it starts anyway.
const FIRST_ANSWER: Duration = Duration::from_secs(3);

/// How long haproxy still serves whoever comes after it was told to end. A soft stop closes
/// connections that have not sent a request yet, and clients who have just connected
/// would see it close on their first.
const LAST_CLIENTS: Duration = Duration::from_millis(300);

/// How long after a move those who are still connected are sent to the new owner: it has all of
/// its rules, and nobody new comes here.
const SETTLED: Duration = Duration::from_secs(1);

/// How long haproxy may take to end the requests that it has.
const LAST_REQUESTS: Duration = Duration::from_secs(8);

/// A keepalived that was killed leaves the virtual IP behind. Waiting this long
/// before it is started again lets a peer own the address first, so that nothing
/// is missing when the new one cleans up: more than 3 adverts and a skew at the default 50 ms.
const AFTER_A_CRASH: Duration = Duration::from_millis(500);

/// Runs haproxy until it ends, and returns its exit code.
///
/// # Errors
/// If it can't be started or the state can't be written.
pub fn run_haproxy(
    facts: &NodeFacts,
    argv: &[String],
    say: &(dyn Fn(&str) + Sync),
) -> anyhow::Result<u8> {
    let settings = settings(facts)?;
    let _alive = lifeline::hold()?;
    write_state(-254)?;
    let signals = listen()?;
    let configuration = argv.iter().skip_while(|word| *word != "-f").nth(1);
    let configuration = configuration.map(Path::new);
    // What an earlier haproxy knew of the servers may be long untrue.
    servers::forget()?;
    let mut command = command(argv)?;
    if let Some(tls) = &settings.tls {
        if tls.acme.is_some() {
            certificates::load(facts, None, true)?;
        }
        command.envs(certificates::environment(tls)?);
    }
    let mut child = spawn(command)?;
    // Once it is set nobody says 0 any more.
    let over = Arc::new(AtomicBool::new(false));
    let code = std::thread::scope(|scope| {
        let joining = Arc::clone(&over);
        let before_reload = move || {
            if let Err(error) = servers::remember(configuration) {
                say(&format!("{error:#}"));
            }
        };
        scope.spawn(move || part::keep(facts, settings, &joining, say));
        scope.spawn(|| servers::release(&over, say));
        if settings.tls.is_some() {
            let haproxy = Pid::from_child(&child);
            let leaving = Arc::clone(&over);
            scope.spawn(|| certificates::tell(facts, &over));
            scope.spawn(move || {
                send_off(facts.virtual_ip, haproxy, &leaving, &before_reload, say);
            });
        }
        let code = watch_haproxy(&mut child, &signals, &over, &before_reload);
        over.store(true, Ordering::SeqCst);
        write_state(-254).and(code)
    })?;
    say(&format!("haproxy ended with {code}"));
    Ok(code)
}

fn watch_haproxy(
    child: &mut Child,
    signals: &Receiver<i32>,
    over: &AtomicBool,
    before_reload: &dyn Fn(),
) -> anyhow::Result<u8> {
    let mut ending = false;
    watch(child, signals, &mut |child, signal| {
        match signal {
            SIGTERM | SIGINT if !ending => {
                ending = true;
                over.store(true, Ordering::SeqCst);
                write_state(-254)?;
                std::thread::sleep(LAST_CLIENTS);
                // Soft stop: no new connections, the requests at hand are answered.
                send(child, Signal::USR1)?;
            }
            SIGHUP | SIGUSR2 => {
                before_reload();
                send(child, Signal::USR2)?;
            }
            _ => {}
        }
        Ok(ending.then_some(LAST_REQUESTS))
    })
}

/// Waits for a daemon to end, hands signals to `on_signal`, and returns the
/// daemon's exit code. When `on_signal` has returned a time the daemon is told to
/// end for good after it.
fn watch(
    child: &mut Child,
    signals: &Receiver<i32>,
    on_signal: &mut dyn FnMut(&Child, i32) -> anyhow::Result<Option<Duration>>,
) -> anyhow::Result<u8> {
    let mut deadline: Option<Instant> = None;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(exit_code(status));
        }
        let patience = deadline.map_or(Duration::from_secs(3600), |at| {
            at.saturating_duration_since(Instant::now())
        });
        match signals.recv_timeout(patience) {
            Ok(SIGCHLD) => {}
            Ok(signal) => {
                let limit = on_signal(child, signal)?;
                deadline = deadline.or_else(|| limit.map(|limit| Instant::now() + limit));
            }
            Err(_) if deadline.is_some_and(|at| Instant::now() >= at) => {
                send(child, Signal::TERM)?;
                deadline = Some(Instant::now() + LAST_REQUESTS);
            }
            Err(_) => {}
        }
    }
}

/// Sends visitors off who are still connected by HTTP/2 when the virtual IP has gone elsewhere.
/// `Connection: close` means nothing to them: a reload does (GOAWAY). Their packets are handed
/// over for a while only, and their next connection leads to whoever has the address now.
fn send_off(
    virtual_ip: Ipv4Addr,
    haproxy: Pid,
    over: &AtomicBool,
    before_reload: &dyn Fn(),
    say: &(dyn Fn(&str) + Sync),
) {
    let mut had = false;
    while !over.load(Ordering::SeqCst) {
        let has = vrrp::is_local(virtual_ip);
        if had && !has {
            std::thread::sleep(SETTLED);
            if !over.load(Ordering::SeqCst) {
                before_reload();
                match kill_process(haproxy, Signal::USR2) {
                    Ok(()) => say("the virtual IP has gone; who is still connected is sent there"),
                    Err(error) => say(&format!("reloading haproxy: {error}")),
                }
            }
        }
        had = has;
        std::thread::sleep(RELEASE_PAUSE);
    }
}

/// Whether a keepalived that starts now takes the virtual IP from somebody who serves it:
/// haproxy takes part already, as it does when only keepalived was stopped.
fn takes_at_once(facts: &NodeFacts, settings: &LoadBalancerFacts) -> bool {
    let takes_part = fs::read_to_string(HAPROXY_STATE).is_ok_and(|state| state.trim() == "0");
    settings.preempt
        && !settings.lower_priority.is_empty()
        && takes_part
        && !vrrp::is_local(facts.virtual_ip)
        && http::accepts(facts.virtual_ip, settings.port, QUESTION)
}

/// Runs keepalived until it ends, and returns its exit code. `facts` were read from
/// `facts_file`, which is read again while keepalived runs.
///
/// # Errors
/// If it can't be started.
pub fn run_keepalived(
    facts_file: &Path,
    facts: &NodeFacts,
    argv: &[String],
    say: &(dyn Fn(&str) + Sync),
) -> anyhow::Result<u8> {
    let settings = settings(facts)?;
    fs::create_dir_all("/run/keepalived").context("creating /run/keepalived")?;
    // A killed keepalived leaves its pid files, and a new one would believe them.
    for stale in ["keepalived.pid", "vrrp.pid"] {
        let _ = fs::remove_file(Path::new("/run/keepalived").join(stale));
    }
    let signals = listen()?;
    if let Err(error) = lifeline::may_watch() {
        say(&format!(
            "{error:#}; haproxy killed together with its supervisor would keep the virtual IP"
        ));
    }
    lifeline::watch(|| {
        // It can't be told of: whoever holds the other end of our output may be gone, too.
        let _ = write_state(-254);
    });
    let over = AtomicBool::new(false);
    let code = std::thread::scope(|scope| {
        scope.spawn(|| handover::keep(facts_file, facts, &over, say));
        let code = watch_keepalived(facts, settings, argv, &signals, say);
        over.store(true, Ordering::SeqCst);
        code
    })?;
    say(&format!("keepalived ended with {code}"));
    Ok(code)
}

fn watch_keepalived(
    facts: &NodeFacts,
    settings: &LoadBalancerFacts,
    argv: &[String],
    signals: &Receiver<i32>,
    say: &(dyn Fn(&str) + Sync),
) -> anyhow::Result<u8> {
    // Its first look at haproxy counts; one that came too early would cost a second.
    wait::until(FIRST_ANSWER, || check_haproxy(facts).is_ok());
    if takes_at_once(facts, settings) {
        drain_others(settings, &|| false, say);
    }
    let mut child = real_time::start(say, || spawn(command(argv)?))?;
    let mut ending = false;
    let code = watch(&mut child, signals, &mut |child, signal| {
        match signal {
            SIGTERM | SIGINT if !ending => {
                ending = true;
                if vrrp::is_local(facts.virtual_ip)
                    && drain(Ipv4Addr::LOCALHOST, settings.internal_port)
                {
                    say("draining before the virtual IP moves");
                    std::thread::sleep(Duration::from_millis(settings.drain_time_ms));
                }
                send(child, Signal::TERM)?;
            }
            SIGHUP => send(child, Signal::HUP)?,
            _ => {}
        }
        Ok(None)
    })?;
    if !ending {
        std::thread::sleep(AFTER_A_CRASH);
    }
    Ok(code)
}

fn command(argv: &[String]) -> anyhow::Result<Command> {
    let (program, arguments) = argv.split_first().context("no command was given")?;
    let mut command = Command::new(program);
    command.args(arguments);
    Ok(command)
}

fn spawn(mut command: Command) -> anyhow::Result<Child> {
    command
        .spawn()
        .with_context(|| format!("starting `{}`", exec::argv(&command)))
}

fn send(child: &Child, signal: Signal) -> anyhow::Result<()> {
    let pid = i32::try_from(child.id())
        .ok()
        .and_then(Pid::from_raw)
        .context("the daemon has no process id")?;
    match kill_process(pid, signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(error) => Err(error).context("signalling the daemon"),
    }
}

fn exit_code(status: std::process::ExitStatus) -> u8 {
    use std::os::unix::process::ExitStatusExt as _;
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal))
        .unwrap_or(1);
    u8::try_from(code).unwrap_or(1)
}
