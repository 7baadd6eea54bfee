//! The command line's shape. Doc comments are the manual.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};

use crate::secrets::Rotation;
use crate::topology::{Millis, Name, Selector, Tier};

/// From one topology file to a highly available web stack
///
/// Exit codes: 0 done, or nothing to do; 1 failed; 2 changes pending
/// (`generate --check`, `plan --exit-code`); 3 invalid topology; 5 a health gate failed and the
/// change was rolled back; 6 an outage lasted longer than promised; 64 usage;
/// 130 interrupted, everything in order.
#[derive(Debug, Parser)]
#[command(
    name = "gen-topology",
    version,
    max_term_width = 100,
    disable_help_subcommand = true
)]
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

/// Can stand before the command or behind it, where it counts more. Not a global
/// option of clap, because `lab logs -f` means to follow, as everywhere.
#[derive(Debug, Default, ClapArgs)]
pub(super) struct FileArg {
    /// Topology file; `-` is standard input [default: topology.json here or in a directory above]
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum ColorChoice {
    Auto,
    Always,
    Never,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    Table,
    Json,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Write a topology and a small application to start from
    Init(InitArgs),
    /// Tell every problem of the topology
    Check(CheckArgs),
    /// Print the topology with every default filled in
    Show {
        #[command(flatten)]
        file: FileArg,
        #[command(flatten)]
        format: FormatArgs,
    },
    /// Print the JSON schema of a topology file
    Schema,
    /// Tell more about a problem's code
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
    /// Give a node another name
    Rename(RenameArgs),
    /// Tell what would change on which node, in which order, and what visitors notice
    Plan(PlanArgs),
    /// Render every node's configuration into hosts/
    Generate(GenerateArgs),
    /// Tell which failures of one or two nodes the stack survives, on paper
    Whatif(WhatifArgs),
    /// Find what keeps a stack from failing over, in its daemons' files or in those of others
    Lint(LintArgs),
    /// Make and exchange the secrets of the stack's machines
    Secrets(SecretsArgs),
    /// Bring the machines to what the topology says, node by node, with visitors served all the time
    ///
    /// Asks before it changes anything. Each machine goes back by itself when nobody can reach it behind the change.
    Deploy(DeployArgs),
    /// Bring the machines back to the systems that they had before, in the same way
    Rollback(RollbackArgs),
    /// Show each machine's state, the owner of the virtual IP and the primary
    Status(LookArgs),
    /// Tell which machines' files are not what the topology says
    Drift(LookArgs),
    /// Copy the application's data into a new directory, and try the copy
    Backup(BackupArgs),
    /// Write a copy of the application's data back, through the primary
    Restore(RestoreArgs),
    /// Open a shell on a machine, or run a command there
    Ssh(SshArgs),
    /// Run a command on several machines at the same time
    Exec(ExecArgs),
    /// Print what machines' daemons have logged
    Logs(LogsArgs),
    /// Run the stack on this machine, each node in namespaces of its own
    Lab(LabArgs),
    /// Bring the stack up, break it in seven ways, and tell what visitors noticed
    Demo(DemoArgs),
    /// Break the lab on purpose, and hold what visitors notice against what was predicted
    Faults(FaultsArgs),
    /// Tell what this machine lacks and how to get it
    Doctor(FormatArgs),
    /// What a node's own services call; not for people
    #[command(hide = true)]
    Node(NodeArgs),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, ClapArgs)]
pub(super) struct FormatArgs {
    /// How to print
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub format: Format,
}

/// How a run of faults is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum ReportFormat {
    /// Predicted and measured side by side
    Table,
    /// Everything that was measured
    Json,
    /// XML as `JUnit` writes it, for continuous integration
    Junit,
    /// One page with a drawing of each fault
    Html,
}

#[derive(Debug, ClapArgs)]
pub(super) struct OutputArgs {
    /// How to print
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub format: ReportFormat,
    /// File to write to, whole or not at all [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

#[derive(Debug, ClapArgs)]
pub(super) struct InitArgs {
    /// Directory to write to
    #[arg(default_value = ".")]
    pub directory: PathBuf,
    /// Name of the stack [default: the directory's name]
    #[arg(long)]
    pub name: Option<String>,
    /// Spread the data over so many replica sets of three databases each
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=30))]
    pub shards: Option<u16>,
}

#[derive(Debug, ClapArgs)]
pub(super) struct CheckArgs {
    #[command(flatten)]
    pub file: FileArg,
    /// How to print
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub format: Format,
    /// Treat warnings as errors
    #[arg(long)]
    pub strict: bool,
}

#[derive(Debug, ClapArgs)]
pub(super) struct ExplainArgs {
    /// A code such as `even-voters` [default: list all]
    pub code: Option<String>,
}

