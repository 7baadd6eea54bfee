//! Running programs: what was run is part of every error, what it said too, and
//! nothing runs for ever.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

/// The command line of `command`, quoted as a shell would need it.
pub fn argv(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<String> = words
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    shlex::try_join(words.iter().map(String::as_str)).unwrap_or_else(|_| words.join(" "))
}

/// Runs `command` to its end, gives it `input`, and returns what it wrote to standard output.
///
/// # Errors
/// If it can't be started or ends with another status than 0; the error holds the
/// command line and what it wrote to standard error.
pub fn run(command: &mut Command, input: Option<&str>) -> anyhow::Result<String> {
    let output = output(command, input)?;
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
pub fn output(command: &mut Command, input: Option<&str>) -> anyhow::Result<Output> {
    command.stdin(if input.is_some() {
        Stdio::piped()
    } else {
        Stdio::null()
    });
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command
        .spawn()
        .with_context(|| format!("starting `{}`", argv(command)))?;
    if let (Some(text), Some(mut pipe)) = (input, child.stdin.take()) {
        // A program that ends without reading is judged by its status.
        let _ = pipe.write_all(text.as_bytes());
    }
    child
        .wait_with_output()
        .with_context(|| format!("waiting for `{}`", argv(command)))
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

/// Calls `ready` until it says yes or `patience` is over; whether it said yes.
pub fn wait_until(patience: Duration, mut ready: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + patience;
    loop {
        if ready() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
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
