//! Running programs: what was run is part of every error, what it said too, and
//! nothing runs for ever.

use std::io::{self, Read, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};

use crate::wait;

/// The command line of `command`, quoted as a shell would need it.
pub fn argv(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<String> = words
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    shlex::try_join(words.iter().map(String::as_str)).unwrap_or_else(|_| words.join(" "))
}

/// How long a program may run unless the caller says otherwise: longer than anything that
/// only asks or changes something on this machine.
pub const LIMIT: Duration = Duration::from_secs(10 * 60);

/// How long builds, downloads and copies may run.
pub const LONG: Duration = Duration::from_secs(6 * 60 * 60);

/// Runs `command` to its end, gives it `input`, and returns what it wrote to standard output.
///
/// # Errors
/// If it can't be started, ends with another status than 0 or does not end within [`LIMIT`];
/// the error holds the command line and what it wrote to standard error.
pub fn run(command: &mut Command, input: Option<&str>) -> anyhow::Result<String> {
    run_within(command, input, LIMIT)
}

/// Does what [`run`] does for a command that may take `limit`.
///
/// # Errors
/// As [`run`].
pub fn run_within(
    command: &mut Command,
    input: Option<&str>,
    limit: Duration,
) -> anyhow::Result<String> {
    let output = output_within(command, input, limit)?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let said = if said.trim().is_empty() {
            String::from_utf8_lossy(&output.stdout)
        } else {
            said
        };
        bail!(
            "`{}` ended with {}: {}",
            argv(command),
            output.status,
            said.trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs `command` to its end and returns all it said, whatever its status.
///
/// # Errors
/// If it can't be started or does not end within [`LIMIT`].
pub fn output(command: &mut Command, input: Option<&str>) -> anyhow::Result<Output> {
    output_within(command, input, LIMIT)
}

/// Does what [`output`] does for a command that may take `limit`. A command that takes longer
/// is killed.
///
/// # Errors
/// If it can't be started or does not end in time.
pub fn output_within(
    command: &mut Command,
    input: Option<&str>,
    limit: Duration,
) -> anyhow::Result<Output> {
    let deadline = Instant::now() + limit;
    command.stdin(if input.is_some() {
        Stdio::piped()
    } else {
        Stdio::null()
    });
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command
        .spawn()
        .with_context(|| format!("starting `{}`", argv(command)))?;
    // Input is written while output is read: a program that answers before it has read all
    // would wait for a reader, and the writer for it.
    if let (Some(text), Some(mut pipe)) = (input, child.stdin.take()) {
        let text = text.to_owned();
        // A program that ends without reading is judged by its status.
        thread::spawn(move || pipe.write_all(text.as_bytes()));
    }
    let said = child.stdout.take().map(read_all);
    let wrong = child.stderr.take().map(read_all);
    let finished = gather(said, deadline).and_then(|stdout| {
        let stderr = gather(wrong, deadline)?;
        let status = end(&mut child, deadline)?;
        Ok(Output {
            status,
            stdout,
            stderr,
        })
    });
    if finished.is_err() {
        let _ = child.kill();
        let _ = child.wait();
    }
    finished.map_err(|error| match error {
        Unfinished::Late => anyhow!(
            "`{}` did not end within {} s and was killed",
            argv(command),
            limit.as_secs_f32()
        ),
        Unfinished::Broken(error) => {
            anyhow::Error::new(error).context(format!("waiting for `{}`", argv(command)))
        }
    })
}

/// Why there is no output.
enum Unfinished {
    Late,
    Broken(io::Error),
}

/// Reads `pipe` to its end in a thread of its own, which ends with the pipe: a program that
/// the killed one has started may hold it longer, and nothing waits for that.
fn read_all(mut pipe: impl Read + Send + 'static) -> Receiver<io::Result<Vec<u8>>> {
    let (sender, receiver) = mpsc::sync_channel(1);
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let read = pipe.read_to_end(&mut bytes).map(|_| bytes);
        let _ = sender.send(read);
    });
    receiver
}

fn gather(
    from: Option<Receiver<io::Result<Vec<u8>>>>,
    deadline: Instant,
) -> Result<Vec<u8>, Unfinished> {
    let Some(from) = from else {
        return Ok(Vec::new());
    };
    let left = deadline.saturating_duration_since(Instant::now());
    match from.recv_timeout(left) {
        Ok(read) => read.map_err(Unfinished::Broken),
        Err(RecvTimeoutError::Timeout) => Err(Unfinished::Late),
        Err(RecvTimeoutError::Disconnected) => {
            let why = io::Error::other("its output could not be read");
            Err(Unfinished::Broken(why))
        }
    }
}

