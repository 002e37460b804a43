"""`openmwaa up`: starts the services, control and node of a home, and keeps them alive.

It holds no state that matters. If it is killed, everything runs on, and the next `up` adopts
what it finds by recorded identity. Signals: INT and TERM stop everything, environments too;
HUP only ends the supervision.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from enum import Enum, auto
from typing import Final

import structlog

from openmwaa.kit.files import write_atomically
from openmwaa.processes.home_lock import HomeLock
from openmwaa.processes.own import CONTROL, NODE, build_own_spec
from openmwaa.processes.stop import stop_everything, up_table
from openmwaa.services.embedded import embedded_services
from openmwaa.services.endpoints import make_credentials
from openmwaa.services.ports import require_free
from openmwaa.services.service import EmbeddedService
from openmwaa.services.users import prepare_home
from openmwaa.settings import Settings
from openmwaa.supervise import Supervisor
from openmwaa.supervise.identity import marked

_log = structlog.get_logger()

_FIRST_POLL_S: Final = 0.03
_SLOWEST_POLL_S: Final = 0.5
_SAY_SO_EVERY_S: Final = 15.0


class _End(Enum):
    STOP_EVERYTHING = auto()
    LEAVE_RUNNING = auto()


async def run_up(settings: Settings) -> None:
    """Supervise a home until a signal says otherwise.

    Raises:
        AlreadyRunningError: Another process supervises this home.

        UnusableHomeError, MissingBinaryError, PortInUseError, ServiceBrokenError: It can never
            start like this. What this call started is stopped again; survivors of an earlier
            supervisor run on.
    """
    prepare_home(settings)
    lock = HomeLock(settings)
    lock.acquire()
    try:
        write_atomically(settings.layout.port_base_file, str(settings.port_base))
        match await _Up(settings).run():
            case _End.STOP_EVERYTHING:
                await stop_everything(settings, lambda line: _log.info("stopping", step=line))
            case _End.LEAVE_RUNNING:
                _log.info("supervision_ended")
    finally:
        lock.release()


class _Up:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._supervisor = Supervisor(up_table(settings))
        self._fresh: list[str] = []
        self._database_ready = asyncio.Event()
        self._end: asyncio.Future[_End] = asyncio.get_running_loop().create_future()

    async def run(self) -> _End:
        loop = asyncio.get_running_loop()
        for number, end in (
            (signal.SIGINT, _End.STOP_EVERYTHING),
            (signal.SIGTERM, _End.STOP_EVERYTHING),
            (signal.SIGHUP, _End.LEAVE_RUNNING),
        ):
            loop.add_signal_handler(number, self._on_signal, end)
        starting = asyncio.create_task(self._start())
        try:
            await asyncio.wait((starting, self._end), return_when=asyncio.FIRST_COMPLETED)
            if starting.done() and starting.exception():
                await self._undo()
                await starting
            return await self._end
        finally:
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            await self._supervisor.close()

    def _on_signal(self, end: _End) -> None:
        if not self._end.done():
            self._end.set_result(end)

    async def _start(self) -> None:
        began = time.monotonic()
        make_credentials(self._settings)
        services = embedded_services(self._settings)
        for service in services:
            if not self._survives(service.name):
                require_free(self._settings, service.name)
                self._fresh.append(service.name)
        try:
            async with asyncio.TaskGroup() as group:
                for service in services:
                    group.create_task(self._start_service(service, began))
                group.create_task(self._start_own_processes())
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from failures
        _log.info("up", seconds=round(time.monotonic() - began, 2))

    async def _start_own_processes(self) -> None:
        """Start control and node beside the object store: they wait for it, but not for the database."""
        if self._settings.postgres_url is None:
            await self._database_ready.wait()
        for name in (CONTROL, NODE):
            await self._supervisor.ensure(build_own_spec(self._settings, name, os.environ))
            _log.info("started", name=name, pid=self._pid(name))

    async def _start_service(self, service: EmbeddedService, began: float) -> None:
        await service.prepare()
        await self._supervisor.ensure(service.spec())
        await self._until_ready(service)
        await service.settle()
        if service.name == "postgres":
            self._database_ready.set()
        _log.info(
            "ready",
            name=service.name,
            pid=self._pid(service.name),
            adopted=service.name not in self._fresh,
            seconds=round(time.monotonic() - began, 2),
        )

    def _survives(self, name: str) -> bool:
        record = self._supervisor.table.read(name)
        if record is None:
            return False
        # No identity: an earlier supervisor died between starting the process and saying so.
        return record.identity.is_alive if record.identity else any(marked(record.marker))

    def _pid(self, name: str) -> int | None:
        seen = self._supervisor.observe().get(name)
        return seen.pid if seen else None

    async def _until_ready(self, service: EmbeddedService) -> None:
        """Ask again and again; a recovery after a crash may take long, so there is no deadline here."""
        pause_s, say_at = _FIRST_POLL_S, time.monotonic() + _SAY_SO_EVERY_S
        while not await service.is_ready():
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 1.3, _SLOWEST_POLL_S)
            if time.monotonic() > say_at:
                _log.warning("not_ready", name=service.name, log=str(service.spec().log_path))
                say_at = time.monotonic() + _SAY_SO_EVERY_S

    async def _undo(self) -> None:
        for name in (CONTROL, NODE, *self._fresh) if self._fresh else ():
            await self._supervisor.remove(name)
