//! `node …`: what a node's own services call.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args as ClapArgs, Subcommand, ValueEnum};

use super::ui::Ui;
use crate::backup::Manifest;
use crate::config::HAPROXY_SOCKET;
use crate::failure::{Failure, Outcome};
use crate::health::{haproxy, http};
use crate::node::{self, database, switch};
use crate::secrets::Secrets;
use crate::topology::Millis;
use database::Verdict;

#[derive(Debug, ClapArgs)]
#[command(disable_help_subcommand = true)]
pub(super) struct NodeArgs {
    /// The node's facts
    #[arg(long, global = true, default_value = "/etc/gen-topology/node.json")]
    pub facts: PathBuf,
    #[command(subcommand)]
    pub command: NodeCommand,
}

/// Where a node's secrets are.
#[derive(Debug, ClapArgs)]
pub(super) struct SecretsArg {
    /// Directory of the node's secrets
    #[arg(long, value_name = "DIR", default_value = crate::secrets::DIRECTORY)]
    pub secrets: PathBuf,
}

#[derive(Debug, Subcommand)]
pub(super) enum NodeCommand {
    #[command(flatten)]
    OfMachine(MachineCommand),
    #[command(flatten)]
    OfNode(OwnCommand),
}

/// What any machine can do, also one that is no node yet.
#[derive(Debug, Subcommand)]
pub(super) enum MachineCommand {
    /// Switch this machine to another system; without `node confirm` in time it goes back by itself
    Switch {
        /// The system, in the Nix store
        system: PathBuf,
        /// How long to wait for `node confirm`
        #[arg(long, value_name = "TIME", default_value = "60s")]
        confirm_within: Millis,
        /// Services that end before the switch, and start behind it
        #[arg(long, value_name = "UNIT")]
        stop: Vec<String>,
        /// What the last switch called "before" still is
        #[arg(long)]
        resume: bool,
    },
    /// The part of a switch that goes on without whoever asked for it
    SwitchWork,
    /// Wait until no switch is under way
    SwitchOver,
    /// Make the system that this machine was switched to count
    Confirm {
        /// The system
        system: PathBuf,
    },
    /// Forget the system of before the last switch
    Settle,
    /// Load this node's firewall; whoever had a door before keeps it for a while
    LoadFirewall {
        /// The rules
        #[arg(default_value = "/etc/gen-topology/firewall.nft")]
        file: PathBuf,
    },
    /// Open this node's doors for nodes that are about to join: JSON on standard input, `{"apps": ["ADDRESS"]}`
    OpenFirewall,
    /// Send a command to the runtime socket of this node's haproxy
    Haproxy {
        /// The command
        command: String,
    },
    /// Ask over HTTP from this node's place, and print the answer as JSON
    Get {
        /// Address
        address: std::net::Ipv4Addr,
        /// Port
        port: u16,
        /// Path
        path: String,
        /// Over TLS
        #[arg(long)]
        tls: bool,
    },
}

