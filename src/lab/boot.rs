//! Turning a fresh set of namespaces into a node: its own root directory, host
//! name and address, and then the node's first process in our place.
//!
//! The node sees the system's directories of this machine read-only, its own
//! `/etc`, `/var/lib` and `/var/log` (directories of the lab), and empty `/run`
//! and `/tmp`. Nothing else of this machine is there.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};
use rustix::fs::{StatVfsMountFlags, statvfs};
use rustix::mount::{
    MountFlags, UnmountFlags, mount, mount_bind_recursive, mount_remount, unmount,
};

use super::{NodePlan, net, supplies};
use crate::config::FIREWALL_FILE;
use crate::exec;

/// Files and directories of this machine's /etc that programs need to run at all.
const HOST_ETC: [&str; 12] = [
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "passwd",
    "group",
    "nsswitch.conf",
    "localtime",
    "ssl",
    "alternatives",
    "python3",
    "python3.11",
    "mime.types",
];

/// Directories below a node's own that become its /etc, /var/lib and /var/log.
const OWN: [(&str, &str); 3] = [("etc", "/etc"), ("lib", "/var/lib"), ("log", "/var/log")];

/// Directories that daemons expect to find.
const EXPECTED: [&str; 14] = [
    "/run/gen-topology",
    "/run/haproxy",
    "/run/keepalived",
    "/run/supervisor",
    "/run/nginx",
    "/run/lock",
    "/var/lib/mongodb",
    "/var/lib/nginx",
    "/var/lib/haproxy",
    "/var/log/nginx",
    "/var/log/mongodb",
    "/var/log/supervisor",
    "/var/log/gunicorn",
    "/var/log/haproxy",
];

/// Boots the node whose directory is given; returns only with an error.
///
/// # Errors
/// If a mount is refused, the cable does not come or the first process can't be started.
pub fn run(directory: &Path) -> anyhow::Result<std::convert::Infallible> {
    let plan = inhabit(directory)?;
    // Whoever started us says when the cable is plugged in.
    let mut word = String::new();
    std::io::stdin()
        .read_to_string(&mut word)
        .context("waiting for the cable")?;
    if word.trim() != "plugged" {
        bail!("nobody plugged the cable in");
    }
    // Not for the stack, and it would add chatter to each measurement.
    let _ = fs::write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1");
    // Before there is an address to reach, and before anything listens.
    firewall()?;
    batch(&net::address(&plan.interface, plan.address, plan.prefix))?;
    let (program, arguments) = plan
        .init
        .split_first()
        .context("the plan names no first process")?;
    let error = Command::new(program)
        .args(arguments)
        .stdin(std::process::Stdio::null())
        .env_clear()
        .env(
            "PATH",
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        )
        .env("HOME", "/root")
        .env("LANG", "C.UTF-8")
        .exec();
    Err(error).with_context(|| format!("starting {program}"))
}

/// Makes the node's root ours, as for a boot, with an interface that leads nowhere.
///
/// # Errors
/// If a mount is refused.
pub(super) fn enter(directory: &Path) -> anyhow::Result<NodePlan> {
    let plan = inhabit(directory)?;
    batch(&format!(
        "link add {} type veth peer name nowhere\n{}",
        plan.interface,
        net::address(&plan.interface, plan.address, plan.prefix)
    ))?;
    Ok(plan)
}

/// The node's root and name, for this process.
fn inhabit(directory: &Path) -> anyhow::Result<NodePlan> {
    let text =
        fs::read_to_string(directory.join("plan.json")).context("reading the node's plan")?;
    let plan: NodePlan = serde_json::from_str(&text).context("reading the node's plan")?;
    furnish(directory, &plan)?;
    rustix::system::sethostname(plan.name.as_bytes()).context("setting the host name")?;
    Ok(plan)
}

fn batch(text: &str) -> anyhow::Result<()> {
    let ip = exec::find("ip").context("ip is missing")?;
    exec::run(Command::new(ip).args(["-batch", "-"]), Some(text)).map(drop)
}

/// Loads the node's firewall.
fn firewall() -> anyhow::Result<()> {
    let nft = exec::find("nft").context("nft is missing")?;
    let file = Path::new("/etc").join(FIREWALL_FILE);
    exec::run(Command::new(nft).arg("-f").arg(file), None)
        .map(drop)
        .context("loading the node's firewall")
}