#[derive(Debug, ClapArgs)]
pub(super) struct EditArgs {
    #[command(flatten)]
    pub file: FileArg,
    /// Show what would change and write nothing
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Debug, ClapArgs)]
pub(super) struct AddArgs {
    /// load-balancer, app or database
    pub tier: Tier,
    /// Host name [default: the next number after the tier's last node]
    pub name: Option<String>,
    /// How many nodes
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..), conflicts_with = "name")]
    pub count: u16,
    /// Databases of a sharded stack: the set that they become members of, `config` or a shard
    #[arg(long, value_name = "SET")]
    pub replica_set: Option<String>,
    #[command(flatten)]
    pub edit: EditArgs,
}

#[derive(Debug, ClapArgs)]
pub(super) struct RemoveArgs {
    /// Nodes to remove
    #[arg(required = true, value_name = "NODE")]
    pub nodes: Vec<String>,
    #[command(flatten)]
    pub edit: EditArgs,
}

#[derive(Debug, ClapArgs)]
pub(super) struct ScaleArgs {
    /// Sizes, such as `app=6 database=3`; of a sharded stack `shards=4`, `members=5` and `config-servers=3`
    #[arg(required = true, value_name = "WHAT=COUNT", value_parser = size)]
    pub sizes: Vec<(Sized, u16)>,
    #[command(flatten)]
    pub edit: EditArgs,
}

#[derive(Debug, ClapArgs)]
pub(super) struct ImportArgs {
    #[command(subcommand)]
    pub command: ImportCommand,
}

#[derive(Debug, Subcommand)]
pub(super) enum ImportCommand {
    /// An Ansible inventory, in INI or YAML
    Ansible(AnsibleArgs),
}

#[derive(Debug, ClapArgs)]
pub(super) struct AnsibleArgs {
    /// The inventory; `-` is standard input
    pub inventory: PathBuf,
    /// Which group is which tier, such as `webservers=app`, where its name does not tell
    #[arg(long, value_name = "GROUP=TIER", value_parser = group_tier)]
    pub map: Vec<(String, Tier)>,
    /// Name of the stack
    #[arg(long, default_value = "imported")]
    pub name: Name,
    /// Subnet of all nodes [default: what holds the hosts' addresses]
    #[arg(long, value_name = "SUBNET")]
    pub subnet: Option<ipnet::Ipv4Net>,
    /// Address that visitors use [default: the inventory's, or a free one]
    #[arg(long, value_name = "ADDRESS")]
    pub virtual_ip: Option<std::net::Ipv4Addr>,
    /// File to write, which must not be there yet [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

fn group_tier(text: &str) -> Result<(String, Tier), String> {
    let (group, tier) = text
        .split_once('=')
        .ok_or("write it as GROUP=TIER, such as webservers=app")?;
    Ok((group.to_owned(), tier.parse()?))
}

#[derive(Debug, ClapArgs)]
pub(super) struct SetArgs {
    /// Where, such as `app.workers` or `nodes.node-2.address`
    pub path: String,
    /// The value
    #[arg(required_unless_present = "default", allow_hyphen_values = true)]
    pub value: Option<String>,
    /// Let the default count again
    #[arg(long, conflicts_with = "value")]
    pub default: bool,
    #[command(flatten)]
    pub edit: EditArgs,
}

#[derive(Debug, ClapArgs)]
pub(super) struct RenameArgs {
    /// The node
    #[arg(value_name = "OLD")]
    pub old: String,
    /// Its new name
    #[arg(value_name = "NEW")]
    pub new: String,
    #[command(flatten)]
    pub edit: EditArgs,
}

/// What has a size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Sized {
    /// Nodes of a tier.
    Tier(Tier),
    /// Shards of the databases.
    Shards,
    /// Databases of each shard.
    Members,
    /// Databases that know which shard has what.
    ConfigServers,
}

impl std::fmt::Display for Sized {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(match self {
            Sized::Tier(tier) => tier.name(),
            Sized::Shards => "shards",
            Sized::Members => "members",
            Sized::ConfigServers => "config-servers",
        })
    }
}

fn size(text: &str) -> Result<(Sized, u16), String> {
    let (what, count) = text
        .split_once('=')
        .ok_or("write it as TIER=COUNT, such as app=6")?;
    let count = count
        .parse()
        .map_err(|_| format!("`{count}` is not a number of nodes"))?;
    let what = match what {
        "shards" => Sized::Shards,
        "members" => Sized::Members,
        "config-servers" => Sized::ConfigServers,
        tier => Sized::Tier(tier.parse()?),
    };
    Ok((what, count))
}

#[derive(Debug, ClapArgs)]
pub(super) struct GenerateArgs {
    #[command(flatten)]
    pub file: FileArg,
    /// Directory to write to [default: hosts beside the topology file]
    #[arg(short, long, value_name = "DIR")]
    pub output: Option<PathBuf>,
    /// Write nothing; print a diff and exit with 2 if something would change
    #[arg(long)]
    pub check: bool,
}

