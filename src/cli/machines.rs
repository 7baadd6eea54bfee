//! The stack's machines, as they are: `ssh`, `run`, `exec`, `logs` and `drift`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Read};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Output, Stdio};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Sender, channel};

use anyhow::{Context as _, anyhow};
use clap::Args as ClapArgs;
use serde::Serialize;

use super::args::{FileArg, Format, LookArgs, WayArgs};
use super::interrupts::listen_for_interrupts;
use super::ui::{Tone, Ui, paint, table};
use super::{generate, lab_way, source};
use crate::exec::in_parallel;
use crate::failure::{Failure, Outcome};
use crate::machines::{self, AT_ONCE, Machine, Settings, Ssh, Target, that_log};
use crate::node;
use crate::render::{FACTS, Rendered};
use crate::sink::Sink as _;
use crate::site::{FACTS_FILE, NodeState};
use crate::topology::{Node, Selector, Topology};

#[derive(Debug, ClapArgs)]
pub(super) struct SshArgs {
    #[command(flatten)]
    pub file: FileArg,
    /// The node
    pub node: String,
    #[command(flatten)]
    pub way: WayArgs,
    /// A command and its arguments [default: a shell]
    #[arg(last = true)]
    pub command: Vec<String>,
}

#[derive(Debug, ClapArgs)]
pub(super) struct RunArgs {
    #[command(flatten)]
    pub file: FileArg,
    /// The app server
    pub node: String,
    #[command(flatten)]
    pub way: WayArgs,
    /// Which of `apps` to run it as [default: `app`]
    #[arg(long, value_name = "NAME")]
    pub app: Option<String>,
    /// The command and its arguments; a name that ends in `.py` is run by Python
    #[arg(required = true, last = true)]
    pub command: Vec<String>,
}

#[derive(Debug, ClapArgs)]
pub(super) struct ExecArgs {
    #[command(flatten)]
    pub file: FileArg,
    /// On these nodes, such as `node-1,app-*,@database` [default: all]
    #[arg(long, value_name = "NODES")]
    pub on: Option<Selector>,
    #[command(flatten)]
    pub way: WayArgs,
    /// The command and its arguments
    #[arg(required = true, last = true)]
    pub command: Vec<String>,
}

#[derive(Debug, ClapArgs)]
pub(super) struct LogsArgs {
    /// Topology file; `-` is standard input [default: topology.json here or in a directory above]
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Nodes, such as `node-1,app-*,@database` [default: all]
    #[arg(value_name = "NODES")]
    pub nodes: Option<Selector>,
    #[command(flatten)]
    pub way: WayArgs,
    /// Go on printing what is added
    #[arg(short, long)]
    pub follow: bool,
    /// Print only the last lines of each node
    #[arg(short = 'n', long, default_value_t = 20)]
    pub lines: usize,
}

/// The way to all machines of a topology. From now on Ctrl-C lets the command in hand end
/// (it ends `ssh`, too, where that is in the terminal's foreground), so that nothing stays behind.
pub(super) fn way(topology: &Topology, args: &WayArgs) -> anyhow::Result<Ssh> {
    listen_for_interrupts()?;
    let targets: Vec<Target> = topology.nodes().iter().map(target).collect();
    let settings = Settings {
        user: args.user.clone(),
        options: args.options.clone(),
    };
    Ssh::new(&targets, &settings)
}

fn target(node: &Node) -> Target {
    Target {
        name: node.name.to_string(),
        address: node.address,
    }
}

/// A lab of the topology that runs here may be what is meant: it says so before machines are waited for.
pub(super) fn tell_of_lab(file: Option<&Path>, command: &str, ui: &mut Ui) {
    let lab = lab_way::place(file, None).ok();
    if let Some(lab) = lab.filter(|lab| lab.running().is_some()) {
        ui.say(&format!(
            "a lab of this topology runs here, {}: did you mean `gen-topology lab {command}`? Asking the machines",
            lab.name
        ));
    }
}

/// The nodes that are meant; all unless told.
pub(super) fn chosen<'t>(
    topology: &'t Topology,
    on: Option<&Selector>,
) -> anyhow::Result<Vec<&'t Node>> {
    match on {
        Some(selector) => Ok(selector.nodes(topology)?),
        None => Ok(topology.nodes().iter().collect()),
    }
}

fn named(name: &str) -> Result<Selector, Failure> {
    name.parse().map_err(Failure::Usage)
}

/// `ssh NODE [-- COMMAND]`.
pub(super) fn ssh(file: Option<&Path>, args: &SshArgs, ui: &mut Ui) -> Outcome {
    let (_, topology) = source::load(file, ui)?;
    let nodes = chosen(&topology, Some(&named(&args.node)?))?;
    let [node] = nodes.as_slice() else {
        return Err(Failure::Usage(format!(
            "`{}` means {} nodes; `gen-topology exec --on` runs a command on several",
            args.node,
            nodes.len()
        )));
    };
    let ssh = way(&topology, &args.way)?;
    let argv: Vec<&str> = args.command.iter().map(String::as_str).collect();
    // Not `exec`: the file of options has to be there as long as ssh is, and to go afterwards.
    let mut command = ssh.for_person(node.name.as_str(), &argv);
    let status = command.status().context("starting ssh")?;
    match status.code() {
        Some(0) => Ok(()),
        code => Err(Failure::Status(
            code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1),
        )),
    }
}