/// What needs the node's facts.
#[derive(Debug, Subcommand)]
pub(super) enum OwnCommand {
    /// Run a daemon of a load balancer, and keep the virtual IP where it is served
    Run {
        /// Which
        daemon: LoadBalancerDaemon,
        /// The daemon's command line
        #[arg(required = true, last = true)]
        command: Vec<String>,
    },
    /// Ask a daemon whether it is well
    Check {
        /// Which
        daemon: Asked,
    },
    /// Wait to be told to end; then drain the app node before ending
    DrainOnStop,
    /// Copy the application's data from this database into a new directory
    Backup {
        /// The directory
        directory: PathBuf,
        /// Try the copy with this mongod
        #[arg(long, value_name = "PROGRAM")]
        mongod: Option<PathBuf>,
        #[command(flatten)]
        secrets: SecretsArg,
    },
    /// Write a copy of the application's data back, through the primary
    Restore {
        /// The directory that `node backup` wrote
        directory: PathBuf,
        /// Replace what is there
        #[arg(long)]
        overwrite: bool,
        #[command(flatten)]
        secrets: SecretsArg,
    },
    /// Watch the databases: notice within tenths of a second who is gone, and act
    WatchDatabase {
        #[command(flatten)]
        secrets: SecretsArg,
    },
    /// Load changed certificates into the running haproxy, after they were judged; connections go on
    LoadCertificates {
        /// Directory that they come from [default: where haproxy reads them]
        #[arg(long, value_name = "DIR")]
        from: Option<PathBuf>,
        /// Only put them where haproxy reads them when it starts
        #[arg(long)]
        only_files: bool,
    },
    /// Keep a certificate by ACME: ask for one, and for another before it expires
    RenewCertificates {
        /// Look once and end
        #[arg(long)]
        once: bool,
        /// Ask even if it is not time yet
        #[arg(long, requires = "once")]
        anyway: bool,
    },
    /// Tell what this node runs, as JSON
    Report,
    /// Tell how this database does in its replica set, as JSON
    Vitals {
        #[command(flatten)]
        secrets: SecretsArg,
    },
    /// Hand the primary's part over to another member
    StepDown {
        #[command(flatten)]
        secrets: SecretsArg,
    },
    /// Bring the replica set to what the topology says
    ReconcileDatabase {
        /// How long to wait for members and majorities, in seconds
        #[arg(long, default_value_t = 60)]
        patience: u64,
        #[command(flatten)]
        secrets: SecretsArg,
        /// When the majority is gone for good: go on with the members that answer; every write that
        /// only the others have is lost, even if it was acknowledged
        #[arg(long = "force-and-lose-what-only-the-others-have")]
        force: bool,
        /// When the administration password is lost: make that user anew, with the members' key
        #[arg(long)]
        reset_administration: bool,
    },
    /// Move the data of a shard that the topology does not have any more to the others, and take
    /// it out of the cluster; on a config server
    RemoveShard {
        /// Name of the shard
        shard: String,
        /// The shard that gets what is not spread; meanwhile that can't be written
        #[arg(long, value_name = "SHARD")]
        databases_to: Option<String>,
        /// How long to wait for the data, in seconds
        #[arg(long, default_value_t = 3600)]
        patience: u64,
        #[command(flatten)]
        secrets: SecretsArg,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum LoadBalancerDaemon {
    Haproxy,
    Keepalived,
}

/// What `node check` asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Asked {
    /// haproxy: does it answer?
    Haproxy,
    /// Keepalived: is the virtual IP here?
    Keepalived,
    /// The application, through nginx: can it serve?
    App,
    /// mongod: is it primary or secondary?
    Database,
}

/// `EX_TEMPFAIL` of sysexits.h: time or another node will help.
const NOT_YET: u8 = 75;
/// `EX_CONFIG` of sysexits.h: nothing will change before somebody has decided something.
const NEEDS_PERSON: u8 = 78;

/// How long one question over HTTP may take.
const QUESTION: Duration = Duration::from_secs(3);

/// What a backup holds, for people.
pub(super) fn copied(manifest: &Manifest, directory: &Path) -> String {
    let count = manifest.collections.len();
    format!(
        "{}: {} documents of {count} {}",
        directory.display(),
        manifest.documents(),
        if count == 1 {
            "collection"
        } else {
            "collections"
        },
    )
}

/// `node …`.
pub(super) fn run(args: NodeArgs, ui: &mut Ui) -> Outcome {
    match args.command {
        NodeCommand::OfMachine(command) => of_machine(command, ui),
        NodeCommand::OfNode(command) => of_node(&args.facts, command, ui),
    }
}

fn ended(code: u8) -> Outcome {
    match code {
        0 => Ok(()),
        code => Err(Failure::Status(code)),
    }
}

fn lines(done: &[String], ui: &mut Ui) -> Outcome {
    done.iter()
        .try_for_each(|line| ui.data(&format!("{line}\n")))
}

fn of_node(facts_file: &Path, command: OwnCommand, ui: &mut Ui) -> Outcome {
    let facts = node::facts(facts_file)?;
    // These run under a supervisor: what they say goes to its log, one line at a time.
    let say = |line: &str| Ui::log(line);
    match command {
        OwnCommand::Run { daemon, command } => {
            use node::load_balancer::{run_haproxy, run_keepalived};
            ended(match daemon {
                LoadBalancerDaemon::Haproxy => run_haproxy(&facts, &command, &say)?,
                LoadBalancerDaemon::Keepalived => {
                    run_keepalived(facts_file, &facts, &command, &say)?
                }
            })
        }
        OwnCommand::Check { daemon } => match daemon {
            Asked::Haproxy => Ok(node::load_balancer::check_haproxy(&facts)?),
            Asked::Keepalived => has_virtual_ip(facts.virtual_ip, ui),
            Asked::App => Ok(node::app::check(&facts)?),
            Asked::Database => Ok(database::check(&facts)?),
        },
        OwnCommand::LoadCertificates { from, only_files } => lines(
            &node::certificates::load(&facts, from.as_deref(), only_files)?,
            ui,
        ),
        OwnCommand::RenewCertificates { once: false, .. } => {
            Ok(node::acme::keep(facts_file, &say)?)
        }
        OwnCommand::RenewCertificates { anyway, .. } => {
            lines(&[node::acme::once(&facts, anyway)?], ui)
        }
        OwnCommand::WatchDatabase { secrets } => Ok(node::watch::watch(
            facts_file,
            &facts,
            Secrets::at(secrets.secrets),
            &say,
        )?),
        OwnCommand::Report => ui.json(&node::report::report(facts_file)?),
        OwnCommand::Vitals { secrets } => {
            let secrets = Secrets::at(secrets.secrets);
            ui.json(&node::report::vitals(&facts, &secrets)?)
        }
        OwnCommand::StepDown { secrets } => Ok(node::step_down::step_down(
            &facts,
            &Secrets::at(secrets.secrets),
            &say,
        )?),
        OwnCommand::DrainOnStop => Ok(node::app::drain_on_stop(&say)?),
        OwnCommand::Backup {
            directory,
            mongod,
            secrets,
        } => {
            let secrets = Secrets::at(secrets.secrets);
            let manifest = node::backup::take(&facts, &secrets, &directory, mongod.as_deref())?;
            say(&copied(&manifest, &directory));
            Ok(())
        }
        OwnCommand::Restore {
            directory,
            overwrite,
            secrets,
        } => {
            let secrets = Secrets::at(secrets.secrets);
            let manifest = node::backup::put_back(&facts, &secrets, &directory, overwrite)?;
            say(&format!("put back {} documents", manifest.documents()));
            Ok(())
        }
        OwnCommand::ReconcileDatabase {
            patience,
            secrets,
            force,
            reset_administration,
        } => {
            let options = database::Options {
                patience: Duration::from_secs(patience),
                secrets: Secrets::at(secrets.secrets),
                force,
                reset_administration,
                stop_after: None,
            };
            conclude(&database::reconcile(&facts, &options, &say)?)
        }
        OwnCommand::RemoveShard {
            shard,
            databases_to,
            patience,
            secrets,
        } => {
            let options = database::Options {
                patience: Duration::from_secs(patience),
                secrets: Secrets::at(secrets.secrets),
                force: false,
                reset_administration: false,
                stop_after: None,
            };
            let to = databases_to.as_deref();
            conclude(&database::remove_shard(&facts, &options, &shard, to, &say)?)
        }
    }
}

fn has_virtual_ip(address: std::net::Ipv4Addr, ui: &mut Ui) -> Outcome {
    if crate::health::vrrp::is_local(address) {
        return ui.data("this node has the virtual IP");
    }
    Err(Failure::Failed(anyhow::anyhow!(
        "this node does not have the virtual IP"
    )))
}

/// What a machine can do that has no facts yet.
fn of_machine(command: MachineCommand, ui: &mut Ui) -> Outcome {
    match command {
        MachineCommand::Switch {
            system,
            confirm_within,
            stop,
            resume,
        } => switch::begin(&switch::Request {
            system,
            confirm_within: Duration::from_millis(confirm_within.get()),
            stop,
            resume,
        })
        .map_err(Failure::Failed)
        .and_then(|system| ui.data(&system.display().to_string())),
        MachineCommand::SwitchWork => switch::work().map_err(Failure::Failed),
        MachineCommand::SwitchOver => switch::over().map_err(Failure::Failed),
        MachineCommand::Confirm { system } => switch::confirm(&system).map_err(Failure::Failed),
        MachineCommand::Settle => switch::settle().map_err(Failure::Failed),
        MachineCommand::LoadFirewall { file } => {
            node::firewall::load(&file).map_err(Failure::Failed)
        }
        MachineCommand::OpenFirewall => {
            let newcomers = serde_json::from_reader(std::io::stdin())?;
            node::firewall::open(&newcomers).map_err(Failure::Failed)
        }
        MachineCommand::Haproxy { command } => haproxy::ask(Path::new(HAPROXY_SOCKET), &command)
            .map_err(Failure::Failed)
            .and_then(|answer| ui.data(&answer)),
        MachineCommand::Get {
            address,
            port,
            path,
            tls,
        } => http::visit(
            &http::client(QUESTION),
            http::Entrance { address, port, tls },
            &path,
        )
        .map_err(Failure::Failed)
        .and_then(|answer| ui.json(&answer)),
    }
}

/// Says how a run ended, and ends with the status that its supervisor understands.
fn conclude(verdict: &Verdict) -> Outcome {
    Ui::log(verdict.words());
    match verdict {
        Verdict::Done(_) => Ok(()),
        Verdict::NotYet(_) => Err(Failure::Status(NOT_YET)),
        Verdict::NeedsPerson(_) => Err(Failure::Status(NEEDS_PERSON)),
    }
}
