//! `node …`: what a node's own services call.

use std::path::Path;
use std::time::Duration;

use super::args::{LoadBalancerDaemon, NodeArgs, NodeCommand};
use super::ui::Ui;
use super::{Failure, Outcome};
use crate::backup::Manifest;
use crate::config::HAPROXY_SOCKET;
use crate::health::{haproxy, http};
use crate::node::{self, database, switch};
use crate::secrets::Secrets;
use database::Verdict;

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
    let command = match of_machine(args.command, ui) {
        Ok(outcome) => return outcome,
        Err(command) => command,
    };
    let facts = node::facts(&args.facts)?;
    // These run under a supervisor: what they say goes to its log, one line at a time.
    let say = |line: &str| Ui::log(line);
    match command {
        NodeCommand::Run { daemon, command } => {
            let code = match daemon {
                LoadBalancerDaemon::Haproxy => {
                    node::load_balancer::run_haproxy(&facts, &command, &say)?
                }
                LoadBalancerDaemon::Keepalived => {
                    node::load_balancer::run_keepalived(&args.facts, &facts, &command, &say)?
                }
            };
            if code == 0 {
                Ok(())
            } else {
                Err(Failure::Status(code))
            }
        }
        NodeCommand::Check {
            daemon: LoadBalancerDaemon::Haproxy,
        } => Ok(node::load_balancer::check_haproxy(&facts)?),
        NodeCommand::Check {
            daemon: LoadBalancerDaemon::Keepalived,
        } => has_virtual_ip(facts.virtual_ip, ui),
        NodeCommand::Report => ui.json(&node::report::report(&args.facts)?),
        NodeCommand::StepDown { secrets } => Ok(node::step_down::step_down(
            &facts,
            &Secrets::at(secrets),
            &say,
        )?),
        NodeCommand::DrainOnStop => Ok(node::app::drain_on_stop(&say)?),
        NodeCommand::Backup {
            directory,
            mongod,
            secrets,
        } => {
            let secrets = Secrets::at(secrets);
            let manifest = node::backup::take(&facts, &secrets, &directory, mongod.as_deref())?;
            say(&copied(&manifest, &directory));
            Ok(())
        }
        NodeCommand::Restore {
            directory,
            overwrite,
            secrets,
        } => {
            let secrets = Secrets::at(secrets);
            let manifest = node::backup::put_back(&facts, &secrets, &directory, overwrite)?;
            say(&format!("put back {} documents", manifest.documents()));
            Ok(())
        }
        // Done above, without facts.
        NodeCommand::Switch { .. }
        | NodeCommand::SwitchWork
        | NodeCommand::SwitchOver
        | NodeCommand::Confirm { .. }
        | NodeCommand::Settle
        | NodeCommand::Haproxy { .. }
        | NodeCommand::Get { .. } => Ok(()),
        NodeCommand::ReconcileDatabase {
            patience,
            secrets,
            force,
            reset_administration,
        } => {
            let options = database::Options {
                patience: Duration::from_secs(patience),
                secrets: Secrets::at(secrets),
                force,
                reset_administration,
                stop_after: None,
            };
            conclude(&database::reconcile(&facts, &options, &say)?)
        }
        NodeCommand::RemoveShard {
            shard,
            databases_to,
            patience,
            secrets,
        } => {
            let options = database::Options {
                patience: Duration::from_secs(patience),
                secrets: Secrets::at(secrets),
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

/// What a machine can do that has no facts yet. Gives back a command that needs them.
fn of_machine(command: NodeCommand, ui: &mut Ui) -> Result<Outcome, NodeCommand> {
    let outcome = match command {
        NodeCommand::Switch {
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
        NodeCommand::SwitchWork => switch::work().map_err(Failure::Failed),
        NodeCommand::SwitchOver => switch::over().map_err(Failure::Failed),
        NodeCommand::Confirm { system } => switch::confirm(&system).map_err(Failure::Failed),
        NodeCommand::Settle => switch::settle().map_err(Failure::Failed),
        NodeCommand::Haproxy { command } => haproxy::ask(Path::new(HAPROXY_SOCKET), &command)
            .map_err(Failure::Failed)
            .and_then(|answer| ui.data(&answer)),
        NodeCommand::Get {
            address,
            port,
            path,
        } => http::get(&http::client(QUESTION), address, port, &path)
            .map_err(Failure::Failed)
            .and_then(|answer| ui.json(&answer)),
        other => return Err(other),
    };
    Ok(outcome)
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
