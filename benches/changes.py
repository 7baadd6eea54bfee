#!/usr/bin/env python3
"""Prints what visitors notice of each planned change, as a table for docs/numbers.md.

A lab of its own is changed by `lab apply` while 10,000 requests come, 200 a second.
Takes about ten minutes. With arguments only those changes are made: `app=6`, `code`, …
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = ROOT / "target/release/gen-topology"
REQUESTS = 10_000
CHANGES = [
    "app=6",
    "app=2",
    "load-balancer=3",
    "load-balancer=2",
    "database=3",
    "database=5",
    "database=3",
    "database=1",
    "code",
    "setting",
]


class Stack:
    """A copy of the shipped topology and its app, in a lab of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        shutil.copytree(ROOT / "app", directory / "app")
        shutil.copy(ROOT / "topology.json", directory)
        self.environment = {
            name: value for name, value in os.environ.items() if not name.startswith("GEN_TOPOLOGY_")
        } | {"GEN_TOPOLOGY_STATE": str(directory / "state")}

    def start(self, *arguments: str, **options: object) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [PROGRAM, *arguments], cwd=self.directory, env=self.environment, text=True, **options
        )

    def run(self, *arguments: str) -> None:
        process = self.start(*arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        said, _ = process.communicate()
        if process.returncode != 0:
            sys.exit(f"gen-topology {' '.join(arguments)}:\n{said}")

    def edit(self, change: str) -> None:
        """Changes the files; nothing that runs."""
        if change == "code":
            self.replace("app/app.py", '__version__ = "1.0.0"', '__version__ = "1.0.1"')
        elif change == "setting":
            self.run("set", "load_balancer.max_connections", "4000")
        else:
            self.run("scale", change)

    def replace(self, name: str, old: str, new: str) -> None:
        file = self.directory / name
        text = file.read_text(encoding="utf-8")
        if old not in text:
            sys.exit(f"{name} does not say {old}")
        file.write_text(text.replace(old, new), encoding="utf-8")

    def change(self, change: str) -> str:
        """A line of the table."""
        self.edit(change)
        load = self.start("lab", "load", "--requests", str(REQUESTS), stdout=subprocess.PIPE)
        assert load.stdout
        load.stdout.readline()  # it sends
        time.sleep(3)
        begun = time.monotonic()
        self.run("lab", "apply")
        took = time.monotonic() - begun
        load.send_signal(signal.SIGINT)  # once there are enough
        seen = json.loads(load.communicate()[0])
        requests, ledger = seen["seen"], seen["ledger"]
        return (
            f"| {change} | {took:.1f} s | {seen['lost']} of {requests['sent']:,} | "
            f"{ledger['missing']} of {ledger['acknowledged']:,} | {requests['longest_gap_ms']:.0f} ms | "
            f"{requests['longest_write_gap_ms']:.0f} ms | {requests['slow']} |"
        )


def main() -> None:
    chosen = sys.argv[1:] or CHANGES
    with tempfile.TemporaryDirectory(prefix="gen-topology-") as directory:
        stack = Stack(Path(directory))
        try:
            stack.run("lab", "up", "--wait")
            print("| change | took | requests lost | acknowledged writes lost | gap | write gap | slow |")
            print("| --- | --- | --- | --- | --- | --- | --- |", flush=True)
            for change in chosen:
                print(stack.change(change), flush=True)
        finally:
            stack.run("--quiet", "lab", "down")


if __name__ == "__main__":
    main()
