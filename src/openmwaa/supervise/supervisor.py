"""Keeps wanted processes running: one task per process, back-off after crashes, adoption at start."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

import structlog

from openmwaa.kit.backoff import backoff_s
from openmwaa.supervise.identity import boot_id
from openmwaa.supervise.process import ManagedProcess, StillAliveError, kill_marked
from openmwaa.supervise.spec import ProcessSpec
from openmwaa.supervise.table import ProcessRecord, ProcessTable

_log = structlog.get_logger()

_STABLE_AFTER_S: Final = 60.0
"""A process that ran this long starts the back-off anew."""

_FIRST_WAIT_S: Final = 0.25
"""The first restart is quick: most deaths are not the program's own doing."""

_LONGEST_WAIT_S: Final = 30.0


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

    async def ensure(self, spec: ProcessSpec, *, patient: bool = False) -> None:
        """Want a process, from now on. Returns when it was started or adopted once.

        One that runs from the same spec is left alone; one that runs from another is stopped
        first. Calls for one name follow each other. May be abandoned and called again.

        Args:
            spec: What to run.

            patient: A program that cannot be started counts as one that ended: it is tried again.

        Raises:
            OSError: The program cannot be started at all. Not if `patient`.

            StillAliveError: What ran before cannot be killed.
        """
        async with self._keeper(spec.name) as keeper:
            await keeper.want(spec, patient=patient)

    async def remove(
        self, name: str, *, stop_signal: int | None = None, grace_s: float | None = None
    ) -> None:
        """Stop a process and forget it; also one that only the table knows.

        Args:
            name: Nothing happens if it is unknown.

            stop_signal: Instead of the spec's that it was started from.

            grace_s: Likewise.

        Raises:
            StillAliveError: It cannot be killed.
        """
        async with self._keeper(name) as keeper:
            await keeper.end(stop_signal=stop_signal, grace_s=grace_s)

    def keeps(self, name: str, spec_hash: str) -> bool:
        """Return whether `ensure` has nothing to do for a process of this hash."""
        keeper = self._keepers.get(name)
        return keeper is not None and keeper.keeps(spec_hash)

    def observe(self) -> dict[str, ProcessSeen]:
        """Return every wanted process by name."""
        return {name: seen for name, keeper in self._keepers.items() if (seen := keeper.observe())}

    def unwanted(self) -> list[ProcessRecord]:
        """Return what the table remembers and nobody wants: left by an earlier supervisor."""
        return [record for record in self.table.list() if record.name not in self._keepers]

    async def close(self) -> None:
        """Stop keeping. The processes run on, to be adopted by the next supervisor."""
        for name in list(self._keepers):
            async with self._keeper(name) as keeper:
                await keeper.let_go()

    @contextlib.asynccontextmanager
    async def _keeper(self, name: str) -> AsyncIterator[_Keeper]:
        """Give a name's keeper to one caller after the other; drop it when it keeps nothing."""
        keeper = self._keepers.get(name)
        if keeper is None:
            keeper = self._keepers[name] = _Keeper(name, self.table, self._on_exit)
        keeper.callers += 1
        try:
            async with keeper.turn:
                yield keeper
        finally:
            keeper.callers -= 1
            if keeper.is_idle and not keeper.callers:
                self._keepers.pop(name, None)