/// How nodes are changed, for `plan` and for what carries a plan out.
#[derive(Debug, ClapArgs)]
pub(super) struct ChoiceArgs {
    /// Change so many app servers first, and watch them before the others follow
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub canary: usize,
    /// App servers that may be out of use at the same time
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = at_least_one)]
    pub max_unavailable: usize,
    /// Only these nodes, such as `node-1,app-*,@database`
    #[arg(long, value_name = "NODES")]
    pub on: Option<Selector>,
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("it has to be a number, 1 or more".into()),
        Ok(number) => Ok(number),
    }
}

#[derive(Debug, ClapArgs)]
pub(super) struct PlanArgs {
    #[command(flatten)]
    pub file: FileArg,
    /// What to compare the topology with
    #[arg(long, value_name = "WHAT", default_value = "hosts")]
    pub against: Against,
    /// Name of the lab, with `--against lab` [default: the topology's name]
    #[arg(long, value_name = "NAME", env = "GEN_TOPOLOGY_LAB")]
    pub lab: Option<String>,
    #[command(flatten)]
    pub choice: ChoiceArgs,
    #[command(flatten)]
    pub way: WayArgs,
    /// Exit with 2 if something would change
    #[arg(long)]
    pub exit_code: bool,
    /// How to print
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Against {
    /// The files in hosts/
    Hosts,
    /// The running lab
    Lab,
    /// The machines, by ssh
    Machines,
}

#[derive(Debug, ClapArgs)]
pub(super) struct ApplyArgs {
    #[command(flatten)]
    pub choice: ChoiceArgs,
    /// How long the app servers of `--canary` are watched
    #[arg(long, value_name = "TIME", default_value = "10s")]
    pub bake: Millis,
    /// Go on after an apply that was interrupted or killed
    #[arg(long, conflicts_with = "on")]
    pub resume: bool,
    /// Print what would be done and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// How to print
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub format: Format,
}

#[derive(Debug, ClapArgs)]
pub(super) struct WhatifArgs {
    #[command(flatten)]
    pub file: FileArg,
    /// Tell what is left when these fail together, such as `node-1,app-*,@database`
    #[arg(long, value_name = "NODES", conflicts_with = "require")]
    pub fail: Option<Selector>,
    /// End with 1 unless every service survives any one failure (n-1), or any two (n-2)
    #[arg(long, value_name = "N-K")]
    pub require: Option<Require>,
    /// How to print
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Require {
    #[value(name = "n-1")]
    One,
    #[value(name = "n-2")]
    Two,
}

#[derive(Debug, ClapArgs)]
pub(super) struct LintArgs {
    #[command(flatten)]
    pub file: FileArg,
    /// Look at these files instead: haproxy.cfg, keepalived.conf of each node, mongod.conf, and others
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with = "file")]
    pub foreign: Vec<PathBuf>,
    /// How to print
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub format: Format,
    /// Treat warnings as errors
    #[arg(long)]
    pub strict: bool,
}

#[derive(Debug, ClapArgs)]
pub(super) struct SecretsArgs {
    #[command(flatten)]
    pub file: FileArg,
    #[command(subcommand)]
    pub command: SecretsCommand,
}

