//! `lab …`: the commands from outside. What has to happen in the lab's namespaces
//! is handed to [`super::inside`] as a [`Request`].

use std::fs;
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::{Context as _, anyhow};
use clap::{Args as ClapArgs, Subcommand};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::apply::ApplyArgs;
use super::args::{Format, FormatArgs, Rotated};
use super::interrupts::{apart, listen_for_interrupts, wait_for};
use super::lab_graph::{GraphFormat, graph};
use super::lab_logs::logs;
use super::ui::{Tone, Ui, paint, table};
use super::{Failure, Outcome, apply, generate, inside, load, source};
use crate::lab::supplies::{self, Supplies};
use crate::lab::{LabPlan, Place, RunningLab, enter, state};
use crate::secrets::Rotation;
use crate::topology::{Source, Topology};

#[derive(Debug, ClapArgs)]
pub(super) struct LabArgs {
    /// Topology file [default: topology.json here or in a directory above]
    #[arg(long, global = true, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Name of the lab [default: the topology's name]
    #[arg(long, global = true, value_name = "NAME", env = "GEN_TOPOLOGY_LAB")]
    pub lab: Option<String>,
    #[command(subcommand)]
    pub command: LabCommand,
}

#[derive(Debug, Subcommand)]
pub(super) enum LabCommand {
    /// Start what is missing, change what changed, and wait for the first answer through the virtual IP
    Up {
        /// Wait until every node is well, not only for the first answer
        #[arg(long)]
        wait: bool,
        /// Only the databases, until each of their replica sets has a primary and its users
        #[arg(long)]
        databases: bool,
        /// Print what would be done and do nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Bring a running lab to the edited topology, node by node, with visitors served all the time
    Apply(ApplyArgs),
    /// Stop everything and remove the lab with its data
    Down,
    /// Show each node's state, the owner of the virtual IP and the primary
    Status(FormatArgs),
    /// List the labs of this user
    Ls(FormatArgs),
    /// List the processes of each node
    Ps {
        /// Nodes [default: all]
        nodes: Vec<String>,
    },
    /// Run a command in a node
    Exec {
        /// The node
        node: String,
        /// The command and its arguments
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// Open a shell in a node
    Shell {
        /// The node
        node: String,
    },
    /// Print what a node's daemons have logged
    Logs {
        /// Nodes [default: all]
        nodes: Vec<String>,
        /// Go on printing what is added
        #[arg(short, long)]
        follow: bool,
        /// Print only the last lines of each file
        #[arg(short = 'n', long, default_value_t = 20)]
        lines: usize,
    },
    /// Shut nodes down in order
    Stop {
        /// Nodes
        #[arg(required = true)]
        nodes: Vec<String>,
        /// Pull the plug instead: no process is asked, no packet is sent
        #[arg(long)]
        power_off: bool,
    },
    /// Start nodes that were stopped
    Start {
        /// Nodes
        #[arg(required = true)]
        nodes: Vec<String>,
    },
    /// Shut nodes down in order and start them again
    Reboot {
        /// Nodes
        #[arg(required = true)]
        nodes: Vec<String>,
    },
    /// Cut nodes off the network
    Cut {
        /// Nodes
        #[arg(required = true)]
        nodes: Vec<String>,
    },
    /// Connect nodes to the network again
    Heal {
        /// Nodes
        #[arg(required = true)]
        nodes: Vec<String>,
    },
    /// Copy the application's data into a new directory, and try the copy
    Backup {
        /// The directory
        directory: PathBuf,
    },
    /// Write a copy of the application's data back
    Restore {
        /// The directory that `lab backup` wrote
        directory: PathBuf,
        /// Replace what is there
        #[arg(long)]
        overwrite: bool,
    },
    /// Exchange the database's secrets while the lab serves
    Rotate {
        /// What to exchange
        what: Rotated,
    },
    /// Offer the virtual IP on a port of this machine, for a browser
    Forward {
        /// Address to listen on
        #[arg(long, default_value = "127.0.0.1:8080")]
        listen: SocketAddr,
    },
    /// Draw the topology
    Graph {
        /// How to draw
        #[arg(long, value_name = "FORMAT", default_value = "text")]
        format: GraphFormat,
    },
    /// Continue inside the lab's namespaces
    #[command(hide = true)]
    Inside {
        /// The lab's directory
        state: PathBuf,
        /// What to do, as JSON
        request: String,
    },
    /// First process of a lab
    #[command(hide = true)]
    Anchor {
        /// The lab's directory
        state: PathBuf,
    },
    /// Send requests at a fixed rate to the virtual IP, until Ctrl-C, and tell what became of them
    #[command(hide = true)]
    Load {
        /// Requests a second
        #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=2000))]
        rate: u32,
        /// Requests that are sent at least, even after Ctrl-C
        #[arg(long, default_value_t = 0)]
        requests: u32,
    },
    /// Give a node's files to the programs that will read them
    #[command(hide = true)]
    Rehearse {
        /// The node's directory
        node: PathBuf,
    },
    /// First process of a node
    #[command(hide = true)]
    Boot {
        /// The node's directory
        node: PathBuf,
    },
}

/// What to do inside a lab.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Request {
    /// Bring the lab to the plan on standard input, and wait for the first answer.
    Up { wait: bool, spent_ms: u64 },
    /// Show each node's state.
    Status { json: bool },
    /// List processes.
    Ps { nodes: Vec<String> },
    /// Become a command in a node.
    Exec { node: String, argv: Vec<String> },
    /// Shut down, or pull the plug.
    Stop { nodes: Vec<String>, power_off: bool },
    /// Start again.
    Start { nodes: Vec<String> },
    /// Shut down and start again.
    Reboot { nodes: Vec<String> },
    /// Cut off the network, or connect again.
    Connect { nodes: Vec<String>, connected: bool },
    /// Copy the application's data.
    Backup { directory: PathBuf },
    /// Write a copy back.
    Restore { directory: PathBuf, overwrite: bool },
    /// Exchange secrets.
    Rotate { what: Rotation },
    /// Pass connections on to the virtual IP; the listener is standard input.
    Forward,
    /// A first look at the page, through the virtual IP.
    Look,
    /// Try faults under load.
    Faults(super::faults::Order),
    /// Make the lab whole again, whatever was broken.
    UndoFaults,
    /// Bring the lab to the plan on standard input, step by step.
    Apply(apply::Order),
    /// Send requests at a fixed rate until interrupted.
    Load { rate: u32, requests: u32 },
}

/// Exit code of an inner command whose lab is not worth keeping.
const UNUSABLE: i32 = 70;

/// `lab …`.
pub(super) fn run(file: Option<&Path>, args: LabArgs, ui: &mut Ui) -> Outcome {
    let lab = args.lab.as_deref();
    match args.command {
        LabCommand::Up {
            wait,
            databases,
            dry_run,
        } => up(file, lab, [wait, databases, dry_run], ui),
        LabCommand::Apply(args) => apply::run(file, lab, &args, ui),
        LabCommand::Load { rate, requests } => load::run(&place(file, lab)?, rate, requests, ui),
        LabCommand::Down => down(file, lab, ui),
        LabCommand::Ls(args) => ls(args.format, ui),
        LabCommand::Logs {
            nodes,
            follow,
            lines,
        } => logs(&place(file, lab)?, &nodes, follow, lines, ui),
        LabCommand::Graph { format } => {
            let (_, topology) = source::load(file, ui)?;
            ui.data(&graph(&topology, format))
        }
        LabCommand::Forward { listen } => forward(&place(file, lab)?, listen, ui),
        LabCommand::Status(args) => pass(
            file,
            lab,
            &Request::Status {
                json: args.format == Format::Json,
            },
            false,
            ui,
        ),
        LabCommand::Ps { nodes } => pass(file, lab, &Request::Ps { nodes }, false, ui),
        LabCommand::Exec { node, command } => pass(
            file,
            lab,
            &Request::Exec {
                node,
                argv: command,
            },
            false,
            ui,
        ),
        LabCommand::Shell { node } => {
            let argv = vec!["/bin/bash".to_owned(), "--norc".to_owned(), "-i".to_owned()];
            pass(file, lab, &Request::Exec { node, argv }, false, ui)
        }
        LabCommand::Stop { nodes, power_off } => {
            pass(file, lab, &Request::Stop { nodes, power_off }, true, ui)
        }
        LabCommand::Start { nodes } => pass(file, lab, &Request::Start { nodes }, true, ui),
        LabCommand::Reboot { nodes } => pass(file, lab, &Request::Reboot { nodes }, true, ui),
        LabCommand::Cut { nodes } => pass(
            file,
            lab,
            &Request::Connect {
                nodes,
                connected: false,
            },
            true,
            ui,
        ),
        LabCommand::Heal { nodes } => pass(
            file,
            lab,
            &Request::Connect {
                nodes,
                connected: true,
            },
            true,
            ui,
        ),
        LabCommand::Backup { directory } => {
            let directory = std::path::absolute(directory).context("finding the directory")?;
            pass(file, lab, &Request::Backup { directory }, false, ui)
        }
        LabCommand::Restore {
            directory,
            overwrite,
        } => {
            let directory = std::path::absolute(directory).context("finding the directory")?;
            let request = Request::Restore {
                directory,
                overwrite,
            };
            pass(file, lab, &request, true, ui)
        }
        LabCommand::Rotate { what } => {
            let what = what.into();
            pass(file, lab, &Request::Rotate { what }, true, ui)
        }
        LabCommand::Inside { state, request } => inside::run(&state, &request, ui),
        LabCommand::Anchor { state: _ } => Ok(crate::lab::anchor::run(|| Ui::announce("ready"))?),
        LabCommand::Boot { node } => match crate::lab::boot::run(&node)? {},
        LabCommand::Rehearse { node } => Ok(crate::lab::apply::rehearse(&node)?),
    }
}

/// The lab that is meant: the one that was named, the one of this topology file, or the only one there is.
pub(super) fn place(file: Option<&Path>, lab: Option<&str>) -> Result<Place, Failure> {
    if let Some(name) = lab {
        return Ok(Place::of(name)?);
    }
    let all = Place::all()?;
    // The file may be gone or broken: its lab must still be found.
    let path = source::find(file)
        .ok()
        .and_then(|path| std::path::absolute(path).ok());
    let mut candidates = all;
    if let Some(path) = &path {
        let named = source::read(file)
            .ok()
            .and_then(|source| source::checked(&source).topology)
            .map(|topology| topology.name().to_string());
        let is_of_file =
            |place: &&Place| place.about().is_some_and(|about| about.topology == *path);
        let of_file: Vec<Place> = candidates.iter().filter(is_of_file).cloned().collect();
        let has_name = |place: &&Place| Some(&place.name) == named.as_ref();
        if let Some(place) = of_file.iter().find(has_name) {
            return Ok(place.clone());
        }
        if of_file.is_empty()
            && let Some(name) = named
        {
            return Ok(Place::of(&name)?);
        }
        if !of_file.is_empty() {
            candidates = of_file;
        }
    }
    match candidates.as_slice() {
        [only] => Ok(only.clone()),
        [] => Err(anyhow!("there is no lab; `gen-topology lab up` starts one").into()),
        many => {
            let names: Vec<&str> = many.iter().map(|place| place.name.as_str()).collect();
            Err(Failure::Usage(format!(
                "there are several labs: {}; choose one with --lab",
                names.join(", ")
            )))
        }
    }
}

pub(super) fn running(place: &Place) -> anyhow::Result<RunningLab> {
    place.running().with_context(|| {
        format!(
            "the lab {} is not running; `gen-topology lab up` starts it",
            place.name
        )
    })
}

/// Runs a request inside and imitates its exit code.
pub(super) fn pass(
    file: Option<&Path>,
    lab: Option<&str>,
    request: &Request,
    changes: bool,
    ui: &Ui,
) -> Outcome {
    let place = place(file, lab)?;
    let lab = running(&place)?;
    let _lock = if changes { Some(place.lock()?) } else { None };
    let status = inner(&lab, request, ui)?
        .status()
        .context("entering the lab")?;
    imitate(status)
}

pub(super) fn imitate(status: std::process::ExitStatus) -> Outcome {
    match status.code() {
        Some(0) => Ok(()),
        code => Err(Failure::Status(
            code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1),
        )),
    }
}

