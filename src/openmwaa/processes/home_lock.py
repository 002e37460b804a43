"""At most one supervisor per home, and who it is."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import fcntl
import json
import os
import signal
import time
from typing import Final

from openmwaa.kit.errors import OperatorError
from openmwaa.settings import Settings
from openmwaa.supervise import ProcessIdentity
from openmwaa.supervise.identity import identity_of

_LEAVE_WITHIN_S: Final = 15.0
_DIE_WITHIN_S: Final = 5.0
_POLL_S: Final = 0.05


class AlreadyRunningError(OperatorError):
    """Another `openmwaa up` supervises this home."""

    def __init__(self, settings: Settings, holder: ProcessIdentity | None) -> None:
        pid = f" (pid {holder.pid})" if holder else ""
        super().__init__(f"openmwaa is already running for {settings.home}{pid}; see `openmwaa status`")


class HomeLock:
    """A lock on the home that ends with the process that holds it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._path = settings.layout.run / "up.lock"
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Take the lock and say who we are.

        Raises:
            AlreadyRunningError: Another process holds it.
        """
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise AlreadyRunningError(self._settings, self.holder()) from None
        own = identity_of(os.getpid())
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(dataclasses.asdict(own) if own else {}).encode(), 0)
        self._descriptor = descriptor

    def release(self) -> None:
        """Give the lock back."""
        if self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = None

    def holder(self) -> ProcessIdentity | None:
        """Return the process that holds the lock; None if nobody does."""
        try:
            holder = ProcessIdentity(**json.loads(self._path.read_text()))
        except (OSError, ValueError, TypeError):
            return None
        return holder if holder.is_alive else None

    async def take_over(self) -> None:
        """Make the holder leave, everything it supervises running on, and acquire the lock.

        Raises:
            AlreadyRunningError: It does not leave, although it was killed.
        """
        for number, patience_s in ((signal.SIGHUP, _LEAVE_WITHIN_S), (signal.SIGKILL, _DIE_WITHIN_S)):
            self._signal_holder(number)
            deadline = time.monotonic() + patience_s
            while time.monotonic() < deadline:
                with contextlib.suppress(AlreadyRunningError):
                    self.acquire()
                    return
                await asyncio.sleep(_POLL_S)
        self.acquire()

    def _signal_holder(self, number: int) -> None:
        holder = self.holder()
        if holder is None:
            return
        with contextlib.suppress(ProcessLookupError):
            descriptor = os.pidfd_open(holder.pid)
            try:
                if holder.is_alive:
                    signal.pidfd_send_signal(descriptor, number)
            finally:
                os.close(descriptor)
