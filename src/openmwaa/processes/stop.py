"""Ending everything of a home, whoever supervises it now, and making sure that nothing is left."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Final

from openmwaa.backends.local.stop import stop_all_environments
from openmwaa.kit.errors import OperatorError
from openmwaa.processes.home_lock import HomeLock
from openmwaa.processes.own import CONTROL, NODE
from openmwaa.services.seaweedfs import remove_sockets
from openmwaa.settings import Settings
from openmwaa.supervise import ProcessTable, Supervisor
from openmwaa.supervise.identity import identity_of, marked
from openmwaa.supervise.process import StillAliveError, kill_marked

Say = Callable[[str], None]

_GRACES: Final[dict[str, tuple[int, float]]] = {
    "caddy": (signal.SIGTERM, 8.0),
    "seaweedfs": (signal.SIGTERM, 6.0),
    "postgres": (signal.SIGINT, 30.0),
}
"""Signal and patience per service; the same as in their specifications, which `down` does not need."""

_GONE_WITHIN_S: Final = 10.0


class LeftoversError(OperatorError):
    """Something of the home runs on although it was killed."""


def up_table(settings: Settings) -> ProcessTable:
    """Return the memory of `up`: the services, control and node."""
    return ProcessTable(settings.layout.up_processes)


async def stop_home(settings: Settings, say: Say) -> None:
    """Stop environments, node, control and services, also when nobody supervises them.

    Safe to repeat. Data stays.

    Args:
        settings: Of the home.

        say: Gets one line per step, for people.

    Raises:
        LeftoversError: Names what is left.
    """
    if not settings.layout.run.exists():
        say("nothing runs")
        return
    lock = HomeLock(settings)
    await lock.take_over()
    try:
        await stop_everything(settings, say)
    finally:
        lock.release()


async def stop_everything(settings: Settings, say: Say) -> None:
    """Do the steps of `stop_home` while the caller holds the home's lock."""
    supervisor = Supervisor(up_table(settings))
    known = {record.name for record in supervisor.unwanted()}
    # The node first: it would start again what is stopped behind its back.
    if NODE in known:
        await supervisor.remove(NODE, grace_s=15.0)
        say("node stopped")
    await stop_all_environments(settings)
    say("environments stopped")
    if CONTROL in known:
        await supervisor.remove(CONTROL, grace_s=15.0)
        say("control stopped")
    for group in (("caddy", "seaweedfs"), ("postgres",)):
        names = [name for name in group if name in known]
        await asyncio.gather(*(_stop_service(supervisor, name) for name in names))
        for name in names:
            say(f"{name} stopped")
    for name in sorted(known - {NODE, CONTROL, *_GRACES}):
        await supervisor.remove(name)
        say(f"{name} stopped")
    await _kill_leftovers(settings)
    remove_sockets(settings)
    say("nothing of this home runs any more")


async def _stop_service(supervisor: Supervisor, name: str) -> None:
    number, grace_s = _GRACES[name]
    await supervisor.remove(name, stop_signal=number, grace_s=grace_s)


def home_processes(settings: Settings) -> dict[int, str]:
    """Return the pids of everything that belongs to a home, with what it is.

    That is: what carries a marker of one of its process tables, and what works in one of its
    services' folders, because PostgreSQL's children overwrite the place where the marker was.
    """
    found = {pid: _command(pid) for pid in marked(f"{settings.layout.processes}")}
    services = settings.layout.services.resolve()
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit() or int(entry.name) in found:
            continue
        with contextlib.suppress(OSError):
            if services in Path(os.readlink(f"/proc/{entry.name}/cwd")).parents:
                found[int(entry.name)] = _command(int(entry.name))
    return {pid: command for pid, command in found.items() if pid != os.getpid() and identity_of(pid)}


async def _kill_leftovers(settings: Settings) -> None:
    with contextlib.suppress(StillAliveError):
        await kill_marked(f"{settings.layout.processes}")
    deadline = asyncio.get_running_loop().time() + _GONE_WITHIN_S
    while left := await asyncio.to_thread(home_processes, settings):
        if asyncio.get_running_loop().time() > deadline:
            names = ", ".join(f"{pid} {command}" for pid, command in left.items())
            raise LeftoversError(f"these processes of {settings.home} do not end: {names}")
        for pid in left:
            _kill_if_of_home(pid, settings)
        await asyncio.sleep(0.1)


def _kill_if_of_home(pid: int, settings: Settings) -> None:
    with contextlib.suppress(OSError):
        descriptor = os.pidfd_open(pid)
        try:
            # Checked again with the descriptor in hand: the number may mean another process by now.
            if pid in home_processes(settings):
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        finally:
            os.close(descriptor)


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return "?"
