"""When environments are snapshotted by themselves. A schedule ends with its environment."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from openmwaa.environments.record import EnvironmentRecord
from openmwaa.environments.snapshots import SnapshotReason, SnapshotRecord, SnapshotSchedule
from openmwaa.environments.status import Status
from openmwaa.store.database import Database
from openmwaa.store.events import insert_event
from openmwaa.store.rows import to_record
from openmwaa.store.snapshots import insert_snapshot

_LIVING = "JOIN environments e ON e.id = s.environment_id AND e.deleted_at IS NULL AND NOT e.deleting"
_NEVER_UP = frozenset({Status.CREATING, Status.CREATE_FAILED})


class ScheduleRepository:
    """At most one schedule per environment."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def set(
        self, record: EnvironmentRecord, *, every: timedelta, keep: int | None, max_age: timedelta | None
    ) -> SnapshotSchedule:
        """Set or replace; the first snapshot is due at once, if no schedule was set before."""
        async with self._database.transaction() as connection:
            cursor = await connection.execute(
                "INSERT INTO snapshot_schedules (environment_id, every_s, keep, max_age_s, next_at)"
                " VALUES (%(id)s, %(every)s, %(keep)s, %(age)s, now()) ON CONFLICT (environment_id) DO UPDATE"
                " SET every_s = excluded.every_s, keep = excluded.keep, max_age_s = excluded.max_age_s,"
                " set_at = now(), next_at = least(snapshot_schedules.next_at,"
                " now() + make_interval(secs => excluded.every_s)) RETURNING *",
                {
                    "id": record.id,
                    "every": round(every.total_seconds()),
                    "keep": keep,
                    "age": round(max_age.total_seconds()) if max_age else None,
                },
            )
            row = await cursor.fetchone()
            assert row is not None  # noqa: S101 - INSERT … RETURNING returns one
            schedule = _to_schedule(row)
            kept = f", {keep} are kept" if keep else ""
            aged = f", none longer than {max_age}" if max_age else ""
            await insert_event(
                connection,
                record.id,
                record.name,
                "snapshot-schedule-set",
                f"A snapshot is made every {every}{kept}{aged}.",
                {"every_s": row["every_s"], "keep": keep, "max_age_s": row["max_age_s"]},
            )
        return schedule

    async def remove(self, record: EnvironmentRecord) -> bool:
        """Make no more snapshots by itself; those made stay. Return whether there was a schedule."""
        async with self._database.transaction() as connection:
            cursor = await connection.execute(
                "DELETE FROM snapshot_schedules WHERE environment_id = %s", (record.id,)
            )
            if not cursor.rowcount:
                return False
            message = "Snapshots are no longer made by themselves."
            await insert_event(connection, record.id, record.name, "snapshot-schedule-off", message)
        return True

    async def get(self, environment_id: str) -> SnapshotSchedule | None:
        """Return an environment's schedule; None if it has none."""
        row = await self._database.one(
            "SELECT * FROM snapshot_schedules WHERE environment_id = %s", (environment_id,)
        )
        return _to_schedule(row) if row else None

    async def list(self) -> list[SnapshotSchedule]:
        """Return the schedules of living environments."""
        rows = await self._database.all(f"SELECT s.* FROM snapshot_schedules s {_LIVING}")  # noqa: S608 - ours
        return [_to_schedule(row) for row in rows]

    async def fire(self) -> tuple[bool, SnapshotRecord | None]:
        """Ask for the snapshot that is due, in one transaction with the time of the next.

        Missed times are not made up for, and the rhythm is kept. While an earlier scheduled one is
        still being made, and for an environment that never was up, nothing is asked for.

        Returns:
            Whether a schedule was due (then another may be), and what was asked for.
        """
        async with self._database.transaction() as connection:
            cursor = await connection.execute(
                f"SELECT e.*, s.every_s FROM snapshot_schedules s {_LIVING}"  # noqa: S608 - ours
                " WHERE s.next_at <= now() ORDER BY s.next_at LIMIT 1 FOR UPDATE OF s SKIP LOCKED"
            )
            row = await cursor.fetchone()
            if row is None:
                return False, None
            record = to_record(row)
            await connection.execute(
                "UPDATE snapshot_schedules SET next_at = next_at + make_interval(secs => every_s *"
                " (1 + floor(extract(epoch FROM now() - next_at) / every_s))) WHERE environment_id = %s",
                (record.id,),
            )
            cursor = await connection.execute(
                "SELECT 1 FROM snapshots WHERE environment_id = %s AND state = 'creating' AND reason = %s",
                (record.id, SnapshotReason.SCHEDULED),
            )
            if record.status in _NEVER_UP or await cursor.fetchone():
                return True, None
            return True, await insert_snapshot(connection, record, SnapshotReason.SCHEDULED)


def _to_schedule(row: Mapping[str, Any]) -> SnapshotSchedule:
    age = row["max_age_s"]
    return SnapshotSchedule(
        environment_id=row["environment_id"],
        every=timedelta(seconds=row["every_s"]),
        keep=row["keep"],
        max_age=timedelta(seconds=age) if age else None,
        next_at=row["next_at"],
    )
