"""The ASGI application behind the operator's socket: JSON over HTTP, no authentication of its own."""

from __future__ import annotations

import asyncio
import base64
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import structlog
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from openmwaa.api.errors import STATUS_OF, ServiceError, to_service_error
from openmwaa.api.operator import views
from openmwaa.api.operator.bodies import read_body
from openmwaa.api.operator.context import OperatorContext
from openmwaa.api.operator.runtimes import RuntimeRoutes
from openmwaa.api.operator.snapshots import SnapshotRequests
from openmwaa.api.operator.updates import UpdateRoutes
from openmwaa.backends.base import Observed
from openmwaa.environments.errors import EnvironmentNotFoundError
from openmwaa.environments.record import EnvironmentRecord
from openmwaa.kit.errors import GiveUp, Retry

_log = structlog.get_logger(__name__)

_OBSERVE_S: Final = 5.0
_MOST_EVENTS: Final = 1000
_CLI_TIMEOUT_S: Final = 600.0

Handler = Callable[[Request], Awaitable[Response]]


def create_operator(context: OperatorContext) -> Starlette:
    """Return the application. Errors are `{"code", "message"}` with the codes of the AWS API."""
    operator = _Operator(context)
    updates = UpdateRoutes(context)
    runtimes = RuntimeRoutes(context.runtimes)
    routes: Mapping[tuple[str, str], Handler] = {
        ("GET", "/environments"): operator.list_environments,
        ("GET", "/environments/{name}"): operator.show_environment,
        ("GET", "/environments/{name}/events"): operator.list_events,
        ("GET", "/environments/{name}/logs"): operator.list_logs,
        ("POST", "/environments/{name}/plan"): updates.plan,
        ("POST", "/environments/{name}/update"): updates.update,
        ("POST", "/environments/{name}/restart"): updates.restart,
        ("POST", "/environments/{name}/cli"): operator.run_command,
        ("GET", "/runtimes"): runtimes.list,
        ("POST", "/runtimes/{version}"): runtimes.install,
        ("POST", "/runtimes/{version}/update"): runtimes.update,
        **SnapshotRequests(context.snapshots).routes(),
    }
    return Starlette(
        routes=[
            Route(path, _answering(handler), methods=[method]) for (method, path), handler in routes.items()
        ]
    )


