//! From this machine into a lab: starting its anchor, running commands in its
//! namespaces, ending it. Namespaces are entered by `unshare` and `nsenter`, so
//! that no thread of ours ever changes its own.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::state::{Place, RunningLab};
use crate::exec;
use crate::wait;

/// Starts the lab's anchor. Without root rights it gets a user namespace in which
/// this user is root.
///
/// # Errors
/// If the kernel refuses the namespaces, with what it says.
pub fn start_anchor(place: &Place) -> anyhow::Result<RunningLab> {
    let log_path = place.directory.join("anchor.log");
    let log =
        File::create(&log_path).with_context(|| format!("creating {}", log_path.display()))?;
    let mut command = Command::new(exec::find("setsid").context("setsid is missing")?);
    command.arg("unshare");
    if !rustix::process::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command
        .args([
            "--mount",
            "--net",
            "--pid",
            "--fork",
            "--propagation=private",
            "--",
        ])
        .arg(place.program())
        .args(["lab", "anchor"])
        .arg(&place.directory)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log);
    let mut child = command
        .spawn()
        .with_context(|| format!("starting `{}`", exec::argv(&command)))?;
    let mut line = String::new();
    if let Some(output) = child.stdout.take() {
        // The anchor closes its end when it ends, so this returns in any case.
        BufReader::new(output)
            .read_line(&mut line)
            .context("waiting for the lab's anchor")?;
    }
    if line.trim() != "ready" {
        let _ = child.wait();
        let said = std::fs::read_to_string(&log_path).unwrap_or_default();
        bail!(
            "this machine refuses the lab its namespaces: {}",
            hint(said.trim())
        );
    }
    place.running().context("the lab's anchor ended at once")
}

/// What a refusal usually means.
fn hint(said: &str) -> String {
    let restricted = [
        "/proc/sys/kernel/unprivileged_userns_clone",
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
    ];
    let on = |path: &&str| {
        std::fs::read_to_string(path)
            .is_ok_and(|value| value.trim() == if path.ends_with("clone") { "0" } else { "1" })
    };
    match restricted.iter().find(|path| on(path)) {
        Some(path) => {
            format!("{said}; {path} forbids user namespaces: run the lab as root, or change it")
        }
        None => said.to_owned(),
    }
}

/// A command that runs `program` in the lab's namespaces, as root there.
pub fn command(lab: &RunningLab, program: &Path) -> Command {
    let mut command = Command::new(exec::find("nsenter").unwrap_or_else(|| "nsenter".into()));
    command.arg(format!("--target={}", lab.anchor));
    let ours = std::fs::read_link("/proc/self/ns/user").ok();
    let theirs = std::fs::read_link(format!("/proc/{}/ns/user", lab.anchor)).ok();
    if ours != theirs {
        command.args(["--user", "--preserve-credentials"]);
    }
    command
        .args(["--mount", "--net", "--pid", "--"])
        .arg(program);
    command
}

/// A command that runs in a node, from inside the lab. `pid` is the node's first process there.
pub fn node_command(pid: i32, argv: &[String]) -> Command {
    let mut command = Command::new(exec::find("nsenter").unwrap_or_else(|| "nsenter".into()));
    command
        .arg(format!("--target={pid}"))
        .args(["--mount", "--net", "--pid", "--uts", "--"])
        .args(argv)
        .env_clear()
        .env(
            "PATH",
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        )
        .env("HOME", "/root")
        .env("LANG", "C.UTF-8");
    if let Some(terminal) = std::env::var_os("TERM") {
        command.env("TERM", terminal);
    }
    command
}

/// Ends the lab: its anchor, and with it every process, mount and interface.
///
/// # Errors
/// If it is still there after ten seconds.
pub fn end(place: &Place) -> anyhow::Result<()> {
    let Some(anchor) = place.anchor() else {
        return Ok(());
    };
    let pid = Pid::from_raw(anchor).context("the anchor has no process id")?;
    match kill_process(pid, Signal::KILL) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => {}
        Err(error) => return Err(error).with_context(|| format!("ending process {anchor}")),
    }
    // The first process of a PID namespace is a zombie only when all others are gone.
    if !wait::until(Duration::from_secs(10), || !is_alive(anchor)) {
        bail!("process {anchor}, the lab's anchor, does not end");
    }
    Ok(())
}

/// Sends an interrupt to what `nsenter` has started. Whether there was anything yet.
pub fn interrupt_children(nsenter: u32) -> bool {
    let list = std::fs::read_to_string(format!("/proc/{nsenter}/task/{nsenter}/children"))
        .unwrap_or_default();
    let children: Vec<Pid> = list
        .split_whitespace()
        .filter_map(|pid| Pid::from_raw(pid.parse().ok()?))
        .collect();
    for pid in &children {
        // It may have ended by itself in the meantime.
        let _ = kill_process(*pid, Signal::INT);
    }
    !children.is_empty()
}

/// Whether a process exists and has not ended.
pub fn is_alive(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        // The state stands behind the name, which is in brackets and may hold anything.
        let state = stat
            .rsplit(')')
            .next()
            .and_then(|rest| rest.trim_start().chars().next());
        !matches!(state, Some('Z' | 'X') | None)
    })
}
