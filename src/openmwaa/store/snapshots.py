"""Snapshots as rows: asked for by callers, worked on under a lease, gone when their objects are.

The lease is that of environments (store/leases.py) in small: a number that grows with every
holder fences off a former one, and what a holder writes is written only while it holds it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from psycopg import AsyncConnection
from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from openmwaa.environments.errors import InvalidRequestError
from openmwaa.environments.record import RESTORE_FROM, EnvironmentRecord
from openmwaa.environments.snapshots import (
    ACCEPTS_SNAPSHOT,
    SnapshotNotFoundError,
    SnapshotReason,
    SnapshotRecord,
    SnapshotState,
    new_snapshot_id,
)
from openmwaa.store.database import Database
from openmwaa.store.events import insert_event
from openmwaa.store.leases import LeaseLostError

_RELEASE = "lease_holder = NULL, lease_expires_at = NULL"


@dataclass(frozen=True)
class SnapshotLease:
    """The right to work on one snapshot in one state, until it expires or is taken over."""

    snapshot_id: str
    token: int
    state: SnapshotState


class SnapshotRepository:
    """Snapshots by id, also those of environments that are gone."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def request(
        self, record: EnvironmentRecord, reason: SnapshotReason, *, pinned: bool = False
    ) -> SnapshotRecord:
        """Accept a snapshot of an environment; it is made later.

        Raises:
            InvalidRequestError: The environment's status does not allow one.
        """
        if record.status not in ACCEPTS_SNAPSHOT or record.good_spec is None:
            raise InvalidRequestError(
                f"A snapshot of {record.name} cannot be made while its status is {record.status}."
            )
        async with self._database.transaction() as connection:
            return await insert_snapshot(connection, record, reason, pinned=pinned)

    async def get(self, snapshot_id: str) -> SnapshotRecord:
        """Return a snapshot.

        Raises:
            SnapshotNotFoundError: There is none, or no more.
        """
        row = await self._database.one("SELECT * FROM snapshots WHERE id = %s", (snapshot_id,))
        if row is None:
            raise _not_found(snapshot_id)
        return to_snapshot(row)

    async def list(
        self, *, environment_name: str | None = None, environment_id: str | None = None
    ) -> list[SnapshotRecord]:
        """Return snapshots in every state, oldest first; of all environments, of a name, or of one environment."""
        rows = await self._database.all(
            "SELECT * FROM snapshots WHERE (%(name)s::text IS NULL OR environment_name = %(name)s)"
            " AND (%(id)s::text IS NULL OR environment_id = %(id)s) ORDER BY created_at, id",
            {"name": environment_name, "id": environment_id},
        )
        return [to_snapshot(row) for row in rows]

    async def set_pinned(self, snapshot_id: str, *, pinned: bool) -> SnapshotRecord:
        """Keep a snapshot from retention, or no longer."""
        row = await self._database.one(
            "UPDATE snapshots SET pinned = %s WHERE id = %s RETURNING *",
            (pinned, snapshot_id),
        )
        if row is None:
            raise _not_found(snapshot_id)
        return to_snapshot(row)

    async def request_deletion(self, snapshot_id: str) -> None:
        """Accept a deletion; the snapshot can be restored no more. Safe to repeat.

        One that is being made is given up: its holder notices when it renews the lease.

        Raises:
            SnapshotNotFoundError: There is none, or no more.

            InvalidRequestError: An environment is being restored from it.
        """
        async with self._database.transaction() as connection:
            snapshot = await self._lock(connection, snapshot_id)
            if await _is_in_use(connection, snapshot_id):
                raise InvalidRequestError(f"An environment is being restored from snapshot {snapshot_id}.")
            await self._let_go(connection, snapshot, "")

    async def let_go(self, snapshot_id: str) -> None:
        """Accept a deletion by retention; does nothing if the snapshot was pinned meanwhile or is in use.

        Raises:
            SnapshotNotFoundError: There is none, or no more.
        """
        async with self._database.transaction() as connection:
            snapshot = await self._lock(connection, snapshot_id)
            if not snapshot.pinned and not await _is_in_use(connection, snapshot_id):
                await self._let_go(connection, snapshot, " (by its schedule)")

    async def take_due(
        self, holder: str, ttl: timedelta, *, busy: Sequence[str] = ()
    ) -> tuple[SnapshotLease, SnapshotRecord] | None:
        """Lease the snapshot that has waited longest to be made or removed; None if nothing is due.

        Counts the attempt at once, so that one which kills its process is given up some day.
        Arguments as in `LeaseRepository.take_due`.
        """
        row = await self._database.one(
            "UPDATE snapshots SET lease_holder = %s, lease_token = lease_token + 1,"
            " lease_expires_at = now() + %s, attempts = attempts + 1 WHERE id = (SELECT id FROM snapshots"
            " WHERE state IN ('creating', 'deleting') AND next_attempt_at <= now()"
            " AND (lease_expires_at IS NULL OR lease_expires_at < now() OR lease_holder = %s)"
            " AND id <> ALL(%s) ORDER BY next_attempt_at FOR UPDATE SKIP LOCKED LIMIT 1)"
            " RETURNING *",
            (holder, ttl, holder, list(busy)),
        )
        if row is None:
            return None
        snapshot = to_snapshot(row)
        return SnapshotLease(snapshot.id, row["lease_token"], snapshot.state), snapshot

    async def renew(self, lease: SnapshotLease, ttl: timedelta, *, size_bytes: int | None = None) -> None:
        """Push the expiry out and write down how much is stored by now.

        Raises:
            LeaseLostError: Another holder took over, or it is to be deleted.
        """
        row = await self._database.one(
            "UPDATE snapshots SET lease_expires_at = now() + %s, size_bytes = coalesce(%s, size_bytes)"
            " WHERE id = %s AND lease_token = %s AND state = %s RETURNING id",
            (ttl, size_bytes, lease.snapshot_id, lease.token, lease.state),
        )
        if row is None:
            raise LeaseLostError(lease.snapshot_id)

    async def available(
        self, lease: SnapshotLease, *, prefix: str, parts: Sequence[Mapping[str, Any]], size_bytes: int
    ) -> None:
        """Say that all of it is stored, its manifest too, or raise LeaseLostError."""
        async with self._database.transaction() as connection:
            snapshot = await self._finish(
                connection,
                lease,
                "state = 'available', completed_at = now(), error = NULL, prefix = %s, parts = %s, size_bytes = %s",
                (prefix, Jsonb([dict(part) for part in parts]), size_bytes),
            )
            assert snapshot.completed_at  # noqa: S101 - just set
            seconds = round((snapshot.completed_at - snapshot.created_at).total_seconds(), 1)
            await _note(
                connection,
                snapshot,
                "snapshot-available",
                f"Snapshot {snapshot.id} is available ({size_bytes / 1e6:.1f} MB, {seconds:.1f} s).",
                {"size_bytes": size_bytes, "seconds": seconds},
            )

    async def failed(self, lease: SnapshotLease, reason: str, data: Mapping[str, Any]) -> None:
        """Give a snapshot up, or raise LeaseLostError."""
        async with self._database.transaction() as connection:
            snapshot = await self._finish(connection, lease, "state = 'failed', error = %s", (reason,))
            message = f"Snapshot {snapshot.id} failed: {reason}."
            await _note(connection, snapshot, "snapshot-failed", message, data)

    async def retry(self, lease: SnapshotLease, reason: str, wait: timedelta) -> None:
        """Give the lease back and try again later, or raise LeaseLostError."""
        async with self._database.transaction() as connection:
            await self._finish(
                connection, lease, "error = %s, next_attempt_at = now() + %s, size_bytes = 0", (reason, wait)
            )

    async def release(self, lease: SnapshotLease) -> None:
        """Give the lease back as it was: the work is done by another, or not at all. Never raises LeaseLostError."""
        await self._database.all(
            f"UPDATE snapshots SET {_RELEASE} WHERE id = %s AND lease_token = %s",  # noqa: S608 - ours
            (lease.snapshot_id, lease.token),
        )

    async def gone(self, lease: SnapshotLease) -> None:
        """Remove the row: no object is left. Or raise LeaseLostError."""
        async with self._database.transaction() as connection:
            row = await _fetch(
                connection,
                "DELETE FROM snapshots WHERE id = %s AND lease_token = %s AND state = 'deleting' RETURNING *",
                (lease.snapshot_id, lease.token),
            )
            if row is None:
                raise LeaseLostError(lease.snapshot_id)
            await _note(
                connection, to_snapshot(row), "snapshot-deleted", f"Snapshot {lease.snapshot_id} is deleted."
            )

    async def _lock(self, connection: AsyncConnection[DictRow], snapshot_id: str) -> SnapshotRecord:
        row = await _fetch(connection, "SELECT * FROM snapshots WHERE id = %s FOR UPDATE", (snapshot_id,))
        if row is None:
            raise _not_found(snapshot_id)
        return to_snapshot(row)

    async def _let_go(self, connection: AsyncConnection[DictRow], snapshot: SnapshotRecord, why: str) -> None:
        if snapshot.state is SnapshotState.DELETING:
            return
        await connection.execute(
            "UPDATE snapshots SET state = 'deleting', attempts = 0, error = NULL, next_attempt_at = now()"
            " WHERE id = %s",
            (snapshot.id,),
        )
        message = f"Deletion of snapshot {snapshot.id} requested{why}."
        await _note(connection, snapshot, "snapshot-delete-requested", message)

    async def _finish(
        self,
        connection: AsyncConnection[DictRow],
        lease: SnapshotLease,
        assignments: str,
        values: tuple[Any, ...],
    ) -> SnapshotRecord:
        row = await _fetch(
            connection,
            f"UPDATE snapshots SET {assignments}, {_RELEASE} WHERE id = %s AND lease_token = %s AND state = %s"  # noqa: S608 - ours
            " RETURNING *",
            (*values, lease.snapshot_id, lease.token, lease.state),
        )
        if row is None:
            raise LeaseLostError(lease.snapshot_id)
        return to_snapshot(row)


