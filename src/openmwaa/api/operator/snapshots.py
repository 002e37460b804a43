"""The operator's requests about snapshots."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from openmwaa.api.errors import ServiceError
from openmwaa.environments.snapshots import SnapshotReason, SnapshotRecord, SnapshotSchedule
from openmwaa.kit.errors import GiveUp
from openmwaa.snapshots import SnapshotDesk

Handler = Callable[[Request], Awaitable[Response]]


class SnapshotRequests:
    """One method per request. Answers are JSON; errors are raised."""

    def __init__(self, desk: SnapshotDesk | None) -> None:
        self._given = desk

    def routes(self) -> Mapping[tuple[str, str], Handler]:
        """Return the handlers by method and path."""
        return {
            ("GET", "/snapshots"): self.list,
            ("GET", "/snapshots/{id}"): self.show,
            ("POST", "/environments/{name}/snapshots"): self.create,
            ("GET", "/environments/{name}/snapshot-schedule"): self.show_schedule,
            ("POST", "/environments/{name}/snapshot-schedule"): self.schedule,
            ("POST", "/snapshots/{id}/pin"): self.pin,
            ("POST", "/snapshots/{id}/verify"): self.verify,
            ("POST", "/snapshots/{id}/delete"): self.delete,
            ("POST", "/snapshots/{id}/restore"): self.restore,
        }

    @property
    def _desk(self) -> SnapshotDesk:
        if self._given is None:
            raise ServiceError("NotImplemented", "This control plane keeps no snapshots.")
        return self._given

    async def list(self, request: Request) -> Response:
        """Every snapshot, oldest first; with `environment` those of one name."""
        snapshots = await self._desk.list(request.query_params.get("environment"))
        return JSONResponse({"snapshots": [snapshot_view(one) for one in snapshots]})

    async def show(self, request: Request) -> Response:
        """One snapshot."""
        return JSONResponse(snapshot_view(await self._desk.get(request.path_params["id"])))

    async def create(self, request: Request) -> Response:
        """Ask for a snapshot: `pinned`, `reason` (`manual` unless it is `before-restore`)."""
        body = await _body(request)
        reason = SnapshotReason.BEFORE_RESTORE if body.get("reason") == "before-restore" else None
        snapshot = await self._desk.create(
            request.path_params["name"],
            reason=reason or SnapshotReason.MANUAL,
            pinned=_flag(body, "pinned"),
        )
        return JSONResponse(snapshot_view(snapshot))

    async def show_schedule(self, request: Request) -> Response:
        """The schedule of an environment; null if it has none."""
        schedule = await self._desk.schedule_of(request.path_params["name"])
        return JSONResponse({"schedule": schedule_view(schedule) if schedule else None})

    async def schedule(self, request: Request) -> Response:
        """Set the schedule of an environment (`every_s`, `keep`, `max_age_s`), or end it (`off`)."""
        name, body = request.path_params["name"], await _body(request)
        if _flag(body, "off"):
            await self._desk.schedule_off(name)
            return JSONResponse({"schedule": None})
        max_age = _whole(body, "max_age_s")
        schedule = await self._desk.schedule(
            name,
            every=timedelta(seconds=_whole(body, "every_s") or 0),
            keep=_whole(body, "keep"),
            max_age=None if max_age is None else timedelta(seconds=max_age),
        )
        return JSONResponse({"schedule": schedule_view(schedule)})

    async def pin(self, request: Request) -> Response:
        """Keep a snapshot from retention (`pinned`), or no longer."""
        body = await _body(request)
        snapshot = await self._desk.pin(request.path_params["id"], pinned=_flag(body, "pinned"))
        return JSONResponse(snapshot_view(snapshot))

    async def verify(self, request: Request) -> Response:
        """Read every part of a snapshot and check it."""
        with _explained():
            contents = await self._desk.verify(request.path_params["id"])
        return JSONResponse({**snapshot_view(contents.record), "rows": dict(contents.manifest.rows)})

    async def delete(self, request: Request) -> Response:
        """Ask for a deletion."""
        await self._desk.delete(request.path_params["id"])
        return JSONResponse({"id": request.path_params["id"], "state": "deleting"})

    async def restore(self, request: Request) -> Response:
        """Restore: into the snapshot's environment `in_place`, or as a new environment `name`.

        Further members: `dags`; for a new one also `airflow_version` and `bucket`.
        """
        snapshot_id, body = request.path_params["id"], await _body(request)
        name = _text(body, "name")
        if name is None:
            raise ServiceError("ValidationException", "name must be the name of an environment.")
        with _explained():
            if _flag(body, "in_place"):
                record = await self._desk.restore_in_place(snapshot_id, name, dags=_flag(body, "dags"))
            else:
                record = await self._desk.restore_as_new(
                    snapshot_id,
                    name,
                    version=_text(body, "airflow_version"),
                    bucket=_text(body, "bucket"),
                    dags=_flag(body, "dags"),
                )
        return JSONResponse(
            {"name": record.name, "id": record.id, "generation": record.generation, "status": record.status}
        )


def snapshot_view(snapshot: SnapshotRecord) -> dict[str, Any]:
    """Return a snapshot as callers see it: nothing of it is secret."""
    return {
        "id": snapshot.id,
        "environment": snapshot.environment_name,
        "environment_id": snapshot.environment_id,
        "airflow_version": snapshot.airflow_version,
        "state": snapshot.state,
        "reason": snapshot.reason,
        "pinned": snapshot.pinned,
        "created_at": snapshot.created_at.isoformat(),
        "completed_at": snapshot.completed_at.isoformat() if snapshot.completed_at else None,
        "size_bytes": snapshot.size_bytes,
        "parts": [dict(part) for part in snapshot.parts],
        "attempts": snapshot.attempts,
        "error": snapshot.error,
    }


def schedule_view(schedule: SnapshotSchedule) -> dict[str, Any]:
    """Return a schedule in whole seconds."""
    return {
        "every_s": round(schedule.every.total_seconds()),
        "keep": schedule.keep,
        "max_age_s": round(schedule.max_age.total_seconds()) if schedule.max_age else None,
        "next_at": schedule.next_at.isoformat(),
    }


@contextmanager
def _explained() -> Iterator[None]:
    """Tell the caller which part of a snapshot is at fault, and why."""
    try:
        yield
    except GiveUp as error:
        parts = (error.reason, error.evidence, error.fix)
        text = ". ".join(part.rstrip(".") for part in parts if part)
        raise ServiceError("ValidationException", f"{text[0].upper()}{text[1:]}.") from error


async def _body(request: Request) -> dict[str, Any]:
    try:
        body = await request.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise ServiceError("SerializationException", "The body must be a JSON object.")
    return body


def _flag(body: Mapping[str, Any], name: str) -> bool:
    value = body.get(name, False)
    if not isinstance(value, bool):
        raise ServiceError("ValidationException", f"{name} must be true or false.")
    return value


def _text(body: Mapping[str, Any], name: str) -> str | None:
    value = body.get(name)
    if value is not None and not (isinstance(value, str) and value):
        raise ServiceError("ValidationException", f"{name} must be a text.")
    return value


def _whole(body: Mapping[str, Any], name: str) -> int | None:
    value = body.get(name)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
        raise ServiceError("ValidationException", f"{name} must be a whole number.")
    return value
