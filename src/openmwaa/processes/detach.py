"""`up --detach`: a supervisor of its own session, waited for until the API answers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from openmwaa.kit.errors import OperatorError
from openmwaa.processes.home_lock import HomeLock
from openmwaa.processes.observe import observe_home
from openmwaa.processes.own import own_argv, own_variables
from openmwaa.services.users import prepare_home
from openmwaa.settings import Settings

Say = Callable[[str], None]

_POLL_S: Final = 0.05
_PROBE_TIMEOUT_S: Final = 8.0
_TAIL_LINES: Final = 8
_READ_BYTES: Final = 16_384


class StartFailedError(OperatorError):
    """The API did not answer in time, or the supervisor ended."""


def start_detached(settings: Settings, *, timeout_s: float, say: Say) -> float:
    """Start the supervisor in the background, unless one runs already, and wait for the API.

    Args:
        settings: Of the home.

        timeout_s: Deadline.

        say: Gets a line for each step.

    Returns:
        Seconds until the API answered.

    Raises:
        StartFailedError: With the cause as far as the logs tell it; longer evidence went to `say`.
    """
    began = time.monotonic()
    prepare_home(settings)
    log = settings.layout.logs / "up.log"
    offset = log.stat().st_size if log.exists() else 0
    holder = HomeLock(settings).holder()
    child = None
    if holder:
        say(f"already running (pid {holder.pid})")
    else:
        child = _spawn(settings, log)
    progress = _Progress(log, offset, say, began)
    while time.monotonic() - began < timeout_s:
        progress.read()
        if (progress.complete or child is None) and _api_answers(settings):
            return time.monotonic() - began
        if child is not None and child.poll() is not None:
            progress.read()
            raise StartFailedError(_last_words(log, offset) or f"the supervisor ended; see {log}")
        time.sleep(_POLL_S)
    failing = _failing(settings)
    for line in _tail(settings.layout.logs / f"{failing}.log"):
        say(f"{failing}: {line}")
    raise StartFailedError(
        f"the API does not answer after {timeout_s:.0f} s: {failing} is not ready; "
        "it is still being tried, `openmwaa down` ends that"
    )


def _spawn(settings: Settings, log: Path) -> subprocess.Popen[bytes]:
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        return subprocess.Popen(
            own_argv(settings, "up", "--port-base", str(settings.port_base)),
            env=own_variables(settings, os.environ),
            cwd=settings.home,
            stdin=subprocess.DEVNULL,
            stdout=descriptor,
            stderr=descriptor,
            start_new_session=True,
        )
    finally:
        os.close(descriptor)


class _Progress:
    """Turns the supervisor's log into lines for people."""

    def __init__(self, log: Path, offset: int, say: Say, began: float) -> None:
        self._log = log
        self._offset = offset
        self._say = say
        self._began = began
        self.complete = False
        """Everything was started and every service is ready."""

    def read(self) -> None:
        for event in self._events():
            name = str(event.get("name", ""))
            match event.get("event"):
                case "ready":
                    self._line(f"{name} {'taken over' if event.get('adopted') else 'ready'}")
                case "started":
                    self._line(f"{name} started")
                case "process_ended":
                    self._line(f"{name} ended ({event.get('how')}) and is started again")
                case "up":
                    self.complete = True
                case "postgres-initialised":
                    self._line("database initialised")
                case "not_ready":
                    self._line(f"{name} is not ready yet; its log is {event.get('log')}")

    def _events(self) -> Iterator[dict[str, object]]:
        if not self._log.exists():
            return
        with self._log.open("rb") as file:
            file.seek(self._offset)
            data = file.read()
        whole, newline, _ = data.rpartition(b"\n")
        self._offset += len(whole) + len(newline)
        for line in whole.splitlines():
            with contextlib.suppress(ValueError):
                event = json.loads(line)
                if isinstance(event, dict):
                    yield event

    def _line(self, text: str) -> None:
        self._say(f"{time.monotonic() - self._began:5.1f} s  {text}")


def _api_answers(settings: Settings) -> bool:
    """Ask for `/health` of the control plane as a client does: over TLS, verified."""
    try:
        context = ssl.create_default_context(cafile=settings.layout.ca_bundle)
        with (
            socket.create_connection(("127.0.0.1", settings.ports.https), timeout=_PROBE_TIMEOUT_S) as plain,
            context.wrap_socket(plain, server_hostname="127.0.0.1") as tls,
        ):
            tls.sendall(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
            return tls.recv(64).startswith(b"HTTP/1.1 200")
    except OSError:
        return False


def _failing(settings: Settings) -> str:
    """Return what keeps the API from answering."""
    seen = asyncio.run(observe_home(settings))
    return next((line.name for line in seen.processes if line.state in {"down", "not ready"}), "control")


def _last_words(log: Path, offset: int) -> str:
    """Return what the supervisor said last on its own behalf."""
    with log.open("rb") as file:
        file.seek(offset)
        lines = file.read().decode(errors="replace").strip().splitlines()
    return lines[-1].removeprefix("Error: ") if lines else ""


def _tail(log: Path) -> list[str]:
    if not log.exists():
        return []
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _READ_BYTES))
        return file.read().decode(errors="replace").splitlines()[-_TAIL_LINES:]
