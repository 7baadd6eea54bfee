//! Commands on machines by the user's own `ssh`.
//!
//! Everything that we want of it is in one file of options, which includes the user's own
//! and the system's: what we can't do without comes first, because the first value
//! counts, and what is only a default comes last. `nix` is given the same file.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, bail, ensure};
use tempfile::TempDir;

use crate::exec;

/// Exit code of `ssh` itself, when it could not do its part.
const OWN_FAILURE: i32 = 255;

/// What can't be left to the user's settings: nobody is there to answer a question, nobody
/// waits for ever, and a roll-out does not shake hands for each command.
const NEEDED: &str = "\
BatchMode yes
ConnectTimeout 10
ServerAliveInterval 5
ServerAliveCountMax 3
ControlMaster auto
ControlPersist 120
";

/// A machine: what it is called, and where it is unless the user's `~/.ssh/config` knows better.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Name of the node.
    pub name: String,
    /// Its address.
    pub address: Ipv4Addr,
}

/// How the user wants machines to be reached.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Who to be there, if not whoever `~/.ssh/config` says, else root. Another than root
    /// becomes root by `sudo`.
    pub user: Option<String>,
    /// Further options, written as in `ssh_config(5)`: `Port 2222` or `Port=2222`.
    pub options: Vec<String>,
}

/// A machine can't be talked to: what is wrong and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unreachable(String);

/// The way to machines. Connections are kept open until it is dropped.
#[derive(Debug)]
pub struct Ssh {
    program: PathBuf,
    room: TempDir,
    targets: Vec<Target>,
    becomes_root: bool,
}

impl Ssh {
    /// The way to these machines. Connects to none of them.
    ///
    /// # Errors
    /// If there is no `ssh`, an option can't be one, or the disk is full.
    pub fn new(targets: &[Target], settings: &Settings) -> anyhow::Result<Self> {
        let program = exec::find("ssh").context("ssh is missing; install OpenSSH's client")?;
        if let Some(bad) = settings
            .options
            .iter()
            .find(|option| option.contains('\n') || option.split(['=', ' ']).nth(1).is_none())
        {
            bail!("`{bad}` is no option of ssh; write it as `Port=2222`");
        }
        // Short, because the path of a socket may have 107 bytes.
        let room = tempfile::Builder::new().prefix("gt-").tempdir();
        let ssh = Self {
            program,
            room: room.context("making a directory for ssh's sockets")?,
            targets: targets.to_vec(),
            becomes_root: settings.user.as_ref().is_some_and(|user| user != "root"),
        };
        let text = ssh.options(settings);
        let file = ssh.file();
        fs::write(&file, text).with_context(|| format!("writing {}", file.display()))?;
        Ok(ssh)
    }

    /// Adds machines that were found later.
    ///
    /// # Errors
    /// If the disk is full.
    pub fn add(&mut self, targets: &[Target]) -> anyhow::Result<()> {
        let file = self.file();
        let old = fs::read_to_string(&file);
        let mut text = old.with_context(|| format!("reading {}", file.display()))?;
        text.push_str(&hosts(targets));
        fs::write(&file, text).with_context(|| format!("writing {}", file.display()))?;
        self.targets.extend(targets.iter().cloned());
        Ok(())
    }

    fn file(&self) -> PathBuf {
        self.room.path().join("config")
    }

    fn options(&self, settings: &Settings) -> String {
        let mut text = String::new();
        for option in &settings.options {
            text.push_str(&format!("{option}\n"));
        }
        if let Some(user) = &settings.user {
            text.push_str(&format!("User {user}\n"));
        }
        let sockets = self.room.path().join("%C");
        text.push_str(&format!(
            "{NEEDED}ControlPath \"{}\"\n\
             Include ~/.ssh/config\nInclude /etc/ssh/ssh_config\n\
             Host *\n    User root\n\
             Match final all\n",
            sockets.display()
        ));
        text + &hosts(&self.targets)
    }

    /// What `nix` has to be given in `NIX_SSHOPTS`, so that it reaches machines in the same way.
    pub fn for_nix(&self) -> String {
        format!("-F {}", self.file().display())
    }

    /// Whether commands there need `sudo`.
    pub fn becomes_root(&self) -> bool {
        self.becomes_root
    }

    /// A command on a machine, over a connection that is shared with others.
    pub fn command(&self, node: &str, argv: &[&str]) -> Command {
        self.build(node, &["-T"], argv)
    }

    /// The same over a new connection of its own: proof that one can still be made.
    pub fn fresh(&self, node: &str, argv: &[&str]) -> Command {
        let options = ["-T", "-o", "ControlPath=none", "-o", "ConnectTimeout=3"];
        self.build(node, &options, argv)
    }

    /// A command or, without any, a shell for a person, who may be asked for passwords.
    pub fn for_person(&self, node: &str, argv: &[&str]) -> Command {
        let mut options = vec!["-o", "BatchMode=no", "-o", "ControlPath=none"];
        if argv.is_empty() {
            options.push("-t");
        }
        self.build(node, &options, argv)
    }

    fn build(&self, node: &str, options: &[&str], argv: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("-F").arg(self.file()).args(options).arg(node);
        if !argv.is_empty() {
            let sudo: &[&str] = if self.becomes_root {
                &["sudo", "-n", "--"]
            } else {
                &[]
            };
            command.arg(quoted(sudo.iter().chain(argv)));
        }
        command
    }

