"""One running process: starting, recognising, waiting for, and ending it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

import structlog

from openmwaa.supervise.forking import Command, ForkedChild, Forker
from openmwaa.supervise.identity import (
    MARKER_VARIABLE,
    ProcessIdentity,
    identity_of,
    marked,
    running,
    user_of,
)
from openmwaa.supervise.orphans import inherited_exit
from openmwaa.supervise.spec import ProcessSpec
from openmwaa.supervise.table import ProcessRecord, ProcessTable

_log = structlog.get_logger()

_KILL_WITHIN_S: Final = 10.0
_POLL_S: Final = 0.05

_Child = subprocess.Popen[bytes] | ForkedChild

_LET_GO: list[subprocess.Popen[bytes]] = []
"""Children that run on without us. Kept, because Popen warns of one that is collected while it runs."""


@dataclass(frozen=True)
class ExitReport:
    """How a process ended; `code` is None where only its parent could know."""

    code: int | None

    def __str__(self) -> str:
        if self.code is None:
            return "ended"
        if self.code < 0:
            return f"signal {-self.code}"
        return f"exit code {self.code}"


class StillAliveError(Exception):
    """Processes did not die within the time although they were killed."""


class ManagedProcess:
    """A process that runs, with a file descriptor that means it and no other."""

    def __init__(self, record: ProcessRecord, pidfd: int, child: _Child | None) -> None:
        self.record = record
        self._pidfd = pidfd
        self._child = child

    @classmethod
    def start(
        cls, spec: ProcessSpec, table: ProcessTable, *, restarts: int = 0, last_exit: str | None = None
    ) -> ManagedProcess:
        """Record and start a process in a session of its own.

        If we are killed between the two, its marker in the record still finds it.

        Raises:
            OSError: The program cannot be started; nothing runs.
        """
        marker = f"{table.marker_prefix(spec.name)}:{secrets.token_hex(6)}"
        record = ProcessRecord(
            name=spec.name,
            marker=marker,
            spec_hash=spec.identity_hash,
            identity=None,
            started_at=datetime.now(UTC),
            restarts=restarts,
            last_exit=last_exit,
            stop_signal=spec.stop_signal,
            stop_grace_s=spec.stop_grace_s,
        )
        table.write(record)
        child, pidfd = _begin(spec, marker)
        identity = identity_of(child.pid)
        if identity is not None and not has_ended(pidfd):  # a forked child's number may be another's by then
            record = replace(record, identity=identity)
            try:
                table.write(record)
            except OSError as error:  # a full disk; to fail here would mean a second copy
                _log.warning("identity_not_recorded", name=spec.name, error=error.strerror)
        return cls(record, pidfd, child)

    @classmethod
    def adopt(cls, record: ProcessRecord, table: ProcessTable) -> ManagedProcess | None:
        """Take over a process that an earlier supervisor started; None if it no longer runs."""
        identity = record.identity or _find_leader(record.marker)
        if identity is None:
            return None
        try:
            pidfd = os.pidfd_open(identity.pid)
        except ProcessLookupError:
            return None
        if not identity.is_alive:  # checked with the descriptor in hand: the pid cannot change hands now
            os.close(pidfd)
            return None
        if record.identity is None:
            record = replace(record, identity=identity)
            table.write(record)
        return cls(record, pidfd, None)

    @property
    def pid(self) -> int:
        return self._child.pid if self._child else self.record.identity.pid if self.record.identity else 0

    @property
    def is_alive(self) -> bool:
        """Whether the main process runs."""
        return self._pidfd >= 0 and not has_ended(self._pidfd)

    def send(self, number: int) -> None:
        """Signal the main process only; does nothing if it has ended."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, number)

    async def wait(self) -> ExitReport:
        """Wait until the main process has ended."""
        await wait_for_end(self._pidfd)
        return self._reap()

    async def stop(self, number: int, grace_s: float) -> ExitReport:
        """Ask the main process to end, then end all that is left of the instance.

        Args:
            number: Signal to ask with.

            grace_s: How long it may take before it is killed.

        Raises:
            StillAliveError: Something is stuck in the kernel.
        """
        self.send(number)
        for patience_s in (grace_s, _KILL_WITHIN_S):
            try:
                async with asyncio.timeout(patience_s):
                    report = await self.wait()
            except TimeoutError:
                # By descriptor: it may have written over the place where the marker was.
                self.send(signal.SIGKILL)
            else:
                await kill_marked(self.record.marker)
                return report
        raise StillAliveError(f"{self.record.name} (pid {self.pid}) cannot be killed")

    def close(self) -> None:
        """Give the descriptor back. The process runs on."""
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1
            if isinstance(self._child, ForkedChild):
                self._child.close()
            elif self._child is not None and self._child.returncode is None:
                _LET_GO.append(self._child)

    def _reap(self) -> ExitReport:
        if self._child is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(timeout=1)
            if self._child.returncode is not None:
                return ExitReport(self._child.returncode)
        return ExitReport(inherited_exit(self._pidfd))


