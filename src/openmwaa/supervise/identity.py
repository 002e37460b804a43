"""Which process is meant: pid, start time and boot. A pid alone is reused."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

MARKER_VARIABLE = "OPENMWAA_PROCESS"
"""Variable that every process of an instance carries; its value is unique to the instance."""

_START_TICKS = 22 - 4  # field 22 of /proc/<pid>/stat, where `fields[0]` is field 4
_ZOMBIE_STATES = frozenset("ZX")


@dataclass(frozen=True)
class ProcessIdentity:
    """One process of one boot.

    Attributes:
        start_ticks: When it started, in clock ticks since boot; `exec` does not change it.
    """

    pid: int
    start_ticks: int
    boot_id: str

    @property
    def is_alive(self) -> bool:
        """Whether exactly this process runs. One that ended and waits to be reaped does not."""
        return identity_of(self.pid) == self


def identity_of(pid: int) -> ProcessIdentity | None:
    """Return the identity of a running process; None if there is none or it has ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The name is in parentheses and may contain anything, also parentheses.
    state, *fields = stat.rpartition(")")[2].split()
    if state in _ZOMBIE_STATES:
        return None
    return ProcessIdentity(pid, int(fields[_START_TICKS]), boot_id())


@cache
def boot_id() -> str:
    """Return what tells this boot from others: a start time says nothing across a reboot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def marked(prefix: str) -> Iterator[int]:
    """Yield the pids of processes whose marker starts with `prefix`, our own process left out."""
    own = os.getpid()
    for entry in os.scandir("/proc"):
        if entry.name.isdigit() and int(entry.name) != own and carries(int(entry.name), prefix):
            yield int(entry.name)


def carries(pid: int, prefix: str) -> bool:
    """Return whether a process's marker starts with `prefix`.

    Reads its environment as it was when it last called `exec`; forks inherit it.
    """
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False  # gone, or another user's
    wanted = f"{MARKER_VARIABLE}={prefix}".encode()
    return environment.startswith(wanted) or b"\0" + wanted in environment
