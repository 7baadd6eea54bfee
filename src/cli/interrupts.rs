//! Ctrl-C and its like: noticed here, and acted upon where a command can end in order.

use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::lab::enter;

/// Set when Ctrl-C was pressed, the terminal closed, or this process was told to end.
pub(super) fn listen_for_interrupts() -> anyhow::Result<Arc<AtomicBool>> {
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&interrupted))
            .context("listening for Ctrl-C")?;
    }
    Ok(interrupted)
}

/// Keeps Ctrl-C in a terminal from reaching a command inside the lab and the `nsenter`
/// before it at the same time: `nsenter` would end and leave the command alone. It is
/// told by [`wait_for`].
pub(super) fn apart(command: &mut Command) -> &mut Command {
    command.process_group(0)
}

/// Waits for a command inside the lab, and passes an interrupt on to it: `nsenter`
/// stands between and would not.
pub(super) fn wait_for(child: &mut Child, interrupted: &AtomicBool) -> anyhow::Result<ExitStatus> {
    let mut told = false;
    loop {
        if let Some(status) = child.try_wait().context("waiting for the lab")? {
            return Ok(status);
        }
        if interrupted.load(Ordering::SeqCst) && !told {
            told = enter::interrupt_children(child.id());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The same inside a lab: set when Ctrl-C was pressed.
pub(super) fn inside() -> anyhow::Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(SIGINT, Arc::clone(&flag)).context("listening for Ctrl-C")?;
    Ok(flag)
}
