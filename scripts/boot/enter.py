"""Running something inside the Debian root: in mount and PID namespaces of its own, which take every
mount with them, and with the machine's settings (/proc/sys) read-only."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

# A package's script would change the machine's sysctls through /proc (systemd-coredump does).
GUARDED = """
set -eu
mount --make-rprivate /
mount -t proc proc /proc
mount --bind /proc/sys /proc/sys
mount -o remount,ro,bind /proc/sys
"""

MOUNTS = """
mkdir -p "$root/debian" "$root/repository" "$root/nixpkgs" "$root/results"
mount --bind "$root" "$root"
mount --bind "$root/usr" "$root/debian"
mount --bind -o ro "$repository" "$root/repository"
mount -o remount,ro,bind "$root/repository"
mount --bind "$nixpkgs" "$root/nixpkgs"
mount -o remount,ro,bind "$root/nixpkgs"
mount -t proc proc "$root/proc"
mount --bind "$root/proc/sys" "$root/proc/sys"
mount -o remount,ro,bind "$root/proc/sys"
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/tmp"
mount -t tmpfs tmpfs "$root/run"
"""

# What runs in them ends with this program, however that ends.
NAMESPACES = ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child"]

CLEAN = ["/usr/bin/env", "-i", "PATH=/usr/sbin:/usr/bin", "HOME=/root", "LANG=C.UTF-8"]


class Failed(Exception):
    """A command inside the root failed; with what it said."""


def guarded(command: list[str]) -> list[str]:
    """The command where it can change no setting of the machine."""
    script = GUARDED + "exec " + shlex.join(command)
    return [*NAMESPACES, "sh", "-c", script]


def inside(root: Path, repository: Path, nixpkgs: Path, command: list[str]) -> list[str]:
    """The command in the root, for which Nix's store is /nix."""
    names = {"root": root, "repository": repository, "nixpkgs": nixpkgs}
    variables = "\n".join(f"{name}={shlex.quote(str(path))}" for name, path in names.items())
    script = (
        "set -eu\nmount --make-rprivate /\n" + variables + MOUNTS
        + 'exec chroot "$root" ' + shlex.join([*CLEAN, *command])
    )
    return [*NAMESPACES, "sh", "-c", script]


def ask(command: list[str], *, text: str | None = None, shown: list[str] | None = None) -> str:
    """What it prints; `shown` is what a failure calls it."""
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = "\n".join(done.stderr.splitlines()[-25:])
        raise Failed(f"`{shlex.join(shown or command)}` failed ({done.returncode}):\n{last}")
    return done.stdout
