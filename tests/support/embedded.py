"""The embedded services alone, started for a test and stopped after it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from pathlib import Path

from openmwaa.services.embedded import embedded_services
from openmwaa.services.seaweedfs import remove_sockets
from openmwaa.services.service import EmbeddedService
from openmwaa.services.users import prepare_home
from openmwaa.settings import Settings, load_settings
from openmwaa.supervise import ProcessTable, Supervisor


async def ready(service: EmbeddedService, *, within_s: float = 60) -> None:
    """Wait until a service does its work."""
    deadline = time.monotonic() + within_s
    while not await service.is_ready():
        assert time.monotonic() < deadline, f"{service.name} not ready within {within_s:.0f} s"
        await asyncio.sleep(0.05)


@asynccontextmanager
async def running_services(
    home: Path, port_base: int, names: Collection[str] = ("postgres", "seaweedfs", "caddy")
) -> AsyncIterator[tuple[Settings, dict[str, EmbeddedService], Supervisor]]:
    """Start the named services in an empty home, wait until they are ready, stop them at the end."""
    settings = load_settings(home=home, port_base=port_base)
    prepare_home(settings)
    services = {one.name: one for one in embedded_services(settings) if one.name in names}
    supervisor = Supervisor(ProcessTable(settings.layout.up_processes))

    async def start(service: EmbeddedService) -> None:
        await service.prepare()
        await supervisor.ensure(service.spec())
        await ready(service)
        await service.settle()

    try:
        async with asyncio.TaskGroup() as group:  # not gather: after a failure no start may go on
            for service in services.values():
                group.create_task(start(service))
        yield settings, services, supervisor
    finally:
        await asyncio.gather(*(supervisor.remove(name) for name in services))
        remove_sockets(settings)
