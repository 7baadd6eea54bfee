"""Fills the outputs of packages with links into Debian, and tells Nix that they are there."""

from __future__ import annotations

import os
import re
from pathlib import Path

import graph
from graph import Output
from packages import EMPTY, EMPTY_OUTPUTS, PROGRAMS
from special import SPECIAL, programs


class Unknown(Exception):
    """Packages that the tool knows nothing of."""


class Provider:
    """What the packages are made from."""

    def __init__(self, root: Path, nixpkgs: Path, derivations: graph.Derivations, built: dict[str, Path]) -> None:
        self.root = root
        self.nixpkgs = nixpkgs
        # Programs that are not Debian's, by name.
        self.built = built
        self._texts = [
            str(graph.environment(derivation).get("buildCommand", ""))
            for derivation in derivations.values()
        ]
        self._names = {derivation["name"]: text for derivation, text in zip(derivations.values(), self._texts)}

    def programs_of(self, package: str) -> list[tuple[str, str]]:
        """Programs of a Debian package, by name and path relative to /usr; none if it is not installed."""
        found: set[str] = set()
        for name in (package, f"{package}:amd64"):
            listing = self.root / "var/lib/dpkg/info" / f"{name}.list"
            if listing.exists():
                found |= set(re.findall(r"^(?:/usr)?/(s?bin/.+)$", listing.read_text(), re.MULTILINE))
        usr = self.root / "usr"
        own = [(Path(path).name, path) for path in sorted(found) if os.path.lexists(usr / path)]
        # Alternatives go through /etc, which a machine has of its own.
        for alternative in (self.root / "etc/alternatives").iterdir():
            if not alternative.is_symlink():
                continue
            target = re.sub(r"^/(usr/)?", "", os.readlink(alternative))
            if target in found:
                own.append((alternative.name, target))
        return own

    def units_wanted(self, kind: str) -> set[str]:
        """Units of systemd that some machine takes over."""
        text = self._names.get(f"{kind}-units", "")
        lists = re.findall(r"^for i in (.*?); do", text, re.MULTILINE)
        names = " ".join(lists).split()
        return {name for name in names if re.fullmatch(r"[\w@.\-\\]+\.\w+", name)}

    def mentioned(self, prefix: str) -> set[str]:
        """Files below `prefix` that some derivation names."""
        pattern = re.escape(prefix) + r"([\w.\-]+)"
        return {name for text in self._texts for name in re.findall(pattern, text)}

    def source(self, path: str) -> Path:
        """A path of the store, from outside of the root."""
        return self.root / path.lstrip("/")

    def fill(self, output: Output) -> bool:
        """Makes one output; whether it was not there."""
        out = self.source(output.path)
        if out.exists() or out.is_symlink():
            return False
        special = SPECIAL.get(output.package)
        if output.name in EMPTY_OUTPUTS or output.package in EMPTY:
            out.mkdir(parents=True)
        elif special:
            special(self, output, out)
        elif output.package in PROGRAMS:
            programs(self, PROGRAMS[output.package], out)
        elif (fetched := output.environment.get("url") or output.environment.get("src")) is not None:
            raise Unknown(f"{output.package} ({fetched})")
        else:
            raise Unknown(output.package)
        return True

    def known(self, output: Output) -> bool:
        """Whether `fill` can do it."""
        return (
            output.name in EMPTY_OUTPUTS
            or output.package in EMPTY
            or output.package in SPECIAL
            or output.package in PROGRAMS
        )