class _Keeper:
    """Keeps one process. Its methods are called in turn; each may be cancelled at any await.

    Invariant: while `_watch` runs, only it starts processes; otherwise only the caller whose
    turn it is.
    """

    def __init__(self, name: str, table: ProcessTable, on_exit: Callable[[str, str], None] | None) -> None:
        self.turn = asyncio.Lock()
        self.callers = 0
        self._name = name
        self._table = table
        self._on_exit = on_exit
        self._spec: ProcessSpec | None = None
        self._process: ManagedProcess | None = None
        self._watch: asyncio.Task[None] | None = None
        self._seen: ProcessRecord | None = None

    @property
    def is_idle(self) -> bool:
        return self._spec is None and self._process is None

    def keeps(self, spec_hash: str) -> bool:
        return (
            self._spec is not None
            and self._spec.identity_hash == spec_hash
            and self._watch is not None
            and not self._watch.done()
        )

    async def want(self, spec: ProcessSpec, *, patient: bool) -> None:
        if self.keeps(spec.identity_hash):
            return
        await self._stop_watching()
        self._spec = spec
        record = self._table.read(self._name)
        if self._process is None and record is not None:
            self._process = ManagedProcess.adopt(record, self._table)
        process = self._process
        if process is not None and process.is_alive and process.record.spec_hash == spec.identity_hash:
            self._seen = process.record
        else:
            restarts, last_exit = _history(record, spec)
            await self._end(record)
            try:
                self._start(restarts=restarts, last_exit=last_exit)
            except OSError as error:
                if not patient:
                    raise
                self._note_failed_start(error)
        self._watch = asyncio.create_task(self._keep())

    async def end(self, *, stop_signal: int | None, grace_s: float | None) -> None:
        await self._stop_watching()
        record = self._table.read(self._name)
        if self._process is None and record is not None:
            self._process = ManagedProcess.adopt(record, self._table)
        await self._end(record, stop_signal=stop_signal, grace_s=grace_s)
        self._table.forget(self._name)
        self._spec = self._seen = None

    async def let_go(self) -> None:
        await self._stop_watching()
        if self._process is not None:
            self._process.close()
        self._process = self._spec = self._seen = None

    def observe(self) -> ProcessSeen | None:
        if self._seen is None:
            return None
        process = self._process
        return ProcessSeen(
            name=self._name,
            pid=process.pid if process is not None and process.is_alive else None,
            spec_hash=self._seen.spec_hash,
            since=self._seen.started_at,
            restarts=self._seen.restarts,
            last_exit=self._seen.last_exit,
        )

    async def _keep(self) -> None:
        """Wait for the process to end, clean up after it, start it again; for ever."""
        failures = 0
        while True:
            if self._process is None:  # it could not be started
                failures += 1
            else:
                began = time.monotonic()
                await self._wait_and_clean_up(self._process)
                failures = 1 if time.monotonic() - began > _STABLE_AFTER_S else failures + 1
            await asyncio.sleep(backoff_s(failures, base_s=_FIRST_WAIT_S, cap_s=_LONGEST_WAIT_S))
            seen = self._seen
            try:
                self._start(restarts=seen.restarts if seen else 0, last_exit=seen.last_exit if seen else None)
            except OSError as error:
                self._note_failed_start(error)

    async def _wait_and_clean_up(self, process: ManagedProcess) -> None:
        report = await process.wait()
        _log.warning("process_ended", name=self._name, how=str(report), pid=process.pid)
        self._seen = replace(process.record, restarts=process.record.restarts + 1, last_exit=str(report))
        if self._on_exit:
            self._on_exit(self._name, str(report))
        while True:
            try:
                await kill_marked(process.record.marker)
            except StillAliveError as error:  # no second copy while one is left
                _log.error("process_left", name=self._name, reason=str(error))
            else:
                break
        process.close()
        self._process = None

    def _start(self, *, restarts: int, last_exit: str | None) -> None:
        assert self._spec is not None  # noqa: S101 - wanted before it is started
        process = ManagedProcess.start(self._spec, self._table, restarts=restarts, last_exit=last_exit)
        self._process = process
        self._seen = process.record
        _log.info("process_started", name=self._name, pid=process.pid, restarts=restarts)

    def _note_failed_start(self, error: OSError) -> None:
        _log.error("process_cannot_start", name=self._name, error=str(error))
        record = self._table.read(self._name)
        if record is not None:
            how = f"cannot start: {error.strerror or error}"
            self._seen = replace(record, restarts=record.restarts + 1, last_exit=how)

    async def _end(
        self, record: ProcessRecord | None, *, stop_signal: int | None = None, grace_s: float | None = None
    ) -> None:
        """End what runs of an instance, main process first."""
        process = self._process
        if process is not None:
            known = process.record
            await process.stop(
                known.stop_signal if stop_signal is None else stop_signal,
                known.stop_grace_s if grace_s is None else grace_s,
            )
            process.close()
            self._process = None
        if record is not None:
            # Everything under this name, not only the last instance: a starter may have died in between.
            await kill_marked(self._table.marker_prefix(record.name) + ":")

    async def _stop_watching(self) -> None:
        watch, self._watch = self._watch, None
        if watch is not None:
            while not watch.done():
                watch.cancel()  # again, should what it waits for have lost the first
                await asyncio.wait((watch,), timeout=1.0)
            if not watch.cancelled() and (error := watch.exception()):
                _log.error("keeper_failed", name=self._name, error=repr(error))


def _history(record: ProcessRecord | None, spec: ProcessSpec) -> tuple[int, str | None]:
    """Return restarts and last exit of a process that ended while nobody kept it."""
    if record is None or record.spec_hash != spec.identity_hash:
        return 0, None
    if record.identity is None or record.identity.boot_id != boot_id():
        return record.restarts, record.last_exit  # the host went down, or it was never seen to run
    return record.restarts + 1, "ended"
