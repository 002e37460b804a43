"""What runs of a home, read from its records and from /proc; needs nothing to answer."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import psutil

from openmwaa.processes.home_lock import HomeLock
from openmwaa.processes.own import CONTROL, NODE
from openmwaa.processes.stop import up_table
from openmwaa.services.embedded import embedded_services
from openmwaa.settings import Settings
from openmwaa.supervise import ProcessRecord
from openmwaa.supervise.identity import carries

_READY_WITHIN_S: Final = 6.0


@dataclass(frozen=True)
class ProcessLine:
    """One process as `openmwaa status` shows it.

    Attributes:
        state: `running`; `not ready`: it runs but does not do its work yet; `down`: it should
            run and is waited for or being restarted; `stopped`: nobody wants it to run.

        port: Main port, if it has one.

        rss_bytes: Resident memory with its children, shared pages counted in each.
    """

    name: str
    state: str
    pid: int | None = None
    since: datetime | None = None
    restarts: int = 0
    last_exit: str | None = None
    port: int | None = None
    rss_bytes: int = 0


@dataclass(frozen=True)
class HomeStatus:
    """A home at one moment.

    Attributes:
        supervised: `up` runs, so what ends is started again.

        environments: How many have a folder on this host.
    """

    supervised: bool
    processes: tuple[ProcessLine, ...]
    environments: int

    @property
    def running(self) -> bool:
        """Everything that should run does."""
        return all(line.state == "running" for line in self.processes)


async def observe_home(settings: Settings) -> HomeStatus:
    """Return what runs now. Asks each service whether it works."""
    supervisor = HomeLock(settings).holder()
    records = {}
    if settings.layout.processes.exists():
        records = {record.name: record for record in up_table(settings).list()}
    services = {service.name: service for service in embedded_services(settings)}
    ports = {
        "postgres": settings.ports.postgres,
        "seaweedfs": settings.ports.s3,
        "caddy": settings.ports.https,
    }
    lines = [_line_of_supervisor(supervisor.pid) if supervisor else ProcessLine("up", "stopped")]
    names = [*services, CONTROL, NODE]
    alive = [name for name in names if _is_alive(records.get(name))]
    probes = await asyncio.gather(*(_works(services[name].is_ready()) for name in services if name in alive))
    works = dict(zip((name for name in services if name in alive), probes, strict=True))
    for name in names:
        line = _line(name, records.get(name), supervised=supervisor is not None, works=works.get(name, True))
        lines.append(_with_port(line, ports.get(name)))
    folder = settings.layout.environments
    environments = sum(1 for entry in folder.iterdir() if entry.is_dir()) if folder.exists() else 0
    return HomeStatus(supervisor is not None, tuple(lines), environments)


async def _works(probe: Awaitable[bool]) -> bool:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_READY_WITHIN_S):
            return await probe
    return False


def _is_alive(record: ProcessRecord | None) -> bool:
    return bool(record and record.identity and record.identity.is_alive)


def _line_of_supervisor(pid: int) -> ProcessLine:
    process = psutil.Process(pid)
    since = datetime.fromtimestamp(process.create_time()).astimezone()
    return ProcessLine("up", "running", pid, since, rss_bytes=process.memory_info().rss)


def _line(name: str, record: ProcessRecord | None, *, supervised: bool, works: bool) -> ProcessLine:
    if record is None or record.identity is None or not record.identity.is_alive:
        last_exit = record.last_exit if record else None
        return ProcessLine(name, "down" if supervised else "stopped", last_exit=last_exit)
    return ProcessLine(
        name,
        "running" if works else "not ready",
        record.identity.pid,
        record.started_at,
        record.restarts,
        record.last_exit,
        rss_bytes=_memory(record),
    )


def _with_port(line: ProcessLine, port: int | None) -> ProcessLine:
    return ProcessLine(**{**line.__dict__, "port": port})


def _memory(record: ProcessRecord) -> int:
    """Return the memory of a process and of its children, but not of what it only supervises."""
    if record.identity is None:
        return 0
    total = 0
    with contextlib.suppress(psutil.Error):
        main = psutil.Process(record.identity.pid)
        total = main.memory_info().rss
        for child in main.children(recursive=True):
            with contextlib.suppress(psutil.Error):
                # Every supervised process has a marker; PostgreSQL's children overwrote theirs.
                if carries(child.pid, record.marker) or not carries(child.pid, ""):
                    total += child.memory_info().rss
    return total
