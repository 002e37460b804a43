"""The preloaded process: `python -P -m openmwaa_airflow.zygote SOCKET HOME LAUNCHER`.

HOME is an empty folder, shown at AIRFLOW_HOME while modules are imported. LAUNCHER is the file of
`openmwaa.supervise.launcher`, which enters sandboxes.
"""

from __future__ import annotations

import os
import sys
import time
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

from openmwaa_airflow.zygote import child
from openmwaa_airflow.zygote.modules import excluded_from, loggers_of, modules_of
from openmwaa_airflow.zygote.preload import NotPreloadedError, preload
from openmwaa_airflow.zygote.program import Program
from openmwaa_airflow.zygote.server import Server

_FIRST_HELD = 4
"""Descriptors from here on belong to nobody once the mounts are made; below are output and the host's mounts."""


def main() -> None:
    """Preload and serve; in a child, become its program."""
    path, home, launcher_path = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    path.unlink(missing_ok=True)
    child.find_title()
    launcher = child.load_launcher(launcher_path)
    host_mounts = os.open("/proc/self/ns/mnt", os.O_RDONLY)
    os.dup2(host_mounts, _FIRST_HELD - 1)
    host_mounts = _FIRST_HELD - 1
    _show_home(launcher, home)
    began = time.monotonic()
    try:
        airflow = version("apache-airflow")
        journal, failed = preload(modules_of(airflow), excluded_from(airflow), loggers_of(airflow))
    except (NotPreloadedError, FileNotFoundError) as error:
        sys.exit(f"This Airflow cannot be preloaded: {error}")
    child.find_generators()
    for line in failed:
        _say(f"not preloaded: {line}")
    _say(
        f"{len(sys.modules)} modules preloaded in {time.monotonic() - began:.1f} s; "
        f"{len(journal.options)} options and {len(journal.variables)} variables were read; "
        f"all variables were looked at by {', '.join(sorted(journal.walkers)) or 'nobody'}"
    )
    connection = Server(path).serve()
    if connection is not None:
        request, why_not = child.begin(connection, host_mounts=host_mounts, launcher=launcher)
        Program(request.argv, connection).run(journal, why_not)


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
