"""Stopping the processes of every environment of a host while no node agent runs."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

import structlog

from openmwaa.backends.local.folders import EnvironmentFolders
from openmwaa.backends.local.isolation import Isolation
from openmwaa.backends.local.replicas import kind_and_index
from openmwaa.backends.local.zygotes import GROUP
from openmwaa.settings import Settings
from openmwaa.supervise import ProcessTable, Supervisor
from openmwaa.supervise.process import StillAliveError, kill_marked, kill_user

_log = structlog.get_logger()

_GRACE_S: Final = 10.0


async def stop_all_environments(settings: Settings, *, grace_s: float = _GRACE_S) -> int:
    """Stop every process of every environment; what is wanted stays for the next start.

    The node agent must be stopped first: it would start again what ends.

    Args:
        settings: Of the home.

        grace_s: Patience with each component; then it is killed.

    Returns:
        How many environments had processes.
    """
    if not settings.layout.node_processes.exists():
        return 0
    table = ProcessTable(settings.layout.node_processes)
    supervisor = Supervisor(table)
    names = [record.name for record in table.list()]
    components = [name for name in names if kind_and_index(name.partition("/")[2])]
    others = [name for name in names if name not in set(components)]
    # Brokers last: a worker that ends gives its tasks back through them.
    for group in (components, others):
        ends = (supervisor.remove(name, grace_s=grace_s) for name in group)
        for name, result in zip(group, await asyncio.gather(*ends, return_exceptions=True), strict=True):
            if isinstance(result, BaseException):  # what can be stopped is stopped
                _log.error("not_stopped", name=name, reason=repr(result))
    with contextlib.suppress(StillAliveError):
        await kill_marked(table.marker_prefix())
        for uid in _users(settings):
            await kill_user(uid)  # also what threw its marker away
    return len({name.partition("/")[0] for name in names} - {GROUP})


def _users(settings: Settings) -> list[int]:
    isolation, folder = Isolation(settings), settings.layout.environments
    names = [entry.name for entry in folder.iterdir()] if folder.exists() else []
    owners = (isolation.owner(EnvironmentFolders.of(settings.layout, name)) for name in names)
    return [uid for uid in owners if uid is not None]
