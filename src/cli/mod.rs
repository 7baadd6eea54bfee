//! The command line: the only code that prints, ends the process or knows clap.
//! One file per command; this one dispatches and turns failures into words and
//! exit codes.

mod apply;
mod args;
mod compare;
mod demo;
mod deploy;
mod diagnostics;
mod doctor;
mod edit;
mod faults;
mod findings;
mod generate;
mod import;
mod init;
mod inside;
mod interrupts;
mod lab;
mod lab_graph;
mod lab_host;
mod lab_logs;
mod lint;
mod load;
mod machine_backup;
mod machine_host;
mod machine_status;
mod machines;
mod model;
mod node;
mod plan;
mod rollout;
mod runs;
mod secrets;
mod source;
mod survey;
mod ui;
mod whatif;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

use args::{Args, Command};
use ui::Ui;

/// Why a command did not do what it was asked to.
#[derive(Debug)]
enum Failure {
    /// It was tried and did not work. Exit code 1.
    Failed(anyhow::Error),
    /// Nothing is wrong, and something would change. Exit code 2.
    Differs,
    /// The topology has problems, which were printed. Exit code 3.
    Invalid,
    /// A gate stayed closed, and what was begun was undone. Exit code 5.
    RolledBack(anyhow::Error),
    /// An outage lasted longer than promised; the report was printed. Exit code 6.
    Budget,
    /// The command line makes no sense. Exit code 64, as in sysexits.h.
    Usage(String),
    /// Ended by Ctrl-C with everything in order. Exit code 130.
    Interrupted(String),
    /// Another program has to be imitated: its exit code, whatever it was.
    Status(u8),
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Failure::Failed(error.into())
    }
}

type Outcome = Result<(), Failure>;

/// Parses the arguments of this process and does what they say.
pub fn main() -> ExitCode {
    let args = match Args::try_parse() {
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
    match outcome {
        Ok(()) => 0,
        Err(Failure::Failed(error)) => {
            // A reader that went away (`| head`) is no failure of ours.
            if error.chain().any(is_broken_pipe) {
                return 0;
            }
            ui.error(&error);
            1
        }
        Err(Failure::Differs) => 2,
        Err(Failure::Invalid) => 3,
        Err(Failure::RolledBack(error)) => {
            ui.error(&error);
            5
        }
        Err(Failure::Budget) => 6,
        Err(Failure::Usage(message)) => {
            ui.error(&anyhow::anyhow!(message));
            64
        }
        Err(Failure::Interrupted(message)) => {
            ui.say(&format!("interrupted: {message}"));
            130
        }
        Err(Failure::Status(code)) => code,
    }
}

fn is_broken_pipe(error: &(dyn std::error::Error + 'static)) -> bool {
    error
        .downcast_ref::<std::io::Error>()
        .is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

fn dispatch(args: Args, ui: &mut Ui) -> Outcome {
    let before = args.file;
    let file = |behind: &Option<PathBuf>| behind.clone().or_else(|| before.clone());
    match args.command {
        Command::Init(args) => init::run(&args, ui),
        Command::Check(args) => model::check(file(&args.file.file).as_deref(), &args, ui),
        Command::Show {
            file: behind,
            format,
        } => model::show(file(&behind.file).as_deref(), &format, ui),
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
        Command::Whatif(args) => whatif::run(file(&args.file.file).as_deref(), &args, ui),
        Command::Lint(args) => lint::run(file(&args.file.file).as_deref(), &args, ui),
        Command::Secrets(args) => secrets::run(file(&args.file.file).as_deref(), args.command, ui),
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
        Command::Logs(args) => machines::logs(file(&args.file).as_deref(), &args, ui),
        Command::Lab(args) => lab::run(file(&args.file).as_deref(), args, ui),
        Command::Demo(args) => demo::run(file(&args.file.file).as_deref(), &args, ui),
        Command::Faults(args) => faults::run(file(&args.file).as_deref(), args, ui),
        Command::Doctor(args) => doctor::run(&args, ui),
        Command::Node(args) => node::run(args, ui),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Args::command(), "gen-topology", &mut script);
            ui.data(&String::from_utf8_lossy(&script))
        }
    }
}
