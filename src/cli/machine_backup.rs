//! `backup` and `restore`: the application's data from the machines, and back to them.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use anyhow::{Context as _, anyhow, bail};
use clap::Args as ClapArgs;

use super::args::{FileArg, WayArgs};
use super::interrupts::listen_for_interrupts;
use super::machines::way;
use super::node::copied;
use super::source;
use super::ui::Ui;
use crate::backup;
use crate::config::PROGRAM;
use crate::exec;
use crate::failure::{Failure, Outcome};
use crate::health::mongo::Role;
use crate::machines::closures::Closures;
use crate::machines::{self, MachineSite, Ssh};
use crate::sink::Sink as _;
use crate::site::{self, NodeId};
use crate::topology::Tier;

#[derive(Debug, ClapArgs)]
pub(super) struct BackupArgs {
    /// The directory
    pub directory: PathBuf,
    #[command(flatten)]
    pub file: FileArg,
    /// Try the copy with this mongod [default: the one on PATH, if there is one]
    #[arg(long, value_name = "PROGRAM")]
    pub mongod: Option<PathBuf>,
    #[command(flatten)]
    pub way: WayArgs,
}

#[derive(Debug, ClapArgs)]
pub(super) struct RestoreArgs {
    /// The directory that `backup` wrote
    pub directory: PathBuf,
    #[command(flatten)]
    pub file: FileArg,
    /// Replace what is there
    #[arg(long)]
    pub overwrite: bool,
    #[command(flatten)]
    pub way: WayArgs,
}

/// `backup DIRECTORY`.
pub(super) fn back_up(file: Option<&Path>, args: &BackupArgs, ui: &mut Ui) -> Outcome {
    let (ssh, database) = databases(file, &args.way, ui)?;
    let node = database
        .that_is(Role::Secondary)
        .or_else(|_| database.that_is(Role::Primary))?;
    ui.say(&format!("copying from {node}"));
    let mongod = args.mongod.clone().or_else(|| exec::find("mongod"));
    let interrupted = listen_for_interrupts()?;
    let argv = [PROGRAM, "node", "backup", "copy"];
    let directory = &args.directory;
    let taken = backup::receive(directory, mongod.as_deref(), || {
        let stop = || interrupted.load(Ordering::SeqCst);
        machines::copy::fetch(&ssh, node, &argv, directory, &stop)
    });
    if interrupted.load(Ordering::SeqCst) && taken.is_err() {
        return Err(Failure::Interrupted("nothing was kept".into()));
    }
    let tried = if mongod.is_some() {
        "put back into a scratch mongod and counted"
    } else {
        "every file is as it was written; not tried, because there is no mongod on PATH here"
    };
    ui.data(&format!(
        "{}; from {node}; {tried}",
        copied(&taken?, directory)
    ))
}

/// `restore DIRECTORY`.
pub(super) fn put_back(file: Option<&Path>, args: &RestoreArgs, ui: &mut Ui) -> Outcome {
    // Before any machine is asked.
    let manifest = backup::check(&args.directory)?;
    let (ssh, database) = databases(file, &args.way, ui)?;
    let node = database.that_is(Role::Primary)?;
    ui.say(&format!("bringing it to {node}"));
    let interrupted = listen_for_interrupts()?;
    let mut argv = vec![PROGRAM, "node", "restore", "copy"];
    if args.overwrite {
        argv.push("--overwrite");
    }
    let stop = || interrupted.load(Ordering::SeqCst);
    let done = machines::copy::send(&ssh, node, &argv, &args.directory, &stop);
    if done.is_err() && stop() {
        return Err(Failure::Interrupted(format!(
            "{node} brings to its end what it has begun"
        )));
    }
    done?;
    ui.data(&format!("put back {} documents", manifest.documents()))
}

/// The databases, by their own account.
struct Databases(Vec<(String, anyhow::Result<Role>)>);

impl Databases {
    /// The first that has this part.
    fn that_is(&self, wanted: Role) -> anyhow::Result<&str> {
        let found = self.0.iter().find(|(_, role)| {
            let role = role.as_ref();
            role.is_ok_and(|role| *role == wanted)
        });
        if let Some((name, _)) = found {
            return Ok(name);
        }
        let why = self.0.iter().map(|(name, role)| match role {
            Ok(role) => format!("{name} is {}", role.words()),
            Err(error) => format!("{error:#}"),
        });
        bail!(
            "no database is {}: {}",
            wanted.words(),
            why.collect::<Vec<_>>().join("; ")
        )
    }
}

fn databases(
    file: Option<&Path>,
    args: &WayArgs,
    ui: &mut Ui,
) -> Result<(Ssh, Databases), Failure> {
    let (_, topology) = source::load(file, ui)?;
    if topology.database().is_none() {
        return Err(anyhow!("{}", backup::NO_DATABASE).into());
    }
    if topology.sharding().is_some() {
        return Err(anyhow!("{}", backup::SHARDED).into());
    }
    let ssh = way(&topology, args)?;
    let nodes: Vec<NodeId> = topology.tier(Tier::Database).map(NodeId::from).collect();
    let running = Closures::new();
    let parts = site::parts(&MachineSite::new(&ssh, &running, nodes.clone()), &nodes);
    let roles = nodes.into_iter().zip(parts).map(|(node, part)| {
        let member = part.and_then(|part| {
            let silent = || format!("mongod on {} does not answer", node.name);
            part.database.with_context(silent)
        });
        (node.name, member.map(|member| member.role))
    });
    let roles = roles.collect();
    Ok((ssh, Databases(roles)))
}
