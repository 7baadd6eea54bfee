//! `add`, `remove`, `scale`, `set` and `rename`: edit the topology file and show what
//! changes, in the file and on the nodes.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context as _;

use super::args::{AddArgs, EditArgs, RemoveArgs, RenameArgs, ScaleArgs, SetArgs, Sized};
use super::ui::{Tone, Ui, paint};
use super::{Failure, Outcome, diagnostics, generate, model, plan, source};
use crate::deploy::Choice;
use crate::topology::{self, Edit, EditError, Severity, ShardSizes, Source, Tier, Topology};

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
    crate::hosts::replace(&file, edit.text.as_bytes())
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
        ui.say(plan::text(&plan).trim_end());
        ui.say("");
    }
    Ok(())
}
