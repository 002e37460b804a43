"""DAG runs through InvokeRestApi, alike on Airflow 2 and 3."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import ClientError

from tests.support.eventually import eventually
from tests.support.service import Service


def wait_for_dag(service: Service, environment: str, dag_id: str, *, within_s: float = 60) -> dict[str, Any]:
    """Wait until a DAG is parsed; returns it as the REST API shows it."""

    def probe() -> dict[str, Any]:
        dag: dict[str, Any] = service.rest(environment, "GET", f"/dags/{dag_id}")
        return dag

    return eventually(probe, within_s=within_s, errors=(ClientError,), what=f"DAG {dag_id} parsed")


def trigger(service: Service, environment: str, dag_id: str, *, conf: dict[str, Any] | None = None) -> str:
    """Start a run now; returns its id."""
    version = service.environment(environment)["AirflowVersion"]
    body: dict[str, Any] = {"conf": conf} if conf else {}
    if not version.startswith("2."):
        body["logical_date"] = datetime.now(UTC).isoformat()
    run: dict[str, Any] = service.rest(environment, "POST", f"/dags/{dag_id}/dagRuns", body=body)
    return str(run["dag_run_id"])


def state_of(service: Service, environment: str, dag_id: str, run_id: str) -> str:
    """Return the state of a run."""
    return str(service.rest(environment, "GET", f"/dags/{dag_id}/dagRuns/{run_id}")["state"])


def wait_for_run(
    service: Service, environment: str, dag_id: str, run_id: str, *, within_s: float = 120
) -> str:
    """Wait until a run has ended; returns its state. Survives restarts of what answers."""

    def probe() -> str | None:
        state = state_of(service, environment, dag_id, run_id)
        return state if state in {"success", "failed"} else None

    return eventually(
        probe, within_s=within_s, every_s=0.5, errors=(ClientError, OSError), what=f"run {run_id} ended"
    )


def task_instances(service: Service, environment: str, dag_id: str, run_id: str) -> list[dict[str, Any]]:
    """Return the task instances of a run."""
    answer = service.rest(environment, "GET", f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances")
    return list(answer["task_instances"])
