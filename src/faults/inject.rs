//! Breaking the lab on purpose, and making it whole again, whatever was broken and
//! whoever broke it: [`make_whole`] looks at the lab and not at a list of what was done,
//! so it also works after a run that was killed.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use rustix::process::Signal;

use super::certificates;
use super::fault::{Action, BadCertificate, Fault, Program, Target};
use super::impostor::{self, Impostor, Mischief};
use super::{rules, timing};
use crate::exec;
use crate::health::mongo::Role;

use crate::lab::{Lab, NodePlan, Process};
use crate::topology::Tier;
use crate::wait;

/// Directory of gunicorn's sockets.
const SOCKETS: &str = "/run/gen-topology";
/// Where a database has its files.
const DATABASE: &str = "/var/lib/mongodb";
/// A file system that can be filled.
const SMALL_DISK: &str = "/run/gen-topology-small-disk";
/// Room that the small file system has left before it is filled, in MiB.
const ROOM: u64 = 256;
/// What fills it.
const BALLAST: &str = "/var/lib/mongodb/gen-topology-faults.ballast";
/// How long a database may take to be back after it was stopped.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long a second fault waits for a node that it can hit.
const NO_TARGET: Duration = Duration::from_secs(3);

/// Something that has to go on while a fault lasts.
#[derive(Debug, Default)]
pub struct Broken {
    impostors: Vec<Impostor>,
}

/// The nodes that a fault hits. Where any of several will do, `choice` decides.
///
/// # Errors
/// If the lab has no such node at the moment: nobody has the virtual IP, nobody is primary.
pub fn targets(lab: &Lab, target: Target, choice: u64) -> anyhow::Result<Vec<String>> {
    let names = |tier: Tier| -> Vec<String> {
        lab.plan()
            .tier(tier)
            .map(|node| node.name.clone())
            .collect()
    };
    let one_of = |mut names: Vec<String>| {
        ensure!(!names.is_empty(), "there is no such node");
        let count = u64::try_from(names.len())?;
        Ok(names.swap_remove(usize::try_from(choice % count)?))
    };
    let members = |wanted: Role| {
        let is = |name: &String| {
            lab.planned(name)
                .is_ok_and(|node| lab.role(node) == Some(wanted))
        };
        names(Tier::Database)
            .into_iter()
            .filter(is)
            .collect::<Vec<_>>()
    };
    Ok(match target {
        Target::Owner => vec![owner(lab)?],
        Target::LoadBalancers => names(Tier::LoadBalancer),
        Target::LoadBalancersButOne => all_but_one(names(Tier::LoadBalancer)),
        Target::App => vec![one_of(names(Tier::App))?],
        Target::AppsButOne => all_but_one(names(Tier::App)),
        Target::Primary => vec![one_of(members(Role::Primary)).context("nobody is primary")?],
        Target::Secondary => vec![one_of(members(Role::Secondary)).context("nobody is secondary")?],
        Target::Majority => {
            let mut hit = members(Role::Primary);
            let all = names(Tier::Database);
            let most = all.len() / 2 + 1;
            let others: Vec<String> = all.into_iter().filter(|name| !hit.contains(name)).collect();
            hit.extend(others);
            hit.truncate(most);
            hit
        }
        Target::OwnerAndApp => vec![owner(lab)?, one_of(names(Tier::App))?],
        Target::Everything => lab
            .plan()
            .nodes
            .iter()
            .map(|node| node.name.clone())
            .collect(),
    })
}

fn all_but_one(mut names: Vec<String>) -> Vec<String> {
    names.pop();
    names
}

/// The one load balancer that has the virtual IP.
///
/// # Errors
/// If nobody or more than one has it.
pub fn owner(lab: &Lab) -> anyhow::Result<String> {
    match lab.owners().as_slice() {
        [owner] => Ok((*owner).to_owned()),
        [] => bail!("nobody has the virtual IP"),
        many => bail!("{} all have the virtual IP", many.join(", ")),
    }
}

/// Why this machine can't do an action; none if it can.
pub fn unable(lab: &Lab, action: Action) -> Option<&'static str> {
    let is_unable =
        matches!(action, Action::Delay(_)) && !lab.has_scheduler(&["netem", "delay", "1ms"]);
    is_unable.then_some(
        "delaying packets needs netem (sch_netem), which this machine's kernel does not have",
    )
}

