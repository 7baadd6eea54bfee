//! Switching this machine to another system of NixOS, with a way back that needs nobody.
//!
//! The new system is activated by `switch-to-configuration test`, which leaves the one that boots alone. Only
//! when `node confirm` arrives, over a new connection, does it become the machine's system profile and what boots.
//! Until then whatever goes wrong (it does not activate, nobody can reach the machine any more, it loses its
//! power) ends with the system of before: the worker, which runs apart from the connection that asked for it,
//! activates that again.

use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::{exec, files};

/// Where a switch is told of; gone after a boot, as is everything that was not confirmed.
const ROOM: &str = "/run/gen-topology";
/// The system that runs.
const CURRENT: &str = "/run/current-system";
/// What boots.
const PROFILE: &str = "/nix/var/nix/profiles/system";
/// Keeps the system of before from being collected as garbage, and tells which it was.
const PREVIOUS: &str = crate::config::PREVIOUS_SYSTEM;
/// Keeps the new one until it is in the profile.
const NEXT: &str = "/nix/var/nix/gcroots/gen-topology-next";
/// Time between two looks at the phase.
const PAUSE: Duration = Duration::from_millis(50);
/// How long a system may take to be activated.
const ACTIVATION: Duration = Duration::from_secs(15 * 60);

/// How far a switch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Phase {
    /// Asked for; nothing was done.
    Asked,
    /// The new system is being activated.
    Activating,
    /// It runs, and waits for `node confirm`.
    Waiting,
    /// It was confirmed, and could not be made what boots.
    Refused,
    /// It counts.
    Confirmed,
    /// The system of before is being activated again.
    Returning,
    /// The system of before runs again.
    Back,
    /// It does not: a person is needed.
    Stuck,
}

/// One switch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Switch {
    system: PathBuf,
    previous: Option<PathBuf>,
    phase: Phase,
    confirm_within_ms: u64,
    /// Services that end in order before, and start behind.
    stop: Vec<String>,
    /// Why it went back.
    why: Option<String>,
}

/// What is wanted.
#[derive(Clone, Debug)]
pub struct Request {
    /// The system, in the Nix store.
    pub system: PathBuf,
    /// How long the machine waits for `node confirm`.
    pub confirm_within: Duration,
    /// Services that end in order before the switch and start behind it.
    pub stop: Vec<String>,
    /// The last switch was interrupted: what it called "before" still is.
    pub resume: bool,
}

/// Begins a switch, and waits until the new system runs. The switch itself goes on without us.
///
/// # Errors
/// If it can't begin, or the machine went back to the system of before.
pub fn begin(request: &Request) -> anyhow::Result<PathBuf> {
    fs::create_dir_all(ROOM).with_context(|| format!("creating {ROOM}"))?;
    let guard = lock("switch.lock")?;
    if let Some(other) = read()?
        && !matches!(other.phase, Phase::Confirmed | Phase::Back | Phase::Stuck)
        && is_at_work()?
    {
        bail!(
            "this machine is being switched to {}; wait until that has ended",
            other.system.display()
        );
    }
    let system = fs::canonicalize(&request.system)
        .with_context(|| format!("finding {}", request.system.display()))?;
    let program = activation(&system);
    ensure!(
        program.exists(),
        "{} is no system: {} is missing",
        system.display(),
        program.display()
    );
    let recorded = fs::read_link(PREVIOUS).ok();
    let previous = recorded
        .filter(|_| request.resume)
        .or_else(|| fs::canonicalize(CURRENT).ok());
    match &previous {
        Some(previous) => root(PREVIOUS, previous)?,
        None => unroot(PREVIOUS)?,
    }
    root(NEXT, &system)?;
    write(&Switch {
        system: system.clone(),
        previous,
        phase: Phase::Asked,
        confirm_within_ms: u64::try_from(request.confirm_within.as_millis()).unwrap_or(u64::MAX),
        stop: request.stop.clone(),
        why: None,
    })?;
    start_worker()?;
    drop(guard);
    settled(&[Phase::Waiting, Phase::Confirmed])?;
    Ok(system)
}

/// Makes the new system count: it becomes the profile, and what boots. Can be said again and again.
///
/// # Errors
/// If the machine went back already, or the boot loader can't be changed; then it goes back, too.
pub fn confirm(system: &Path) -> anyhow::Result<()> {
    settled(&[Phase::Waiting, Phase::Confirmed])?;
    let _guard = lock("switch.lock")?;
    let mut switch = read()?.context("nothing is being switched on this machine")?;
    ensure!(
        switch.system == system,
        "this machine is being switched to {}, not to {}",
        switch.system.display(),
        system.display()
    );
    match switch.phase {
        Phase::Confirmed => return Ok(()),
        Phase::Waiting => {}
        _ => bail!(went_back(&switch)),
    }
    if let Err(error) = install(system) {
        switch.phase = Phase::Refused;
        switch.why = Some(format!("{error:#}"));
        write(&switch)?;
        return Err(error);
    }
    switch.phase = Phase::Confirmed;
    write(&switch)?;
    unroot(NEXT)
}

