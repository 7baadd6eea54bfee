//! `add`, `remove`, `scale`, `set` and `rename`: edit the topology file and show what
//! changes, in the file and on the nodes.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context as _;
use clap::Args as ClapArgs;

use super::args::FileArg;
use super::ui::{Tone, Ui, paint};
use super::{diagnostics, generate, model, plan, plan_text, source};
use crate::deploy::Choice;
use crate::failure::{Failure, Outcome};
use crate::sink::Sink as _;
use crate::topology::{self, Edit, EditError, Severity, ShardSizes, Source, Tier, Topology};

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

/// `add`.
pub(super) fn add(file: Option<&Path>, args: &AddArgs, ui: &mut Ui) -> Outcome {
    if args.replica_set.is_some() && args.tier != Tier::Database {
        let message = "only databases are members of a replica set".to_owned();
        return Err(Failure::Usage(message));
    }
    edit(file, &args.edit, ui, |text| {
        let (name, count) = (args.name.as_deref(), usize::from(args.count));
        match &args.replica_set {
            Some(set) => topology::add_to_set(text, set, name, count),
            None => topology::add(text, args.tier, name, count),
        }
    })
}

/// `remove`.
pub(super) fn remove(file: Option<&Path>, args: &RemoveArgs, ui: &mut Ui) -> Outcome {
    edit(file, &args.edit, ui, |text| {
        topology::remove(text, &args.nodes)
    })
}

/// `scale`.
pub(super) fn scale(file: Option<&Path>, args: &ScaleArgs, ui: &mut Ui) -> Outcome {
    let mut wanted = BTreeMap::new();
    for (what, size) in &args.sizes {
        if wanted
            .insert(*what, *size)
            .is_some_and(|other| other != *size)
        {
            return Err(Failure::Usage(format!("`{what}` is given two sizes")));
        }
    }
    let tiers: BTreeMap<Tier, usize> = wanted
        .iter()
        .filter_map(|(what, size)| match what {
            Sized::Tier(tier) => Some((*tier, usize::from(*size))),
            _ => None,
        })
        .collect();
    let shards = ShardSizes {
        shards: wanted.get(&Sized::Shards).copied(),
        members: wanted.get(&Sized::Members).copied(),
        config_servers: wanted.get(&Sized::ConfigServers).copied(),
    };
    edit(file, &args.edit, ui, |text| {
        let mut edit = topology::scale(text, &tiers)?;
        if shards != ShardSizes::default() {
            let more = topology::scale_shards(&edit.text, shards)?;
            edit.text = more.text;
            edit.added.extend(more.added);
            edit.removed.extend(more.removed);
        }
        Ok(edit)
    })
}

/// `set`.
pub(super) fn set(file: Option<&Path>, args: &SetArgs, ui: &mut Ui) -> Outcome {
    edit(file, &args.edit, ui, |text| {
        topology::set(text, &args.path, args.value.as_deref())
    })
}

/// `rename`.
pub(super) fn rename(file: Option<&Path>, args: &RenameArgs, ui: &mut Ui) -> Outcome {
    edit(file, &args.edit, ui, |text| {
        topology::rename(text, &args.old, &args.new)
    })
}

fn edit(
    file: Option<&Path>,
    args: &EditArgs,
    ui: &mut Ui,
    change: impl FnOnce(&str) -> Result<Edit, EditError>,
) -> Outcome {
    let source = source::read(file)?;
    if source.path == Path::new("-") {
        return Err(Failure::Usage(
            "standard input can't be edited; name a file with -f".into(),
        ));
    }
    source::topology(&source, ui)?;
    let old = String::from_utf8_lossy(&source.bytes).into_owned();
    let edit = change(&old)?;
    let after = Source {
        bytes: edit.text.clone().into_bytes(),
        ..source.clone()
    };
    let mut checked = source::checked(&after);
    let Some(topology) = checked.topology else {
        checked
            .problems
            .retain(|problem| problem.severity == Severity::Error);
        ui.warn(diagnostics::draw(&after, &checked.problems).trim_end());
        ui.warn(&format!(
            "nothing was written: {} would have the problems above",
            source.path.display()
        ));
        return Err(Failure::Invalid);
    };
    if edit.text == old {
        ui.say(&format!("nothing to change: {}", model::summary(&topology)));
        return Ok(());
    }
    for node in &edit.added {
        let set = node.replica_set.as_ref();
        ui.say(&format!(
            "{} {}  {}  {}{}",
            paint(Tone::Good, "+"),
            node.name,
            node.tier,
            node.address,
            set.map(|set| format!("  {set}")).unwrap_or_default()
        ));
    }
    for (name, tier) in &edit.removed {
        ui.say(&format!("{} {name}  {tier}", paint(Tone::Bad, "-")));
    }
    for (old, new, tier) in &edit.renamed {
        ui.say(&format!(
            "{} {old} → {new}  {tier}",
            paint(Tone::Warning, "~")
        ));
    }
    show_plan(&after, &topology, ui)?;
    if args.dry_run {
        ui.say(&format!(
            "would be: {} (dry run, nothing was written)",
            model::summary(&topology)
        ));
        return Ok(());
    }
    // A link to the file stays a link.
    let file = source
        .path
        .canonicalize()
        .with_context(|| format!("finding {}", source.path.display()))?;
    crate::files::replace(&file, edit.text.as_bytes())
        .with_context(|| format!("writing {}", source.path.display()))?;
    ui.say(&format!(
        "{}: {}; next: `gen-topology generate`",
        source.path.display(),
        model::summary(&topology)
    ));
    Ok(())
}

/// What the edit means for the nodes, where there is something to compare with.
fn show_plan(source: &Source, topology: &Topology, ui: &mut Ui) -> Outcome {
    let hosts = generate::beside(source);
    if !hosts.is_dir() {
        return Ok(());
    }
    let rendered = generate::rendered(topology)?;
    let plan = plan::against(&hosts, &rendered, &Choice::default())?;
    if !plan.is_empty() || !plan.obstacles.is_empty() {
        ui.say("");
        ui.say(plan_text::text(&plan).trim_end());
        ui.say("");
    }
    Ok(())
}
