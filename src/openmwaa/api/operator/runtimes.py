"""Airflow versions for the operator: which there are, installing one, bringing a newer patch."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import date
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from openmwaa.airflow.versions import VERSIONS
from openmwaa.api.errors import ServiceError
from openmwaa.api.operator import views
from openmwaa.api.operator.bodies import read_body
from openmwaa.artifacts.installer import RuntimeInstaller
from openmwaa.artifacts.lock_resolution import resolve_lock
from openmwaa.artifacts.runtimes import Progress, Runtime, RuntimeProgress
from openmwaa.kit.errors import GiveUp, Retry, in_words

Work = Callable[[Progress], Awaitable[Runtime]]


class RuntimeRoutes:
    """Handlers. Long ones answer one JSON object per line that tells how far they are.

    The last line has either `stage` "done" or `code` and `message`.
    """

    def __init__(self, runtimes: RuntimeInstaller) -> None:
        self._runtimes = runtimes

    async def list(self, _: Request) -> Response:
        """Supported versions, installed or not, and older runtimes still on disk."""
        listings = await asyncio.to_thread(self._runtimes.list)
        return JSONResponse({"runtimes": [views.runtime_view(one) for one in listings]})

    async def install(self, request: Request) -> Response:
        """Install a version, or join its installation."""
        version = self._version(request)
        return _streamed(lambda report: self._runtimes.ensure(version, report))

    async def update(self, request: Request) -> Response:
        """Bring a newer patch: `lock`, its text; or `as_of`, the day it is resolved for; or `back`."""
        version = self._version(request)
        body = await read_body(request)
        if body.get("back"):
            runtime = self._runtimes.go_back(version)
            return _streamed(lambda report: self._runtimes.ensure_id(runtime.id, report))
        as_of = _day(body.get("as_of"))
        if isinstance(body.get("lock"), str):
            text: str | None = body["lock"]
        elif as_of is not None:
            text = None
        else:
            raise ServiceError("ValidationException", "The body must hold lock, as_of or back.")

        async def adopt(report: Progress) -> Runtime:
            lock = text
            if lock is None:
                assert as_of is not None  # noqa: S101 - one of the two was given
                lock = await resolve_lock(VERSIONS[version].requirements, as_of)
            return await self._runtimes.adopt(version, lock, report)

        return _streamed(adopt)

    def _version(self, request: Request) -> str:
        version: str = request.path_params["version"]
        try:
            self._runtimes.locate(version)
        except GiveUp as error:
            raise ServiceError("ValidationException", f"{error.reason}.") from error
        return version


def _day(text: Any) -> date | None:
    if text is None:
        return None
    try:
        return date.fromisoformat(str(text))
    except ValueError as error:
        raise ServiceError("ValidationException", "as_of must be a day, YYYY-MM-DD.") from error


def _streamed(work: Work) -> Response:
    return StreamingResponse(_progress_of(work), media_type="application/x-ndjson")


async def _progress_of(work: Work) -> AsyncIterator[bytes]:
    reports: asyncio.Queue[RuntimeProgress | None] = asyncio.Queue()

    async def run() -> Runtime:
        return await work(reports.put_nowait)

    build = asyncio.create_task(run())
    build.add_done_callback(lambda _: reports.put_nowait(None))
    try:
        while (report := await reports.get()) is not None:
            yield _line(views.progress_view(report))
        runtime = await build
        yield _line(
            {"version": runtime.version, "stage": "done", "id": runtime.id, "path": str(runtime.path)}
        )
    except Retry as error:
        yield _line({"code": "RETRY", "message": error.reason})
    except GiveUp as error:
        yield _line({"code": error.code, "message": in_words(error).removesuffix(f" Code: {error.code}")})
    finally:
        build.cancel()


def _line(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value).encode() + b"\n"
