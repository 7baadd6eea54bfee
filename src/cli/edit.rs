//! `add`, `remove`, `scale`, `set` and `rename`: edit the topology file and show what
//! changes, in the file and on the nodes.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::Context as _;
use clap::Args as ClapArgs;
use serde::Serialize;

use super::args::{FileArg, Format};
use super::ui::{Tone, Ui, paint};
use super::{diagnostics, generate, lab_way, model, plan, plan_text, source};
use crate::deploy::{Choice, Plan};
use crate::failure::{Failure, Outcome};
use crate::sink::Sink as _;
use crate::topology::{self, Diagnostic, Edit, EditError, ShardSizes, Source, Tier, Topology};

#[derive(Debug, ClapArgs)]
pub(super) struct EditArgs {
    #[command(flatten)]
    pub file: FileArg,
    /// Show what would change and write nothing
    #[arg(long)]
    pub dry_run: bool,
    /// How to print what changes
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub format: Format,
}

/// An edit for scripts.
#[derive(Serialize)]
struct Edited<'e> {
    /// Whether the file was changed.
    written: bool,
    added: Vec<Added<'e>>,
    removed: Vec<Left<'e>>,
    renamed: Vec<Renamed<'e>>,
    /// What it means for the nodes; none without `hosts/`.
    plan: Option<Plan>,
}

#[derive(Serialize)]
struct Added<'e> {
    name: &'e str,
    tier: Tier,
    address: Ipv4Addr,
    #[serde(skip_serializing_if = "Option::is_none")]
    replica_set: Option<&'e str>,
}

#[derive(Serialize)]
struct Left<'e> {
    name: &'e str,
    tier: Tier,
}

#[derive(Serialize)]
struct Renamed<'e> {
    from: &'e str,
    to: &'e str,
    tier: Tier,
}

impl<'e> Edited<'e> {
    fn of(edit: &'e Edit, plan: Option<Plan>, written: bool) -> Self {
        let added = edit.added.iter().map(|node| Added {
            name: &node.name,
            tier: node.tier,
            address: node.address,
            replica_set: node.replica_set.as_deref(),
        });
        let removed = edit
            .removed
            .iter()
            .map(|(name, tier)| Left { name, tier: *tier });
        let renamed = edit.renamed.iter().map(|(from, to, tier)| Renamed {
            from,
            to,
            tier: *tier,
        });
        Self {
            written,
            added: added.collect(),
            removed: removed.collect(),
            renamed: renamed.collect(),
            plan,
        }
    }
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
    /// Remove the setting, so that its default applies
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
    let (_, before) = source::usable(&source, source::checked(&source), ui)?;
    let old = String::from_utf8_lossy(&source.bytes).into_owned();
    let edit = change(&old)?;
    let after = Source {
        bytes: edit.text.clone().into_bytes(),
        ..source.clone()
    };
    let checked = source::usable(&after, source::checked(&after), ui);
    if checked.is_err() {
        ui.warn(&format!(
            "nothing was written: {} would have the problems above",
            source.path.display()
        ));
    }
    let (topology, problems) = checked?;
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
    tell_new(&after, &before, problems, ui);
    let plan = plan_of(&after, &topology)?;
    if let Some(plan) = plan.as_ref().filter(|_| args.format == Format::Table) {
        show_plan(plan, ui);
    }
    if args.dry_run {
        if args.format == Format::Json {
            ui.json(&Edited::of(&edit, plan, false))?;
        }
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
    if args.format == Format::Json {
        ui.json(&Edited::of(&edit, plan, true))?;
    }
    ui.say(&format!(
        "{}: {}; next: `gen-topology {}`",
        source.path.display(),
        model::summary(&topology),
        next(&after, &source)
    ));
    Ok(())
}

/// What to do with an edited topology: what is there already is brought up to date.
fn next(after: &Source, source: &Source) -> &'static str {
    let lab = lab_way::place(Some(&source.path), None).ok();
    if lab.is_some_and(|lab| lab.running().is_some()) {
        return "lab apply";
    }
    if generate::beside(after).is_dir() {
        return "generate";
    }
    "lab up"
}

/// Warns of what the topology did not have before.
fn tell_new(after: &Source, before: &[Diagnostic], now: Vec<Diagnostic>, ui: &mut Ui) {
    let is_new = |problem: &Diagnostic| {
        !before
            .iter()
            .any(|old| old.code == problem.code && old.message == problem.message)
    };
    let new: Vec<Diagnostic> = now.into_iter().filter(is_new).collect();
    if !new.is_empty() {
        ui.warn(diagnostics::draw(after, &new).trim_end());
    }
}

/// What the edit means for the nodes, where there is something to compare with.
fn plan_of(source: &Source, topology: &Topology) -> anyhow::Result<Option<Plan>> {
    let hosts = generate::beside(source);
    if !hosts.is_dir() {
        return Ok(None);
    }
    let rendered = generate::rendered(topology)?;
    Ok(Some(plan::against(&hosts, &rendered, &Choice::default())?))
}

fn show_plan(plan: &Plan, ui: &mut Ui) {
    if !plan.is_empty() || !plan.obstacles.is_empty() {
        ui.say("");
        ui.say(plan_text::text(plan).trim_end());
        ui.say("");
    }
}