/// What has to be done to the lab before the load begins. Undone by [`make_whole`].
///
/// # Errors
/// If it can't be done.
pub fn prepare(lab: &Lab, action: Action) -> anyhow::Result<()> {
    if action != Action::FillDisk {
        return Ok(());
    }
    // Whoever is primary in the end has a disk that can be filled.
    for node in lab.plan().tier(Tier::Database) {
        move_database(lab, node, true)?;
    }
    Ok(())
}

/// What has to be wrong with `nodes` before the load begins. Undone by [`make_whole`].
///
/// # Errors
/// If it can't be done, or the load balancers don't notice.
pub fn set_up(lab: &Lab, action: Action, nodes: &[String]) -> anyhow::Result<()> {
    let (Action::ReloadBeside(program), [_, app]) = (action, nodes) else {
        return Ok(());
    };
    signal(lab, app, program, Signal::STOP)?;
    let is_down = |balancer: &NodePlan| {
        let servers = lab.servers(&balancer.name).unwrap_or_default();
        let mut of_it = servers.iter().filter(|server| server.name == *app);
        of_it.any(|server| server.status.starts_with("DOWN"))
    };
    let all_know = || lab.plan().tier(Tier::LoadBalancer).all(is_down);
    ensure!(
        wait::until(PATIENCE, all_know),
        "nobody notices that {app} hangs"
    );
    Ok(())
}

