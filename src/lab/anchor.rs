//! The first process of a lab: holds its namespaces, collects the processes that
//! nobody waits for, and ends when it is killed, with everything in the lab.

use std::process::Command;

use anyhow::Context as _;
use rustix::process::{WaitOptions, wait};
use signal_hook::consts::SIGCHLD;
use signal_hook::iterator::Signals;

use crate::exec;

use super::net;

/// Never returns, except with an error before the lab is ready. Writes `ready` to
/// standard output when others may enter.
///
/// # Errors
/// If the namespaces can't be furnished.
pub fn run(ready: impl FnOnce()) -> anyhow::Result<()> {
    let mut signals = Signals::new([SIGCHLD]).context("listening for signals")?;
    mount_proc()?;
    exec::run(
        Command::new(exec::find("ip").context("ip is missing")?).args(["-batch", "-"]),
        Some(net::LOOPBACK_UP),
    )?;
    ready();
    for _ in &mut signals {
        while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
    }
    Ok(())
}

fn mount_proc() -> anyhow::Result<()> {
    use rustix::mount::{MountFlags, mount};
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("proc", "/proc", "proc", flags, None).context("mounting the lab's /proc")
}
