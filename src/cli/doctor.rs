//! `doctor`: what this machine lacks for a lab, and the one command that installs it.

use std::path::Path;

use serde_json::json;

use super::args::{Format, FormatArgs};
use super::ui::{Tone, Ui, paint, table};
use crate::exec;
use crate::failure::{Failure, Outcome};
use crate::lab::supplies::{self, TOOLS};
use crate::sink::Sink as _;

/// `doctor`.
pub(super) fn run(args: &FormatArgs, ui: &mut Ui) -> Outcome {
    let missing = supplies::missing();
    let mongod = supplies::mongod()?;
    let namespaces = namespaces();
    if args.format == Format::Json {
        let tools: Vec<_> = TOOLS
            .iter()
            .map(|tool| json!({ "program": tool.program, "package": tool.package, "path": supplies::locate(tool.program) }))
            .collect();
        ui.json(&json!({ "tools": tools, "mongod": mongod, "namespaces": namespaces.as_ref().err().map_or("ok", String::as_str) }))?;
    } else {
        let mut rows: Vec<Vec<String>> = TOOLS
            .iter()
            .map(|tool| {
                let found = supplies::locate(tool.program).map(|path| path.display().to_string());
                let state = found.unwrap_or_else(|| paint(Tone::Bad, "missing"));
                vec![tool.program.into(), state, tool.purpose.into()]
            })
            .collect();
        let mongod = mongod.map_or_else(
            || {
                paint(
                    Tone::Warning,
                    "not here; `lab up` fetches 6.0.5, pinned by hash",
                )
            },
            |path| path.display().to_string(),
        );
        rows.push(vec!["mongod".into(), mongod, "the database".into()]);
        let mongos = exec::find(supplies::MONGOS).map_or_else(
            || "not here; only sharded stacks need it".to_owned(),
            |path| path.display().to_string(),
        );
        rows.push(vec![
            "mongos".into(),
            mongos,
            "the router of a sharded database".into(),
        ]);
        let namespaces = match &namespaces {
            Ok(()) => "possible".into(),
            Err(why) => paint(Tone::Bad, why),
        };
        rows.push(vec![
            "namespaces".into(),
            namespaces,
            "each node has its own".into(),
        ]);
        ui.data(&table(&["WHAT", "WHERE", "FOR"], &rows))?;
    }
    if !missing.is_empty() {
        ui.say(&supplies::install_command(&missing));
    }
    if missing.is_empty() && namespaces.is_ok() {
        ui.say("everything is there; next: `gen-topology lab up`");
        return Ok(());
    }
    Err(Failure::Failed(anyhow::anyhow!(
        "this machine can't run a lab yet"
    )))
}

/// Whether the kernel gives this user namespaces.
fn namespaces() -> Result<(), String> {
    let unshare = exec::find("unshare").ok_or("unshare is missing")?;
    let mut command = std::process::Command::new(unshare);
    if !rustix::process::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command.args(["--mount", "--net", "--pid", "--uts", "--fork", "true"]);
    let restricted = Path::new("/proc/sys/kernel/apparmor_restrict_unprivileged_userns");
    exec::run(&mut command, None).map(drop).map_err(|error| {
        let hint = if restricted.exists() {
            " (AppArmor may forbid them; run as root)"
        } else {
            ""
        };
        format!("{error:#}{hint}")
    })
}
