"""Children that we did not start: those of a preloaded process that has died.

A subreaper inherits them, and then may learn how they ended. Others that come with them, such as
what a component left behind when it ended, must be reaped too.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
from typing import Final

_PR_SET_CHILD_SUBREAPER: Final = 36
_LOOK_EVERY_S: Final = 2.0


def become_subreaper() -> None:
    """Inherit what our descendants leave behind, from now on."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def inherited_exit(pidfd: int) -> int | None:
    """Return how a process ended that became our child; None if it is not ours, or runs."""
    try:
        how = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
    except ChildProcessError:
        return None
    if how is None:
        return None
    return how.si_status if how.si_code == os.CLD_EXITED else -how.si_status


async def reap_orphans() -> None:
    """Reap for ever what nobody else waits for.

    Who started a child waits for it and takes it at once; what is still there at the second look
    is nobody's.
    """
    seen: set[int] = set()
    while True:
        await asyncio.sleep(_LOOK_EVERY_S)
        left = _ended_children()
        for pid in left & seen:
            _reap(pid)
        seen = left - seen


def _ended_children() -> set[int]:
    """Return children that have ended and were not waited for."""
    try:
        first = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return set()
    if first is None:
        return set()  # the usual case, and cheap
    found = set()
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                with open(f"/proc/{entry.name}/stat", errors="replace") as file:
                    state, parent, *_ = file.read().rpartition(")")[2].split()
            except OSError:
                continue
            if state == "Z" and int(parent) == os.getpid():
                found.add(int(entry.name))
    return found


def _reap(pid: int) -> None:
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG)
    except ChildProcessError:
        return
