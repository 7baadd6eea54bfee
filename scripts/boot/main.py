"""boot-hosts: makes a Debian root, lets Nix build the machines of tests/nixos in it, and runs the tests."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import alone
import enter
import graph
import known
import root
import run
import untouched
from provide import Provider, Unknown

# What scripts/test counts as not run.
NOT_RUN = 77

# Machines that one process of Nix evaluates.
AT_ONCE = 5

REPOSITORY = Path(__file__).resolve().parents[2]


def say(text: str) -> None:
    """Progress."""
    print(f"boot-hosts: {text}", file=sys.stderr, flush=True)


def arguments() -> argparse.Namespace:
    """What was asked."""
    parser = argparse.ArgumentParser(prog="boot-hosts", description=__doc__)
    parser.add_argument("nixpkgs", type=Path, help="a whole checkout of nixpkgs, 26.05 or later")
    parser.add_argument("tests", nargs="*", help="names of tests/nixos/NAME.nix [default: all]")
    parser.add_argument("--cache", type=Path, default=REPOSITORY / "target/boot-hosts", help="where the root and its Nix store are kept [default: target/boot-hosts]")
    parser.add_argument("--suite", default="forky", help="suite of Debian [default: forky]")
    parser.add_argument("--program", type=Path, default=REPOSITORY / "target/debug/gen-topology", help="gen-topology, built")
    return parser.parse_intermixed_args()


def refuse(asked: argparse.Namespace) -> list[str]:
    """Everything that keeps it from beginning."""
    why = []
    if os.geteuid() != 0:
        why.append("it takes root, for mounts, control groups and containers")
    if not (asked.nixpkgs / "nixos/lib/testing/nodes.nix").exists():
        why.append(f"{asked.nixpkgs} is no whole checkout of nixpkgs")
    elif not (asked.nixpkgs / "nixos/modules/virtualisation/nspawn-container").exists():
        why.append(f"{asked.nixpkgs} is too old: its tests can't run in containers; take 26.05 or later")
    if not asked.program.exists():
        why.append(f"{asked.program} is missing; `cargo build`, or --program")
    for tool in ("mmdebstrap", "unshare", "setpriv", "chroot"):
        if shutil.which(tool) is None:
            why.append(f"{tool} is missing; `make tools`")
    return why


class Session:
    """One run: where things are."""

    def __init__(self, asked: argparse.Namespace) -> None:
        self.nixpkgs = asked.nixpkgs.resolve()
        self.cache = asked.cache.resolve()
        self.root = self.cache / "root"
        self.program = asked.program.resolve()
        recipes = root.forget_what_is_out_of_date(self.root, say)
        of = known.fingerprint(REPOSITORY, self.nixpkgs, recipes, self.program)
        self.known = known.Known(self.cache, self.root, of)

    def ask(self, *command: str, text: str | None = None) -> str:
        """What a command in the root prints."""
        return enter.ask(enter.inside(self.root, REPOSITORY, self.nixpkgs, list(command)), text=text, shown=list(command))

    def evaluate(self, attribute: str) -> object:
        """A value of machines.nix."""
        return json.loads(self.ask("nix-instantiate", "--eval", "--json", "--strict", *self.machines(), "-A", attribute))

    def machines(self) -> list[str]:
        """machines.nix and its arguments."""
        return ["/repository/scripts/boot/machines.nix", "--argstr", "nixpkgs", "/nixpkgs", "--argstr", "repository", "/repository"]

    def instantiate(self, kind: str, stack: str, names: list[str]) -> dict[str, str]:
        """The derivation of each machine's start script (`machines`) or of its system (`systems`). Some at a time:
        they share what they know of each other, and each takes a gigabyte or more."""
        derivations: dict[str, str] = {}
        for batch in (names[first : first + AT_ONCE] for first in range(0, len(names), AT_ONCE)):
            began = time.monotonic()
            attributes = [word for name in batch for word in ("-A", f"{kind}.{stack}.{name}")]
            printed = self.ask("nix-instantiate", *self.machines(), *attributes).split()
            derivations.update(zip(batch, printed))
            say(f"{stack} {', '.join(batch)}: evaluated in {time.monotonic() - began:.0f} s")
        return derivations

    def made(self, kind: str, stack: str, names: list[str]) -> dict[str, str]:
        """The start scripts or systems of a stack, built; from an earlier run, where nothing has changed."""
        key = stack if kind == "machines" else f"{kind} of {stack}"
        paths = self.known.machines(key)
        if paths is None:
            paths = self.build(self.instantiate(kind, stack, names))
            self.known.remember(key, paths)
        return paths

    def forget_half_made(self, paths: list[str]) -> None:
        """What a run made before it ended, however it did: Nix was not told of it yet."""
        there = [path for path in paths if os.path.lexists(self.root / path.lstrip("/"))]
        if not there:
            return
        for path in self.ask("nix-store", "--check-validity", "--print-invalid", *there).split():
            half = self.root / path.lstrip("/")
            shutil.rmtree(half) if half.is_dir() and not half.is_symlink() else half.unlink()

    def build(self, derivations: dict[str, str]) -> dict[str, str]:
        """What the derivations make, with everything that it needs."""
        wanted = list(derivations.values())
        outputs, built, described = graph.split(self.ask("nix", "derivation", "show", "-r", *wanted), wanted)
        provider = Provider(self.root, self.nixpkgs, described, {"gen-topology": self.program, **root.built(self.cache, self.nixpkgs)})
        unknown = sorted({output.package for output in outputs if not provider.known(output)})
        if unknown:
            raise Unknown(f"no Debian package is known for {', '.join(unknown)}; add them in scripts/boot/packages.py")
        self.forget_half_made([output.path for output in outputs])
        for output in outputs:
            provider.fill(output)
        say(f"{len(outputs)} outputs of packages are Debian's; {built} derivations are NixOS's own and built by Nix")
        self.ask("nix-store", "--register-validity", text="".join(f"{output.path}\n\n0\n" for output in outputs))
        paths = self.ask("nix-store", "--realise", *wanted).split()
        return dict(zip(derivations, paths))


def main() -> int:
    """Runs what was asked; 1 if a test failed, 2 if something else did, 77 if it can't run here."""
    asked = arguments()
    why = refuse(asked)
    if why:
        for one in why:
            say(one)
        return NOT_RUN
    for number in (signal.SIGINT, signal.SIGTERM):
        # Also where a shell has started us with the first one ignored. What runs is killed on the way out.
        signal.signal(number, signal.default_int_handler)
    before = untouched.picture()
    try:
        with alone.alone(asked.cache.resolve()):
            code = tests(asked)
    except (alone.Busy, OSError) as error:
        say(str(error))
        return 2
    changed = untouched.difference(before, untouched.picture())
    for one in changed:
        say(f"this machine is not as it was: {one}")
    return code or (1 if changed else 0)