/// Waits for a program that has closed its output: it ends in a moment.
fn end(child: &mut Child, deadline: Instant) -> Result<ExitStatus, Unfinished> {
    let left = deadline.saturating_duration_since(Instant::now());
    wait::some(left, Duration::from_millis(1), || {
        child.try_wait().transpose()
    })
    .ok_or(Unfinished::Late)?
    .map_err(Unfinished::Broken)
}

/// Where `program` is: on PATH, or in the directories for administration that a
/// user's PATH leaves out on Debian.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let extra = ["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin", "/bin"];
    std::env::split_paths(&path)
        .chain(extra.iter().map(PathBuf::from))
        .map(|directory| directory.join(program))
        .find(|file| is_executable(file))
}

/// This command, for whoever finds a lock of ours taken: its words and its process id.
pub fn me() -> String {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let user = std::env::var("USER").map_or_else(|_| String::new(), |user| format!(" of {user}"));
    format!(
        "`gen-topology {}` (process {}{user})",
        words.join(" "),
        std::process::id()
    )
}

fn is_executable(file: &std::path::Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    file.metadata()
        .is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

/// Does the same for all `items`, `at_once` of them at the same time, and keeps their order.
pub fn in_parallel<'i, T: Sync, R: Send>(
    items: &'i [T],
    at_once: usize,
    work: impl Fn(&'i T) -> R + Sync,
) -> Vec<R> {
    let mut done = Vec::with_capacity(items.len());
    for group in items.chunks(at_once.max(1)) {
        let work = &work;
        done.extend(std::thread::scope(|scope| {
            let threads: Vec<_> = group
                .iter()
                .map(|item| scope.spawn(move || work(item)))
                .collect();
            let results = threads.into_iter().map(|thread| {
                thread
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            });
            results.collect::<Vec<R>>()
        }));
    }
    done
}

/// What everybody gave, or what all went wrong with those that failed.
///
/// # Errors
/// If one of them has failed.
pub fn all_of<T>(results: Vec<anyhow::Result<T>>) -> Result<Vec<T>, Vec<anyhow::Error>> {
    let mut all = Vec::with_capacity(results.len());
    let mut problems = Vec::new();
    for result in results {
        match result {
            Ok(one) => all.push(one),
            Err(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() {
        Ok(all)
    } else {
        Err(problems)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_may_answer_before_it_has_read_all() {
        let text = "0123456789abcdef".repeat(1 << 16);
        let said = run_within(
            &mut Command::new("cat"),
            Some(&text),
            Duration::from_secs(20),
        );
        assert_eq!(said.map(|said| said == text).ok(), Some(true));
    }

    #[test]
    fn a_program_may_end_without_reading() {
        let text = "0123456789abcdef".repeat(1 << 16);
        let said = run(Command::new("sh").args(["-c", "echo done"]), Some(&text));
        assert_eq!(said.ok().as_deref(), Some("done\n"));
    }

    #[test]
    fn both_outputs_are_read_at_the_same_time() {
        let script = "head -c 1000000 /dev/zero >&2; head -c 1000000 /dev/zero";
        let output = output(Command::new("sh").args(["-c", script]), None);
        let lengths = output.map(|output| (output.stdout.len(), output.stderr.len()));
        assert_eq!(lengths.ok(), Some((1_000_000, 1_000_000)));
    }

    #[test]
    fn a_program_that_does_not_end_is_killed() {
        let begun = Instant::now();
        // What it has started holds its output, and outlives it.
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 20 & sleep 20"]);
        let said = run_within(&mut command, None, Duration::from_millis(100));
        let said = said.map_err(|error| error.to_string());
        assert_eq!(
            said,
            Err("`sh -c 'sleep 20 & sleep 20'` did not end within 0.1 s and was killed".into())
        );
        assert!(begun.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn the_limit_holds_for_a_program_that_has_closed_its_output() {
        let mut command = Command::new("sh");
        command.args(["-c", "exec >&- 2>&-; exec sleep 20"]);
        let said = run_within(&mut command, None, Duration::from_millis(100));
        assert!(said.is_err_and(|error| error.to_string().contains("was killed")));
    }

    #[test]
    fn errors_hold_the_command_line_and_what_was_said() {
        let said = run(Command::new("sh").args(["-c", "echo no >&2; exit 3"]), None);
        let said = said.map_err(|error| error.to_string());
        assert_eq!(
            said,
            Err("`sh -c 'echo no >&2; exit 3'` ended with exit status: 3: no".into())
        );
    }
}