/// Waits until no switch is under way: the new system counts, or the one of before runs again.
///
/// # Errors
/// If the machine is between two systems.
pub fn over() -> anyhow::Result<()> {
    if read()?.is_none() {
        return Ok(());
    }
    settled(&[Phase::Confirmed, Phase::Back])
}

/// The last switch counts, and so does what came of it: there is no way back any more.
///
/// # Errors
/// If the record can't be removed.
pub fn settle() -> anyhow::Result<()> {
    unroot(PREVIOUS)
}

/// The part that does it, apart from whoever asked. Started again after it was killed, it goes back.
///
/// # Errors
/// If the switch can't be read or told of.
pub fn work() -> anyhow::Result<()> {
    let _alive = lock("switch.worker")?;
    let mut switch = read()?.context("nothing is to be switched")?;
    match switch.phase {
        Phase::Asked => {}
        Phase::Activating | Phase::Refused | Phase::Returning => {
            return go_back(switch, "the switch was killed half-way");
        }
        Phase::Waiting => return wait(switch),
        Phase::Confirmed | Phase::Back | Phase::Stuck => return Ok(()),
    }
    switch.phase = Phase::Activating;
    write(&switch)?;
    for unit in &switch.stop {
        // One that does not end is ended by the activation.
        let _ = systemctl("stop", unit);
    }
    let activated = activate(&switch.system, "test").and_then(|()| start(&switch.stop));
    if let Err(error) = activated {
        return go_back(switch, &format!("{error:#}"));
    }
    {
        let _guard = lock("switch.lock")?;
        switch.phase = Phase::Waiting;
        write(&switch)?;
    }
    wait(switch)
}

/// Waits for `node confirm`, and goes back if it does not come.
fn wait(switch: Switch) -> anyhow::Result<()> {
    let limit = Duration::from_millis(switch.confirm_within_ms);
    let deadline = Instant::now() + limit;
    loop {
        let Some(now) = read()? else {
            return Ok(());
        };
        match now.phase {
            Phase::Waiting => {}
            Phase::Refused => {
                let why = now.why.clone().unwrap_or_default();
                return go_back(now, &why);
            }
            _ => return Ok(()),
        }
        if Instant::now() >= deadline {
            break;
        }
        std::thread::sleep(PAUSE);
    }
    // Whoever is about to confirm has the lock; then the phase is another one afterwards.
    let guard = lock("switch.lock")?;
    if read()?.map(|now| now.phase) != Some(Phase::Waiting) {
        return Ok(());
    }
    let switch = Switch {
        phase: Phase::Returning,
        ..switch
    };
    write(&switch)?;
    drop(guard);
    go_back(
        switch,
        &format!(
            "nobody confirmed it over a new connection within {} s",
            limit.as_secs_f64()
        ),
    )
}

fn go_back(mut switch: Switch, why: &str) -> anyhow::Result<()> {
    switch.phase = Phase::Returning;
    switch.why = Some(why.to_owned());
    write(&switch)?;
    let back = match &switch.previous {
        None => Err(anyhow!("there was no system before")),
        Some(previous) => return_to(&switch.system, previous),
    };
    let back = back.and_then(|()| start(&switch.stop));
    switch.phase = if back.is_ok() {
        Phase::Back
    } else {
        Phase::Stuck
    };
    if let Err(error) = back {
        switch.why = Some(format!("{why}; going back failed, too: {error:#}"));
    }
    write(&switch)?;
    unroot(NEXT)
}

fn return_to(system: &Path, previous: &Path) -> anyhow::Result<()> {
    activate(previous, "test")?;
    // A confirmation that was killed half-way may have changed what boots.
    let boots = fs::canonicalize(PROFILE).ok();
    if system != previous && boots.as_deref() == Some(system) {
        install(previous)?;
    }
    Ok(())
}

/// Makes a system the profile, as a new generation, and what boots.
fn install(system: &Path) -> anyhow::Result<()> {
    if fs::canonicalize(PROFILE).ok().as_deref() != Some(system) {
        let program = exec::find("nix-env").context("nix-env is missing")?;
        exec::run(
            Command::new(program)
                .args(["--profile", PROFILE, "--set"])
                .arg(system),
            None,
        )?;
    }
    activate(system, "boot")
}

fn activation(system: &Path) -> PathBuf {
    system.join("bin/switch-to-configuration")
}

fn activate(system: &Path, how: &str) -> anyhow::Result<()> {
    let log = Path::new(ROOM).join("switch.log");
    let file = File::create(&log).with_context(|| format!("creating {}", log.display()))?;
    let mut command = Command::new(activation(system));
    command.arg(how).current_dir("/").stdin(Stdio::null());
    command.stdout(file.try_clone()?).stderr(file);
    let status = command
        .status()
        .with_context(|| format!("starting `{}`", exec::argv(&command)))?;
    let said = fs::read_to_string(&log).unwrap_or_default();
    let lines: Vec<&str> = said.lines().collect();
    let last = lines[lines.len().saturating_sub(8)..].join("\n");
    ensure!(
        status.success(),
        "`{}` ended with {status}: {last}",
        exec::argv(&command)
    );
    Ok(())
}

