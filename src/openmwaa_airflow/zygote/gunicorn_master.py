"""Airflow 2's web server starts gunicorn as another interpreter; here it is forked instead.

`airflow webserver` watches it with a few calls of `subprocess.Popen`, which `Master` has.
"""

from __future__ import annotations

import os
import runpy
import signal
import subprocess
import sys
import time
from types import ModuleType, TracebackType
from typing import Any

_COMMAND = "airflow.cli.commands.webserver_command"
_POLL_S = 0.05


class Master:
    """A gunicorn master, forked from here."""

    def __init__(self, argv: list[str], **_options: Any) -> None:
        self.args = argv
        self.returncode: int | None = None
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            _become(argv)

    def __enter__(self) -> Master:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.wait()

    def poll(self) -> int | None:
        """Return the exit code; None while it runs."""
        if self.returncode is None:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:
                self.returncode = 0
            else:
                self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end.

        Raises:
            subprocess.TimeoutExpired: It runs on.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if deadline is not None and time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            time.sleep(_POLL_S)
        return code

    def send_signal(self, number: int) -> None:
        """Signal it, if it runs."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it."""
        self.send_signal(signal.SIGKILL)


class _Subprocess(ModuleType):
    """`subprocess` as one module sees it."""

    def __getattr__(self, name: str) -> Any:
        return getattr(subprocess, name)


def install() -> None:
    """Let `airflow webserver` fork its gunicorn, if this process is one."""
    if "webserver" not in sys.orig_argv:
        return
    module = sys.modules.get(_COMMAND)
    if module is not None:
        module.subprocess = _Subprocess("subprocess")
        module.subprocess.Popen = Master


def _become(argv: list[str]) -> None:
    """Run gunicorn as `python -m gunicorn` would, and end."""
    from openmwaa_airflow.zygote.program import finish  # noqa: PLC0415 - they know each other

    def run() -> None:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        settings = sys.modules["airflow.settings"]
        if settings.engine is not None:
            settings.engine.dispose(close=False)  # our parent's connections
        sys.modules["__main__"] = ModuleType("__main__")
        sys.argv = ["-m", *argv[3:]]
        runpy._run_module_as_main("gunicorn")

    finish(run)
