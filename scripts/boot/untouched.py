"""What must be the same on this machine after a run as before it: settings of the kernel, mounts, interfaces,
control groups."""

from __future__ import annotations

import os
import re
from pathlib import Path

# Counters and random numbers, and settings of single interfaces, which come and go with them.
VOLATILE = re.compile(
    r"/random/|^fs/quota/|/(file-nr|inode-nr|inode-state|dentry-state|ns_last_pid|pty/nr|nf_conntrack_count|aio-nr)$"
    r"|^net/ipv[46]/(conf|neigh)/(?!all/|default/)|/cad_pid$|/tcp_fastopen_key$|/stat_refresh$"
)

# In the name of each control group that is made. Others make groups of their own meanwhile.
MARK = "gen-topology-boot"


def picture() -> dict[str, str]:
    """Everything by its name."""
    seen = {}
    root = Path("/proc/sys")
    for directory, _, names in os.walk(root):
        for name in names:
            path = Path(directory) / name
            called = str(path.relative_to(root))
            if VOLATILE.search(called):
                continue
            try:
                seen[f"setting {called}"] = path.read_text(errors="replace").strip()
            except OSError:
                pass
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        words = line.split()
        seen[f"mount {words[4]} of {words[3]}"] = words[5]
    for name in os.listdir("/sys/class/net"):
        seen[f"interface {name}"] = ""
    for directory, names, _ in os.walk("/sys/fs/cgroup"):
        for name in (name for name in names if MARK in name):
            seen[f"control group {os.path.join(directory, name)}"] = ""
    return seen


def difference(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """What is not as it was, in words. What others on the machine do meanwhile is told, too."""
    said = [f"{name} is new" for name in after if name not in before]
    # A group that an earlier run could not take away is welcome to go.
    said += [f"{name} is gone" for name in before if name not in after and MARK not in name]
    said += [f"{name} was {before[name]!r} and is {after[name]!r}" for name in before if after.get(name, before[name]) != before[name]]
    return sorted(said)
