"""Runs the program that would have been started, in this process or by becoming it."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import runpy
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import NoReturn

from openmwaa_airflow import preloaded
from openmwaa_airflow.zygote import gunicorn_master
from openmwaa_airflow.zygote.journal import Journal
from openmwaa_airflow.zygote.layers import stand_on
from openmwaa_airflow.zygote.takeover import UnfitError, take_over

_MODULE_OPTIONS = ["-P", "-m"]
_OURS = "openmwaa_airflow."
_SCRIPTS = ("airflow",)
_ASKS_BY_ITSELF = frozenset(
    {"openmwaa_airflow.start", "openmwaa_airflow.dag_check", "openmwaa_airflow.startup"}
)
"""Modules that call `preloaded.use` when their variables are complete."""


class Program:
    """One command, run in a child of the zygote."""

    def __init__(self, argv: list[str], connection: socket.socket) -> None:
        """Take a command.

        Args:
            argv: As it would be executed.

            connection: To whoever asked, for the case that it becomes a program of its own.
        """
        self._argv = argv
        self._connection = connection
        self._path = Path(argv[0])

    def run(self, journal: Journal, why_not: str = "") -> NoReturn:
        """Run it, and end this process as the interpreter would.

        Args:
            journal: What was read when modules were imported.

            why_not: Why it must be executed as a program of its own after all.
        """
        if why_not:
            self._start_cold(why_not)
        if not self._is_ours:
            self._start_cold("it is not one of Airflow's commands")
        try:
            prefix = self._path.parent.parent
            if str(prefix) != sys.prefix:
                stand_on(prefix, prefix / "bin" / "python")
        except UnfitError as error:
            self._start_cold(str(error))
        except Exception as error:  # noqa: BLE001 - a program of its own does not depend on it
            self._start_cold(f"{type(error).__name__} when the layer was put before the runtime")
        sys.orig_argv = list(self._argv)
        preloaded.offer(lambda: self._take_over(journal))
        finish(self._run_module if self._is_module else self._run_script)

    @property
    def _is_module(self) -> bool:
        return (
            self._path.name == "python"
            and self._argv[1:3] == _MODULE_OPTIONS
            and self._argv[3].startswith(_OURS)
        )

    @property
    def _is_ours(self) -> bool:
        return self._is_module or self._path.name in _SCRIPTS

    def _run_module(self) -> None:
        name = self._argv[3]
        sys.modules["__main__"] = ModuleType("__main__")
        sys.argv = ["-m", *self._argv[4:]]
        if name not in _ASKS_BY_ITSELF:
            preloaded.use()
        runpy._run_module_as_main(name)

    def _run_script(self) -> None:
        main = sys.modules["__main__"] = ModuleType("__main__")
        main.__file__ = self._argv[0]
        main.__builtins__ = __builtins__
        sys.argv = list(self._argv)
        preloaded.use()
        code = compile(self._path.read_bytes(), self._argv[0], "exec", dont_inherit=True)
        exec(code, main.__dict__)  # noqa: S102 - that is how Python runs a script

    def _take_over(self, journal: Journal) -> None:
        try:
            take_over(journal)
        except UnfitError as error:
            self._start_cold(str(error))
        except Exception as error:  # noqa: BLE001 - the program itself says better what is wrong
            self._start_cold(f"{type(error).__name__} when the configuration was read")
        self._connection.close()
        gunicorn_master.install()

    def _start_cold(self, why: str) -> NoReturn:
        """Become the program, with the variables as they are now."""
        with contextlib.suppress(OSError):
            self._connection.send(json.dumps({"cold": why}).encode())
        for name in ("SIGPIPE", "SIGXFSZ"):  # ignored signals would stay ignored
            signal.signal(getattr(signal, name), signal.SIG_DFL)
        try:
            os.execve(self._argv[0], self._argv, os.environ)  # noqa: S606 - becoming it is the purpose
        except OSError as error:
            print(f"{self._argv[0]} cannot be run: {error}", file=sys.stderr, flush=True)  # noqa: T201
            os._exit(127)


def finish(run: Callable[[], object]) -> NoReturn:
    """Run something, and end this process as the interpreter does, without taking the heap apart."""
    code = _code_of(run)
    with contextlib.suppress(Exception):
        threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(code)


def _code_of(run: Callable[[], object]) -> int:
    try:
        run()
    except SystemExit as end:
        if end.code is None:
            return 0
        if isinstance(end.code, int):
            return end.code & 0xFF
        print(end.code, file=sys.stderr)  # noqa: T201 - as the interpreter does
        return 1
    except KeyboardInterrupt:
        traceback.print_exc()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
        return 130
    except BaseException:  # noqa: BLE001 - the last place where anything can be said about it
        sys.excepthook(*sys.exc_info())
        return 1
    return 0
