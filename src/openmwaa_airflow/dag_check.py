"""Import the DAG folder once and say what came of it: `python -m openmwaa_airflow.dag_check COMPONENT`.

As the DAG processor would: after the start-up script, whose variables DAG files may read;
COMPONENT is what the script is told in MWAA_AIRFLOW_COMPONENT. One JSON object on standard
output: `dags`, the ids of the DAGs, and `errors`, the last line of the error by file. What DAG
files print goes to standard error.
"""

from __future__ import annotations

import json
import os
import sys

from openmwaa_airflow import preloaded, startup


def main() -> None:
    """Import and answer."""
    answer_to = os.dup(1)
    os.dup2(2, 1)  # before anything is imported: DAG files and Airflow print what they like

    _run_script()
    os.dup2(answer_to, 1)  # what does not fit becomes a program of its own here and begins anew
    preloaded.use()
    os.dup2(2, 1)
    from airflow.configuration import conf  # noqa: PLC0415 - after the script: it reads variables

    folder = conf.get("core", "dags_folder")
    bag = _dag_bag(folder)
    answer = {
        "dags": sorted(bag.dags),
        "errors": {_relative(path, folder): _last_line(error) for path, error in bag.import_errors.items()},
    }
    with os.fdopen(answer_to, "w") as out:
        json.dump(answer, out)


def _run_script() -> None:
    """Take over what the start-up script exports. Whether it fails is for another check to say."""
    if not os.environ.get(startup.SCRIPT_VARIABLE):
        return
    os.environ |= startup.component_variables(sys.argv[1])
    try:
        variables = startup.run("check-dags", dict(os.environ), keep_background=False)
    except startup.ScriptFailedError as error:
        print(error, file=sys.stderr, flush=True)  # noqa: T201 - read by whoever checks
        return
    os.environ.clear()
    os.environ.update(variables)


def _dag_bag(folder: str):
    try:
        from airflow.dag_processing.dagbag import DagBag  # noqa: PLC0415 - 3.2 and newer
    except ImportError:
        from airflow.models.dagbag import DagBag  # noqa: PLC0415
    return DagBag(dag_folder=folder)


def _relative(path: str, folder: str) -> str:
    for base in (folder, os.path.realpath(folder)):
        if path.startswith(base.rstrip("/") + "/"):
            return os.path.relpath(path, base)
    return path


def _last_line(error: str) -> str:
    lines = [line.strip() for line in error.strip().splitlines() if line.strip()]
    return lines[-1] if lines else ""


if __name__ == "__main__":
    main()
