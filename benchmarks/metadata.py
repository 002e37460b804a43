"""Airflow's metadata database, read the same way on both sides.

Runs are begun by unpausing a DAG whose schedule already asks for them. So neither side's API takes part
in what is measured, and both begin at the same point: the scheduler's next look at its DAGs.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg

from openmwaa.services.endpoints import load_endpoints
from tests.support.eventually import eventually
from tests.support.service import Service


@dataclass(frozen=True)
class TaskRun:
    """One task instance that has succeeded."""

    run_id: str
    task_id: str
    start: datetime
    end: datetime


class Metadata:
    """The database of one Airflow."""

    def __init__(self, connection: psycopg.Connection[tuple[Any, ...]]) -> None:
        self._connection = connection

    def wait_for_dags(self, dag_ids: Sequence[str], *, within_s: float = 120) -> None:
        """Wait until DAGs are parsed and known to the scheduler."""
        eventually(
            lambda: (
                self.rows(
                    "SELECT count(DISTINCT dag_id) FROM serialized_dag JOIN dag USING (dag_id) WHERE dag_id = ANY(%s)",
                    list(dag_ids),
                )[0][0]
                == len(dag_ids)
            ),
            within_s=within_s,
            what=f"{len(dag_ids)} DAGs parsed",
        )

    def unpause(self, dag_id: str) -> float:
        """Let a DAG's runs begin; return when, in seconds since the epoch."""
        began = time.time()
        self.rows("UPDATE dag SET is_paused = false WHERE dag_id = %s RETURNING 1", dag_id)
        return began

    def wait_for_tasks(self, dag_id: str, count: int, *, within_s: float = 900) -> list[TaskRun]:
        """Wait until so many tasks of a DAG have succeeded; return them.

        Raises:
            RuntimeError: A task failed: what did not run in full is no measurement.
        """

        def probe() -> bool:
            states = dict(
                self.rows(
                    "SELECT state, count(*) FROM task_instance WHERE dag_id = %s GROUP BY state", dag_id
                )
            )
            if bad := states.keys() & {"failed", "upstream_failed", "up_for_retry"}:
                raise RuntimeError(f"tasks of {dag_id} are {', '.join(sorted(bad))}")
            return bool(states.get("success", 0) >= count)

        eventually(probe, within_s=within_s, every_s=0.5, what=f"{count} tasks of {dag_id}")
        found = self.rows(
            "SELECT run_id, task_id, start_date, end_date FROM task_instance WHERE dag_id = %s"
            " ORDER BY run_id, task_id",
            dag_id,
        )
        if len(found) != count:
            raise RuntimeError(f"{dag_id} has {len(found)} tasks, not {count}")
        return [TaskRun(*row) for row in found]

    def rows(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Return the rows that a statement gives."""
        return self._connection.execute(statement.encode(), values).fetchall()


@contextmanager
def metadata_of(service: Service, name: str) -> Iterator[Metadata]:
    """Give the metadata database of one of our environments."""
    identity = service.json("env", "show", name)["id"]
    with connected(f"{server_url(service)}/env_{identity}") as metadata:
        yield metadata


@contextmanager
def connected(url: str) -> Iterator[Metadata]:
    """Give a metadata database by its `postgresql://…`."""
    with psycopg.connect(url, autocommit=True) as connection:
        yield Metadata(connection)


def server_url(service: Service) -> str:
    """Return the URL of a service's PostgreSQL without a database, with an administrator's password."""
    return load_endpoints(service.settings).postgres_url.reveal().rpartition("/")[0]
