//! `lab …`: the commands from outside. What has to happen in the lab's namespaces
//! is handed to [`super::inside`] as a [`Request`].

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use serde::{Deserialize, Serialize};
use serde_json::json;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::args::{Format, GraphFormat, LabArgs, LabCommand};
use super::ui::{Tone, Ui, paint, table};
use super::{Failure, Outcome, apply, generate, inside, load, source};
use crate::lab::supplies::{self, Supplies};
use crate::lab::{LabPlan, Place, RunningLab, enter, state};
use crate::secrets::Rotation;
use crate::topology::{Source, Tier, Topology};

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

/// Log files of a node: what its daemons wrote, and what it said while booting.
fn log_files(place: &Place, node: &str) -> Vec<PathBuf> {
    fn walk(directory: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let path = entry.path();
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => walk(&path, found),
                Ok(kind) if kind.is_file() => found.push(path),
                _ => {}
            }
        }
    }
    let directory = place.node(node);
    let mut found = vec![directory.join("console.log")];
    walk(&directory.join("log"), &mut found);
    found.sort();
    found
}

fn logs(place: &Place, nodes: &[String], follow: bool, lines: usize, ui: &mut Ui) -> Outcome {
    let known: Vec<String> = {
        let entries = fs::read_dir(place.directory.join("nodes"))
            .with_context(|| format!("there is no lab {}", place.name))?;
        let mut names: Vec<String> = entries
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        names.sort();
        names
    };
    let unknown: Vec<&str> = nodes
        .iter()
        .map(String::as_str)
        .filter(|node| !known.iter().any(|name| name == node))
        .collect();
    if !unknown.is_empty() {
        return Err(anyhow!(
            "there is no node {}; there are {}",
            unknown.join(", "),
            known.join(", ")
        )
        .into());
    }
    let chosen = if nodes.is_empty() { &known } else { nodes };
    let mut offsets: BTreeMap<PathBuf, u64> = BTreeMap::new();
    for node in chosen {
        for file in log_files(place, node) {
            let bytes = fs::read(&file).unwrap_or_default();
            offsets.insert(file.clone(), bytes.len() as u64);
            let text = String::from_utf8_lossy(&bytes);
            let all: Vec<&str> = text.lines().collect();
            print_log(
                ui,
                place,
                node,
                &file,
                &all[all.len().saturating_sub(lines)..],
            )?;
        }
    }
    while follow && place.anchor().is_some() {
        std::thread::sleep(Duration::from_millis(200));
        for node in chosen {
            for file in log_files(place, node) {
                let offset = offsets.entry(file.clone()).or_default();
                let text = read_from(&file, offset);
                print_log(ui, place, node, &file, &text.lines().collect::<Vec<_>>())?;
            }
        }
    }
    Ok(())
}

/// Whole lines that were added since `offset`, which moves on. A file that became shorter was rotated.
fn read_from(file: &Path, offset: &mut u64) -> String {
    let mut added = Vec::new();
    if let Ok(mut open) = fs::File::open(file) {
        let length = open.metadata().map_or(0, |data| data.len());
        if length < *offset {
            *offset = 0;
        }
        if length > *offset && open.seek(SeekFrom::Start(*offset)).is_ok() {
            let _ = open.read_to_end(&mut added);
        }
    }
    let whole = added
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |at| at + 1);
    *offset += whole as u64;
    String::from_utf8_lossy(&added[..whole]).into_owned()
}

fn print_log(ui: &mut Ui, place: &Place, node: &str, file: &Path, lines: &[&str]) -> Outcome {
    if lines.is_empty() {
        return Ok(());
    }
    let short = file.strip_prefix(place.node(node)).unwrap_or(file);
    let short = short
        .strip_prefix("log")
        .unwrap_or(short)
        .display()
        .to_string();
    let text: Vec<String> = lines
        .iter()
        .map(|line| format!("{} {line}", paint(Tone::Quiet, &format!("{node} {short}"))))
        .collect();
    ui.data(&text.join("\n"))
}

/// The topology as a picture: who sends requests to whom.
fn graph(topology: &Topology, format: GraphFormat) -> String {
    let names = |tier: Tier| {
        topology
            .tier(tier)
            .map(|node| node.name.to_string())
            .collect::<Vec<_>>()
    };
    let [balancers, apps, databases] = Tier::ALL.map(names);
    let vip = format!(
        "{}:{}",
        topology.network().virtual_ip,
        topology.load_balancer().port
    );
    if format == GraphFormat::Text {
        let tiers = [
            ("haproxy, keepalived", &balancers),
            ("nginx, gunicorn", &apps),
            ("mongod", &databases),
        ];
        let mut text =
            format!("visitors\n   │\n   ▼\n{vip}  virtual IP, on one load balancer at a time\n");
        for (daemons, nodes) in tiers {
            text.push_str(&format!(
                "   │\n   ▼\n{}  {}\n",
                nodes.join("  "),
                paint(Tone::Quiet, daemons)
            ));
        }
        return text;
    }
    let mut edges: Vec<(String, String)> = balancers
        .iter()
        .map(|to| ("vip".to_owned(), to.clone()))
        .collect();
    for (from, to) in [(&balancers, &apps), (&apps, &databases)] {
        edges.extend(
            from.iter()
                .flat_map(|from| to.iter().map(move |to| (from.clone(), to.clone()))),
        );
    }
    // Ids of both languages must not hold hyphens; labels may hold anything a name can.
    let id = |name: &str| name.replace('-', "_");
    let nodes: Vec<&String> = balancers.iter().chain(&apps).chain(&databases).collect();
    if format == GraphFormat::Mermaid {
        let mut text = format!("flowchart TD\n  vip([\"{vip}\"])\n");
        nodes
            .iter()
            .for_each(|name| text.push_str(&format!("  {}[\"{name}\"]\n", id(name))));
        edges
            .iter()
            .for_each(|(from, to)| text.push_str(&format!("  {} --> {}\n", id(from), id(to))));
        return text;
    }
    let mut text = format!(
        "digraph {} {{\n  vip [label=\"{vip}\", shape=oval];\n  node [shape=box];\n",
        id(topology.name().as_str())
    );
    nodes
        .iter()
        .for_each(|name| text.push_str(&format!("  n_{} [label=\"{name}\"];\n", id(name))));
    for (from, to) in &edges {
        let from = if from == "vip" {
            "vip".to_owned()
        } else {
            format!("n_{}", id(from))
        };
        text.push_str(&format!("  {from} -> n_{};\n", id(to)));
    }
    text.push_str("}\n");
    text
}

/// Exit code for an inner command that could not start the lab.
pub(super) fn unusable() -> Failure {
    Failure::Status(u8::try_from(UNUSABLE).unwrap_or(1))
}
