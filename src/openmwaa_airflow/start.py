"""Start one Airflow component: `python -m openmwaa_airflow.start <kind>-<index> <airflow arguments>`.

Everything is Airflow's own command; this only names the component, removes what its former
life left behind, and runs the user's start-up script. A pid file that outlives a `kill -9` and
a reboot may name a living stranger, and gunicorn would then refuse to start for ever.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from openmwaa_airflow import dag_watch, preloaded, priority, startup
from openmwaa_airflow.hostname import COMPONENT_VARIABLE
from openmwaa_airflow.one_command import parse_only


def main() -> None:
    """Become the component."""
    name, arguments = sys.argv[1], sys.argv[2:]
    os.environ[COMPONENT_VARIABLE] = name
    run = Path(os.environ["AIRFLOW_HOME"]) / "run"
    run.mkdir(exist_ok=True)
    for leftover in (f"{name}.pid", f"{name}.ready"):
        (run / leftover).unlink(missing_ok=True)
    startup.apply(name)
    preloaded.use()
    sys.argv = [str(Path(sys.executable).with_name("airflow")), *arguments]
    parse_only(arguments[0])

    from airflow.__main__ import main as airflow  # noqa: PLC0415 - after the component has its name

    if name.startswith(dag_watch.KIND):
        dag_watch.install()
    if name.startswith("scheduler"):
        priority.give_way()
    airflow()


if __name__ == "__main__":
    main()