#[derive(Debug, Subcommand)]
pub(super) enum SecretsCommand {
    /// Make what is missing, in .gen-topology/secrets beside the topology file
    Init,
    /// Tell which secrets there are; never what they are
    List(FormatArgs),
    /// Put new secrets beside the old ones, and drop the old ones later
    Rotate {
        /// What to exchange
        what: Rotated,
        /// Every node has the new ones: drop the old ones
        #[arg(long)]
        finish: bool,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Rotated {
    /// The key that members of the replica set know each other by
    Key,
    /// The users' passwords
    Passwords,
}

impl From<Rotated> for Rotation {
    fn from(what: Rotated) -> Self {
        match what {
            Rotated::Key => Rotation::Key,
            Rotated::Passwords => Rotation::Passwords,
        }
    }
}

/// How machines are reached.
#[derive(Debug, ClapArgs)]
pub(super) struct WayArgs {
    /// Who to be on machines; another than root becomes root by sudo [default: as ~/.ssh/config says, else root]
    #[arg(long, value_name = "USER")]
    pub user: Option<String>,
    /// Option of ssh, such as `Port=2222`; can be given several times
    #[arg(long = "ssh-option", value_name = "OPTION")]
    pub options: Vec<String>,
}

/// How machines are changed.
#[derive(Debug, ClapArgs)]
pub(super) struct ChangeArgs {
    #[command(flatten)]
    pub choice: ChoiceArgs,
    /// How long the app servers of `--canary` are watched
    #[arg(long, value_name = "TIME", default_value = "10s")]
    pub bake: Millis,
    /// How long a changed machine waits for a new connection before it goes back by itself
    #[arg(long, value_name = "TIME", default_value = "60s")]
    pub confirm_within: Millis,
    /// Go on after one that was interrupted or killed
    #[arg(long, conflicts_with = "on")]
    pub resume: bool,
    /// Print what would be done and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
    #[command(flatten)]
    pub way: WayArgs,
    /// How to print
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub format: Format,
}

#[derive(Debug, ClapArgs)]
pub(super) struct DeployArgs {
    #[command(flatten)]
    pub file: FileArg,
    /// Systems that were built elsewhere: a JSON file `{ "node-1": "/nix/store/…" }`, or a directory of links [default: Nix builds them]
    #[arg(long, value_name = "PLACE")]
    pub closures: Option<PathBuf>,
    /// Flake to build from [default: the topology file's directory]
    #[arg(long, value_name = "DIR", conflicts_with = "closures")]
    pub flake: Option<PathBuf>,
    #[command(flatten)]
    pub change: ChangeArgs,
}

#[derive(Debug, ClapArgs)]
pub(super) struct RollbackArgs {
    #[command(flatten)]
    pub file: FileArg,
    #[command(flatten)]
    pub change: ChangeArgs,
}

/// Arguments of commands that look at machines: `status` and `drift`.
#[derive(Debug, ClapArgs)]
pub(super) struct LookArgs {
    #[command(flatten)]
    pub file: FileArg,
    /// Only these nodes, such as `node-1,app-*,@database`
    #[arg(long, value_name = "NODES")]
    pub on: Option<Selector>,
    #[command(flatten)]
    pub way: WayArgs,
    /// How to print
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub format: Format,
}

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

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum GraphFormat {
    Text,
    Mermaid,
    Dot,
}

#[derive(Debug, ClapArgs)]
pub(super) struct DemoArgs {
    #[command(flatten)]
    pub file: FileArg,
    /// Leave the lab running afterwards
    #[arg(long)]
    pub keep: bool,
    #[command(flatten)]
    pub output: OutputArgs,
    /// Requests a second
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=2000))]
    pub rate: u32,
}

#[derive(Debug, ClapArgs)]
pub(super) struct FaultsArgs {
    /// Topology file; `-` is standard input [default: topology.json here or in a directory above]
    #[arg(short, long, value_name = "FILE", global = true)]
    pub file: Option<PathBuf>,
    /// Name of the lab [default: the topology's]
    #[arg(long, global = true, value_name = "NAME")]
    pub lab: Option<String>,
    #[command(subcommand)]
    pub command: FaultsCommand,
}

#[derive(Debug, Subcommand)]
pub(super) enum FaultsCommand {
    /// List every fault: what it breaks, what visitors see, what it may cost, how it is undone
    List(FormatArgs),
    /// Compute from the rendered files what each fault costs at most; needs no lab
    Predict {
        /// Requests a second
        #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=5000))]
        rate: u32,
        #[command(flatten)]
        format: FormatArgs,
    },
    /// Try faults in the lab under load, and measure what visitors notice
    ///
    /// Exit code 6 if a fault costs more than was predicted, or than the topology's `slo` allows.
    Run {
        /// Faults, such as `lb-power-off` or `db-*` [default: all]
        names: Vec<String>,
        /// How often each is tried
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
        repeat: u32,
        /// Requests a second
        #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=5000))]
        rate: u32,
        /// Decides which of several nodes is hit and when; the same number does the same again
        #[arg(long, default_value_t = 1)]
        seed: u64,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Break the load balancers that people copy, and ours, in the same way
    ///
    /// Brings up a lab of its own for each recipe, one after another.
    Compare {
        /// Faults [default: haproxy-dead lb-power-off lb-reboot gunicorn-stop app-power-off]
        names: Vec<String>,
        /// Requests a second
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=5000))]
        rate: u32,
        /// How many seconds visitors may wait before the fault is undone for them; kubeadm's
        /// recipe needs 32
        #[arg(long, value_name = "SECONDS", default_value_t = 40, value_parser = clap::value_parser!(u32).range(1..=600))]
        patience: u32,
        #[command(flatten)]
        format: FormatArgs,
    },
    /// List the runs that were kept
    Runs(FormatArgs),
    /// Show a run that was kept, or hold it against another one
    Report {
        /// Its number [default: the last one]
        run: Option<u32>,
        /// Tell instead what became worse or better since this run
        #[arg(long, value_name = "RUN")]
        against: Option<u32>,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Undo every fault in the lab, after a run that was killed
    Undo,
}

#[derive(Debug, ClapArgs)]
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
        daemon: LoadBalancerDaemon,
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