/// Breaks something more, and tells which nodes it hits; none if for three seconds there is nothing
/// whole that it could hit.
///
/// # Errors
/// If it can't be done.
pub fn apply_beside(
    lab: &Lab,
    fault: &Fault,
    choice: u64,
    broken: &[String],
) -> anyhow::Result<Option<(Broken, Vec<String>)>> {
    let begun = std::time::Instant::now();
    let mut choice = choice;
    while begun.elapsed() < NO_TARGET {
        let found = targets(lab, fault.target, choice).unwrap_or_default();
        if !found.is_empty() && found.iter().all(|node| !broken.contains(node)) {
            set_up(lab, fault.action, &found)?;
            return Ok(Some((apply(lab, fault.action, &found)?, found)));
        }
        choice = choice.wrapping_add(1);
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(None)
}

/// Breaks `nodes`.
///
/// # Errors
/// If it can't be done; call [`make_whole`] then, too.
pub fn apply(lab: &Lab, action: Action, nodes: &[String]) -> anyhow::Result<Broken> {
    let mut broken = Broken::default();
    match action {
        Action::PowerOff => {
            // All cables first: nobody says goodbye.
            for node in nodes {
                lab.connect(node, false)?;
            }
            each(nodes, |node| lab.power_off(node))?;
        }
        Action::ShutDown => each(nodes, |node| lab.stop(node))?,
        Action::CutLink => each(nodes, |node| lab.connect(node, false))?,
        Action::Kill(program) => each(nodes, |node| signal(lab, node, program, Signal::KILL))?,
        Action::Ruin => each(nodes, |node| ruin(lab, node))?,
        Action::Pause(program) => each(nodes, |node| signal(lab, node, program, Signal::STOP))?,
        Action::Stop(program) => each(nodes, |node| {
            lab.supervise(node, &["stop", program]).map(drop)
        })?,
        Action::StopApp => each(nodes, |node| stop_app(lab, node))?,
        Action::Reload => each(nodes, |node| reload(lab, node))?,
        Action::ReloadBeside(_) => {
            each(nodes.get(..1).unwrap_or_default(), |node| reload(lab, node))?;
        }
        Action::Separate => each(nodes, |node| rules::separate(lab, node, nodes))?,
        Action::Lose(percent) => each(nodes, |node| rules::lose(lab, node, percent))?,
        Action::Throttle(kbit) => {
            let rate = format!("{kbit}kbit");
            let words = ["tbf", "rate", &rate, "burst", "10kb", "latency", "500ms"];
            each(nodes, |node| lab.shape_cable(node, &words))?;
        }
        Action::Delay(ms) => {
            let time = format!("{ms}ms");
            each(nodes, |node| {
                lab.shape_cable(node, &["netem", "delay", &time])
            })?;
        }
        Action::Fail => broken.impostors = impostors(lab, nodes, Mischief::Fail)?,
        Action::Dawdle(ms) => {
            let time = Duration::from_millis(u64::from(ms));
            broken.impostors = impostors(lab, nodes, Mischief::Dawdle(time))?;
        }
        Action::FillDisk => each(nodes, |node| fill(lab, node))?,
        Action::Misconfigure => each(nodes, |node| misconfigure(lab, node))?,
        Action::Certificate(bad) => each(nodes, |node| {
            certificates::spoil(lab, node, bad)?;
            // haproxy itself would take one that has expired.
            match bad {
                BadCertificate::WrongKey => reload(lab, node),
                BadCertificate::Expired => Ok(()),
            }
        })?,
        Action::NoAuthority => each(nodes, |node| {
            rules::close(lab, node, certificates::port_of_authority(lab)?)?;
            certificates::ask_in_vain(lab, node)
        })?,
    }
    Ok(broken)
}

/// Stops all instances together.
fn stop_app(lab: &Lab, node: &str) -> anyhow::Result<()> {
    // Not by asking supervisorctl, which takes its time: the fault has begun.
    let planned = lab.planned(node)?;
    let file = planned.etc.get("supervisor/supervisord.conf");
    let instances: Vec<&str> = file
        .into_iter()
        .flat_map(|it| timing::instances(it))
        .collect();
    ensure!(!instances.is_empty(), "{node} runs no gunicorn");
    lab.stop_together(node, &instances)
}

/// Undoes every fault there is: what stands still goes on, what was cut is joined, files are as
/// planned, what was stopped runs. Nodes that are well are not touched.
///
/// # Errors
/// If a node can't be mended; the others are, all the same.
pub fn make_whole(lab: &Lab) -> anyhow::Result<()> {
    let mut worst = Ok(());
    for node in &lab.plan().nodes {
        if lab.pid(&node.name).is_some()
            && let Err(error) = mend(lab, node)
        {
            worst = Err(error.context(format!("mending {}", node.name)));
        }
    }
    lab.start_all(&|| false)?;
    worst
}

fn mend(lab: &Lab, node: &NodePlan) -> anyhow::Result<()> {
    let name = node.name.as_str();
    for process in lab
        .processes(name)?
        .iter()
        .filter(|process| process.is_stopped())
    {
        lab.signal(process, Signal::CONT)?;
    }
    lab.unshape_cable(name)?;
    lab.connect(name, true)?;
    if node.tier != Tier::Database {
        // `nft destroy` would do it in one step, but is younger than Debian 12's.
        let tables = lab.run_in(name, &["nft", "list", "tables"])?;
        if tables.contains(rules::TABLE) {
            lab.run_in(name, &["nft", "delete", "table", "inet", rules::TABLE])?;
        }
    }
    if lab.repair_certificates(name)? {
        reload(lab, name)?;
    }
    impostor::give_back(&lab.path_in(name, SOCKETS)?)?;
    if node.tier == Tier::Database {
        let _ = std::fs::remove_file(lab.path_in(name, BALLAST)?);
    }
    // A daemon that has ended can't be told to read its file.
    if lab.repair(name).is_err() {
        lab.supervise(name, &["restart", "all"])?;
    }
    start_what_is_stopped(lab, name)
}

/// Puts databases back on the file system that they came from. Not part of [`make_whole`]'s
/// haste: it stops them one after another.
///
/// # Errors
/// If one does not come back.
pub fn clean_up(lab: &Lab) -> anyhow::Result<()> {
    for node in lab.plan().tier(Tier::Database) {
        if lab.path_in(&node.name, SMALL_DISK)?.exists() {
            move_database(lab, node, false)?;
        }
    }
    Ok(())
}

fn start_what_is_stopped(lab: &Lab, name: &str) -> anyhow::Result<()> {
    // supervisorctl ends with 3 when a program does not run, which is what is asked.
    let mut command = lab.supervisor(name, &["status"])?;
    let said = exec::output(&mut command, None)?;
    let stopped = String::from_utf8_lossy(&said.stdout)
        .lines()
        .any(|line| line.contains(" STOPPED") || line.contains(" FATAL"));
    if stopped {
        lab.supervise(name, &["start", "all"])?;
    }
    Ok(())
}

fn each(nodes: &[String], act: impl Fn(&str) -> anyhow::Result<()>) -> anyhow::Result<()> {
    nodes.iter().try_for_each(|node| act(node))
}

fn signal(lab: &Lab, node: &str, program: Program, with: Signal) -> anyhow::Result<()> {
    let processes = lab.processes(node)?;
    let hit = processes_of(&processes, program);
    ensure!(!hit.is_empty(), "{node} runs no such program: {program:?}");
    hit.into_iter()
        .try_for_each(|process| lab.signal(process, with))
}

/// The processes of a program, children before what started them: a parent that sees its child
/// die first would have time to start another.
fn processes_of(processes: &[Process], program: Program) -> Vec<&Process> {
    let name = match program {
        Program::Haproxy | Program::HaproxyUnit => "haproxy",
        Program::Keepalived => "keepalived",
        Program::Nginx => "nginx",
        Program::Mongod => "mongod",
        Program::Gunicorn | Program::Worker => "gunicorn",
    };
    let is_supervisor = |process: &&Process| process.command.contains("node run haproxy");
    let is = |process: &&Process| match program {
        Program::Gunicorn | Program::Worker => process.command.contains("gunicorn"),
        _ => process.name == name,
    };
    let mut all: Vec<&Process> = processes.iter().filter(is).collect();
    if program == Program::HaproxyUnit {
        // First, so that it has no time to tell of haproxy's end.
        all.splice(..0, processes.iter().filter(is_supervisor));
    }
    if program == Program::Worker {
        let is_child = |process: &&&Process| all.iter().any(|other| other.pid == process.parent);
        return all.iter().filter(is_child).take(1).copied().collect();
    }
    all
}

fn impostors(lab: &Lab, nodes: &[String], mischief: Mischief) -> anyhow::Result<Vec<Impostor>> {
    let start = |node: &String| {
        Impostor::start(
            &lab.path_in(node, SOCKETS)?,
            &lab.plan().health_path,
            mischief,
        )
    };
    nodes.iter().map(start).collect()
}

/// Moves a database's files to a file system of their own that is nearly full, or back.
fn move_database(lab: &Lab, node: &NodePlan, small: bool) -> anyhow::Result<()> {
    let name = node.name.as_str();
    lab.supervise(name, &["stop", "mongod"])?;
    let script = if small {
        format!(
            "set -e; used=$(du -sm {DATABASE} | cut -f1); mkdir {SMALL_DISK}
             mount -t tmpfs -o size=$((used + {ROOM}))m gen-topology-faults {SMALL_DISK}
             cp -a {DATABASE}/. {SMALL_DISK}/; mount --bind {SMALL_DISK} {DATABASE}"
        )
    } else {
        format!(
            "set -e; umount {DATABASE}; find {DATABASE} -mindepth 1 -delete
             cp -a {SMALL_DISK}/. {DATABASE}/; umount {SMALL_DISK}; rmdir {SMALL_DISK}"
        )
    };
    lab.run_in(name, &["sh", "-c", &script])?;
    lab.supervise(name, &["start", "mongod"])?;
    let is_back = || lab.is_ready(node);
    ensure!(wait::until(PATIENCE, is_back), "{name} does not come back");
    Ok(())
}

fn fill(lab: &Lab, node: &str) -> anyhow::Result<()> {
    // Ends with an error when the disk is full, which is what is wanted.
    let script = format!("head -c 1T /dev/zero > {BALLAST} 2> /dev/null; test -s {BALLAST}");
    lab.run_in(node, &["sh", "-c", &script]).map(drop)
}

/// What no daemon can read.
const RUBBISH: &str = "this { is not what a daemon can read\n";

fn reload(lab: &Lab, node: &str) -> anyhow::Result<()> {
    lab.supervise(node, &["signal", "USR2", "haproxy"])
        .map(drop)
}

fn ruin(lab: &Lab, node: &str) -> anyhow::Result<()> {
    let file = lab.path_in(node, "/etc/haproxy/haproxy.cfg")?;
    std::fs::write(&file, RUBBISH).with_context(|| format!("damaging haproxy's file on {node}"))?;
    signal(lab, node, Program::Haproxy, Signal::KILL)
}

fn misconfigure(lab: &Lab, node: &str) -> anyhow::Result<()> {
    let files: &[&str] = match lab.planned(node)?.tier {
        Tier::LoadBalancer => &["haproxy/haproxy.cfg", "keepalived/keepalived.conf"],
        Tier::App => &["nginx/app.conf"],
        Tier::Database => &[],
    };
    files
        .iter()
        .try_for_each(|file| lab.overwrite(node, file, RUBBISH))
}
