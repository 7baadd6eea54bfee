//! What the tests share: a place of its own for each, in which the program can't
//! see this machine's settings, and a way to say that a test could not run.

#![expect(clippy::expect_used, clippy::panic, reason = "a test may stop")]

pub(crate) mod lab;
pub(crate) mod machines;
pub(crate) mod turn;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, Once};
use std::time::Duration;

use assert_cmd::Command;

/// Path of the program under test.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_gen-topology");
/// This repository.
pub(crate) const REPOSITORY: &str = env!("CARGO_MANIFEST_DIR");

/// A sound topology for most tests; its app is what [`TestEnvironment::new`] writes.
pub(crate) const TOPOLOGY: &str = r#"{
  "version": 1,
  "name": "web-stack",
  "network": {
    "subnet": "10.20.0.0/24",
    "virtual_ip": "10.20.0.10"
  },
  "app": {
    "source": "./app"
  },
  "nodes": {
    "lb-1": { "tier": "load-balancer", "address": "10.20.0.16" },
    "lb-2": { "tier": "load-balancer", "address": "10.20.0.17" },
    "app-1": { "tier": "app", "address": "10.20.0.64" },
    "app-2": { "tier": "app", "address": "10.20.0.65" },
    "db-1": { "tier": "database", "address": "10.20.0.32" },
    "db-2": { "tier": "database", "address": "10.20.0.33" },
    "db-3": { "tier": "database", "address": "10.20.0.34" }
  }
}
"#;

/// A directory that goes away with it, and the program run in it with nothing of
/// this machine's environment but PATH.
pub(crate) struct TestEnvironment {
    root: tempfile::TempDir,
    real: PathBuf,
}

/// What a run of the program left.
pub(crate) struct Output {
    /// Exit code; -1 after a signal.
    pub(crate) code: i32,
    /// Standard output with the test's directory as `$TMP`.
    pub(crate) stdout: String,
    /// Standard error, likewise.
    pub(crate) stderr: String,
}

impl Output {
    /// Everything as one text, for snapshots.
    pub(crate) fn text(&self) -> String {
        let Output {
            code,
            stdout,
            stderr,
        } = self;
        format!("exit code {code}\n--- stdout\n{stdout}--- stderr\n{stderr}")
    }

    /// The same output, after making sure of the exit code.
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{}", self.text());
        assert!(!self.stderr.contains("panicked at"), "{}", self.text());
        self
    }
}

impl TestEnvironment {
    /// A directory `work` with an application in `app/` and no topology.
    pub(crate) fn new() -> Self {
        fresh_report();
        let root = tempfile::Builder::new()
            .prefix("gen-topology-test-")
            .tempdir()
            .expect("a temporary directory");
        let real = fs::canonicalize(root.path()).expect("a temporary directory");
        let environment = Self { root, real };
        for directory in ["home", "run", "tmp"] {
            fs::create_dir_all(environment.root.path().join(directory)).expect("a directory");
        }
        environment.write("app/app.py", "app = None\n");
        environment.write("app/requirements.txt", "gunicorn==1 --hash=sha256:0\n");
        environment
    }

    /// The same with `text` as topology.json.
    pub(crate) fn with(text: impl AsRef<[u8]>) -> Self {
        let environment = Self::new();
        environment.write("topology.json", text);
        environment
    }

    /// A path in the work directory.
    pub(crate) fn path(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.real.join("work").join(relative)
    }

    /// Writes a file of the work directory, and the directories it is in.
    pub(crate) fn write(&self, relative: impl AsRef<Path>, content: impl AsRef<[u8]>) {
        let path = self.path(relative);
        fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
        fs::write(&path, content).expect("a file");
    }

    /// The text of a file of the work directory.
    #[track_caller]
    pub(crate) fn read(&self, relative: impl AsRef<Path>) -> String {
        let path = self.path(relative);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// Runs the program in the work directory.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.run_in("", arguments, None)
    }

