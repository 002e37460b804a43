"""The history of environments: append-only, kept after an environment is gone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from psycopg import AsyncConnection
from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from openmwaa.environments.record import Event
from openmwaa.store.database import Database

_INSERT = (
    "INSERT INTO events (environment_id, environment_name, kind, message, data) VALUES (%s, %s, %s, %s, %s)"
)


async def insert_event(
    connection: AsyncConnection[DictRow],
    environment_id: str,
    environment_name: str,
    kind: str,
    message: str,
    data: dict[str, Any] | None = None,
) -> None:
    """Append an event inside the caller's transaction, so that history and state never disagree."""
    await connection.execute(_INSERT, (environment_id, environment_name, kind, message, Jsonb(data or {})))


class EventRepository:
    """Reads and appends events."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def append(
        self, environment_id: str, environment_name: str, kind: str, message: str, **data: Any
    ) -> None:
        """Append one event."""
        async with self._database.transaction() as connection:
            await insert_event(connection, environment_id, environment_name, kind, message, data)

    async def list(self, environment_name: str, *, after_id: int = 0, limit: int = 200) -> list[Event]:
        """Return events after `after_id`, oldest first; with `after_id` 0 the newest `limit` of them."""
        rows = await self._database.all(
            "SELECT * FROM (SELECT * FROM events WHERE environment_name = %s AND id > %s"
            " ORDER BY CASE WHEN %s THEN id ELSE -id END DESC LIMIT %s) AS page ORDER BY id",
            (environment_name, after_id, after_id == 0, limit),
        )
        return [Event(**row) for row in rows]

    async def seconds_of_updates(self, fields: Sequence[str], *, limit: int) -> Sequence[float]:
        """Return how long the last updates of exactly these fields took here, of any environment."""
        rows = await self._database.all(
            "SELECT (done.data->>'seconds')::float AS seconds FROM events done JOIN events asked"
            " ON asked.environment_id = done.environment_id AND asked.data->'generation' = done.data->'generation'"
            " WHERE done.kind = 'available' AND asked.kind = 'update-requested' AND asked.data->'fields' = %s"
            " ORDER BY done.id DESC LIMIT %s",
            (Jsonb(list(fields)), limit),
        )
        return [row["seconds"] for row in rows]