/// `run NODE -- COMMAND`.
pub(super) fn run(file: Option<&Path>, args: RunArgs, ui: &mut Ui) -> Outcome {
    let app = args.app.as_deref();
    if let Some(name) = app {
        let (_, topology) = source::load(file, ui)?;
        let node = topology.node(&args.node);
        let mut apps = node
            .into_iter()
            .flat_map(|node| topology.applications_on(node));
        if !apps.any(|application| application.name() == app) {
            return Err(anyhow!(
                "{} does not run {name}; `apps` says who runs what",
                args.node
            )
            .into());
        }
    }
    let command = node::app::in_app(app, args.command.iter().map(String::as_str));
    let args = SshArgs {
        file: args.file,
        node: args.node,
        way: args.way,
        command,
    };
    ssh(file, &args, ui)
}

/// `exec --on NODES -- COMMAND`.
pub(super) fn exec(file: Option<&Path>, args: &ExecArgs, ui: &mut Ui) -> Outcome {
    let (_, topology) = source::load(file, ui)?;
    tell_of_lab(file, "exec", ui);
    let nodes = chosen(&topology, args.on.as_ref())?;
    let ssh = way(&topology, &args.way)?;
    let argv: Vec<&str> = args.command.iter().map(String::as_str).collect();
    let commands: Vec<(&Node, Vec<&str>)> =
        nodes.iter().map(|node| (*node, argv.clone())).collect();
    everywhere(&ssh, &commands, ui)
}

/// `logs [NODES]`.
pub(super) fn logs(file: Option<&Path>, args: &LogsArgs, ui: &mut Ui) -> Outcome {
    let (_, topology) = source::load(file, ui)?;
    tell_of_lab(file, "logs", ui);
    let nodes = chosen(&topology, args.nodes.as_ref())?;
    let ssh = way(&topology, &args.way)?;
    let lines = args.lines.to_string();
    let journal = |node: &Node| {
        let mut argv = vec![
            "journalctl",
            "--no-pager",
            "--quiet",
            "--output=short-iso",
            "--lines",
            &lines,
        ];
        if args.follow {
            argv.push("--follow");
        }
        argv.extend(
            that_log(node.tier)
                .iter()
                .flat_map(|unit| ["--unit", *unit]),
        );
        argv
    };
    let commands: Vec<(&Node, Vec<&str>)> =
        nodes.iter().map(|node| (*node, journal(node))).collect();
    everywhere(&ssh, &commands, ui)
}

/// A line of a command's output on one node.
struct Line {
    node: usize,
    is_error: bool,
    text: String,
}

/// Runs a command on each node at the same time, prints what they say as they say it, and
/// ends with the worst exit code.
fn everywhere(ssh: &Ssh, commands: &[(&Node, Vec<&str>)], ui: &mut Ui) -> Outcome {
    let interrupted = listen_for_interrupts()?;
    let width = commands
        .iter()
        .map(|(node, _)| node.name.as_str().len())
        .max()
        .unwrap_or(0);
    let prefix = |node: usize| match commands {
        [_] => String::new(),
        many => paint(
            Tone::Quiet,
            &format!("{:width$} | ", many[node].0.name.as_str()),
        ),
    };
    let mut children: Vec<(usize, Child)> = Vec::new();
    let (sender, lines) = channel::<Line>();
    for (index, (node, argv)) in commands.iter().enumerate() {
        let mut command = ssh.command(node.name.as_str(), argv);
        let command = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().context("starting ssh")?;
        forward(index, false, child.stdout.take(), &sender);
        forward(index, true, child.stderr.take(), &sender);
        children.push((index, child));
    }
    drop(sender);
    // What ssh itself says is told as a sentence, behind what the commands say.
    let mut errors: BTreeMap<usize, String> = BTreeMap::new();
    for line in lines {
        if line.is_error {
            errors
                .entry(line.node)
                .or_default()
                .push_str(&format!("{}\n", line.text));
            ui.warn(&format!("{}{}", prefix(line.node), line.text));
        } else {
            ui.data(&format!("{}{}", prefix(line.node), line.text))?;
        }
    }
    if interrupted.load(Ordering::SeqCst) {
        for (_, mut child) in children {
            // Gone already, unless only this process was told.
            let _ = child.kill().and_then(|()| child.wait());
        }
        return Err(Failure::Interrupted("the commands were ended".into()));
    }
    let mut worst = 0;
    for (index, mut child) in children {
        let status = child.wait().context("waiting for ssh")?;
        let code = status
            .code()
            .or_else(|| status.signal().map(|signal| 128 + signal))
            .unwrap_or(1);
        worst = worst.max(code);
        let output = Output {
            status,
            stdout: Vec::new(),
            stderr: errors.remove(&index).unwrap_or_default().into_bytes(),
        };
        if let Some(error) = ssh.refusal(commands[index].0.name.as_str(), &output) {
            ui.error(&error.into());
        }
    }
    match worst {
        0 => Ok(()),
        code => Err(Failure::Status(u8::try_from(code).unwrap_or(1))),
    }
}

