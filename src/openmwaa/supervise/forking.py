"""Asking a preloaded process to fork: the client of `openmwaa_airflow.zygote.server`.

A child is a child of that process, not ours: it is known by a descriptor, and how it ended is told
over a connection, or, if the preloaded process has died, by the kernel to whoever inherits its children.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import select
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Protocol

from openmwaa.supervise.sandbox import Sandbox

_ANSWER_WITHIN_S: Final = 5.0
"""A fork takes some 30 ms; one that takes longer hangs, and the program is started instead."""

_SEND_BUFFER_BYTES: Final = 4 * 1024 * 1024
_SO_SNDBUFFORCE: Final = 32
_STATUS_WITHIN_S: Final = 1.0


class CannotForkError(Exception):
    """Nothing was started and nothing will be."""


@dataclasses.dataclass(frozen=True)
class Command:
    """What a process is to become; as in `ProcessSpec`."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: Path
    marker: str
    sandbox: Sandbox | None


class Forker(Protocol):
    """Forks processes where that is possible."""

    def fork(self, name: str, command: Command, stdio: tuple[int, int, int]) -> ForkedChild | None:
        """Fork a process that becomes a command.

        Args:
            name: As in its `ProcessSpec`; empty for a command.

            command: What it is to become.

            stdio: Descriptors of its standard input, output and error.

        Returns:
            The child; None: it must be started as a program of its own.
        """
        ...


class ForkedChild:
    """A process that was forked elsewhere for us.

    Attributes:
        pidfd: Means it and no other process. Whoever takes it closes it.

        cold: Why it became a program of its own after all; empty if it did not, or has not said.
    """

    def __init__(self, pid: int, pidfd: int, connection: socket.socket) -> None:
        self.pid = pid
        self.pidfd = pidfd
        self.cold = ""
        self.returncode: int | None = None
        self._connection: socket.socket | None = connection

    def look(self) -> None:
        """Take in what was said since; does not wait."""
        self._listen(0.0)

    def wait(self, timeout: float) -> int | None:
        """Return how it ended, once that is told; None if nobody tells within the time."""
        deadline = time.monotonic() + timeout
        while self.returncode is None and self._connection is not None:
            left = deadline - time.monotonic()
            if left <= 0 or not self._listen(left):
                break
        return self.returncode

    def close(self) -> None:
        """Listen no more. The process runs on."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _listen(self, seconds: float) -> bool:
        """Take in every message that comes within a time; false if there was none."""
        heard = False
        while self._connection is not None and _readable(self._connection, 0.0 if heard else seconds):
            try:
                said = json.loads(self._connection.recv(65_536) or b"null")
            except OSError:
                said = None
            if said is None:
                self.close()
                return heard
            heard = True
            self.cold = said.get("cold", self.cold)
            self.returncode = said.get("status", self.returncode)
        return heard


def fork(path: Path, command: Command, stdio: tuple[int, int, int]) -> ForkedChild:
    """Ask a preloaded process to fork.

    Args:
        path: Of its socket.

        command: What the child is to become.

        stdio: Descriptors of its standard input, output and error; they stay ours too.

    Raises:
        CannotForkError: It does not answer, or the request is too long for it.
    """
    request = _request(command)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        connection.settimeout(_ANSWER_WITHIN_S)
        with contextlib.suppress(PermissionError):
            connection.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _SEND_BUFFER_BYTES)
        connection.connect(str(path))
        pid, pidfd = _answer(connection)
    except (OSError, ValueError) as error:
        connection.close()
        raise CannotForkError(f"the preloaded process does not answer: {error}") from error
    try:
        socket.send_fds(connection, [request], list(stdio))
        connection.settimeout(None)
    except OSError as error:
        connection.close()  # the child, which waits, ends
        os.close(pidfd)
        raise CannotForkError(f"the preloaded process does not take the request: {error}") from error
    return ForkedChild(pid, pidfd, connection)


def _request(command: Command) -> bytes:
    sandbox: dict[str, Any] | None = None
    if command.sandbox is not None:
        sandbox = command.sandbox.instructions(command.cwd)
    content = {
        "argv": command.argv,
        "env": dict(command.env),
        "cwd": str(command.cwd),
        "marker": command.marker,
        "sandbox": sandbox,
    }
    return json.dumps(content).encode()


def _answer(connection: socket.socket) -> tuple[int, int]:
    content, descriptors, _, _ = socket.recv_fds(connection, 4096, 1)
    if not descriptors:
        raise ValueError("no descriptor came")
    with contextlib.suppress(ValueError, KeyError, TypeError):
        return int(json.loads(content)["pid"]), descriptors[0]
    os.close(descriptors[0])
    raise ValueError("it is not the answer of a preloaded process")


def _readable(connection: socket.socket, seconds: float) -> bool:
    poll = select.poll()  # not select(): that knows only the first 1024 descriptors
    poll.register(connection, select.POLLIN)
    return bool(poll.poll(1000 * seconds))
