//! `add`, `remove` and `scale`: edit the topology file and show what changes.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context as _;

use super::args::{AddArgs, EditArgs, RemoveArgs, ScaleArgs};
use super::ui::{Tone, Ui, paint};
use super::{Failure, Outcome, diagnostics, model, source};
use crate::topology::{self, Edit, EditError, Severity, Source};

/// `add`.
pub(super) fn add(file: Option<&Path>, args: &AddArgs, ui: &mut Ui) -> Outcome {
    edit(file, &args.edit, ui, |text| {
        topology::add(
            text,
            args.tier,
            args.name.as_deref(),
            usize::from(args.count),
        )
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
    for (tier, size) in &args.sizes {
        if wanted
            .insert(*tier, *size)
            .is_some_and(|other| other != *size)
        {
            return Err(Failure::Usage(format!("`{tier}` is given two sizes")));
        }
    }
    edit(file, &args.edit, ui, |text| topology::scale(text, &wanted))
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
        ui.say(&format!(
            "{} {}  {}  {}",
            paint(Tone::Good, "+"),
            node.name,
            node.tier,
            node.address
        ));
    }
    for (name, tier) in &edit.removed {
        ui.say(&format!("{} {name}  {tier}", paint(Tone::Bad, "-")));
    }
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
