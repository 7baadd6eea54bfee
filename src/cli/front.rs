//! The command line as its users see it: help with the commands in groups, completions, manual pages.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Context as _;
use clap::{Command, CommandFactory as _};

use super::command::Args;
use super::ui::Ui;
use crate::failure::Outcome;
use crate::sink::Sink as _;

/// The commands by what they are for. A test holds that each command is in one group.
const GROUPS: [(&str, &[&str]); 7] = [
    (
        "The topology",
        &["init", "import", "check", "show", "explain", "schema"],
    ),
    ("Changes", &["add", "remove", "scale", "set", "rename"]),
    ("What would happen", &["plan", "whatif", "lint"]),
    ("Files", &["generate", "export"]),
    ("On this machine", &["demo", "lab", "faults", "doctor"]),
    (
        "On the stack's machines",
        &[
            "secrets", "deploy", "rollback", "status", "drift", "logs", "exec", "run", "ssh",
            "backup", "restore",
        ],
    ),
    ("Help", &["help", "completions", "man"]),
];

/// What `help` does is clap's own.
const HELP: &str = "Print this, or the help of a command";

/// The whole command line.
pub(super) fn command() -> Command {
    let command = Args::command();
    let template = format!(
        "{{about-with-newline}}\n{{usage-heading}} {{usage}}\n{}\n{{tab}}`gen-topology help COMMAND` tells more\n\n\
         \x1b[1m\x1b[4mOptions:\x1b[0m\n{{options}}{{after-help}}",
        groups(&command)
    );
    command.help_template(template)
}

fn groups(command: &Command) -> String {
    let mut text = String::new();
    for (title, names) in GROUPS {
        let _ = write!(text, "\n\x1b[1m\x1b[4m{title}:\x1b[0m\n");
        for name in names {
            let about = command
                .find_subcommand(name)
                .and_then(Command::get_about)
                .map_or_else(|| HELP.to_owned(), ToString::to_string);
            let _ = writeln!(text, "  \x1b[1m{name:<12}\x1b[0m {about}");
        }
    }
    text
}

/// Without what only a node's own services call.
fn for_people() -> Command {
    let whole = Args::command();
    let visible = whole.get_subcommands().filter(|it| !it.is_hide_set());
    Command::new("gen-topology")
        .about(whole.get_about().cloned().unwrap_or_default())
        .long_about(whole.get_long_about().cloned().unwrap_or_default())
        .version(env!("CARGO_PKG_VERSION"))
        .args(whole.get_arguments().cloned())
        .subcommands(visible.cloned())
}

/// `completions SHELL`.
pub(super) fn completions(shell: clap_complete::Shell, ui: &mut Ui) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut for_people(), "gen-topology", &mut script);
    let script = String::from_utf8_lossy(&script);
    // clap_complete 4.6 calls a program with a hyphen by two names in one script (clap#6421).
    ui.data(&script.replace("gen__subcmd__topology", "gen__topology"))
}

/// `man DIR`.
pub(super) fn man(directory: &Path, ui: &mut Ui) -> Outcome {
    std::fs::create_dir_all(directory)
        .with_context(|| format!("creating {}", directory.display()))?;
    clap_mangen::generate_to(for_people(), directory)
        .with_context(|| format!("writing into {}", directory.display()))?;
    ui.say(&format!(
        "wrote the manual pages; `man {}/gen-topology.1` shows the first",
        directory.display()
    ));
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_command_is_in_one_group() {
        let command = Args::command();
        let visible = command.get_subcommands().filter(|it| !it.is_hide_set());
        let mut known: BTreeSet<&str> = visible.map(Command::get_name).collect();
        known.insert("help");
        let shown: Vec<&str> = GROUPS
            .iter()
            .flat_map(|(_, names)| *names)
            .copied()
            .collect();
        assert_eq!(shown.len(), known.len(), "one is in two groups, or in none");
        assert_eq!(shown.into_iter().collect::<BTreeSet<_>>(), known);
    }

    #[test]
    fn a_line_of_the_first_screen_fits() {
        for line in groups(&Args::command()).lines() {
            let plain = anstream::adapter::strip_str(line).to_string();
            assert!(plain.chars().count() <= 80, "{plain}");
        }
    }
}
