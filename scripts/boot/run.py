"""Runs one test with NixOS's own test driver, in namespaces of its own. All that it makes (bridges, cables,
mounts, processes) ends with them; its control groups are taken away afterwards."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import time
import typing
from pathlib import Path

import enter

if typing.TYPE_CHECKING:
    from main import Session

DRIVER = """
set -eu
mount --make-rprivate /
mkdir -p "$root/debian" "$root/driver" "$root/results" "$root/sys" "$root/.old"
mount --bind "$root" "$root"
mount --bind "$root/usr" "$root/debian"
mount --bind "$nixpkgs/nixos/lib/test-driver/src" "$root/driver"
mount --bind "$work" "$root/results"
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/tmp"
mount -t tmpfs tmpfs "$root/run"
mkdir -p "$root/run/netns"
cd "$root"
pivot_root . .old
umount -l /.old
cd /results
export PATH=/usr/bin:/usr/sbin HOME=/root LANG=C.UTF-8 PYTHONPATH=/driver
ip link set lo up
exec /usr/gt/venv/bin/python3 -c 'import sys
sys.argv = ["nixos-test-driver", "--config", "/results/driver.json", "-o", "/results/out"]
from test_driver import main
main()'
"""

NAMESPACES = [*enter.NAMESPACES, "--net", "--uts", "--ipc", "--cgroup"]


def test(session: Session, name: str, script: str, paths: dict[str, str], systems: dict[str, dict[str, str]]) -> bool:
    """Whether it passes. Its log is kept, with each machine's journal in it."""
    work = session.cache / "tests" / name
    shutil.rmtree(work, ignore_errors=True)
    (work / "out").mkdir(parents=True)
    if systems:
        register(session, work, paths, systems)
    (work / "script.py").write_text((f"SYSTEMS = {systems!r}\n" if systems else "") + script)
    containers = {
        machine: {"name": machine, "start_script": f"{path}/bin/run-{machine}-nspawn"}
        for machine, path in paths.items()
    }
    (work / "driver.json").write_text(json.dumps({
        "vms": {}, "containers": containers, "vlans": [1], "global_timeout": 1800 if systems else 300,
        "enable_ssh_backdoor": False, "test_script": "/results/script.py",
    }))
    names = {"root": session.root, "nixpkgs": session.nixpkgs, "work": work}
    variables = "\n".join(f"{key}={shlex.quote(str(path))}" for key, path in names.items())
    try:
        with (work / "log").open("w") as log:
            done = subprocess.run([*NAMESPACES, "sh", "-c", variables + DRIVER], stdin=subprocess.DEVNULL,
                                  stdout=log, stderr=subprocess.STDOUT, check=False)
    finally:
        forget_groups()
    return done.returncode == 0


def register(session: Session, work: Path, paths: dict[str, str], systems: dict[str, dict[str, str]]) -> None:
    """What Nix knows on each machine (`registered/NAME`): its own system, and on the client all others, too."""
    (work / "registered").mkdir()
    for machine, path in paths.items():
        others = [system for of in systems.values() for system in of.values()] if machine == "client" else []
        listed = session.ask("nix-store", "--query", "--requisites", path, *others).split()
        (work / "registered" / machine).write_text(session.ask("nix-store", "--dump-db", *listed))


def forget_groups() -> None:
    """Control groups of machines that are gone. They have our mark, and a group with a process in it stays: what was
    killed may take a moment to end."""
    deadline = time.monotonic() + 5
    while groups := [group for mounted in ("/sys/fs/cgroup", "/sys/fs/cgroup/unified") for group in Path(mounted).glob("gen-topology-boot-*")]:
        for group in groups:
            for directory, _, _ in os.walk(group, topdown=False):
                try:
                    os.rmdir(directory)
                except OSError:
                    pass
        if time.monotonic() > deadline:
            return
        time.sleep(0.1)
