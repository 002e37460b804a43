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
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from openmwaa.supervise.identity import MARKER_VARIABLE, ProcessIdentity, carries, identity_of, marked
from openmwaa.supervise.spec import ProcessSpec
from openmwaa.supervise.table import ProcessRecord, ProcessTable

_KILL_WITHIN_S = 10.0
_POLL_S = 0.05

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

    def __init__(self, record: ProcessRecord, pidfd: int, child: subprocess.Popen[bytes] | None) -> None:
        self.record = record
        self._pidfd = pidfd
        self._child = child

    @classmethod
    def start(cls, spec: ProcessSpec, table: ProcessTable, *, restarts: int = 0) -> ManagedProcess:
        """Record and start a process in a session of its own.

        Raises:
            OSError: The program cannot be started.
        """
        nonce = secrets.token_hex(6)
        marker = f"{table.marker_prefix(spec.name)}:{nonce}"
        record = ProcessRecord(spec.name, marker, spec.identity_hash, None, datetime.now(UTC), restarts)
        table.write(record)
        # SPT_NOENV: process titles must not overwrite the environment, where the marker is.
        environment = {MARKER_VARIABLE: marker, "SPT_NOENV": "1", **spec.env}
        argv = spec.sandbox.command(spec.argv, spec.cwd) if spec.sandbox else spec.argv
        spec.log_path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        log = os.open(spec.log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
        try:
            child = subprocess.Popen(
                argv,
                env=environment,
                cwd=None if spec.sandbox else spec.cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        finally:
            os.close(log)
        pidfd = os.pidfd_open(child.pid)
        identity = identity_of(child.pid)
        if identity is not None:
            record = replace(record, identity=identity)
            table.write(record)
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
        return not select.select([self._pidfd], [], [], 0)[0]

    def send(self, number: int) -> None:
        """Signal the main process only; does nothing if it has ended."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, number)

    async def wait(self) -> ExitReport:
        """Wait until the main process has ended."""
        loop = asyncio.get_running_loop()
        ended = loop.create_future()

        def on_readable() -> None:
            if not ended.done():
                ended.set_result(None)

        loop.add_reader(self._pidfd, on_readable)
        try:
            await ended
        finally:
            loop.remove_reader(self._pidfd)
        return self._reap()

    async def stop(self, number: int, grace_s: float) -> ExitReport:
        """Ask the main process to end, then end all that is left of the instance.

        Args:
            number: Signal to ask with.

            grace_s: How long it may take before it is killed.
        """
        self.send(number)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.wait(), grace_s)
        await kill_marked(self.record.marker)
        return self._reap()

    def close(self) -> None:
        """Give the descriptor back. The process runs on."""
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1
            if self._child is not None and self._child.returncode is None:
                _LET_GO.append(self._child)

    def _reap(self) -> ExitReport:
        if self._child is None:
            return ExitReport(None)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._child.wait(timeout=1)
        return ExitReport(self._child.returncode)


async def kill_marked(prefix: str, *, spare: Callable[[int], bool] | None = None) -> int:
    """Kill every process whose marker begins so, again and again until none is left.

    Args:
        prefix: Of a marker.

        spare: Pids for which it is true are left alone.

    Returns:
        How many were killed.

    Raises:
        StillAliveError: Some are left after ten seconds, stuck in the kernel.
    """
    killed = 0
    deadline = time.monotonic() + _KILL_WITHIN_S
    while True:
        left = await asyncio.to_thread(lambda: [pid for pid in marked(prefix) if not (spare and spare(pid))])
        left = [pid for pid in left if identity_of(pid)]
        if not left:
            return killed
        if time.monotonic() > deadline:
            raise StillAliveError(f"{len(left)} processes of {prefix} cannot be killed")
        for pid in left:
            killed += _kill(pid, prefix)
        await asyncio.sleep(_POLL_S)


def _kill(pid: int, prefix: str) -> bool:
    """Kill a process if it still carries the marker now that a descriptor holds on to it."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        if not carries(pid, prefix):
            return False
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    except ProcessLookupError:
        return False
    finally:
        os.close(pidfd)
    return True


def _find_leader(marker: str) -> ProcessIdentity | None:
    """Return the process that was started under a marker: the leader of its session."""
    for pid in marked(marker):
        with contextlib.suppress(ProcessLookupError):
            if os.getsid(pid) == pid:
                return identity_of(pid)
    return None
