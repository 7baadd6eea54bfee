//! The whole command line: every command with its arguments. Doc comments are the manual.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use super::args::{FormatArgs, LookArgs, PlanArgs};
use super::demo::DemoArgs;
use super::deploy::{DeployArgs, RollbackArgs};
use super::edit::{AddArgs, RemoveArgs, RenameArgs, ScaleArgs, SetArgs};
use super::export::ExportArgs;
use super::faults::FaultsArgs;
use super::generate::GenerateArgs;
use super::import::ImportArgs;
use super::init::InitArgs;
use super::lab::LabArgs;
use super::lint::LintArgs;
use super::machine_backup::{BackupArgs, RestoreArgs};
use super::machines::{ExecArgs, LogsArgs, RunArgs, SshArgs};
use super::model::{CheckArgs, ExplainArgs, ShowArgs};
use super::node::NodeArgs;
use super::secrets::SecretsArgs;
use super::ui::ColorChoice;
use super::whatif::WhatifArgs;

/// From one topology file to a highly available web stack
///
/// Exit codes: 0 done, or nothing to do; 1 failed; 2 changes pending
/// (`generate --check`, `plan --exit-code`); 3 invalid topology; 5 a health gate failed and the
/// change was rolled back; 6 an outage lasted longer than promised; 64 usage;
/// 130 interrupted, everything in order.
#[derive(Debug, Parser)]
#[command(name = "gen-topology", version, max_term_width = 100)]
pub(super) struct Args {
    /// Topology file; `-` is standard input [default: topology.json here or in a directory above]
    #[arg(short, long, value_name = "FILE", env = "GEN_TOPOLOGY_FILE")]
    pub file: Option<PathBuf>,
    /// When to use colours
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub color: ColorChoice,
    /// Say nothing but warnings, errors and data
    #[arg(short, long, global = true)]
    pub quiet: bool,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Write a topology file and a small application to start from
    Init(InitArgs),
    /// Check the topology and report every problem
    Check(CheckArgs),
    /// Print the topology with its defaults, or what is derived from it
    Show(ShowArgs),
    /// Print the JSON schema of a topology file
    Schema,
    /// Explain a problem's code
    Explain(ExplainArgs),
    /// Add nodes to a tier
    Add(AddArgs),
    /// Remove nodes
    Remove(RemoveArgs),
    /// Add or remove nodes until tiers have the given sizes
    Scale(ScaleArgs),
    /// Make a topology from another tool's inventory
    Import(ImportArgs),
    /// Set one value, such as `load_balancer.drain_time 2s`
    Set(SetArgs),
    /// Rename a node
    Rename(RenameArgs),
    /// Show what would change, on which node, in which order
    Plan(PlanArgs),
    /// Render every node's configuration into hosts/
    Generate(GenerateArgs),
    /// Write the stack for Docker Compose, Kubernetes and others
    Export(ExportArgs),
    /// Compute which failures of one or two nodes the stack survives
    Whatif(WhatifArgs),
    /// Find traps in the files of haproxy, Keepalived and mongod
    Lint(LintArgs),
    /// Make and rotate the secrets of the machines
    Secrets(SecretsArgs),
    /// Bring the machines to what the topology says, without downtime
    ///
    /// Changes one node after the other, and asks for confirmation first. A machine that can't be reached after the change rolls itself back.
    Deploy(DeployArgs),
    /// Bring the machines back to their previous systems
    Rollback(RollbackArgs),
    /// Show each machine's state, who has the virtual IP, the primary
    Status(LookArgs),
    /// Show which files on the machines differ from the topology
    Drift(LookArgs),
    /// Copy the application's data, and try the copy
    Backup(BackupArgs),
    /// Write a copy of the application's data back
    Restore(RestoreArgs),
    /// Open a shell on a machine, or run a command there
    Ssh(SshArgs),
    /// Run a command on several machines at the same time
    Exec(ExecArgs),
    /// Run a command as the application on a machine
    Run(RunArgs),
    /// Print the logs of the machines' daemons
    Logs(LogsArgs),
    /// Run the stack on this machine, each node in its own namespaces
    Lab(LabArgs),
    /// Start the stack, break it, report what visitors noticed
    Demo(DemoArgs),
    /// Inject faults into the lab and compare them with the predictions
    Faults(FaultsArgs),
    /// Report what this machine lacks and how to get it
    Doctor(FormatArgs),
    /// What a node's own services call; not for people
    #[command(hide = true)]
    Node(NodeArgs),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write the manual pages into a directory
    Man {
        /// The directory
        directory: PathBuf,
    },
}