/// This program, continuing inside the lab.
pub(super) fn inner(lab: &RunningLab, request: &Request, ui: &Ui) -> anyhow::Result<Command> {
    let mut command = enter::command(lab, &lab.place.program());
    with_request(&mut command, lab, request, ui)?;
    Ok(command)
}

/// The arguments that make this program carry a request out in the lab.
pub(super) fn with_request(
    command: &mut Command,
    lab: &RunningLab,
    request: &Request,
    ui: &Ui,
) -> anyhow::Result<()> {
    command
        .args(ui.arguments())
        .args(["lab", "inside"])
        .arg(&lab.place.directory)
        .arg(serde_json::to_string(request)?);
    Ok(())
}

fn up(
    file: Option<&Path>,
    lab: Option<&str>,
    [wait, databases, dry_run]: [bool; 3],
    ui: &mut Ui,
) -> Outcome {
    let begun = Instant::now();
    let interrupted = listen_for_interrupts()?;
    let (source, topology) = source::load(file, ui)?;
    let (place, supplies, mut plan) = planned(&source, &topology, lab, ui)?;
    if databases {
        plan.keep_databases();
    }
    if dry_run {
        return ui.json(&plan);
    }
    let goal = Goal {
        topology: &source.path,
        supplies: &supplies,
        plan: &plan,
    };
    up_to(&place, &goal, wait, begun, &interrupted, ui)
}

