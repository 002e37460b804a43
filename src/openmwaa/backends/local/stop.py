"""Stopping the processes of every environment of a host while no node agent runs."""

from __future__ import annotations

import asyncio
from typing import Final

from openmwaa.backends.local.replicas import kind_and_index
from openmwaa.settings import Settings
from openmwaa.supervise import ProcessTable, Supervisor
from openmwaa.supervise.process import kill_marked

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
    await asyncio.gather(*(supervisor.remove(name, grace_s=grace_s) for name in components))
    # Brokers last: a worker that ends gives its tasks back through them.
    for name in names:
        await supervisor.remove(name)
    await kill_marked(table.marker_prefix())
    return len({name.partition("/")[0] for name in names})
