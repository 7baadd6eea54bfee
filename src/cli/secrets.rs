//! `secrets …`: the secrets of the stack's machines. The lab has its own.

use std::path::Path;

use anyhow::anyhow;
use clap::{Args as ClapArgs, Subcommand};

use super::args::{FileArg, Format, FormatArgs, Rotated};
use super::source;
use super::ui::{Tone, Ui, paint, table};
use crate::certificate::store::Store;
use crate::failure::Outcome;
use crate::secrets::{CERTIFICATES, Kind, Rotation, Secrets, TICKET_KEYS};
use crate::sink::Sink as _;

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

/// `secrets …`.
pub(super) fn run(file: Option<&Path>, command: SecretsCommand, ui: &mut Ui) -> Outcome {
    let secrets = Secrets::of_stack(&source::find(file)?);
    match command {
        SecretsCommand::Init => {
            init(&secrets, ui)?;
            tickets(file, &secrets, ui)
        }
        SecretsCommand::List(args) => list(&secrets, args.format, ui),
        SecretsCommand::Rotate { what, finish } => rotate(&secrets, what.into(), finish, ui),
    }
}

fn init(secrets: &Secrets, ui: &mut Ui) -> Outcome {
    let made = secrets.init()?;
    if made.is_empty() {
        ui.say(&format!(
            "{} has every secret; nothing to do",
            secrets.directory().display()
        ));
        return Ok(());
    }
    let names: Vec<&str> = made.iter().map(|kind| kind.file()).collect();
    ui.say(&format!(
        "made {} in {}",
        names.join(", "),
        secrets.directory().display()
    ));
    ui.say("keep a copy where you keep passwords: without them nobody administers the database");
    Ok(())
}

/// The keys of TLS sessions, where the topology has HTTPS.
fn tickets(file: Option<&Path>, secrets: &Secrets, ui: &mut Ui) -> Outcome {
    let checked = source::checked(&source::read(file)?);
    let tls = checked
        .topology
        .and_then(|topology| topology.load_balancer().tls.clone());
    let store = Store::of(secrets.directory());
    if tls.is_some() && store.init_ticket_keys()? {
        ui.say(&format!(
            "made {TICKET_KEYS} for the load balancers; certificates belong in the same directory, {}",
            secrets.directory().join(CERTIFICATES).display()
        ));
    }
    Ok(())
}

fn list(secrets: &Secrets, format: Format, ui: &mut Ui) -> Outcome {
    let counts: Vec<(Kind, usize)> = Kind::ALL
        .into_iter()
        .map(|kind| Ok((kind, secrets.count(kind)?)))
        .collect::<anyhow::Result<_>>()?;
    let state = |count: usize| match count {
        0 => "missing",
        1 => "there",
        _ => "new and old, being rotated",
    };
    if format == Format::Json {
        let list: Vec<_> = counts
            .iter()
            .map(|(kind, count)| serde_json::json!({ "name": kind.file(), "count": count, "purpose": kind.purpose() }))
            .collect();
        return ui.json(&list);
    }
    let rows: Vec<Vec<String>> = counts
        .iter()
        .map(|(kind, count)| {
            let tone = if *count == 1 {
                Tone::Good
            } else {
                Tone::Warning
            };
            vec![
                kind.file().to_owned(),
                paint(tone, state(*count)),
                kind.purpose().to_owned(),
            ]
        })
        .collect();
    ui.data(&table(&["SECRET", "STATE", "FOR"], &rows))
}

fn rotate(secrets: &Secrets, what: Rotation, finish: bool, ui: &mut Ui) -> Outcome {
    let rotating = secrets.is_rotating(what)?;
    if finish && !rotating {
        return Err(anyhow!("nothing is being rotated; begin without --finish").into());
    }
    if finish {
        secrets.finish(what)?;
        ui.say("the old ones are gone from the files; bring these to every node, databases last");
        return Ok(());
    }
    if rotating {
        return Err(anyhow!(
            "this is being rotated already; when every node has the new ones, add --finish"
        )
        .into());
    }
    secrets.begin(what)?;
    ui.say("new ones stand beside the old ones; bring both to every node, databases first");
    ui.say("when every node has them: the same command with --finish");
    Ok(())
}
