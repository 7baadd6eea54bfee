//! What a node's own services call, in the lab and on NixOS alike.

pub mod acme;
pub mod app;
pub mod backup;
pub mod certificates;
pub mod database;
mod figures;
pub mod firewall;
mod handover;
mod lifeline;
pub mod load_balancer;
mod part;
mod real_time;
pub mod report;
mod servers;
pub mod step_down;
pub mod switch;
pub mod watch;

use std::path::Path;
use std::sync::mpsc::Receiver;

use anyhow::Context as _;
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM, SIGUSR2};
use signal_hook::iterator::Signals;

use crate::config::NodeFacts;

/// Signals that ask this process for something, and that of a child's end, from now on.
fn listen() -> anyhow::Result<Receiver<i32>> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP, SIGUSR2, SIGCHLD])
        .context("listening for signals")?;
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || signals.forever().all(|signal| sender.send(signal).is_ok()));
    Ok(receiver)
}

/// Reads what a node knows about itself.
///
/// # Errors
/// If the file is not there or not ours.
pub fn facts(path: &Path) -> anyhow::Result<NodeFacts> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("reading {}", path.display()))
}
