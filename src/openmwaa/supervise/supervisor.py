"""Keeps wanted processes running: one task per process, back-off after crashes, adoption at start."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

import structlog

from openmwaa.kit.backoff import backoff_s
from openmwaa.supervise.process import ManagedProcess, kill_marked
from openmwaa.supervise.spec import ProcessSpec
from openmwaa.supervise.table import ProcessRecord, ProcessTable

_log = structlog.get_logger()

_STABLE_AFTER_S = 60.0
"""A process that ran this long starts the back-off anew."""


@dataclass(frozen=True)
class ProcessSeen:
    """One wanted process as it is now; `pid` is None while it is down."""

    name: str
    pid: int | None
    spec_hash: str
    since: datetime
    restarts: int
    last_exit: str | None


class Supervisor:
    """Keeps processes of one table. At most one supervisor per table may run."""

    def __init__(self, table: ProcessTable, *, on_exit: Callable[[str, str], None] | None = None) -> None:
        """Start with nothing wanted.

        Args:
            table: Remembers processes across supervisors.

            on_exit: Called with name and reason when a process ended unexpectedly.
        """
        self.table = table
        self._on_exit = on_exit
        self._keepers: dict[str, _Keeper] = {}

    async def ensure(self, spec: ProcessSpec) -> None:
        """Want a process, from now on. Returns when it was started or adopted once.

        One that runs from the same spec is left alone; one that runs from another is stopped
        first. Concurrent calls for one name follow each other.

        Raises:
            OSError: The program cannot be started at all.
        """
        keeper = self._keepers.get(spec.name)
        if keeper is None:
            keeper = self._keepers[spec.name] = _Keeper(self.table, self._on_exit)
        await keeper.want(spec)

    async def remove(
        self, name: str, *, stop_signal: int | None = None, grace_s: float | None = None
    ) -> None:
        """Stop a process and forget it; also one that only the table knows.

        Args:
            name: Nothing happens if it is unknown.

            stop_signal: Instead of the spec's.

            grace_s: Instead of the spec's; ten seconds for a process that only the table knows.
        """
        keeper = self._keepers.pop(name, None) or _Keeper(self.table, None)
        await keeper.end(name, stop_signal=stop_signal, grace_s=grace_s)

    async def restart(self, name: str) -> None:
        """Stop a wanted process gently and start it again from the same spec."""
        keeper = self._keepers.get(name)
        if keeper is not None:
            await keeper.restart()

    def observe(self) -> dict[str, ProcessSeen]:
        """Return every wanted process by name."""
        return {name: seen for name, keeper in self._keepers.items() if (seen := keeper.observe())}

    def unwanted(self) -> list[ProcessRecord]:
        """Return what the table remembers and nobody wants: left by an earlier supervisor."""
        return [record for record in self.table.list() if record.name not in self._keepers]

    async def close(self) -> None:
        """Stop keeping. The processes run on, to be adopted by the next supervisor."""
        await asyncio.gather(*(keeper.let_go() for keeper in self._keepers.values()))
        self._keepers.clear()


class _Keeper:
    """Keeps one process."""

    def __init__(self, table: ProcessTable, on_exit: Callable[[str, str], None] | None) -> None:
        self._table = table
        self._on_exit = on_exit
        self._turn = asyncio.Lock()
        self._spec: ProcessSpec | None = None
        self._process: ManagedProcess | None = None
        self._watch: asyncio.Task[None] | None = None
        self._seen: ProcessRecord | None = None

    async def want(self, spec: ProcessSpec) -> None:
        async with self._turn:
            same = self._spec is not None and self._spec.identity_hash == spec.identity_hash
            self._spec = spec if not same or self._watch is None else self._spec
            if same and self._watch is not None and not self._watch.done():
                return
            await self._stop_watching()
            record = self._table.read(spec.name)
            process = self._process or (ManagedProcess.adopt(record, self._table) if record else None)
            if process is not None and process.is_alive and process.record.spec_hash == spec.identity_hash:
                self._process = process
                self._seen = process.record
            else:
                await self._end(record, process, spec)
                self._start(spec, restarts=0)
            self._watch = asyncio.create_task(self._keep(spec))

    async def end(self, name: str, *, stop_signal: int | None, grace_s: float | None) -> None:
        async with self._turn:
            await self._stop_watching()
            record = self._table.read(name)
            process = self._process or (ManagedProcess.adopt(record, self._table) if record else None)
            await self._end(record, process, self._spec, stop_signal=stop_signal, grace_s=grace_s)
            self._process = None
            self._table.forget(name)

    async def restart(self) -> None:
        async with self._turn:
            if self._spec is None:
                return
            await self._stop_watching()
            await self._end(self._table.read(self._spec.name), self._process, self._spec)
            self._start(self._spec, restarts=0)
            self._watch = asyncio.create_task(self._keep(self._spec))

    async def let_go(self) -> None:
        async with self._turn:
            await self._stop_watching()
            if self._process is not None:
                self._process.close()
                self._process = None

    def observe(self) -> ProcessSeen | None:
        if self._seen is None:
            return None
        process = self._process
        alive = process is not None and process.is_alive
        return ProcessSeen(
            name=self._seen.name,
            pid=process.pid if process is not None and alive else None,
            spec_hash=self._seen.spec_hash,
            since=self._seen.started_at,
            restarts=self._seen.restarts,
            last_exit=self._seen.last_exit,
        )

    async def _keep(self, spec: ProcessSpec) -> None:
        """Wait for the process to end, clean up after it, start it again; for ever."""
        failures = 0
        while True:
            process = self._process
            assert process is not None  # noqa: S101 - started before this task
            began = time.monotonic()
            report = await process.wait()
            _log.warning("process_ended", name=spec.name, how=str(report), pid=process.pid)
            await kill_marked(process.record.marker)
            process.close()
            self._process = None
            self._note(process.record, str(report))
            if self._on_exit:
                self._on_exit(spec.name, str(report))
            failures = 1 if time.monotonic() - began > _STABLE_AFTER_S else failures + 1
            await self._start_again(spec, failures, process.record.restarts + 1, str(report))

    async def _start_again(self, spec: ProcessSpec, failures: int, restarts: int, last_exit: str) -> None:
        while True:
            # The first restart is quick: most deaths are not the program's own doing.
            await asyncio.sleep(backoff_s(failures, base_s=0.25, cap_s=30))
            try:
                self._start(spec, restarts=restarts, last_exit=last_exit)
            except OSError as error:
                failures += 1
                _log.error("process_cannot_start", name=spec.name, error=error.strerror)
            else:
                return

    def _note(self, record: ProcessRecord, last_exit: str) -> None:
        self._seen = replace(record, restarts=record.restarts + 1, last_exit=last_exit)

    def _start(self, spec: ProcessSpec, *, restarts: int, last_exit: str | None = None) -> None:
        process = ManagedProcess.start(spec, self._table, restarts=restarts)
        if last_exit is not None:
            process.record = replace(process.record, last_exit=last_exit)
            self._table.write(process.record)
        self._process = process
        self._seen = process.record
        _log.info("process_started", name=spec.name, pid=process.pid, restarts=restarts)

    async def _end(
        self,
        record: ProcessRecord | None,
        process: ManagedProcess | None,
        spec: ProcessSpec | None,
        *,
        stop_signal: int | None = None,
        grace_s: float | None = None,
    ) -> None:
        """End what runs of an instance, main process first."""
        if process is not None:
            number = stop_signal or (spec.stop_signal if spec else 15)
            patience = grace_s if grace_s is not None else spec.stop_grace_s if spec else 10.0
            await process.stop(number, patience)
            process.close()
        if record is not None:
            # Everything under this name, not only the last instance: a starter may have died in between.
            await kill_marked(self._table.marker_prefix(record.name) + ":")

    async def _stop_watching(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watch
            self._watch = None
