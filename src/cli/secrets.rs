//! `secrets …`: the secrets of the stack's machines. The lab has its own.

use std::io::{IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use clap::{Args as ClapArgs, Subcommand};

use super::args::{Format, FormatArgs, Rotated};
use super::source;
use super::ui::{Tone, Ui, paint, table};
use crate::certificate::store::Store;
use crate::failure::Outcome;
use crate::secrets::{APP, AppSecrets, CERTIFICATES, Kind, Rotation, Secrets, TICKET_KEYS};
use crate::sink::Sink as _;
use crate::topology::{Topology, did_you_mean};

#[derive(Debug, ClapArgs)]
#[command(disable_help_subcommand = true)]
pub(super) struct SecretsArgs {
    /// Topology file; `-` is standard input [default: topology.json here or in a directory above]
    #[arg(short, long, global = true, value_name = "FILE")]
    pub file: Option<PathBuf>,
    #[command(subcommand)]
    pub command: SecretsCommand,
}

#[derive(Debug, Subcommand)]
pub(super) enum SecretsCommand {
    /// Make what is missing, in .gen-topology/secrets beside the topology file
    Init,
    /// Tell which secrets there are; never what they are
    List(FormatArgs),
    /// Take the value of one of `app.secrets` from standard input; again to exchange it
    Set {
        /// Name of the secret
        name: String,
        /// Make a random value instead
        #[arg(long)]
        random: bool,
    },
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
            let topology = source::checked(&source::read(file)?).topology;
            init(&secrets, topology.as_ref(), ui)?;
            tickets(topology.as_ref(), &secrets, ui)?;
            tell_missing(topology.as_ref(), &secrets, ui);
            Ok(())
        }
        SecretsCommand::List(args) => {
            let topology = source::checked(&source::read(file)?).topology;
            list(&secrets, topology.as_ref(), args.format, ui)
        }
        SecretsCommand::Set { name, random } => set(file, &secrets, &name, random, ui),
        SecretsCommand::Rotate { what, finish } => rotate(&secrets, what.into(), finish, ui),
    }
}

fn init(secrets: &Secrets, topology: Option<&Topology>, ui: &mut Ui) -> Outcome {
    if topology.is_some_and(|topology| topology.database().is_none()) {
        ui.say("this stack has no database, and so no secrets of one");
        return Ok(());
    }
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
fn tickets(topology: Option<&Topology>, secrets: &Secrets, ui: &mut Ui) -> Outcome {
    let tls = topology.and_then(|topology| topology.load_balancer().tls.as_ref());
    let store = Store::of(secrets.directory());
    if tls
        .as_ref()
        .is_some_and(|tls| tls.certificates.acme().is_some())
        && store.init_acme_keys()?
    {
        ui.say("made the keys of the ACME account and of its certificate; all load balancers need both");
    }
    if tls.is_some() && store.init_ticket_keys()? {
        ui.say(&format!(
            "made {TICKET_KEYS} for the load balancers; certificates belong in the same directory, {}",
            secrets.directory().join(CERTIFICATES).display()
        ));
    }
    Ok(())
}

/// What only a person can give.
fn tell_missing(topology: Option<&Topology>, secrets: &Secrets, ui: &mut Ui) {
    let names = topology.map(Topology::app_secrets).unwrap_or_default();
    let app = AppSecrets::of(secrets);
    for name in app.missing(names.iter().map(String::as_str)) {
        ui.say(&format!(
            "{name} of `app.secrets` has no value yet: `gen-topology secrets set {name}` takes one"
        ));
    }
}

/// A value of the application's own, from standard input.
fn set(file: Option<&Path>, secrets: &Secrets, name: &str, random: bool, ui: &mut Ui) -> Outcome {
    let (_, topology) = source::load(file, ui)?;
    let known = topology.app_secrets();
    if !known.iter().any(|known| known == name) {
        let names: Vec<&str> = known.iter().map(String::as_str).collect();
        let hint = match did_you_mean(name, names.iter().copied()) {
            Some(meant) => format!("did you mean {meant}?"),
            None if names.is_empty() => {
                format!("`gen-topology set app.secrets.{name} '{{}}'` names it")
            }
            None => format!("there are {}", names.join(", ")),
        };
        return Err(anyhow!("`app.secrets` has no {name}; {hint}").into());
    }
    let app = AppSecrets::of(secrets);
    let was_there = app.has(name);
    if random {
        app.make(name)?;
    } else {
        if std::io::stdin().is_terminal() {
            ui.say(&format!("the value of {name}, ended by Ctrl-D:"));
        }
        let mut value = Vec::new();
        std::io::stdin()
            .read_to_end(&mut value)
            .context("reading standard input")?;
        let end = value.iter().rposition(|byte| !b"\r\n".contains(byte));
        value.truncate(end.map_or(0, |last| last + 1));
        app.set(name, &value)?;
    }
    let what = if was_there { "exchanged" } else { "there" };
    ui.say(&format!(
        "{name} is {what}, in {}",
        app.path(name).display()
    ));
    ui.say("in the lab `gen-topology lab apply` restarts the application with it; bring the file to each app server");
    Ok(())
}

fn list(secrets: &Secrets, topology: Option<&Topology>, format: Format, ui: &mut Ui) -> Outcome {
    let kinds: &[Kind] = match topology {
        Some(topology) if topology.database().is_none() => &[],
        _ => &Kind::ALL,
    };
    let counts: Vec<(Kind, usize)> = kinds
        .iter()
        .map(|kind| Ok((*kind, secrets.count(*kind)?)))
        .collect::<anyhow::Result<_>>()?;
    let mut all: Vec<(String, usize, &str)> = counts
        .iter()
        .map(|(kind, count)| (kind.file().to_owned(), *count, kind.purpose()))
        .collect();
    let app = AppSecrets::of(secrets);
    for name in topology.iter().flat_map(|topology| topology.app_secrets()) {
        let purpose = "the application's own, a variable of that name";
        all.push((
            format!("{APP}/{name}"),
            usize::from(app.has(&name)),
            purpose,
        ));
    }
    let state = |count: usize| match count {
        0 => "missing",
        1 => "there",
        _ => "new and old, being rotated",
    };
    if format == Format::Json {
        let list: Vec<_> = all
            .iter()
            .map(|(name, count, purpose)| serde_json::json!({ "name": name, "count": count, "purpose": purpose }))
            .collect();
        return ui.json(&list);
    }
    let rows: Vec<Vec<String>> = all
        .iter()
        .map(|(name, count, purpose)| {
            let tone = if *count == 1 {
                Tone::Good
            } else {
                Tone::Warning
            };
            vec![
                name.clone(),
                paint(tone, state(*count)),
                (*purpose).to_owned(),
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