/// The lab of a topology: where it is, what it needs from outside and what it consists of.
pub(super) fn planned(
    source: &Source,
    topology: &Topology,
    lab: Option<&str>,
    ui: &mut Ui,
) -> Result<(Place, Supplies, LabPlan), Failure> {
    let name = lab.map_or_else(|| topology.name().to_string(), str::to_owned);
    let place = Place::of(&name)?;
    let rendered = generate::rendered(topology)?;
    let supplies = supplies::gather(topology, &source.base, &place, &mut |line| {
        ui.say(&line);
    })?;
    let plan = LabPlan::of(topology, &rendered, &supplies, &name);
    Ok((place, supplies, plan))
}

/// Brings a lab to a plan. One that could not be started leaves nothing behind.
pub(super) fn up_to(
    place: &Place,
    goal: &Goal,
    wait: bool,
    begun: Instant,
    interrupted: &AtomicBool,
    ui: &mut Ui,
) -> Outcome {
    goal.supplies.suffice(goal.plan)?;
    let _lock = place.lock()?;
    let fresh = place.anchor().is_none();
    let outcome = bring_up(place, goal, wait, begun, interrupted, ui);
    if interrupted.load(Ordering::SeqCst) {
        if fresh {
            remove(place)?;
            return Err(Failure::Interrupted("nothing is left of the lab".into()));
        }
        return Err(Failure::Interrupted(
            "the lab goes on as far as it was; `gen-topology lab up` continues".into(),
        ));
    }
    if let Err(error) = &outcome
        && fresh
        && !matches!(error, Failure::Status(1))
    {
        // What could not even be started is not worth looking at, and its directory would be in the way.
        remove(place)?;
        ui.say("nothing is left of the lab");
        if matches!(error, Failure::Status(_)) {
            return Err(Failure::Status(1));
        }
    }
    outcome
}

