"""Import the DAG folder once and say what came of it: `python -m openmwaa_airflow.dag_check`.

One JSON object on standard output: `dags`, the ids of the DAGs, and `errors`, the last line
of the error by file. What DAG files print goes to standard error. Writes nothing anywhere.
"""

from __future__ import annotations

import json
import os


def main() -> None:
    """Import and answer."""
    answer_to = os.dup(1)
    os.dup2(2, 1)  # before anything is imported: DAG files and Airflow print what they like

    from airflow.configuration import conf  # noqa: PLC0415

    folder = conf.get("core", "dags_folder")
    bag = _dag_bag(folder)
    answer = {
        "dags": sorted(bag.dags),
        "errors": {_relative(path, folder): _last_line(error) for path, error in bag.import_errors.items()},
    }
    with os.fdopen(answer_to, "w") as out:
        json.dump(answer, out)


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
