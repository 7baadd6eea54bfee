//! `import`: another tool's inventory as a topology.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail};
use clap::{Args as ClapArgs, Subcommand};

use super::ui::{Tone, Ui, paint};
use super::{diagnostics, model};
use crate::failure::{Failure, Outcome};
use crate::import::{Inventory, Wishes, topology};
use crate::sink::Sink as _;
use crate::topology::{Code, Name, Severity, Source, Tier, Topology};

#[derive(Debug, ClapArgs)]
#[command(disable_help_subcommand = true)]
pub(super) struct ImportArgs {
    #[command(subcommand)]
    pub command: ImportCommand,
}

#[derive(Debug, Subcommand)]
pub(super) enum ImportCommand {
    /// An Ansible inventory, in INI or YAML
    Ansible(AnsibleArgs),
    /// A Docker Compose file
    Compose(ComposeArgs),
}

#[derive(Debug, ClapArgs)]
pub(super) struct AnsibleArgs {
    /// The inventory; `-` is standard input
    pub inventory: PathBuf,
    #[command(flatten)]
    pub wishes: WishArgs,
}

#[derive(Debug, ClapArgs)]
pub(super) struct ComposeArgs {
    /// The Compose file; `-` is standard input
    pub compose_file: PathBuf,
    #[command(flatten)]
    pub wishes: WishArgs,
}

#[derive(Debug, ClapArgs)]
pub(super) struct WishArgs {
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

/// `import`.
pub(super) fn run(args: &ImportArgs, ui: &mut Ui) -> Outcome {
    let (inventory, args) = match &args.command {
        ImportCommand::Ansible(args) => {
            let read = read(&args.inventory, "inventory", Inventory::parse)?;
            (read, &args.wishes)
        }
        ImportCommand::Compose(args) => {
            let parse = Inventory::parse_compose;
            let read = read(&args.compose_file, "Compose file", parse)?;
            (read, &args.wishes)
        }
    };
    finish(&inventory, args, ui)
}

fn finish(inventory: &Inventory, args: &WishArgs, ui: &mut Ui) -> Outcome {
    let wishes = Wishes {
        name: args.name.to_string(),
        tiers: args.map.iter().cloned().collect(),
        subnet: args.subnet,
        virtual_ip: args.virtual_ip,
    };
    let imported = topology(inventory, &wishes).map_err(Failure::Usage)?;
    for remark in &imported.remarks {
        ui.say(&format!("{} {remark}", paint(Tone::Quiet, "·")));
    }
    let source = Source {
        path: args
            .output
            .clone()
            .unwrap_or_else(|| "topology.json".into()),
        base: ".".into(),
        bytes: imported.text.clone().into_bytes(),
    };
    // The application is still to come.
    let mut checked = Topology::check(&source, &|_| true);
    match &args.output {
        Some(file) => write(file, &imported.text)?,
        None => ui.data(&imported.text)?,
    }
    let Some(topology) = checked.topology else {
        checked
            .problems
            .retain(|problem| problem.severity == Severity::Error);
        ui.warn(diagnostics::draw(&source, &checked.problems).trim_end());
        let outside = [Code::AddressOutsideSubnet, Code::VipOutsideSubnet];
        if checked
            .problems
            .iter()
            .any(|problem| outside.contains(&problem.code))
        {
            ui.warn("`--subnet` names another subnet, and `--virtual-ip` another virtual IP");
        }
        return Err(Failure::Invalid);
    };
    ui.say(&format!(
        "{}; next: put the application into ./app and say `gen-topology check`",
        model::summary(&topology)
    ));
    Ok(())
}

/// What a file or standard input describes; `what` is its kind.
fn read(
    file: &Path,
    what: &str,
    parse: fn(&str) -> Result<Inventory, String>,
) -> Result<Inventory, Failure> {
    if file.is_dir() {
        let all = "or give what `ansible-inventory --list` or `docker compose config` prints";
        return Err(Failure::Usage(format!(
            "{} is a directory: name the {what} in it, {all}",
            file.display()
        )));
    }
    let text = if file == Path::new("-") {
        std::io::read_to_string(std::io::stdin()).context("reading standard input")?
    } else {
        std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?
    };
    Ok(parse(&text).map_err(|why| anyhow!("{} is no {what}: {why}", file.display()))?)
}

/// Never in the place of something else.
fn write(file: &Path, text: &str) -> anyhow::Result<()> {
    use std::io::Write as _;
    let mut created = match std::fs::File::create_new(file) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => bail!(
            "{} exists, and import replaces nothing; name another file with -o, or remove it",
            file.display()
        ),
        created => created.with_context(|| format!("making {}", file.display()))?,
    };
    created
        .write_all(text.as_bytes())
        .with_context(|| format!("writing {}", file.display()))
}
