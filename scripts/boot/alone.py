"""One boot-hosts at a time on a machine: control groups are called after the machines of a test, and the cache is one
Nix store."""

from __future__ import annotations

import contextlib
import fcntl
import os
import typing
from pathlib import Path

LOCK = Path("/run/gen-topology-boot.lock")


class Busy(Exception):
    """Another one runs."""


@contextlib.contextmanager
def alone(cache: Path) -> typing.Iterator[None]:
    """Holds the lock. It ends with the process, however that ends."""
    with LOCK.open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            holder = lock.read().strip() or "a process that has not said its name yet"
            raise Busy(f"another boot-hosts runs: {holder}; wait for its end") from None
        lock.truncate(0)
        lock.write(f"process {os.getpid()}, with the cache {cache}\n")
        lock.flush()
        yield
