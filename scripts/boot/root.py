"""The Debian root: made once, with the packages of packages.py and the application's Python."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
import typing
from pathlib import Path

import enter
import packages

# Of the application, of supervisord, and of NixOS's test driver.
WHEELS = ["flask", "gunicorn", "pymongo", "supervisor", "pydantic", "ptpython", "colorama", "remote-pdb", "junit-xml", "ipython"]

# Written last, with what the root was made of: one without it was interrupted.
WHOLE = "usr/gt/whole"

NIX = """sandbox = false
build-users-group =
substituters =
experimental-features = nix-command
max-jobs = auto
"""


class Failed(Exception):
    """The root could not be made."""


def make(cache: Path, suite: str, say: typing.Callable[[str], None]) -> None:
    """Makes it, unless it is there."""
    root = cache / "root"
    whole = root / WHOLE
    of = " ".join([suite, *packages.wanted(), *WHEELS])
    if whole.exists() and whole.read_text() == of:
        return
    if root.exists():
        say(f"the root {'is made of something else' if whole.exists() else 'is only half there'}; it is made anew")
        shutil.rmtree(root)
    cache.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(cache).free < 4 << 30:
        raise Failed(f"{cache} has less than 4 GiB of free space")
    say(f"making a root of Debian {suite}: some minutes, once")
    command = ["mmdebstrap", "--variant=minbase", "--mode=root", "--quiet",
               # Signatures count; the age of a suite's index does not, for a root that is only looked at.
               '--aptopt=Acquire::Check-Valid-Until "false"',
               "--include=" + ",".join(packages.wanted()), suite, str(root)]
    log = cache / "debian.log"
    with log.open("w") as out:
        done = subprocess.run(enter.guarded(command), stdout=out, stderr=subprocess.STDOUT, check=False)
    if done.returncode != 0:
        last = "\n".join(log.read_text().splitlines()[-5:])
        raise Failed(f"mmdebstrap failed ({done.returncode}); see {log}:\n{last}")
    python(root)
    settings(root)
    whole.write_text(of)


def forget_what_is_out_of_date(root: Path, say: typing.Callable[[str], None]) -> str:
    """A store whose packages were provided in another way: Nix would not see that, and go on with what
    it built from them. Returns what stands for the way of now."""
    here = Path(__file__).parent
    recipes = hashlib.sha256()
    for name in ("graph.py", "nspawn", "packages.py", "provide.py", "special.py"):
        recipes.update((here / name).read_bytes())
    mark = root / "usr/gt/recipes"
    if mark.exists() and mark.read_text() == recipes.hexdigest():
        return recipes.hexdigest()
    if (root / "nix").exists():
        say("packages are provided in another way than before; the store is made anew")
        shutil.rmtree(root / "nix")
    mark.write_text(recipes.hexdigest())
    return recipes.hexdigest()


def python(root: Path) -> None:
    """An environment with what the application, supervisord and the test driver import. Wheels are
    fetched by this machine's pip, for the root's Python."""
    enter.ask(["chroot", str(root), "python3", "-m", "venv", "--system-site-packages", "/usr/gt/venv"])
    (site,) = (root / "usr/gt/venv/lib").glob("python3.*/site-packages")
    version = site.parent.name.removeprefix("python")
    enter.ask([sys.executable, "-m", "pip", "install", "--quiet", "--target", str(site), "--python-version", version,
               "--only-binary=:all:", "--platform", "manylinux2014_x86_64", "--platform", "manylinux_2_28_x86_64",
               "--platform", "any", *WHEELS])


def settings(root: Path) -> None:
    """Nix without a sandbox; a machine-id, which systemd-nspawn asks for; files of /etc that machines need,
    at a place that they see."""
    (root / "etc/nix").mkdir(exist_ok=True)
    (root / "etc/nix/nix.conf").write_text(NIX)
    (root / "etc/machine-id").write_text("b" * 32 + "\n")
    kept = root / "usr/gt/etc"
    for name in ("protocols", "services", "keepalived/keepalived.config-opts"):
        (kept / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / "etc" / name, kept / name)
    shutil.copytree(root / "etc/nginx", kept / "nginx", ignore=shutil.ignore_patterns("modules-enabled", "sites-enabled"))


def built(cache: Path, nixpkgs: Path) -> dict[str, Path]:
    """Programs that are not Debian's."""
    return {"mongod": mongod(cache), "switch-to-configuration": switcher(cache, nixpkgs)}


def switcher(cache: Path, nixpkgs: Path) -> Path:
    """What activates a system: nixpkgs' own program, built by this machine's cargo with D-Bus in it."""
    source = nixpkgs / "pkgs/by-name/sw/switch-to-configuration-ng"
    sources = sorted(path for path in source.rglob("*") if path.is_file())
    of = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
    made = cache / "switch" / of[:16]
    program = made / "target/debug/switch-to-configuration"
    if program.exists():
        return program
    shutil.rmtree(cache / "switch", ignore_errors=True)
    shutil.copytree(source, made)
    manifest = made / "Cargo.toml"
    # D-Bus's library is compiled in, for the program and for what generates code for it.
    text = re.sub(r'^dbus = "(.*)"$', r'dbus = { version = "\1", features = ["vendored"] }', manifest.read_text(), flags=re.MULTILINE)
    manifest.write_text(text.replace("[build-dependencies]\n", '[build-dependencies]\ndbus = { version = "*", features = ["vendored"] }\n'))
    interfaces = made / "interfaces"
    interfaces.mkdir()
    for called, name in (("systemd", "systemd1"), ("systemd-logind", "login1")):
        asked = ["chroot", str(cache / "root"), f"/usr/lib/systemd/{called}", f"--bus-introspect=/org/freedesktop/{name}"]
        (interfaces / f"org.freedesktop.{name}.Manager.xml").write_text(enter.ask(asked))
    enter.ask(["env", f"SYSTEMD_DBUS_INTERFACE_DIR={interfaces}", "cargo", "build", "--quiet",
               "--manifest-path", str(manifest), "--target-dir", str(made / "target")])
    return program


def mongod(cache: Path) -> Path:
    """The mongod that the lab uses, or that of this machine."""
    found = shutil.which("mongod")
    places = sorted(Path.home().glob(".cache/gen-topology/mongod-*/mongod"))
    if found is None and not places:
        raise Failed("there is no mongod; `gen-topology lab up` once fetches one")
    return Path(found) if found else places[0]