def tests(asked: argparse.Namespace) -> int:
    """Runs them; the exit code."""
    try:
        root.make(asked.cache.resolve(), asked.suite, say)
        session = Session(asked)
        scripts = session.evaluate("scripts")
        chosen = asked.tests or sorted(scripts)
        strange = [name for name in chosen if name not in scripts]
        if strange:
            say(f"no such test: {', '.join(strange)}; there are {', '.join(sorted(scripts))}")
            return 2
        failed = []
        for stack in sorted({scripts[name]["stack"] for name in chosen}):
            paths = session.made("machines", stack, session.evaluate(f"nodes.{stack}"))
            for name in (name for name in chosen if scripts[name]["stack"] == stack):
                systems = {called: session.made("systems", of["stack"], of["nodes"]) for called, of in scripts[name]["systems"].items()}
                began = time.monotonic()
                passed = run.test(session, name, scripts[name]["text"], paths, systems)
                say(f"{name}: {'passed' if passed else 'FAILED'} in {time.monotonic() - began:.0f} s")
                if not passed:
                    failed.append(name)
        print(f"{len(chosen) - len(failed)} passed, {len(failed)} failed")
        return 1 if failed else 0
    except (enter.Failed, Unknown, root.Failed, OSError, subprocess.SubprocessError) as error:
        say(str(error))
        return 2
    except KeyboardInterrupt:
        say("interrupted; what was made stays in the cache")
        return 130


if __name__ == "__main__":
    sys.exit(main())
