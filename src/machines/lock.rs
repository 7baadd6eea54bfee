//! One roll-out at a time on a machine: a lock that the machine keeps as long as its
//! holder is heard of, and that tells who holds it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, anyhow};

use super::Ssh;
use crate::exec::in_parallel;

/// Takes the lock, or tells who has it. It is given up when standard input ends, or
/// says nothing for a minute: then the holder, or the way to it, is gone.
const SCRIPT: &str = "
mkdir -p /run/gen-topology || exit 1
exec 9>>/run/gen-topology/deploy.lock || exit 1
if flock -n 9; then
    printf '%s\\n' \"$1\" > /run/gen-topology/deploy.lock
    echo locked
    while line=$(timeout 60 head -n 1) && [ -n \"$line\" ]; do :; done
    : > /run/gen-topology/deploy.lock
else
    echo \"held $(cat /run/gen-topology/deploy.lock)\"
fi
";

/// Time between two signs of life.
const BEAT: Duration = Duration::from_secs(15);

/// Locks of machines, kept until this is dropped.
#[derive(Debug)]
pub struct Lock {
    stop: Option<Sender<()>>,
    beating: Option<JoinHandle<()>>,
}

/// Takes the locks of all these machines, or none. `who` is told to whoever comes second.
///
/// # Errors
/// For each machine that somebody else has, who that is.
pub fn lock(ssh: &Ssh, nodes: &[String], who: &str) -> Result<Lock, Vec<anyhow::Error>> {
    let mut held = Vec::new();
    let mut problems = Vec::new();
    for taken in in_parallel(nodes, 16, |node| take(ssh, node, who)) {
        match taken {
            Ok(pair) => held.push(pair),
            Err(error) => problems.push(error),
        }
    }
    let (stop, stopped) = channel();
    let beating = std::thread::spawn(move || beat(held, &stopped));
    let lock = Lock {
        stop: Some(stop),
        beating: Some(beating),
    };
    if problems.is_empty() {
        Ok(lock)
    } else {
        Err(problems)
    }
}

fn take(ssh: &Ssh, node: &str, who: &str) -> anyhow::Result<(Child, ChildStdin)> {
    let mut command = ssh.command(node, &["sh", "-c", SCRIPT, "lock", who]);
    let mut child = command
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("starting ssh")?;
    let (input, output) = (child.stdin.take(), child.stdout.take());
    let (Some(input), Some(output)) = (input, output) else {
        return Err(anyhow!("ssh has no pipes"));
    };
    let mut line = String::new();
    BufReader::new(output)
        .read_line(&mut line)
        .with_context(|| format!("waiting for the lock of {node}"))?;
    if line.trim() == "locked" {
        return Ok((child, input));
    }
    drop(input);
    let _ = child.wait();
    Err(match line.trim().strip_prefix("held ") {
        Some(holder) => anyhow!("{holder} is changing {node}; try again when it is done"),
        None => anyhow!(
            "{node} gives no lock: /run/gen-topology can't be written, or `flock` is missing"
        ),
    })
}

fn beat(mut held: Vec<(Child, ChildStdin)>, stopped: &Receiver<()>) {
    while stopped.recv_timeout(BEAT) == Err(RecvTimeoutError::Timeout) {
        for (_, input) in &mut held {
            // A machine that is gone, or boots, has no lock to be kept.
            let _ = input.write_all(b"here\n").and_then(|()| input.flush());
        }
    }
    for (mut child, input) in held {
        drop(input);
        let _ = child.wait();
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.beating.take() {
            let _ = thread.join();
        }
    }
}