/// What a lab is brought to.
pub(super) struct Goal<'g> {
    /// The topology file it is made from.
    pub topology: &'g Path,
    /// What it needs from outside.
    pub supplies: &'g supplies::Supplies,
    /// What it consists of.
    pub plan: &'g LabPlan,
}

fn bring_up(
    place: &Place,
    goal: &Goal<'_>,
    wait: bool,
    begun: Instant,
    interrupted: &AtomicBool,
    ui: &mut Ui,
) -> Outcome {
    place.claim(&std::path::absolute(goal.topology).context("finding the topology file")?)?;
    install_program(place)?;
    goal.supplies.keep_app()?;
    let lab = match place.running() {
        Some(lab) => lab,
        None => enter::start_anchor(place)?,
    };
    let spent_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    let mut command = inner(&lab, &Request::Up { wait, spent_ms }, ui)?;
    let mut child = apart(&mut command)
        .stdin(Stdio::piped())
        .spawn()
        .context("entering the lab")?;
    if let Some(mut pipe) = child.stdin.take() {
        // If the inner command ended early its status says why.
        let _ = pipe.write_all(&serde_json::to_vec(goal.plan)?);
    }
    let status = wait_for(&mut child, interrupted)?;
    if status.success() && !wait {
        ui.say(&format!(
            "next: {} or {}",
            paint(Tone::Strong, "gen-topology lab status"),
            paint(Tone::Strong, "gen-topology lab forward")
        ));
    }
    imitate(status)
}