async def insert_snapshot(
    connection: AsyncConnection[DictRow],
    record: EnvironmentRecord,
    reason: SnapshotReason,
    *,
    pinned: bool = False,
) -> SnapshotRecord:
    """Add a row in state `creating`, with its event, inside the caller's transaction."""
    spec = record.good_spec or record.spec
    row = await _fetch(
        connection,
        "INSERT INTO snapshots (id, environment_id, environment_name, region, account, airflow_version, reason,"
        " pinned) VALUES (%s, %s, %s, %s, %s, %s, %s, %s) RETURNING *",
        (
            new_snapshot_id(),
            record.id,
            record.name,
            record.arn.region,
            record.arn.account,
            spec.airflow_version,
            reason,
            pinned,
        ),
    )
    assert row is not None  # noqa: S101 - INSERT … RETURNING returns one
    snapshot = to_snapshot(row)
    message = f"Snapshot {snapshot.id} requested ({reason})."
    await _note(connection, snapshot, "snapshot-requested", message)
    return snapshot


def to_snapshot(row: Mapping[str, Any]) -> SnapshotRecord:
    """Read one row."""
    members = {name: row[name] for name in SnapshotRecord.__dataclass_fields__}
    members |= {"state": SnapshotState(row["state"]), "reason": SnapshotReason(row["reason"])}
    return SnapshotRecord(**{**members, "parts": tuple(row["parts"])})


async def _note(
    connection: AsyncConnection[DictRow],
    snapshot: SnapshotRecord,
    kind: str,
    message: str,
    data: Mapping[str, Any] | None = None,
) -> None:
    await insert_event(
        connection,
        snapshot.environment_id,
        snapshot.environment_name,
        kind,
        message,
        {"snapshot": snapshot.id, "reason": snapshot.reason, **(data or {})},
    )


async def _is_in_use(connection: AsyncConnection[DictRow], snapshot_id: str) -> bool:
    """Return whether a generation that is not reached or given up yet begins with this snapshot."""
    row = await _fetch(
        connection,
        "SELECT 1 FROM environments WHERE deleted_at IS NULL AND NOT deleting"
        " AND checkpoints->>%s = %s AND generation NOT IN (observed_generation, failed_generation)",
        (RESTORE_FROM, snapshot_id),
    )
    return row is not None


async def _fetch(
    connection: AsyncConnection[DictRow], statement: str, values: tuple[Any, ...]
) -> DictRow | None:
    cursor = await connection.execute(statement.encode(), values)
    return await cursor.fetchone()


def _not_found(snapshot_id: str) -> SnapshotNotFoundError:
    return SnapshotNotFoundError(f"No snapshot found with the id {snapshot_id}.")
