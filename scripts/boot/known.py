"""Machines that were evaluated and built already, by a fingerprint of what they are made from: evaluating them
again takes longer than a test."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path

# Of these nothing gets into a machine; tests' scripts are evaluated on their own.
OUTSIDE = ("docs/", "scripts/", "benches/", "target/", ".github/")


def fingerprint(repository: Path, nixpkgs: Path, recipes: str, program: Path) -> str:
    """Of the files that git knows or could, as they are now, of the program, and of which nixpkgs it is."""
    listed = subprocess.run(
        ["git", "-c", "safe.directory=*", "-C", str(repository), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True, check=True, text=True,
    ).stdout
    whole = hashlib.sha256(recipes.encode())
    for name in sorted(name for name in listed.split("\0") if name and matters(name)):
        path = repository / name
        if path.is_file():
            whole.update(name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    for path in (program, nixpkgs, nixpkgs / "nixos/modules/module-list.nix", nixpkgs / "pkgs/top-level/all-packages.nix"):
        about = path.stat()
        whole.update(f"{path} {about.st_mtime_ns} {about.st_size}".encode())
    return whole.hexdigest()


def matters(name: str) -> bool:
    """Whether a file may get into a machine."""
    path = Path(name)
    if path.parts[0] == "tests":
        below = path.parts[1:]
        return below[:1] == ("nixos",) and (len(below) > 2 or path.name in ("default.nix", "node.nix"))
    return not name.startswith(OUTSIDE) and path.suffix != ".md"


class Known:
    """What is written down in the cache."""

    def __init__(self, cache: Path, root: Path, of: str) -> None:
        self.file = cache / "machines.json"
        self.root = root
        self.of = of

    def machines(self, stack: str) -> dict[str, str] | None:
        """A stack's start scripts, if nothing has changed since, and all are there."""
        try:
            known = json.loads(self.file.read_text())
        except (OSError, ValueError):
            return None
        paths = known.get("stacks", {}).get(stack) if known.get("of") == self.of else None
        if paths and all((self.root / path.lstrip("/")).exists() for path in paths.values()):
            return paths
        return None

    def remember(self, stack: str, paths: dict[str, str]) -> None:
        """For the next run."""
        try:
            known = json.loads(self.file.read_text())
        except (OSError, ValueError):
            known = {}
        stacks = known.get("stacks", {}) if known.get("of") == self.of else {}
        self.file.write_text(json.dumps({"of": self.of, "stacks": {**stacks, stack: paths}}))