    /// Runs a command on a machine, gives it `input`, and returns what it wrote to standard output.
    ///
    /// # Errors
    /// If the machine can't be reached, in a sentence that says what to do, or the command
    /// ends with another status than 0.
    pub fn run(&self, node: &str, argv: &[&str], input: Option<&str>) -> anyhow::Result<String> {
        self.finish(node, argv, &mut self.command(node, argv), input)
    }

    /// As [`Self::run`], over a new connection.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn run_fresh(&self, node: &str, argv: &[&str]) -> anyhow::Result<String> {
        self.finish(node, argv, &mut self.fresh(node, argv), None)
    }

    /// Runs a script of the shell on a machine.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn script(&self, node: &str, script: &str, words: &[&str]) -> anyhow::Result<String> {
        let argv = [&["sh", "-s", "--"], words].concat();
        self.run(node, &argv, Some(script))
    }

    fn finish(
        &self,
        node: &str,
        argv: &[&str],
        command: &mut Command,
        input: Option<&str>,
    ) -> anyhow::Result<String> {
        // Ctrl-C in a terminal is for us; a step that was begun is brought to its end.
        command.process_group(0);
        let output = exec::output_within(command, input, exec::LONG)?;
        if let Some(error) = self.refusal(node, &output) {
            return Err(error.into());
        }
        let said = [output.stderr.as_slice(), output.stdout.as_slice()];
        let said = said.map(|bytes| String::from_utf8_lossy(bytes).trim().to_owned());
        ensure!(
            output.status.success(),
            "{node}: `{}` ended with {}: {}",
            quoted(argv.iter()),
            output.status,
            said.iter()
                .find(|text| !text.is_empty())
                .map_or("", String::as_str)
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Why `ssh` itself has failed, if it has: what it is and what to do.
    pub fn refusal(&self, node: &str, output: &Output) -> Option<Unreachable> {
        if output.status.code() != Some(OWN_FAILURE) {
            return None;
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let address = self.targets.iter().find(|target| target.name == node);
        let place = address.map_or_else(|| node.to_owned(), |it| it.address.to_string());
        let why = why(said.trim(), &place);
        Some(Unreachable(format!("{node} ({place}) {why}")))
    }
}

impl Drop for Ssh {
    fn drop(&mut self) {
        let Ok(entries) = fs::read_dir(self.room.path()) else {
            return;
        };
        let sockets = entries.flatten().map(|entry| entry.path());
        for socket in sockets.filter(|path| path.file_name().is_some_and(|name| name != "config")) {
            let mut command = Command::new(&self.program);
            command
                .args(["-F", "none", "-O", "exit", "-S"])
                .arg(socket)
                .arg("any")
                .stdin(Stdio::null());
            // One that has ended already has nothing to be ended.
            let _ = exec::output(&mut command, None);
        }
    }
}

/// One word of the shell for each word, whatever is in it. The only place where
/// commands become text for a shell.
fn quoted<'w>(words: impl Iterator<Item = &'w &'w str>) -> String {
    let words: Vec<&str> = words.copied().collect();
    // Only a NUL can't be quoted, and no argument of a process holds one.
    shlex::try_join(words.iter().copied()).unwrap_or_else(|_| words.join(" "))
}

fn hosts(targets: &[Target]) -> String {
    let host = |target: &Target| format!("Host {}\n    HostName {}\n", target.name, target.address);
    targets.iter().map(host).collect()
}

/// What `ssh` says, as a sentence with what to do.
fn why(said: &str, place: &str) -> String {
    let has = |words: &str| said.contains(words);
    let last = said.lines().last().unwrap_or_default().trim();
    if has("REMOTE HOST IDENTIFICATION HAS CHANGED") {
        let line = said
            .lines()
            .find_map(|line| line.trim().strip_prefix("Offending "));
        return format!(
            "has another host key than the one known here{}: it was installed anew, or somebody is in between. \
             Compare `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` on its console with \
             `ssh-keyscan {place} | ssh-keygen -lf -`, then forget the old one with `ssh-keygen -R {place}`",
            line.map_or_else(String::new, |line| format!(" ({line})"))
        );
    }
    if has("Host key verification failed") {
        return format!(
            "is not known here: connect once by `gen-topology ssh` or `ssh root@{place}`, and compare the key that it \
             shows with `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` on its console"
        );
    }
    if has("Permission denied") {
        return format!(
            "refuses the login: {last}. `ssh-add -l` lists the keys that are offered; one of them has to be among its \
             authorized keys (`users.users.root.openssh.authorizedKeys.keys`), or name another user with `--user`"
        );
    }
    if has("Bad configuration option") || has("terminating,") {
        return format!("was not tried: {}", said.replace('\n', "; "));
    }
    let said = if last.is_empty() {
        "ssh gives no reason"
    } else {
        last
    };
    format!("is not reachable: {said}. Is it on, and does `ssh -v root@{place}` get there?")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stay_words() {
        let words = ["sh", "-c", "echo \"$HOME\"; it's", "", "a b", "ä*"];
        let text = quoted(words.iter());
        assert_eq!(shlex::split(&text).unwrap(), words);
        let line = quoted(["printf", "%s|", "a'b", "$x", "*"].iter());
        let output = exec::run(Command::new("sh").args(["-c", &line]), None);
        assert_eq!(output.unwrap(), "a'b|$x|*|");
    }
}
