"""Which process is meant: pid, start time and boot. A pid alone is reused."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

MARKER_VARIABLE = "OPENMWAA_PROCESS"
"""Variable that every process of an instance carries; its value is unique to the instance."""

_PARENT: Final = 4 - 4  # field 4 of /proc/<pid>/stat, where `fields[0]` is field 4
_FLAGS: Final = 9 - 4
_START_TICKS: Final = 22 - 4
_ENVIRONMENT: Final = slice(50 - 4, 52 - 4)  # where it starts and ends; both 0 in the middle of `exec`
_KERNEL_THREAD: Final = 0x00200000  # PF_KTHREAD: has no environment, ever
_ZOMBIE_STATES: Final = frozenset("ZX")

_EXEC_WITHIN_S: Final = 1.0
_EXEC_POLL_S: Final = 0.001
_EMPTY_FOR_SURE: Final = 5


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


@dataclass(frozen=True)
class Running:
    """A process as a look at /proc shows it.

    Attributes:
        marker: Value of `OPENMWAA_PROCESS` that it carries, or that the nearest of its
            ancestors carries which has one; empty if there is none.
    """

    identity: ProcessIdentity
    marker: str


def identity_of(pid: int) -> ProcessIdentity | None:
    """Return the identity of a running process; None if there is none or it has ended."""
    fields = _stat(pid)
    return ProcessIdentity(pid, int(fields[_START_TICKS]), boot_id()) if fields else None


@cache
def boot_id() -> str:
    """Return what tells this boot from others: a start time says nothing across a reboot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def running() -> list[Running]:
    """Return every process that runs, our own left out.

    A program may be started with variables of its own choice (Airflow's BashOperator can do
    that), so the marker is looked for among the ancestors too.
    """
    parents: dict[int, int] = {}
    markers: dict[int, str] = {}
    found: dict[int, ProcessIdentity] = {}
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        pid = int(entry.name)
        # The identity first: if the pid changes hands in between, the identity is the one that is gone.
        fields = _stat(pid)
        if fields is None:
            continue
        found[pid] = ProcessIdentity(pid, int(fields[_START_TICKS]), boot_id())
        parents[pid] = int(fields[_PARENT])
        if marker := _marker(pid):
            markers[pid] = marker

    def nearest(pid: int) -> str:
        while pid and pid not in markers:
            pid = parents.get(pid, 0)
        return markers.get(pid, "")

    own = os.getpid()
    return [Running(identity, nearest(pid)) for pid, identity in found.items() if pid != own]


def marked(prefix: str) -> Iterator[int]:
    """Yield the pids of processes whose marker, own or inherited, starts with `prefix`."""
    return (one.identity.pid for one in running() if one.marker.startswith(prefix))


def carries(pid: int, prefix: str) -> bool:
    """Return whether a process itself has a marker that starts with `prefix`.

    Reads its environment as it was when it last called `exec`; forks inherit it.
    """
    marker = _marker(pid)
    return bool(marker) and marker.startswith(prefix)


def was_forked(pid: int) -> bool:
    """Return whether a process was forked from a preloaded one: it shows its marker and nothing else."""
    return _environment(pid).count(b"\0") == 1 and bool(_marker(pid))


def user_of(pid: int) -> int | None:
    """Return the real user of a process; None if it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(errors="replace").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith("Uid:")), None)


def _stat(pid: int) -> list[str] | None:
    """Return the fields of /proc/<pid>/stat from the fourth on; None if it does not run."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    # The name is in parentheses and may contain anything, also parentheses.
    state, *fields = stat.rpartition(")")[2].split()
    return None if state in _ZOMBIE_STATES else fields


def _marker(pid: int) -> str:
    environment = _environment(pid)
    _, found, rest = (b"\0" + environment).partition(f"\0{MARKER_VARIABLE}=".encode())
    return rest.partition(b"\0")[0].decode(errors="replace") if found else ""


def _environment(pid: int) -> bytes:
    """Return the environment of a process; empty if it is gone, another user's or a kernel thread.

    In the middle of `exec` the old environment is going and the new one not there yet. To miss a
    process for that would mean a second copy of it, so we read again until all of it was read.
    """
    deadline = time.monotonic() + _EXEC_WITHIN_S
    without_any = 0  # times in a row: the kernel sets start and end one after the other
    while True:
        try:
            environment = Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:
            return b""
        fields = _stat(pid)
        if fields is None or int(fields[_FLAGS]) & _KERNEL_THREAD:
            return b""
        start, end = map(int, fields[_ENVIRONMENT])
        complete = end > 0 and len(environment) == end - start
        without_any = without_any + 1 if complete and not environment else 0
        if (complete and environment) or without_any == _EMPTY_FOR_SURE or time.monotonic() > deadline:
            return environment
        time.sleep(_EXEC_POLL_S)