/// Copies this program to where the lab's nodes run it, unless the same is there.
pub(super) fn install_program(place: &Place) -> anyhow::Result<()> {
    let own = std::env::current_exe().context("finding this program")?;
    let target = place.program();
    let new = fs::read(&own).with_context(|| format!("reading {}", own.display()))?;
    if fs::read(&target).is_ok_and(|old| old == new) {
        return Ok(());
    }
    let directory = target.parent().context("the lab has no directory")?;
    fs::create_dir_all(directory).with_context(|| format!("creating {}", directory.display()))?;
    let temporary = directory.join(".new");
    fs::copy(&own, &temporary)
        .and_then(|_| fs::rename(&temporary, &target))
        .with_context(|| format!("copying this program to {}", target.display()))
}

/// Ends a lab and removes its directory.
fn remove(place: &Place) -> anyhow::Result<()> {
    enter::end(place)?;
    match fs::remove_dir_all(&place.directory) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| format!("removing {}", place.directory.display())),
    }
}

fn down(file: Option<&Path>, lab: Option<&str>, ui: &mut Ui) -> Outcome {
    let begun = Instant::now();
    if lab.is_none() && Place::all()?.is_empty() {
        ui.say("there is no lab; nothing to do");
        return Ok(());
    }
    let place = place(file, lab)?;
    let _lock = place.lock()?;
    if place.anchor().is_none() && !place.directory.exists() {
        ui.say(&format!("there is no lab {}; nothing to do", place.name));
        return Ok(());
    }
    remove(&place)?;
    place.forget_lock();
    ui.say(&format!(
        "{} is down in {:.2} s; nothing is left of it",
        place.name,
        begun.elapsed().as_secs_f64()
    ));
    Ok(())
}

fn ls(format: Format, ui: &mut Ui) -> Outcome {
    let labs: Vec<(Place, Option<state::About>, bool)> = Place::all()?
        .into_iter()
        .map(|place| (place.clone(), place.about(), place.anchor().is_some()))
        .collect();
    if format == Format::Json {
        let list: Vec<_> = labs
            .iter()
            .map(|(place, about, running)| json!({ "name": place.name, "running": running, "directory": place.directory, "topology": about.as_ref().map(|a| &a.topology) }))
            .collect();
        return ui.json(&list);
    }
    if labs.is_empty() {
        ui.say("there is no lab; `gen-topology lab up` starts one");
        return Ok(());
    }
    let rows: Vec<Vec<String>> = labs
        .iter()
        .map(|(place, about, running)| {
            let state = if *running {
                paint(Tone::Good, "running")
            } else {
                paint(Tone::Warning, "ended without `down`")
            };
            vec![
                place.name.clone(),
                state,
                about
                    .as_ref()
                    .map(|a| a.topology.display().to_string())
                    .unwrap_or_default(),
            ]
        })
        .collect();
    ui.data(&table(&["LAB", "STATE", "TOPOLOGY"], &rows))
}

fn forward(place: &Place, listen: SocketAddr, ui: &mut Ui) -> Outcome {
    let lab = running(place)?;
    let listener = TcpListener::bind(listen).map_err(|error| {
        let hint = match error.kind() {
            std::io::ErrorKind::AddrInUse => "; choose another with --listen",
            _ => "",
        };
        anyhow!("listening on {listen}: {error}{hint}")
    })?;
    let address = listener.local_addr().context("listening")?;
    ui.say(&format!(
        "open {} in a browser; Ctrl-C ends this",
        paint(Tone::Strong, &format!("http://{address}/"))
    ));
    // The socket stays in this machine's network; the process that serves it goes into the lab's.
    let interrupted = listen_for_interrupts()?;
    let mut child = inner(&lab, &Request::Forward, ui)?
        .stdin(Stdio::from(OwnedFd::from(listener)))
        .spawn()
        .context("entering the lab")?;
    let status = wait_for(&mut child, &interrupted)?;
    if interrupted.load(Ordering::SeqCst) {
        return Err(Failure::Interrupted("the page is no longer offered".into()));
    }
    imitate(status)
}

/// Exit code for an inner command that could not start the lab.
pub(super) fn unusable() -> Failure {
    Failure::Status(u8::try_from(UNUSABLE).unwrap_or(1))
}