def has_ended(pidfd: int) -> bool:
    """Return whether the process that a descriptor means has ended."""
    ended = select.poll()  # not select(): that knows only the first 1024 descriptors
    ended.register(pidfd, select.POLLIN)
    return bool(ended.poll(0))


async def wait_for_end(pidfd: int) -> None:
    """Wait until the process that a descriptor means has ended. One waiter per descriptor."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()

    def on_readable() -> None:
        if not ended.done():
            ended.set_result(None)

    loop.add_reader(pidfd, on_readable)
    try:
        await ended
    finally:
        loop.remove_reader(pidfd)


async def kill_marked(prefix: str) -> int:
    """Kill every process whose marker, own or inherited, begins so, until none is left.

    Returns:
        How many were killed.

    Raises:
        StillAliveError: Some are left after ten seconds, stuck in the kernel.
    """
    return await _kill_all(
        lambda: [one.identity for one in running() if one.marker.startswith(prefix)], prefix
    )


async def kill_user(uid: int) -> int:
    """Kill every process of a Linux user, until none is left; returns and raises like `kill_marked`.

    For users that exist for one purpose only: it finds also what removed its marker.
    """
    return await _kill_all(
        lambda: [one.identity for one in running() if user_of(one.identity.pid) == uid], f"user {uid}"
    )


async def _kill_all(find: Callable[[], Iterable[ProcessIdentity]], what: str) -> int:
    killed: set[ProcessIdentity] = set()
    deadline = time.monotonic() + _KILL_WITHIN_S
    while left := await asyncio.to_thread(lambda: list(find())):
        if time.monotonic() > deadline:
            raise StillAliveError(f"{len(left)} processes of {what} cannot be killed")
        killed.update(identity for identity in left if _kill(identity))
        await asyncio.sleep(_POLL_S)
    return len(killed)


def _kill(identity: ProcessIdentity) -> bool:
    """Kill a process if it is still the one that was meant now that a descriptor holds on to it."""
    try:
        pidfd = os.pidfd_open(identity.pid)
    except ProcessLookupError:
        return False
    try:
        if not identity.is_alive:
            return False
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    except ProcessLookupError:
        return False
    finally:
        os.close(pidfd)
    return True


def _begin(spec: ProcessSpec, marker: str) -> tuple[_Child, int]:
    """Fork or start a process; return it with a descriptor that means it."""
    spec.log_path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    log = os.open(spec.log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
    try:
        if spec.forker is not None and (forked := _fork(spec, spec.forker, marker, log)):
            return forked, forked.pidfd
        child = _spawn(spec, marker, log)
    finally:
        os.close(log)
    try:
        return child, os.pidfd_open(child.pid)
    except OSError:
        child.kill()
        child.wait()
        raise


def variables_of(env: Mapping[str, str], marker: str) -> dict[str, str]:
    """Return the variables that a process gets: its own, and those by which it is recognised."""
    # SPT_NOENV: process titles must not overwrite the environment, where the marker is.
    return {"SPT_NOENV": "1", **env, MARKER_VARIABLE: marker}


def _fork(spec: ProcessSpec, forker: Forker, marker: str, log: int) -> ForkedChild | None:
    command = Command(spec.argv, variables_of(spec.env, marker), spec.cwd, marker, spec.sandbox)
    nothing = os.open(os.devnull, os.O_RDWR)
    try:
        return forker.fork(spec.name, command, (nothing, log, log))
    finally:
        os.close(nothing)


def _spawn(spec: ProcessSpec, marker: str, log: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        spec.sandbox.command(spec.argv, spec.cwd) if spec.sandbox else spec.argv,
        env=variables_of(spec.env, marker),
        cwd=None if spec.sandbox else spec.cwd,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,
    )


def _find_leader(marker: str) -> ProcessIdentity | None:
    """Return the process that was started under a marker: of the leaders of sessions, the oldest."""
    leaders = []
    for pid in marked(marker):
        with contextlib.suppress(ProcessLookupError):
            if os.getsid(pid) == pid and (identity := identity_of(pid)):
                leaders.append(identity)
    return min(leaders, key=lambda identity: identity.start_ticks, default=None)