fn furnish(directory: &Path, plan: &NodePlan) -> anyhow::Result<()> {
    let root = directory.join("root");
    fs::create_dir_all(&root)?;
    let plain = MountFlags::NOSUID | MountFlags::NODEV;
    mount("tmpfs", &root, "tmpfs", plain, Some(c"mode=0755"))
        .context("mounting the node's root")?;
    for system in supplies::SYSTEM {
        system_directory(&root, Path::new(system))?;
    }
    for (own, inside) in OWN {
        let outside = directory.join(own);
        fs::create_dir_all(&outside)?;
        bind(&outside, &below(&root, inside), false)?;
    }
    for name in HOST_ETC {
        let outside = Path::new("/etc").join(name);
        if outside.exists() {
            bind(&outside, &root.join("etc").join(name), true)?;
        }
    }
    devices(&root)?;
    fs::create_dir_all(root.join("proc"))?;
    let flags = plain | MountFlags::NOEXEC;
    mount("proc", root.join("proc"), "proc", flags, None).context("mounting /proc")?;
    bind(Path::new("/sys"), &root.join("sys"), false)?;
    for (name, mode) in [("run", c"mode=0755"), ("tmp", c"mode=1777")] {
        fs::create_dir_all(root.join(name))?;
        mount("tmpfs", root.join(name), "tmpfs", plain, Some(mode))
            .with_context(|| format!("mounting /{name}"))?;
    }
    for (outside, inside) in &plan.binds {
        // `join` leaves an absolute path as it is.
        bind(&directory.join(outside), &below(&root, inside), true)?;
    }
    for path in EXPECTED {
        fs::create_dir_all(below(&root, path))?;
    }
    for path in ["root", "home", "var/tmp", "var/cache"] {
        fs::create_dir_all(root.join(path))?;
    }
    symlink("/run", root.join("var/run"))?;
    pivot(&root)
}

/// A system directory, or the link that stands in its place (`/bin` → `usr/bin`).
fn system_directory(root: &Path, system: &Path) -> anyhow::Result<()> {
    let Ok(data) = system.symlink_metadata() else {
        return Ok(());
    };
    let inside = below(root, system);
    if data.is_symlink() {
        return symlink(fs::read_link(system)?, &inside)
            .with_context(|| format!("linking {}", inside.display()));
    }
    bind(system, &inside, true)
}

fn devices(root: &Path) -> anyhow::Result<()> {
    let dev = root.join("dev");
    fs::create_dir_all(&dev)?;
    mount(
        "tmpfs",
        &dev,
        "tmpfs",
        MountFlags::NOSUID,
        Some(c"mode=0755"),
    )
    .context("mounting /dev")?;
    for name in ["null", "zero", "full", "random", "urandom", "tty"] {
        bind(&Path::new("/dev").join(name), &dev.join(name), false)?;
    }
    for (name, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "fd/0"),
        ("stdout", "fd/1"),
        ("stderr", "fd/2"),
        ("ptmx", "pts/ptmx"),
    ] {
        symlink(target, dev.join(name))?;
    }
    fs::create_dir_all(dev.join("shm"))?;
    fs::create_dir_all(dev.join("pts"))?;
    let plain = MountFlags::NOSUID | MountFlags::NODEV;
    mount("tmpfs", dev.join("shm"), "tmpfs", plain, Some(c"mode=1777"))
        .context("mounting /dev/shm")?;
    let terminals = MountFlags::NOSUID | MountFlags::NOEXEC;
    mount(
        "devpts",
        dev.join("pts"),
        "devpts",
        terminals,
        Some(c"newinstance,ptmxmode=0666,mode=0620"),
    )
    .context("mounting /dev/pts")
}

/// Shows `outside` at `inside`, with what is mounted below it.
fn bind(outside: &Path, inside: &Path, read_only: bool) -> anyhow::Result<()> {
    let what = || format!("showing {} as {}", outside.display(), inside.display());
    if outside.is_dir() {
        fs::create_dir_all(inside).with_context(what)?;
    } else {
        if let Some(parent) = inside.parent() {
            fs::create_dir_all(parent).with_context(what)?;
        }
        if !inside.exists() {
            fs::write(inside, "").with_context(what)?;
        }
    }
    mount_bind_recursive(outside, inside).with_context(what)?;
    if read_only {
        // What the mount forbids already must stay forbidden, or a user namespace is refused.
        let flags = kept(inside)? | MountFlags::BIND | MountFlags::RDONLY;
        mount_remount(inside, flags, c"").with_context(what)?;
    }
    Ok(())
}

fn kept(path: &Path) -> anyhow::Result<MountFlags> {
    let now = statvfs(path)?.f_flag;
    let pairs = [
        (StatVfsMountFlags::NOSUID, MountFlags::NOSUID),
        (StatVfsMountFlags::NODEV, MountFlags::NODEV),
        (StatVfsMountFlags::NOEXEC, MountFlags::NOEXEC),
        (StatVfsMountFlags::NOATIME, MountFlags::NOATIME),
        (StatVfsMountFlags::NODIRATIME, MountFlags::NODIRATIME),
        (StatVfsMountFlags::RELATIME, MountFlags::RELATIME),
    ];
    let kept = pairs
        .into_iter()
        .filter(|(has, _)| now.contains(*has))
        .map(|(_, keep)| keep);
    Ok(kept.fold(MountFlags::empty(), |all, one| all | one))
}

/// The path that is `absolute` once `root` is the root.
fn below(root: &Path, absolute: impl AsRef<Path>) -> PathBuf {
    let absolute = absolute.as_ref();
    root.join(absolute.strip_prefix("/").unwrap_or(absolute))
}

/// Makes `root` the root and lets go of this machine's.
fn pivot(root: &Path) -> anyhow::Result<()> {
    let old = root.join(".old");
    fs::create_dir_all(&old)?;
    rustix::process::pivot_root(root, &old).context("changing to the node's root")?;
    std::env::set_current_dir("/")?;
    unmount("/.old", UnmountFlags::DETACH).context("leaving this machine's root")?;
    fs::remove_dir("/.old").context("leaving this machine's root")
}