fn start(units: &[String]) -> anyhow::Result<()> {
    units
        .iter()
        .rev()
        .try_for_each(|unit| systemctl("start", unit))
}

fn systemctl(what: &str, unit: &str) -> anyhow::Result<()> {
    let program = exec::find("systemctl").context("systemctl is missing")?;
    exec::run(Command::new(program).args([what, unit]), None).map(drop)
}

/// Starts the worker where no connection's end, and no restart of a service, ends it.
fn start_worker() -> anyhow::Result<()> {
    let own = std::env::current_exe().context("finding this program")?;
    let arguments = ["node", "switch-work"];
    if Path::new("/run/systemd/system").is_dir()
        && let Some(run) = exec::find("systemd-run")
    {
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new(run);
        command
            .args([
                "--quiet",
                "--collect",
                "--property=Type=exec",
                "--property=Restart=on-abnormal",
            ])
            .args(["--description=Switch to another system, with a way back"])
            .arg(format!("--setenv=PATH={path}"))
            .arg("--setenv=HOME=/root")
            .arg(own)
            .args(arguments);
        return exec::run(&mut command, None).map(drop);
    }
    let log = File::create(Path::new(ROOM).join("switch.worker.log"))
        .context("creating the worker's log")?;
    let mut command = Command::new(exec::find("setsid").context("setsid is missing")?);
    command
        .arg("--fork")
        .arg(own)
        .args(arguments)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0);
    let status = command.status().context("starting the worker")?;
    ensure!(status.success(), "the worker could not be started");
    Ok(())
}

/// Waits until the switch is over or waits for somebody, and is an error if it went back.
fn settled(good: &[Phase]) -> anyhow::Result<()> {
    let deadline = Instant::now() + ACTIVATION;
    let mut at_work = Instant::now();
    loop {
        let switch = read()?.context("nothing is being switched on this machine")?;
        if good.contains(&switch.phase) {
            return Ok(());
        }
        if matches!(switch.phase, Phase::Back | Phase::Stuck) {
            bail!(went_back(&switch));
        }
        if is_at_work()? {
            at_work = Instant::now();
        } else if at_work.elapsed() > Duration::from_secs(10) {
            // Killed, and nobody starts it again.
            go_back(switch, "the switch was killed half-way")?;
        }
        ensure!(
            Instant::now() < deadline,
            "the system is not activated after {} s; see {ROOM}/switch.log",
            ACTIVATION.as_secs()
        );
        std::thread::sleep(PAUSE);
    }
}

fn went_back(switch: &Switch) -> String {
    let why = switch.why.as_deref().unwrap_or("nobody knows why");
    match switch.phase {
        Phase::Back => format!("went back to the system of before by itself: {why}"),
        _ => format!("is between two systems: {why}"),
    }
}

/// Whether a worker lives.
fn is_at_work() -> anyhow::Result<bool> {
    let file = open("switch.worker")?;
    match file.try_lock() {
        Ok(()) => Ok(false),
        Err(fs::TryLockError::WouldBlock) => Ok(true),
        Err(fs::TryLockError::Error(error)) => Err(error).context("looking for the worker"),
    }
}

fn open(name: &str) -> anyhow::Result<File> {
    let path = Path::new(ROOM).join(name);
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path);
    file.with_context(|| format!("opening {}", path.display()))
}

/// Kept until it is dropped, or its process ends.
fn lock(name: &str) -> anyhow::Result<File> {
    let file = open(name)?;
    file.lock()
        .with_context(|| format!("locking {ROOM}/{name}"))?;
    Ok(file)
}

fn read() -> anyhow::Result<Option<Switch>> {
    let path = Path::new(ROOM).join("switch.json");
    match fs::read_to_string(&path) {
        Ok(text) => Ok(Some(
            serde_json::from_str(&text).with_context(|| format!("reading {}", path.display()))?,
        )),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
    }
}

fn write(switch: &Switch) -> anyhow::Result<()> {
    let path = Path::new(ROOM).join("switch.json");
    files::replace_private(&path, &serde_json::to_vec_pretty(switch)?)
        .with_context(|| format!("writing {}", path.display()))
}

/// A link that keeps a system from being collected, made in one step.
fn root(link: &str, system: &Path) -> anyhow::Result<()> {
    let what = || format!("linking {link}");
    let link = Path::new(link);
    fs::create_dir_all(link.parent().unwrap_or(link)).with_context(what)?;
    files::link(link, system).with_context(what)
}

fn unroot(link: &str) -> anyhow::Result<()> {
    files::remove(Path::new(link)).with_context(|| format!("removing {link}"))
}