    /// Runs the program in a directory of the work directory, with standard input.
    pub(crate) fn run_in(
        &self,
        directory: impl AsRef<Path>,
        arguments: &[&str],
        input: Option<&str>,
    ) -> Output {
        let mut command = self.command();
        command.current_dir(self.path(directory)).args(arguments);
        self.finish(command.write_stdin(input.unwrap_or_default()))
    }

    /// The program with the test's environment, to be completed and given to [`Self::finish`].
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(PROGRAM);
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("NO_COLOR", "1")
            .env("COLUMNS", "100")
            .env("HOME", self.real.join("home"))
            .env("TMPDIR", self.real.join("tmp"))
            .env("XDG_CACHE_HOME", self.real.join("home/.cache"))
            .env("XDG_CONFIG_HOME", self.real.join("home/.config"))
            .env("XDG_DATA_HOME", self.real.join("home/.local/share"))
            .env("XDG_STATE_HOME", self.real.join("home/.local/state"))
            .env("XDG_RUNTIME_DIR", self.real.join("run"))
            .current_dir(self.path(""))
            .timeout(Duration::from_secs(120));
        command
    }

    /// Runs a prepared command to its end.
    pub(crate) fn finish(&self, command: &mut Command) -> Output {
        let output = command.output().expect("the program starts");
        let text = |bytes: &[u8]| {
            let text = String::from_utf8(bytes.to_vec()).expect("the program writes UTF-8");
            text.replace(&self.real.display().to_string(), "$TMP")
        };
        Output {
            code: output.status.code().unwrap_or(-1),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        }
    }
}

static REPORT: Once = Once::new();
static WRITING: Mutex<()> = Mutex::new(());

/// Where tests that could not run are listed, one a line; empty after a complete run.
fn report() -> PathBuf {
    target_directory().join("not-run.txt")
}

/// Cargo's target directory.
pub(crate) fn target_directory() -> &'static Path {
    let temporary = Path::new(env!("CARGO_TARGET_TMPDIR"));
    temporary.parent().unwrap_or(temporary)
}

/// Empties the report of the run before.
fn fresh_report() {
    REPORT.call_once(|| fs::write(report(), "").expect("the target directory can be written"));
}

/// A program that `make test` installs for the tests (`tests/tools/`), or this machine
/// has; says that the calling test can't run if there is none.
#[track_caller]
pub(crate) fn tool(name: &str) -> Option<PathBuf> {
    let installed = target_directory().join("tools-python/bin").join(name);
    let found = Some(installed)
        .filter(|path| path.is_file())
        .or_else(|| gen_topology::exec::find(name));
    if found.is_none() {
        not_run(&format!(
            "{name} is not here; `make test` fetches it where a registry of Python packages can be reached"
        ));
    }
    found
}

/// Says what a test measured, past the test harness.
pub(crate) fn note(line: &str) {
    std::io::stderr()
        .write_all(format!("{line}\n").as_bytes())
        .expect("standard error is open");
}

/// Says that the calling test could not run. The line goes past the test
/// harness, which hides what passing tests print, and into `target/not-run.txt`,
/// whose lines `make test` shows and counts at the end. With
/// `GEN_TOPOLOGY_TESTS=all` in the environment, as in CI, it fails the test instead.
#[track_caller]
pub(crate) fn not_run(why: &str) {
    fresh_report();
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    let line = format!("not run: {test}: {why}\n");
    let _writing = WRITING.lock();
    let mut file = fs::OpenOptions::new()
        .append(true)
        .open(report())
        .expect("the report is there");
    file.write_all(line.as_bytes())
        .expect("the report can be written");
    std::io::stderr()
        .write_all(line.as_bytes())
        .expect("standard error is open");
    assert!(
        std::env::var_os("GEN_TOPOLOGY_TESTS").is_none_or(|value| value != "all"),
        "{line}"
    );
}
