//! A Docker engine of the tests' own, and the image that others begin with.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::common::{REPOSITORY, target_directory};

/// What an engine is for.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    /// Making images, in this machine's network.
    Builder,
    /// Running containers, in a network of its own.
    Runner,
}

/// An engine. Everything of it ends with it.
pub(crate) struct Engine {
    anchor: Child,
    run: tempfile::TempDir,
}

/// Why no engine can run here.
pub(crate) fn obstacle() -> Option<String> {
    let needed = [
        ("dockerd", "docker.io"),
        ("docker", "docker.io"),
        ("docker-compose", "docker-compose"),
        ("mmdebstrap", "mmdebstrap"),
        ("iptables", "iptables"),
        ("unshare", "util-linux"),
    ];
    let missing = needed.map(|(program, package)| {
        let is_missing = gen_topology::exec::find(program).is_none();
        is_missing.then(|| format!("{program} (Debian package {package}) is not here"))
    });
    if let Some(missing) = missing.into_iter().flatten().next() {
        return Some(missing);
    }
    let is_root = fs::metadata("/proc/self").is_ok_and(|own| {
        use std::os::unix::fs::MetadataExt as _;
        own.uid() == 0
    });
    (!is_root).then(|| "a Docker engine of one's own needs root".to_owned())
}

impl Engine {
    /// Starts an engine, or tells why it does not.
    pub(crate) fn start(kind: Kind) -> Result<Self, String> {
        let run = tempfile::Builder::new()
            .prefix("gen-topology-engine-")
            .tempdir()
            .expect("a directory");
        let log = run.path().join("log");
        let name = ["builder", "runner"][usize::from(kind == Kind::Runner)];
        let mut command = Command::new("unshare");
        command.args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]);
        if kind == Kind::Runner {
            command.arg("--net");
        }
        command
            .arg("sh")
            .arg(Path::new(REPOSITORY).join("tests/compose/engine.sh"))
            .arg(name)
            .arg(data())
            .arg(run.path())
            .stdin(Stdio::null())
            .stdout(File::create(&log).expect("a log"))
            .stderr(File::options().append(true).open(&log).expect("a log"));
        let anchor = command
            .spawn()
            .map_err(|error| format!("unshare: {error}"))?;
        let mut engine = Self { anchor, run };
        let limit = Instant::now() + Duration::from_secs(60);
        while !engine.docker(&["version"]).status.success() {
            let ended = engine.anchor.try_wait().expect("a child");
            if ended.is_some() || Instant::now() > limit {
                let text = fs::read_to_string(&log).unwrap_or_default();
                let last: Vec<&str> = text.lines().rev().take(3).collect();
                return Err(format!("dockerd does not start: {}", last.join("; ")));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        engine.clean();
        Ok(engine)
    }

    /// Takes away what a test that failed has left; images stay.
    fn clean(&self) {
        let kinds = [
            ("container", "--all", "rm", "--force"),
            ("volume", "--quiet", "rm", "--force"),
            ("network", "--filter=type=custom", "rm", "--"),
        ];
        for (kind, all, remove, how) in kinds {
            let ids = self.ask(&[kind, "ls", "--quiet", all]);
            let ids: Vec<&str> = ids.lines().collect();
            if !ids.is_empty() {
                self.ask(&[&[kind, remove, how], &ids[..]].concat());
            }
        }
    }

    /// A command that is meant for this engine.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let socket = self.run.path().join("docker.sock");
        command
            .env("DOCKER_HOST", format!("unix://{}", socket.display()))
            .env("DOCKER_CONFIG", self.run.path())
            .env("DOCKER_BUILDKIT", "0")
            .env("COMPOSE_HTTP_TIMEOUT", "300")
            .stdin(Stdio::null());
        command
    }

    /// A command in the engine's network: as a client of its containers.
    pub(crate) fn inside(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        let target = self.first_process().expect("the engine runs").to_string();
        command.args(["--net", "--target", &target, "--", program]);
        command
    }

    /// Runs `docker`.
    pub(crate) fn docker(&self, arguments: &[&str]) -> Output {
        let output = self.command("docker").args(arguments).output();
        output.expect("docker starts")
    }

    /// What `docker` says, if it is content.
    #[track_caller]
    pub(crate) fn ask(&self, arguments: &[&str]) -> String {
        let output = self.docker(arguments);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "docker {arguments:?}: {text}{said}"
        );
        text
    }

    /// dockerd: the child of `unshare`.
    fn first_process(&self) -> Option<u32> {
        let anchor = self.anchor.id();
        let children = fs::read_to_string(format!("/proc/{anchor}/task/{anchor}/children"));
        children.ok()?.split_whitespace().next()?.parse().ok()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Some(process) = self.first_process() {
            let mut end = Command::new("kill");
            let _ = end.args(["-TERM", &process.to_string()]).status();
        }
        let limit = Instant::now() + Duration::from_secs(15);
        while matches!(self.anchor.try_wait(), Ok(None)) && Instant::now() < limit {
            std::thread::sleep(Duration::from_millis(50));
        }
        // With it goes whatever is left.
        let _ = self.anchor.kill();
        let _ = self.anchor.wait();
        remove_groups();
    }
}

/// Control groups are this machine's and outlive their processes.
fn remove_groups() {
    let controllers = fs::read_dir("/sys/fs/cgroup")
        .into_iter()
        .flatten()
        .flatten();
    let roots = controllers.map(|entry| entry.path());
    for root in roots.chain([PathBuf::from("/sys/fs/cgroup")]) {
        remove_below(&root.join("gen-topology-tests"));
    }
}

fn remove_below(group: &Path) {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            remove_below(&entry.path());
        }
    }
    let _ = fs::remove_dir(group);
}

/// Where images stay from run to run.
fn data() -> PathBuf {
    place().join("data")
}

fn place() -> PathBuf {
    let place = target_directory().join("engine");
    fs::create_dir_all(&place).expect("a directory");
    place
}

/// Makes sure that the builder has the image debian:12, and this program in an image.
pub(crate) fn supply(builder: &Engine, program: &Path) {
    let base = place().join("debian-12.tar");
    if !base.exists() {
        let script = Path::new(REPOSITORY).join("tests/compose/base.sh");
        good(Command::new("sh").arg(script).arg(&base));
    }
    if !builder
        .docker(&["image", "inspect", "debian:12"])
        .status
        .success()
    {
        builder.ask(&["import", &base.display().to_string(), "debian:12"]);
    }
    // Without what only a debugger reads, as it is delivered.
    let room = builder.run.path().join("program");
    fs::create_dir_all(&room).expect("a directory");
    let own = room.join("gen-topology");
    let mut strip = Command::new("strip");
    if !strip
        .arg("-o")
        .arg(&own)
        .arg(program)
        .status()
        .is_ok_and(|status| status.success())
    {
        fs::copy(program, &own).expect("a copy");
    }
    // The same bytes make the same image: what is built on it is not built anew.
    let tar = room.join("program.tar");
    let mut pack = Command::new("tar");
    pack.args(["--create", "--mtime=@0", "--file"])
        .arg(&tar)
        .arg("--directory")
        .arg(&room);
    good(pack.arg("gen-topology"));
    let version = env!("CARGO_PKG_VERSION");
    let name = format!("gen-topology:{version}");
    builder.ask(&["import", &tar.display().to_string(), &name]);
}

/// Runs a command that has to succeed, and gives what it said.
#[track_caller]
pub(crate) fn good(command: &mut Command) -> String {
    let output = command.output().expect("it starts");
    let text =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    let text = text.concat();
    assert!(output.status.success(), "{command:?}: {text}");
    text
}
