//! A directory of files from a machine, and to one, through `tar` on both sides.
//!
//! The script on the machine works in a directory of its own, which goes with the script,
//! however that ends. The directory is called `copy` there.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};

use super::Ssh;

/// In `/var/tmp`, which is no memory: what is copied may be large.
const ROOM: &str = "set -e
room=$(mktemp -d /var/tmp/gen-topology-XXXXXX)
trap 'rm -rf \"$room\"' EXIT
cd \"$room\"
";
/// How often an interrupt is looked for.
const TICK: Duration = Duration::from_millis(20);

/// Runs a command on a machine that makes the directory `copy`, and brings what is in it into `to`.
///
/// # Errors
/// If the command fails or `interrupted` says so.
pub fn fetch(
    ssh: &Ssh,
    node: &str,
    argv: &[&str],
    to: &Path,
    interrupted: &dyn Fn() -> bool,
) -> anyhow::Result<()> {
    // What the command says must not get among the files.
    let script = format!("{ROOM}\"$@\" >&2\ntar -C copy -cf - .");
    let mut there = Piped::start(with_words(ssh, node, &script, argv), Stdio::null())?;
    let files = there.child.stdout.take().context("a pipe of ssh")?;
    let mut unpack = Command::new("tar");
    unpack
        .args(["-x", "--no-same-owner", "-f", "-", "-C"])
        .arg(to);
    let mut here = Piped::start(unpack, files.into())?;
    finish(ssh, node, &mut there, &mut here, interrupted)
}

/// Brings what is in `from` into the directory `copy` on a machine, and runs a command beside it.
///
/// # Errors
/// If the command fails or `interrupted` says so: then it may go on there.
pub fn send(
    ssh: &Ssh,
    node: &str,
    argv: &[&str],
    from: &Path,
    interrupted: &dyn Fn() -> bool,
) -> anyhow::Result<()> {
    let script = format!("{ROOM}mkdir copy\ntar -x --no-same-owner -f - -C copy\n\"$@\" >&2");
    let mut pack = Command::new("tar");
    pack.args(["-cf", "-", "-C"]).arg(from).arg(".");
    let mut here = Piped::start(pack, Stdio::null())?;
    let files = here.child.stdout.take().context("a pipe of tar")?;
    let mut there = Piped::start(with_words(ssh, node, &script, argv), files.into())?;
    finish(ssh, node, &mut there, &mut here, interrupted)
}

fn with_words(ssh: &Ssh, node: &str, script: &str, argv: &[&str]) -> Command {
    ssh.command(node, &[&["sh", "-c", script, "sh"], argv].concat())
}

/// A command whose standard output somebody reads, and what it says.
struct Piped {
    child: Child,
    said: File,
}

impl Piped {
    fn start(mut command: Command, input: Stdio) -> anyhow::Result<Self> {
        let said = tempfile::tempfile().context("making a file for what a command says")?;
        let child = command
            .stdin(input)
            .stdout(Stdio::piped())
            .stderr(said.try_clone().context("a file for what a command says")?)
            // Ctrl-C in a terminal is for us.
            .process_group(0)
            .spawn()
            .with_context(|| format!("starting {}", command.get_program().display()))?;
        Ok(Self { child, said })
    }

    fn output(&mut self, status: ExitStatus) -> anyhow::Result<Output> {
        let mut stderr = Vec::new();
        self.said.seek(SeekFrom::Start(0))?;
        self.said.read_to_end(&mut stderr)?;
        Ok(Output {
            status,
            stdout: Vec::new(),
            stderr,
        })
    }
}

impl Drop for Piped {
    fn drop(&mut self) {
        // Nothing, where it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn finish(
    ssh: &Ssh,
    node: &str,
    there: &mut Piped,
    here: &mut Piped,
    interrupted: &dyn Fn() -> bool,
) -> anyhow::Result<()> {
    let wait = |piped: &mut Piped| loop {
        if let Some(status) = piped.child.try_wait()? {
            return piped.output(status);
        }
        if interrupted() {
            bail!("interrupted");
        }
        std::thread::sleep(TICK);
    };
    // The machine first: what tar says when the other side has ended is of no use.
    let output = wait(there)?;
    if let Some(refusal) = ssh.refusal(node, &output) {
        return Err(refusal.into());
    }
    if !output.status.success() {
        bail!("{node}: {}", last_line(&output));
    }
    let output = wait(here)?;
    if !output.status.success() {
        bail!("tar: {}", last_line(&output));
    }
    Ok(())
}

/// What a command said at last.
fn last_line(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr);
    let line = said.lines().rfind(|line| !line.trim().is_empty());
    let line = line.unwrap_or("it failed and said nothing");
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}
