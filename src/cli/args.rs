//! Arguments that several commands share. Doc comments are the manual.

use std::path::PathBuf;

use clap::{Args as ClapArgs, ValueEnum};

use crate::secrets::Rotation;
use crate::topology::Selector;

/// Can stand before the command or behind it, where it counts more. Not a global
/// option of clap, because `lab logs -f` means to follow, as everywhere.
#[derive(Debug, Default, ClapArgs)]
pub(super) struct FileArg {
    /// Topology file; `-` is standard input [default: topology.json here or in a directory above]
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    Table,
    Json,
}

#[derive(Debug, ClapArgs)]
pub(super) struct FormatArgs {
    /// How to print
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub format: Format,
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

/// Arguments of `plan`, whatever it compares with.
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
