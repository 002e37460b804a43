"""Who works on an environment: one holder at a time, fenced by a number.

A holder that was paused too long loses the lease to another; its later writes carry an old
number and change nothing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from openmwaa.environments.record import EnvironmentRecord, LastUpdate
from openmwaa.environments.spec import EnvironmentSpec
from openmwaa.store.database import Database, StoreUnavailableError
from openmwaa.store.environments import CHANNEL
from openmwaa.store.events import insert_event
from openmwaa.store.rows import from_last_update, to_record


class LeaseLostError(Exception):
    """Another holder has the environment now; stop working on it."""


@dataclass(frozen=True)
class Lease:
    """The right to work on one environment until it expires or is taken over."""

    environment_id: str
    token: int


@dataclass(frozen=True)
class Outcome:
    """What one cycle of work changed. Fields left None keep their value.

    Attributes:
        next_in: When to look again.

        observed: The generation given by the record was reached and seen healthy.

        failed: The generation given by the record cannot be reached.

        roll_back_to: Put this spec back as a new generation.

        notes: What the work of that generation begins with.

        deleted: Observation showed that nothing is left.

        event: Kind, message and data of an event for the reader.
    """

    next_in: timedelta
    checkpoints: Mapping[str, Any] | None = None
    attempts: int | None = None
    last_error: str | None = None
    observed: bool = False
    failed: bool = False
    roll_back_to: EnvironmentSpec | None = None
    notes: Mapping[str, Any] = field(default_factory=dict)
    last_update: LastUpdate | None = None
    last_change_failed: bool | None = None
    deleted: bool = False
    event: tuple[str, str, dict[str, Any]] | None = None


class LeaseRepository:
    """Takes due environments, keeps them leased, writes outcomes under the lease."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def take_due(
        self, holder: str, ttl: timedelta, *, busy: Sequence[str] = ()
    ) -> tuple[Lease, EnvironmentRecord] | None:
        """Lease the environment that has been due for longest; None if nothing is due.

        Args:
            holder: Who asks. A lease that the same holder left behind, before it was killed and
                restarted, is taken at once.

            ttl: How long the lease lasts unless renewed.

            busy: What this holder is working on now.
        """
        row = await self._database.one(
            "UPDATE environments SET lease_holder = %s, lease_token = lease_token + 1,"
            " lease_expires_at = now() + %s WHERE id = (SELECT id FROM environments"
            " WHERE deleted_at IS NULL AND next_attempt_at <= now()"
            " AND (lease_expires_at IS NULL OR lease_expires_at < now() OR lease_holder = %s)"
            " AND id <> ALL(%s) ORDER BY next_attempt_at FOR UPDATE SKIP LOCKED LIMIT 1) RETURNING *",
            (holder, ttl, holder, list(busy)),
        )
        return (Lease(row["id"], row["lease_token"]), to_record(row)) if row else None

    async def renew(self, lease: Lease, ttl: timedelta) -> None:
        """Push the expiry out.

        Raises:
            LeaseLostError: Another holder took over, or the lease was given back: renewed after that, it
                would keep everybody from the environment and belong to nobody.
        """
        row = await self._database.one(
            "UPDATE environments SET lease_expires_at = now() + %s"
            " WHERE id = %s AND lease_token = %s AND lease_holder IS NOT NULL RETURNING id",
            (ttl, lease.environment_id, lease.token),
        )
        if row is None:
            raise LeaseLostError(lease.environment_id)

    async def checkpoint(
        self,
        lease: Lease,
        record: EnvironmentRecord,
        name: str,
        value: Any,
        *,
        secrets: Mapping[str, str] | None = None,
    ) -> None:
        """Write down how far the work has come, and sealed secrets that a step made.

        Raises:
            LeaseLostError: Another holder took over, or the environment was changed meanwhile.
        """
        row = await self._database.one(
            "UPDATE environments SET checkpoints = checkpoints || %s, secrets = secrets || %s, attempts = 0"
            " WHERE id = %s AND lease_token = %s AND generation = %s AND deleting = %s RETURNING id",
            (
                Jsonb({name: value}),
                Jsonb(dict(secrets or {})),
                lease.environment_id,
                lease.token,
                record.generation,
                record.deleting,
            ),
        )
        if row is None:
            raise LeaseLostError(lease.environment_id)

    async def finish(self, lease: Lease, record: EnvironmentRecord, outcome: Outcome) -> None:
        """Write the outcome and give the lease back.

        What a caller changed in the meantime (a new generation, a deletion) stays as it is
        and is due at once: the outcome then only counts for the generation it was made for.

        Raises:
            LeaseLostError: Another holder took over; nothing was written.
        """
        columns: dict[str, Any] = {
            "attempts": outcome.attempts,
            "last_error": outcome.last_error,
            "checkpoints": None if outcome.checkpoints is None else Jsonb(dict(outcome.checkpoints)),
            "last_update": Jsonb(from_last_update(outcome.last_update)) if outcome.last_update else None,
            "last_change_failed": outcome.last_change_failed,
            "failed_generation": record.generation if outcome.failed else None,
        }
        if outcome.observed:
            columns["observed_generation"] = record.generation
            columns["good_spec"] = Jsonb(record.spec.to_json())
            columns["rolling_back"] = False
        if outcome.roll_back_to is not None:
            columns["spec"] = Jsonb(outcome.roll_back_to.to_json())
            columns["generation"] = record.generation + 1
            columns["rolling_back"] = True
            columns["checkpoints"] = Jsonb(dict(outcome.notes))
        written = {name: value for name, value in columns.items() if value is not None}
        assignments = "".join(f", {name} = %({name})s" for name in written)
        async with self._database.transaction() as connection:
            cursor = await connection.execute(
                b"UPDATE environments SET lease_holder = NULL, lease_expires_at = NULL"
                b" WHERE id = %s AND lease_token = %s RETURNING generation, deleting",
                (lease.environment_id, lease.token),
            )
            row = await cursor.fetchone()
            if row is None:
                raise LeaseLostError(lease.environment_id)
            if (row["generation"], row["deleting"]) == (record.generation, record.deleting):
                deleted = ", deleted_at = now()" if outcome.deleted else ""
                statement = (
                    f"UPDATE environments SET next_attempt_at = now() + %(next_in)s{assignments}{deleted}"  # noqa: S608 - column names are ours
                    " WHERE id = %(id)s"
                )
                await connection.execute(
                    statement.encode(), {**written, "next_in": outcome.next_in, "id": lease.environment_id}
                )
                if outcome.event:
                    kind, message, data = outcome.event
                    await insert_event(connection, record.id, record.name, kind, message, data)

    async def hints(self) -> AsyncIterator[str]:
        """Yield the id of each environment that a caller just changed, until the connection breaks.

        Raises:
            StoreUnavailableError: The connection broke; call again.
        """
        try:
            async with await psycopg.AsyncConnection.connect(
                self._database.url.reveal(), autocommit=True
            ) as connection:
                await connection.execute(f"LISTEN {CHANNEL}".encode())
                async for notice in connection.notifies():
                    yield notice.payload
        except psycopg.OperationalError as error:
            raise StoreUnavailableError from error