class _Operator:
    """One method per request."""

    def __init__(self, context: OperatorContext) -> None:
        self._context = context

    async def list_environments(self, _: Request) -> Response:
        """Every living environment, ordered by name."""
        records = await self._context.store.environments.list(limit=1000)
        seen = await asyncio.gather(*(self._observe(record) for record in records))
        now = datetime.now(UTC)
        lines = [
            views.summary_view(record, one, self._context.web_host(record), now)
            for record, (one, _) in zip(records, seen, strict=True)
        ]
        return JSONResponse({"environments": lines})

    async def show_environment(self, request: Request) -> Response:
        """One environment with everything that runs for it."""
        record = await self._record(request)
        seen, reason = await self._observe(record)
        host = self._context.web_host(record)
        view = views.environment_view(record, seen, host, datetime.now(UTC), reason)
        if self._context.log_folders is not None:
            folders = self._context.log_folders(record)
            view["logs"] = {"components": str(folders.components), "tasks": str(folders.tasks)}
        return JSONResponse(view)

    async def list_events(self, request: Request) -> Response:
        """Events after `after`, oldest first; without it the newest `limit`. Also of a deleted environment."""
        name = request.path_params["name"]
        after = _number(request, "after", 0, low=0)
        limit = _number(request, "limit", 200, low=1, high=_MOST_EVENTS)
        events = await self._context.store.events.list(name, after_id=after, limit=limit)
        if not events and not after:
            raise EnvironmentNotFoundError(f"No environment found with the name {name}.")
        return JSONResponse({"events": [views.event_view(event) for event in events]})

    async def list_logs(self, request: Request) -> Response:
        """Log files of an environment, the least recently written first; the caller reads them itself.

        `component` is `task` or a kind of component, and can be repeated; without it all. `since`
        (seconds since 1970) leaves out files that were not written since.
        """
        record = await self._record(request)
        wanted = set(request.query_params.getlist("component"))
        since = _number(request, "since", 0, low=0)
        if self._context.log_folders is None:
            raise ServiceError("ValidationException", "The logs of this backend are not files of this host.")
        folders = self._context.log_folders(record)
        files = await asyncio.to_thread(_log_files, folders.components, folders.tasks)
        return JSONResponse(
            {
                "files": [
                    file
                    for file in files
                    if (not wanted or file["component"] in wanted) and file["written_at"] >= since
                ]
            }
        )

    async def run_command(self, request: Request) -> Response:
        """Run any Airflow command, without the limits of MWAA's CLI endpoint."""
        record = await self._record(request)
        arguments = (await read_body(request)).get("arguments")
        if not isinstance(arguments, list) or not all(isinstance(one, str) for one in arguments):
            raise ServiceError("ValidationException", "arguments must be a list of texts.")
        result = await self._context.run_airflow(record, arguments, _CLI_TIMEOUT_S)
        return JSONResponse(
            {
                "exit_code": result.exit_code,
                "stdout": base64.b64encode(result.stdout).decode(),
                "stderr": base64.b64encode(result.stderr).decode(),
            }
        )

    async def _record(self, request: Request) -> EnvironmentRecord:
        return await self._context.store.environments.get(request.path_params["name"])

    async def _observe(self, record: EnvironmentRecord) -> tuple[Observed | None, str]:
        """Return what runs, or why that is not known: the rest of the answer is useful all the same."""
        try:
            async with asyncio.timeout(_OBSERVE_S):
                return await self._context.observe(record), ""
        except (Retry, GiveUp) as error:
            return None, error.reason
        except TimeoutError:
            return None, f"the backend did not answer within {_OBSERVE_S:.0f} s"


def _answering(handler: Handler) -> Handler:
    """Give a handler an answer for every failure."""

    async def answer(request: Request) -> Response:
        request_id = str(uuid.uuid4())
        started = time.perf_counter()
        try:
            response = await handler(request)
        except Exception as error:  # noqa: BLE001 - this is where every failure becomes an answer
            failure, expected = to_service_error(error, request_id)
            if not expected:
                _log.exception("operator-request-failed", request_id=request_id)
            status = 404 if failure.code == "ResourceNotFoundException" else STATUS_OF.get(failure.code, 500)
            response = JSONResponse({"code": failure.code, "message": failure.message}, status)
        _log.debug(
            "operator-request-answered",
            method=request.method,
            path=request.url.path,
            status=response.status_code,
            duration_ms=round((time.perf_counter() - started) * 1000, 1),
        )
        return response

    return answer


def _log_files(components: Path, tasks: Path) -> list[dict[str, Any]]:
    found = [(path.stem.rpartition("-")[0], path) for path in components.glob("*-*.log")]
    found += [("task", path) for path in tasks.glob("dag_id=*/run_id=*/task_id=*/**/attempt=*.log")]
    files = []
    for component, path in found:
        try:
            state = path.stat()
        except FileNotFoundError:
            continue  # removed meanwhile
        name = path.stem if component != "task" else _task_name(path.relative_to(tasks))
        files.append(
            {
                "component": component,
                "name": name,
                "path": str(path),
                "bytes": state.st_size,
                "written_at": state.st_mtime,
            }
        )
    return sorted(files, key=lambda file: (file["written_at"], file["path"]))


def _task_name(path: Path) -> str:
    """Return e.g. `nyc_flights/manual__1/check/1`."""
    return "/".join(part.partition("=")[2] for part in path.with_suffix("").parts)


def _number(request: Request, name: str, default: int, *, low: int, high: int | None = None) -> int:
    text = request.query_params.get(name)
    if text is None:
        return default
    number = int(text) if text.isascii() and text.isdigit() else -1
    if number < low or (high is not None and number > high):
        accepted = f"at least {low}" if high is None else f"between {low} and {high}"
        raise ServiceError("ValidationException", f"{name} must be a whole number, {accepted}.")
    return number
