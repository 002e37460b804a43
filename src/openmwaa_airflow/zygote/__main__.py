"""The preloaded process: `python -P -m openmwaa_airflow.zygote SOCKET HOME LAUNCHER`.

Once it has imported what workers need, it forks a process that stays so small, for them alone: they fork for
each task, which takes as long as they are large. That one listens at SOCKET with the suffix `.work`; when
SOCKET appears, both can be asked, and when either process ends, both sockets go.

HOME is an empty folder, shown at AIRFLOW_HOME while modules are imported. LAUNCHER is the file of
`openmwaa.supervise.launcher`, which enters sandboxes.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

from openmwaa_airflow.zygote import child
from openmwaa_airflow.zygote.modules import excluded_from, loggers_of, modules_of
from openmwaa_airflow.zygote.preload import NotPreloadedError, preload
from openmwaa_airflow.zygote.program import Program
from openmwaa_airflow.zygote.server import Server

_POLL_S = 0.05
"""Between two looks whether the one for workers listens; it mostly does long before the other has loaded."""

_FIRST_HELD = 4
"""Descriptors from here on belong to nobody once the mounts are made; below are output and the host's mounts."""


def main() -> None:
    """Preload and serve; in a child, become its program."""
    path, home, launcher_path = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    sockets = path, path.with_suffix(".work")
    _remove(sockets)
    child.find_title()
    launcher = child.load_launcher(launcher_path)
    host_mounts = os.open("/proc/self/ns/mnt", os.O_RDONLY)
    os.dup2(host_mounts, _FIRST_HELD - 1)
    host_mounts = _FIRST_HELD - 1
    _show_home(launcher, home)
    began = time.monotonic()
    try:
        airflow = version("apache-airflow")
        division = _Division()
        journal, failed = preload(
            *modules_of(airflow), excluded_from(airflow), loggers_of(airflow), divide=division.fork
        )
    except (NotPreloadedError, FileNotFoundError) as error:
        sys.exit(f"This Airflow cannot be preloaded: {error}")
    for line in failed:
        _say(f"not preloaded: {line}")
    whose = " of workers" if division.is_for_workers else ""
    _say(
        f"{len(sys.modules)} modules{whose} preloaded in {time.monotonic() - began:.1f} s; "
        f"{len(journal.options)} options and {len(journal.variables)} variables were read; "
        f"all variables were looked at by {', '.join(sorted(journal.walkers)) or 'nobody'}"
    )
    if not division.is_for_workers:
        division.wait_for(sockets[1])
    server = Server(sockets[division.is_for_workers], partner=division.pid)
    connection = server.serve()
    if connection is not None:
        request, why_not = child.begin(connection, host_mounts=host_mounts, launcher=launcher)
        Program(request.argv, connection).run(journal, why_not)
    _remove(sockets)
    if server.ended:
        sys.exit(f"The process for workers has ended: {server.ended}")


def _remove(sockets: Iterable[Path]) -> None:
    for socket in sockets:
        socket.unlink(missing_ok=True)


class _Division:
    """Divides this process in two.

    Attributes:
        pid: Of the one for workers, in the other.

        is_for_workers: This is the one for workers.
    """

    def __init__(self) -> None:
        self.pid: int | None = None
        self.is_for_workers = False

    def fork(self) -> bool:
        """Fork the one for workers; true in it."""
        parent = os.getpid()
        pid = os.fork()
        self.is_for_workers = pid == 0
        if self.is_for_workers:
            child.end_with(parent)
        else:
            self.pid = pid
        return self.is_for_workers

    def wait_for(self, socket: Path) -> None:
        """Wait until the one for workers listens; end with it."""
        while not socket.exists():
            ended, status = os.waitpid(self.pid or 0, os.WNOHANG)
            if ended:
                sys.exit(f"The process for workers has ended: {os.waitstatus_to_exitcode(status)}")
            time.sleep(_POLL_S)


def _show_home(launcher: ModuleType, home: str) -> None:
    """See an empty folder at AIRFLOW_HOME, in mounts of our own: importing Airflow writes there."""
    launcher.enter_namespace()
    launcher.show(launcher.hold(home), os.environ["AIRFLOW_HOME"])
    os.chdir(os.environ["AIRFLOW_HOME"])  # where every component starts; some modules keep it
    os.closerange(_FIRST_HELD, os.sysconf("SC_OPEN_MAX"))


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - this process's log


if __name__ == "__main__":
    main()
