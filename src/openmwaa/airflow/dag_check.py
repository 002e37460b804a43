"""Importing a DAG folder on the side: the command, and what its answer means. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class DagImports:
    """What importing a DAG folder gave.

    Attributes:
        dags: Ids of the DAGs, sorted.

        errors: Last line of the error by file that cannot be imported, relative to the folder.
    """

    dags: tuple[str, ...]
    errors: Mapping[str, str]


def check_command(component: str) -> tuple[str, ...]:
    """Return the one-shot command that imports the DAG folder and writes JSON.

    Args:
        component: What the start-up script is told about where it runs.
    """
    return ("python", "-P", "-m", "openmwaa_airflow.dag_check", component)


def read_imports(stdout: bytes) -> DagImports | None:
    """Read the command's output; None if it did not come to its end."""
    try:
        answer = json.loads(stdout)
        return DagImports(tuple(answer["dags"]), dict(answer["errors"]))
    except (ValueError, KeyError, TypeError):
        return None


def new_errors(before: DagImports, after: DagImports) -> dict[str, str]:
    """Return the errors of files that could be imported before."""
    return {path: error for path, error in after.errors.items() if path not in before.errors}
