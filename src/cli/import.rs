//! `import`: another tool's inventory as a topology.

use std::path::Path;

use anyhow::{Context as _, anyhow};

use super::args::{ImportArgs, ImportCommand};
use super::ui::{Tone, Ui, paint};
use super::{Failure, Outcome, diagnostics, model};
use crate::import::{Inventory, Wishes, topology};
use crate::topology::{Severity, Source, Topology};

/// `import`.
pub(super) fn run(args: &ImportArgs, ui: &mut Ui) -> Outcome {
    let ImportCommand::Ansible(args) = &args.command;
    let text = if args.inventory == Path::new("-") {
        std::io::read_to_string(std::io::stdin()).context("reading standard input")?
    } else {
        std::fs::read_to_string(&args.inventory)
            .with_context(|| format!("reading {}", args.inventory.display()))?
    };
    let inventory = Inventory::parse(&text)
        .map_err(|why| anyhow!("{} is no inventory: {why}", args.inventory.display()))?;
    let wishes = Wishes {
        name: args.name.to_string(),
        tiers: args.map.iter().cloned().collect(),
        subnet: args.subnet,
        virtual_ip: args.virtual_ip,
    };
    let imported = topology(&inventory, &wishes).map_err(Failure::Usage)?;
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
        return Err(Failure::Invalid);
    };
    ui.say(&format!(
        "{}; next: put the application into ./app and say `gen-topology check`",
        model::summary(&topology)
    ));
    Ok(())
}

/// Never in the place of something else.
fn write(file: &Path, text: &str) -> anyhow::Result<()> {
    use std::io::Write as _;
    let created = std::fs::File::create_new(file);
    created
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| format!("writing {}", file.display()))
}
