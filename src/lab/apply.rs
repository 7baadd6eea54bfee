//! A lab that is changed node by node, with a way back: what `lab apply` needs,
//! where `lab up` changes everything at once.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};

use super::enter::node_command;
use super::plan::{LabPlan, NodePlan, SECRETS, changed_files, needs_reboot};
use super::run::{Lab, write, write_files};
use crate::config::place::Restarts;
use crate::config::{Action, HAPROXY_SOCKET, PYTHON};
use crate::exec;
use crate::files;
use crate::health::haproxy;
use crate::topology::Tier;

/// A node's plan before its last change, kept until that counts.
const PREVIOUS: &str = "previous.json";

impl Lab {
    /// The plans of the nodes that are there, running or not, by name.
    pub fn present(&self) -> Vec<NodePlan> {
        let names = self.known_nodes();
        names
            .iter()
            .filter_map(|name| self.old_plan(name))
            .collect()
    }

    /// A command to run in a node, whether it is in the lab's plan or about to leave.
    ///
    /// # Errors
    /// If the node is not running.
    pub fn command_at(&self, name: &str, argv: &[String]) -> anyhow::Result<Command> {
        let pid = self.pid(name);
        Ok(node_command(
            pid.with_context(|| format!("{name} is not running"))?,
            argv,
        ))
    }

    /// Sends a command to the runtime socket of a node's haproxy.
    ///
    /// # Errors
    /// If the node or its haproxy is not there.
    pub fn ask_haproxy(&self, name: &str, command: &str) -> anyhow::Result<String> {
        let pid = self.pid(name);
        let pid = pid.with_context(|| format!("{name} is not running"))?;
        haproxy::ask(
            Path::new(&format!("/proc/{pid}/root{HAPROXY_SOCKET}")),
            command,
        )
    }

    /// Starts a planned node that is not there, or whose start was interrupted.
    ///
    /// # Errors
    /// If it does not boot.
    pub fn add(&self, name: &str) -> anyhow::Result<()> {
        let node = self.planned(name)?;
        self.stop(name)?;
        self.write_node(node)?;
        self.boot(&[node])
    }

    /// Gives a running node its planned files and does what its daemons need.
    ///
    /// # Errors
    /// If supervisord refuses something, or the disk is full.
    pub fn change(&self, name: &str, how: &[Action]) -> anyhow::Result<()> {
        let previous = self.place.node(name).join(PREVIOUS);
        // One that is there is from a change that was interrupted: it is the one that worked.
        if !previous.exists() {
            let now = self.old_plan(name);
            let now = now.with_context(|| format!("{name} has no plan"))?;
            write(&previous, &serde_json::to_string(&now)?)?;
        }
        let node = self.planned(name)?.clone();
        self.bring(&node, how)
    }

    /// Brings a node back to what it was before [`Self::change`].
    ///
    /// # Errors
    /// If nothing was kept, or supervisord refuses something.
    pub fn revert(&self, name: &str, how: &[Action]) -> anyhow::Result<()> {
        let previous = self.place.node(name).join(PREVIOUS);
        let text = fs::read_to_string(&previous)
            .with_context(|| format!("reading {}", previous.display()))?;
        let node: NodePlan = serde_json::from_str(&text)
            .with_context(|| format!("reading {}", previous.display()))?;
        self.bring(&node, how)
    }

    fn bring(&self, node: &NodePlan, how: &[Action]) -> anyhow::Result<()> {
        let old = self.old_plan(&node.name);
        let changed = old.map_or_else(Vec::new, |old| changed_files(&old, node));
        self.write_node(node)?;
        if how.contains(&Action::Boot) {
            self.stop(&node.name)?;
            return self.boot(&[node]);
        }
        self.act_all(&node.name, how, &Restarts::of(&changed))
    }

    /// Starts a node again that was stopped.
    ///
    /// # Errors
    /// If it does not boot.
    pub fn restore(&self, name: &str) -> anyhow::Result<()> {
        let node = self.old_plan(name);
        self.boot(&[&node.with_context(|| format!("{name} has no plan"))?])
    }

    /// What was done to a node last counts: nothing is kept to go back.
    ///
    /// # Errors
    /// If files can't be removed.
    pub fn settle(&self, name: &str) -> anyhow::Result<()> {
        files::remove(&self.place.node(name).join(PREVIOUS))
            .with_context(|| format!("removing {PREVIOUS} of {name}"))?;
        self.record()
    }

    /// Removes a node that was stopped for good, with its data.
    ///
    /// # Errors
    /// If files can't be removed.
    pub fn forget(&self, name: &str) -> anyhow::Result<()> {
        if self.place.node(name).exists() {
            self.remove(name)?;
        }
        self.record()
    }