fn forward(
    node: usize,
    is_error: bool,
    from: Option<impl Read + Send + 'static>,
    to: &Sender<Line>,
) {
    let to = to.clone();
    std::thread::spawn(move || {
        let mut from = BufReader::new(from?);
        let mut bytes = Vec::new();
        while from
            .read_until(b'\n', &mut bytes)
            .is_ok_and(|read| read > 0)
        {
            let text = String::from_utf8_lossy(&bytes)
                .trim_end_matches(['\n', '\r'])
                .to_owned();
            to.send(Line {
                node,
                is_error,
                text,
            })
            .ok()?;
            bytes.clear();
        }
        Some(())
    });
}

/// A file of a node that is not what the topology says.
#[derive(Debug, Serialize)]
struct Difference {
    node: String,
    /// None for a machine that can't be asked.
    file: Option<String>,
    /// `changed`, `missing` or `unreachable`.
    what: &'static str,
}

/// `drift`.
pub(super) fn drift(file: Option<&Path>, args: &LookArgs, ui: &mut Ui) -> Outcome {
    let (_, topology) = source::load(file, ui)?;
    let rendered = generate::rendered(&topology)?;
    let nodes = chosen(&topology, args.on.as_ref())?;
    let ssh = way(&topology, &args.way)?;
    let files = paths(&rendered);
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    let looks = in_parallel(&nodes, AT_ONCE, |node| {
        machines::look(&ssh, node.name.as_str(), &files)
    });
    let mut differences = Vec::new();
    let mut unreachable = 0;
    for (node, machine) in nodes.iter().zip(looks) {
        let wanted = rendered
            .iter()
            .find(|rendered| rendered.node == node.name.as_str());
        match (machine, wanted) {
            (Ok(machine), Some(wanted)) => differences.extend(difference(wanted, &machine)?),
            (Err(error), _) => {
                unreachable += 1;
                ui.error(&error);
                differences.push(Difference {
                    node: node.name.to_string(),
                    file: None,
                    what: "unreachable",
                });
            }
            (Ok(_), None) => {}
        }
    }
    if args.format == Format::Json {
        ui.json(&differences)?;
    } else if !differences.is_empty() {
        let row = |it: &Difference| {
            vec![
                it.node.clone(),
                it.what.to_owned(),
                it.file.clone().unwrap_or_default(),
            ]
        };
        let rows: Vec<Vec<String>> = differences.iter().map(row).collect();
        ui.data(&table(&["NODE", "WHAT", "FILE"], &rows))?;
    }
    if unreachable > 0 {
        return Err(anyhow!("{unreachable} of {} nodes could not be asked", nodes.len()).into());
    }
    if differences.is_empty() {
        ui.say(&format!(
            "{} nodes have what the topology says",
            nodes.len()
        ));
        return Ok(());
    }
    ui.say("`gen-topology plan --against machines` tells what bringing them back would do");
    Err(Failure::Differs)
}

/// Every file below `/etc` that any node has rendered.
pub(super) fn paths(rendered: &[Rendered]) -> BTreeSet<String> {
    let files = rendered.iter().flat_map(|node| node.files.keys());
    files
        .filter_map(|path| Some(path.strip_prefix("etc/")?.to_owned()))
        .collect()
}

fn difference(wanted: &Rendered, machine: &Machine) -> anyhow::Result<Vec<Difference>> {
    let facts = wanted.files.get(FACTS).context("a node without facts")?;
    let planned = NodeState::of_facts(facts)?;
    let system = &machine.system;
    let node = wanted.node.clone();
    let one = |file: &str, what| Difference {
        node: node.clone(),
        file: Some(format!("/etc/{file}")),
        what,
    };
    let mut differences = Vec::new();
    for (path, sum) in planned.files.iter().filter(|(path, _)| *path != FACTS_FILE) {
        match system.files.get(path) {
            Some(found) if found == sum => {}
            Some(_) => differences.push(one(path, "changed")),
            None => differences.push(one(path, "missing")),
        }
    }
    let has = system.facts.as_deref().map(NodeState::of_facts);
    match has {
        Some(Ok(has)) if has.facts == planned.facts => {}
        Some(_) => differences.push(one(FACTS_FILE, "changed")),
        None => differences.push(one(FACTS_FILE, "missing")),
    }
    Ok(differences)
}
