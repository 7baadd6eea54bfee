//! The command line: the only code that prints, ends the process or knows clap.
//! One file per command; this one dispatches and turns failures into words and
//! exit codes.

mod apply;
mod args;
mod certificates;
mod command;
mod compare;
mod demo;
mod deploy;
mod diagnostics;
mod doctor;
mod edit;
mod export;
mod faults;
mod faults_run;
mod findings;
mod flows;
mod front;
mod generate;
mod import;
mod init;
mod inside;
mod interrupts;
mod lab;
mod lab_graph;
mod lab_logs;
mod lab_up;
mod lab_watch;
mod lab_way;
mod lint;
mod lint_files;
mod load;
mod machine_backup;
mod machine_status;
mod machines;
mod model;
mod node;
mod plan;
mod plan_text;
mod request;
mod requirements;
mod rollout;
mod runs;
mod secrets;
mod source;
mod starters;
mod status;
mod ui;
mod whatif;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::FromArgMatches as _;

use command::{Args, Command};
use ui::Ui;

use crate::failure::{Failure, Outcome};
use crate::sink::Sink as _;

/// Parses the arguments of this process and does what they say.
pub fn main() -> ExitCode {
    let parsed = front::command().try_get_matches();
    let args = match parsed.and_then(|matches| Args::from_arg_matches(&matches)) {
        Ok(args) => args,
        Err(error) => {
            // Help and version go to standard output and are no error.
            let code = if error.use_stderr() { 64 } else { 0 };
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    let mut ui = Ui::new(args.color, args.quiet);
    let outcome = dispatch(args, &mut ui);
    ExitCode::from(finish(outcome, &mut ui))
}

fn finish(outcome: Outcome, ui: &mut Ui) -> u8 {
    let Err(failure) = outcome else {
        return 0;
    };
    let code = failure.code();
    match failure {
        Failure::Failed(error) if code != 0 => ui.error(&error),
        Failure::RolledBack(error) => ui.error(&error),
        Failure::Usage(message) => ui.error(&anyhow::anyhow!(message)),
        Failure::Interrupted(message) => ui.say(&format!("interrupted: {message}")),
        _ => {}
    }
    code
}

fn dispatch(args: Args, ui: &mut Ui) -> Outcome {
    let before = args.file;
    let file = |behind: &Option<PathBuf>| behind.clone().or_else(|| before.clone());
    match args.command {
        Command::Init(args) => init::run(&args, ui),
        Command::Check(args) => model::check(file(&args.file.file).as_deref(), &args, ui),
        Command::Show(args) => model::show(file(&args.file.file).as_deref(), &args, ui),
        Command::Schema => ui.data(&model::schema_text()?),
        Command::Explain(args) => model::explain(&args, ui),
        Command::Add(args) => edit::add(file(&args.edit.file.file).as_deref(), &args, ui),
        Command::Remove(args) => edit::remove(file(&args.edit.file.file).as_deref(), &args, ui),
        Command::Scale(args) => edit::scale(file(&args.edit.file.file).as_deref(), &args, ui),
        Command::Import(args) => import::run(&args, ui),
        Command::Set(args) => edit::set(file(&args.edit.file.file).as_deref(), &args, ui),
        Command::Rename(args) => edit::rename(file(&args.edit.file.file).as_deref(), &args, ui),
        Command::Plan(args) => plan::run(file(&args.file.file).as_deref(), &args, ui),
        Command::Generate(args) => generate::run(file(&args.file.file).as_deref(), &args, ui),
        Command::Export(args) => export::run(file(&args.file.file).as_deref(), &args, ui),
        Command::Whatif(args) => whatif::run(file(&args.file.file).as_deref(), &args, ui),
        Command::Lint(args) => lint::run(file(&args.file.file).as_deref(), &args, ui),
        Command::Secrets(args) => secrets::run(file(&args.file).as_deref(), args.command, ui),
        Command::Deploy(args) => deploy::run(file(&args.file.file).as_deref(), &args, ui),
        Command::Rollback(args) => deploy::rollback(file(&args.file.file).as_deref(), &args, ui),
        Command::Status(args) => machine_status::run(file(&args.file.file).as_deref(), &args, ui),
        Command::Drift(args) => machines::drift(file(&args.file.file).as_deref(), &args, ui),
        Command::Backup(args) => {
            machine_backup::back_up(file(&args.file.file).as_deref(), &args, ui)
        }
        Command::Restore(args) => {
            machine_backup::put_back(file(&args.file.file).as_deref(), &args, ui)
        }
        Command::Ssh(args) => machines::ssh(file(&args.file.file).as_deref(), &args, ui),
        Command::Exec(args) => machines::exec(file(&args.file.file).as_deref(), &args, ui),
        Command::Run(args) => machines::run(file(&args.file.file).as_deref(), args, ui),
        Command::Logs(args) => machines::logs(file(&args.file).as_deref(), &args, ui),
        Command::Lab(args) => lab::run(file(&args.file).as_deref(), args, ui),
        Command::Demo(args) => demo::run(file(&args.file.file).as_deref(), &args, ui),
        Command::Faults(args) => faults::run(file(&args.file).as_deref(), args, ui),
        Command::Doctor(args) => doctor::run(&args, ui),
        Command::Node(args) => node::run(args, ui),
        Command::Completions { shell } => front::completions(shell, ui),
        Command::Man { directory } => front::man(&directory, ui),
    }
}
