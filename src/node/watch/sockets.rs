//! Ending connections to a machine that does not answer any more. What waits on them is told at
//! once, instead of after a time-out.

use std::net::SocketAddrV4;
use std::process::Command;

use anyhow::Context as _;

use crate::exec;

/// Ends every TCP connection of this node to `place`, and returns how many there were.
///
/// # Errors
/// If `ss` is not there or may not. A kernel without `CONFIG_INET_DIAG_DESTROY` ends none.
pub(super) fn end(place: SocketAddrV4) -> anyhow::Result<usize> {
    let mut command = Command::new("ss");
    command
        .args(["--tcp", "--kill", "--no-header", "--numeric", "dst"])
        .arg(place.ip().to_string())
        .args(["dport", "=", &format!(":{}", place.port())]);
    let ended = exec::run(&mut command, None).context("ending connections")?;
    Ok(ended.lines().filter(|line| !line.trim().is_empty()).count())
}
