"""Airflow's REST API through InvokeRestApi, alike on Airflow 2 and 3."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final

from botocore.exceptions import ClientError

from openmwaa.cli.clients import Clients
from openmwaa.cli.errors import CommandFailed

FINISHED: Final = frozenset({"success", "failed"})
_PAGE: Final = 100
_POLL_S: Final = 0.5
_PATIENCE_S: Final = 120.0
"""After `openmwaa up` it takes a while until the web servers are back."""


class Airflow:
    """One environment's Airflow, in the name of the administrator."""

    def __init__(self, clients: Clients, environment: str) -> None:
        self._clients = clients
        self._environment = environment
        version = clients.mwaa.get_environment(Name=environment)["Environment"]["AirflowVersion"]
        self.generation = int(version.partition(".")[0])

    def call(
        self,
        method: str,
        path: str,
        *,
        query: dict[str, Any] | None = None,
        body: dict[str, Any] | None = None,
    ) -> Any:
        """Return what Airflow answers. A GET waits while no web server is ready.

        Args:
            method: For example GET.

            path: Below the API's prefix, e.g. `/dags`.

            query: Query parameters.

            body: JSON object.

        Raises:
            ClientError: As AWS's SDK raises it.
        """
        request: dict[str, Any] = {"Name": self._environment, "Method": method, "Path": path}
        if query:
            request["QueryParameters"] = query
        if body is not None:
            request["Body"] = body
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            try:
                return self._clients.mwaa.invoke_rest_api(**request)["RestApiResponse"]
            except ClientError as error:
                if method != "GET" or not _is_passing(error) or time.monotonic() > deadline:
                    raise
                time.sleep(_POLL_S)

    def all(self, path: str, member: str) -> Iterator[dict[str, Any]]:
        """Yield every entry of a listing, page by page."""
        offset = 0
        while True:
            page = self.call("GET", path, query={"limit": _PAGE, "offset": offset})[member]
            yield from page
            offset += len(page)
            if len(page) < _PAGE:
                return

    def wait_for_dag(self, dag_id: str, *, within_s: float = 60) -> None:
        """Return when Airflow knows a DAG.

        Raises:
            CommandFailed: It does not within the time; the text is the import error, if there is one.
        """
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            try:
                self.call("GET", f"/dags/{dag_id}")
            except ClientError as error:
                if error.response.get("RestApiStatusCode") != 404:
                    raise
                time.sleep(0.3)
            else:
                return
        errors = list(self.all("/importErrors", "import_errors"))
        cause = f" {errors[0]['filename']}: {last_line(errors[0]['stack_trace'])}" if errors else ""
        raise CommandFailed(f"DAG {dag_id} was not parsed within {within_s:.0f} s.{cause}")

    def trigger(self, dag_id: str, run_id: str, conf: dict[str, Any]) -> None:
        """Start a run."""
        body: dict[str, Any] = {"dag_run_id": run_id, "conf": conf}
        if self.generation > 2:
            body["logical_date"] = datetime.now(UTC).isoformat()
        self.call("POST", f"/dags/{dag_id}/dagRuns", body=body)

    def run_state(self, dag_id: str, run_id: str) -> str:
        """Return the state of a run, e.g. `running`."""
        return str(self.call("GET", f"/dags/{dag_id}/dagRuns/{run_id}")["state"])

    def task_states(self, dag_id: str, run_id: str) -> dict[str, str | None]:
        """Return the state of each task of a run, in no order."""
        tasks = self.call("GET", f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances")["task_instances"]
        return {task["task_id"]: task["state"] for task in tasks}


def _is_passing(error: ClientError) -> bool:
    """Return whether an error goes away by itself: no web server, or one that is starting."""
    return error.response["Error"]["Code"] in {"ServiceUnavailableException", "RestApiServerException"}


def last_line(text: str) -> str:
    """Return the last line with something on it: of a stack trace, the error itself."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")
