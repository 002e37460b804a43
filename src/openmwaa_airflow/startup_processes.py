"""Waiting for a program that we started, and ending it with the rest of its process group."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Callable
from pathlib import Path

PATIENCE_S = 5.0
"""Between SIGTERM and SIGKILL, as in MWAA's image (mwaa.md 5.5)."""

_POLL_S = 0.1


def ends_within(
    pid: int, seconds: float, *, meanwhile: Callable[[], None], unless: Callable[[], object] = lambda: False
) -> bool:
    """Wait for a child, without reaping it: until then nobody else can have its number.

    Args:
        pid: The child.

        seconds: How long.

        meanwhile: Called a few times a second.

        unless: Waiting ends when this returns something true.
    """
    pidfd = os.pidfd_open(pid)
    try:
        ended = select.poll()
        ended.register(pidfd, select.POLLIN)
        deadline = time.monotonic() + seconds
        while not unless() and (left := deadline - time.monotonic()) > 0:
            if ended.poll(1000 * min(left, _POLL_S)):
                return True
            meanwhile()
        return bool(ended.poll(0))
    finally:
        os.close(pidfd)


def has_failed(pid: int) -> bool:
    """Return whether a child that has ended did so with another code than 0; does not reap it."""
    how = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    return how is not None and (how.si_code != os.CLD_EXITED or how.si_status != 0)


def stop_group(leader: int, *, meanwhile: Callable[[], None]) -> None:
    """Ask a process group to end, and kill what has not ended after `PATIENCE_S`.

    Args:
        leader: Our child, not reaped yet.

        meanwhile: Called a few times a second.
    """
    signal_group(leader, signal.SIGTERM)
    deadline = time.monotonic() + PATIENCE_S
    while group_members(leader) and time.monotonic() < deadline:
        meanwhile()
        time.sleep(_POLL_S)
    signal_group(leader, signal.SIGKILL)


def signal_group(leader: int, number: int) -> None:
    """Signal every process of a group that has any."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, number)


def group_members(leader: int) -> list[int]:
    """Return the processes of a group that run; one that waits to be reaped does not."""
    found = []
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        try:
            stat = Path(entry.path, "stat").read_text(errors="replace")
        except OSError:
            continue
        # The name is in parentheses and may contain anything, also parentheses.
        state, _parent, group, *_ = stat.rpartition(")")[2].split()
        if int(group) == leader and state not in "ZX":
            found.append(int(entry.name))
    return found