    /// Writes down what the lab consists of at the moment, for other commands.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn record(&self) -> anyhow::Result<()> {
        let mut nodes = self.present();
        nodes.sort_by_key(|node| match node.tier {
            Tier::Database => 0,
            Tier::LoadBalancer => 1,
            Tier::App => 2,
        });
        let now = LabPlan {
            nodes,
            ..self.plan.clone()
        };
        let text = serde_json::to_string(&now)?;
        write(&self.place.directory.join("plan.json"), &text)
    }

    /// Whether a node that runs could not be brought to its plan without booting it.
    pub fn has_to_boot(&self, name: &str) -> bool {
        let both = self.old_plan(name).zip(self.plan.node(name));
        self.pid(name).is_none() || both.is_some_and(|(old, new)| needs_reboot(&old, new))
    }

    /// Gives the planned files of a node to the programs that will read them, in a set of
    /// namespaces like the node's own. Returns what they say if they refuse.
    ///
    /// # Errors
    /// If the namespaces can't be made.
    pub fn rehearse(&self, name: &str) -> anyhow::Result<Option<String>> {
        let node = self.planned(name)?;
        let stage = tempfile::Builder::new()
            .prefix(".rehearsal-")
            .tempdir_in(&self.place.directory)
            .context("making room for a rehearsal")?;
        let directory = stage.path().join(name);
        write_files(&directory, None, node)?;
        self.give_secrets_at(node, &directory.join(SECRETS))?;
        let output = exec::output(
            Command::new(exec::find("unshare").context("unshare is missing")?)
                .args([
                    "--mount",
                    "--net",
                    "--pid",
                    "--uts",
                    "--fork",
                    "--kill-child",
                ])
                .args(["--propagation=private", "--"])
                .arg(self.place.program())
                .args(["lab", "rehearse"])
                .arg(&directory)
                .current_dir("/"),
            None,
        )?;
        if output.status.success() {
            return Ok(None);
        }
        let said = [output.stdout, output.stderr].concat();
        Ok(Some(String::from_utf8_lossy(&said).trim().to_owned()))
    }

    /// Nodes among `names` whose files have to be looked at: of those that have the same
    /// files, one.
    pub fn distinct<'n>(&self, names: &[&'n str]) -> Vec<&'n str> {
        let mut seen: Vec<&NodePlan> = Vec::new();
        let mut chosen = Vec::new();
        for name in names {
            let Some(node) = self.plan.node(name) else {
                continue;
            };
            // Of all files only these are about the node itself, and no daemon reads them.
            let own = ["gen-topology/node.json", "hostname", "hosts"];
            let alike = |other: &&NodePlan| {
                let differing = changed_files(other, node);
                other.tier == node.tier && differing.iter().all(|path| own.contains(&path.as_str()))
            };
            if !seen.iter().any(alike) {
                seen.push(node);
                chosen.push(*name);
            }
        }
        chosen
    }

    /// Where the journal of changes is.
    pub fn journal(&self) -> PathBuf {
        self.place.directory.join("apply.journal")
    }
}

/// What `lab rehearse` runs for a tier, each with what it looks at.
pub(super) fn parsers(node: &NodePlan) -> Vec<(&'static str, Vec<String>)> {
    let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let firewall = (
        "nft",
        words("nft --check --file /etc/gen-topology/firewall.nft"),
    );
    let mut all = vec![firewall];
    all.extend(match node.tier {
        Tier::LoadBalancer => vec![
            (
                "haproxy",
                words("haproxy -c -q -f /etc/haproxy/haproxy.cfg"),
            ),
            (
                "keepalived",
                words("keepalived --config-test --use-file=/etc/keepalived/keepalived.conf"),
            ),
        ],
        Tier::App => vec![
            ("nginx", words("nginx -t -q -c /etc/nginx/nginx.conf")),
            ("python", compiling(node)),
        ],
        // The wheel's mongod is not on PATH, so its own command line tells where it is.
        Tier::Database => {
            let programs = node.etc.get("supervisor/supervisord.conf");
            let line = programs
                .and_then(|text| text.lines().find_map(|line| line.strip_prefix("command=")));
            let mut argv = words(line.unwrap_or("mongod --config /etc/mongod.conf"));
            argv.push("--outputConfig".into());
            vec![("mongod", argv)]
        }
    });
    all
}

/// The command that looks at the gunicorn file of each application.
fn compiling(node: &NodePlan) -> Vec<String> {
    let files = node
        .etc
        .keys()
        .filter(|path| path.starts_with("gunicorn/") && path.ends_with(".conf.py"));
    let files = files.map(|path| format!("/etc/{path}"));
    let fixed = [PYTHON, "-c", COMPILE].map(str::to_owned);
    fixed.into_iter().chain(files).collect()
}

/// gunicorn's configuration and the app's entry module have to be Python. They are
/// not run: what a module does when it is loaded is the gate's matter.
const COMPILE: &str = "
import os, sys
for conf in sys.argv[1:]:
    text = open(conf).read()
    compile(text, conf, 'exec')
    settings = {}
    exec(text, settings)
    module = os.path.join(settings['chdir'], *settings['wsgi_app'].split(':')[0].split('.'))
    for path in (module + '.py', os.path.join(module, '__init__.py')):
        if os.path.exists(path):
            compile(open(path, 'rb').read(), path, 'exec')
            break
    else:
        sys.exit(module + '.py: the app has no such module')
";

/// Runs the parsers of the node whose directory is given, in its own root.
///
/// # Errors
/// If one of them refuses its file, with what it says.
pub fn rehearse(directory: &Path) -> anyhow::Result<()> {
    let node = super::boot::enter(directory)?;
    for (what, argv) in parsers(&node) {
        let (program, arguments) = argv.split_first().context("no command")?;
        let program = exec::find(program).unwrap_or_else(|| program.into());
        let output = exec::output(Command::new(program).args(arguments), None)?;
        let said = [output.stdout, output.stderr].concat();
        ensure!(
            output.status.success(),
            "{what} refuses its files: {}",
            String::from_utf8_lossy(&said).trim()
        );
    }
    Ok(())
}
