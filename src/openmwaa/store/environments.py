"""Environments as callers of the API see and change them.

Every change locks the row, checks the status that the row has at that moment, and writes
the new state together with its event, so that two callers can never both win.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from typing import Any

from psycopg import AsyncConnection
from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from openmwaa.environments.arns import EnvironmentArn
from openmwaa.environments.errors import EnvironmentNotFoundError, InvalidRequestError
from openmwaa.environments.record import RESTORED, UNDO, EnvironmentRecord, LastUpdate
from openmwaa.environments.spec import INTERNAL_FIELDS, EnvironmentSpec
from openmwaa.environments.status import ACCEPTS_DELETE, ACCEPTS_UPDATE, Status
from openmwaa.settings.layout import FIRST_ORDINAL, LAST_ORDINAL
from openmwaa.store.database import Database
from openmwaa.store.events import insert_event
from openmwaa.store.rows import from_last_update, to_record

CHANNEL = "openmwaa_environments"
"""NOTIFY channel: a hint that an environment needs work. The sweep is the truth."""

_CREATE_LOCK = 0x0_4D574142
_LIVING = "SELECT * FROM environments WHERE deleted_at IS NULL AND "


class EnvironmentRepository:
    """Environments by name; a deleted one is not found."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(
        self,
        environment_id: str,
        spec: EnvironmentSpec,
        *,
        arn: EnvironmentArn,
        tags: Mapping[str, str],
        secrets: Mapping[str, str],
        quota: int,
        notes: Mapping[str, Any] | None = None,
    ) -> EnvironmentRecord:
        """Accept a new environment at generation 1.

        Args:
            environment_id: From `ids.new_environment_id`; the sealed secrets are bound to it.

            spec: What is wanted.

            arn: Its name in the outside world.

            tags: May be empty.

            secrets: Sealed texts by name.

            quota: Most living environments allowed.

            notes: What its work begins with, e.g. `RESTORE_FROM`.

        Raises:
            InvalidRequestError: The name is taken, or the quota is used up. Nothing was changed.
        """
        async with self._database.transaction() as connection:
            # Creates are rare: one at a time, so that quota and ordinal are decided without a race.
            await connection.execute("SELECT pg_advisory_xact_lock(%s)", (_CREATE_LOCK,))
            cursor = await connection.execute(
                "SELECT name, ordinal FROM environments WHERE deleted_at IS NULL"
            )
            living = await cursor.fetchall()
            if any(row["name"] == spec.name for row in living):
                raise InvalidRequestError(f"Environment with name {spec.name} already exists.")
            if len(living) >= quota:
                raise InvalidRequestError(
                    f"The maximum number of environments ({quota}) for this account and Region has been reached."
                )
            taken = {row["ordinal"] for row in living}
            ordinal = next(n for n in range(FIRST_ORDINAL, LAST_ORDINAL + 1) if n not in taken)
            now = datetime.now(UTC)
            cursor = await connection.execute(
                "INSERT INTO environments (id, ordinal, name, region, account, created_at, tags, spec, last_update,"
                " secrets, checkpoints) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) RETURNING *",
                (
                    environment_id,
                    ordinal,
                    spec.name,
                    arn.region,
                    arn.account,
                    now,
                    Jsonb(dict(tags)),
                    Jsonb(spec.to_json()),
                    Jsonb(from_last_update(LastUpdate(status="PENDING", created_at=now))),
                    Jsonb(dict(secrets)),
                    Jsonb(dict(notes or {})),
                ),
            )
            record = to_record(await _fetch_one(cursor))
            await self._note(
                connection,
                record,
                "create-requested",
                f"Create requested: Airflow {spec.airflow_version}, {spec.environment_class}.",
            )
        return record

    async def get(self, name: str) -> EnvironmentRecord:
        """Return an environment.

        Raises:
            EnvironmentNotFoundError: No living environment has this name.
        """
        row = await self._database.one(_LIVING + "name = %s", (name,))
        if row is None:
            raise EnvironmentNotFoundError(_not_found(name))
        return to_record(row)

    async def get_by_id(self, environment_id: str) -> EnvironmentRecord:
        """Return a living environment by its id, or raise EnvironmentNotFoundError."""
        row = await self._database.one(_LIVING + "id = %s", (environment_id,))
        if row is None:
            raise EnvironmentNotFoundError(_not_found(environment_id))
        return to_record(row)

    async def get_by_ordinal(self, ordinal: int) -> EnvironmentRecord:
        """Return the living environment at this ordinal, or raise EnvironmentNotFoundError."""
        row = await self._database.one(_LIVING + "ordinal = %s", (ordinal,))
        if row is None:
            raise EnvironmentNotFoundError(_not_found(f"number {ordinal}"))
        return to_record(row)

    async def list(self, *, after: str | None = None, limit: int = 25) -> list[EnvironmentRecord]:
        """Return environments in every status, ordered by name, those after `after` first."""
        rows = await self._database.all(
            _LIVING + '(%(after)s::text IS NULL OR name > %(after)s COLLATE "C")'
            ' ORDER BY name COLLATE "C" LIMIT %(limit)s',
            {"after": after, "limit": limit},
        )
        return [to_record(row) for row in rows]

    async def change(
        self,
        name: str,
        edit: Callable[[EnvironmentRecord], EnvironmentSpec],
        *,
        source: str | None = None,
        strategy: str | None = None,
        notes: Mapping[str, Any] | None = None,
    ) -> EnvironmentRecord:
        """Accept a change: a new spec as the next generation.

        Args:
            name: The environment.

            edit: Pure; given the row as locked, returns the spec that is now wanted. What it
                raises leaves everything as it was.

            source: `LastUpdate.Source`.

            strategy: `LastUpdate.WorkerReplacementStrategy`.

            notes: What its work begins with, e.g. `RESTORE_FROM`.

        Raises:
            EnvironmentNotFoundError: No living environment has this name.

            InvalidRequestError: Its status does not accept an update.
        """
        async with self._database.transaction() as connection:
            record = await self._lock(connection, name)
            _require(record, ACCEPTS_UPDATE, verb="updated")
            spec = edit(record)
            fields = changed_fields(record.spec, spec)
            if not set(fields) - {"runtime_id"}:
                # Nothing that was named changes: every component is replaced all the same (mwaa.md 1.6).
                spec = dataclasses.replace(spec, roll=record.generation + 1)
            update = LastUpdate(
                status="PENDING",
                created_at=datetime.now(UTC),
                source=source,
                worker_replacement_strategy=strategy,
            )
            cursor = await connection.execute(
                "UPDATE environments SET spec = %s, generation = generation + 1, last_update = %s,"
                " rolling_back = false,"
                " last_change_failed = false, checkpoints = %s, attempts = 0, last_error = NULL,"
                " next_attempt_at = now() WHERE id = %s RETURNING *",
                (
                    Jsonb(spec.to_json()),
                    Jsonb(from_last_update(update)),
                    Jsonb({**unfinished_notes(record), **(notes or {})}),
                    record.id,
                ),
            )
            changed = to_record(await _fetch_one(cursor))
            await self._note(
                connection,
                changed,
                "update-requested",
                f"Update requested: {', '.join(fields) or 'no field; components are replaced'}.",
                {"fields": fields, "generation": changed.generation},
            )
        return changed

    async def request_deletion(self, name: str) -> EnvironmentRecord:
        """Accept a deletion.

        Raises:
            EnvironmentNotFoundError: No living environment has this name.

            InvalidRequestError: Its status does not accept a deletion.
        """
        async with self._database.transaction() as connection:
            record = await self._lock(connection, name)
            _require(record, ACCEPTS_DELETE, verb="deleted")
            cursor = await connection.execute(
                "UPDATE environments SET deleting = true, attempts = 0, last_error = NULL, next_attempt_at = now(),"
                " checkpoints = jsonb_build_object('requested-at', now()) WHERE id = %s RETURNING *",
                (record.id,),
            )
            deleting = to_record(await _fetch_one(cursor))
            await self._note(connection, deleting, "delete-requested", "Delete requested.")
        return deleting

    async def set_tags(
        self,
        name: str,
        *,
        add: Mapping[str, str] | None = None,
        remove: Collection[str] = (),
        limit: int = 50,
    ) -> None:
        """Merge and remove tags; removal first. Changes no status.

        Raises:
            EnvironmentNotFoundError: No living environment has this name.

            InvalidRequestError: More than `limit` tags would result.
        """
        async with self._database.transaction() as connection:
            record = await self._lock(connection, name)
            tags = {key: value for key, value in record.tags.items() if key not in remove} | dict(add or {})
            if len(tags) > limit:
                raise InvalidRequestError(f"An environment can have at most {limit} tags.")
            await connection.execute(
                "UPDATE environments SET tags = %s WHERE id = %s", (Jsonb(tags), record.id)
            )

    async def _lock(self, connection: AsyncConnection[DictRow], name: str) -> EnvironmentRecord:
        cursor = await connection.execute((_LIVING + "name = %s FOR UPDATE").encode(), (name,))
        row = await cursor.fetchone()
        if row is None:
            raise EnvironmentNotFoundError(_not_found(name))
        return to_record(row)

    async def _note(
        self,
        connection: AsyncConnection[DictRow],
        record: EnvironmentRecord,
        kind: str,
        message: str,
        data: dict[str, Any] | None = None,
    ) -> None:
        await insert_event(connection, record.id, record.name, kind, message, data)
        await connection.execute("SELECT pg_notify(%s, %s)", (CHANNEL, record.id))


def unfinished_notes(record: EnvironmentRecord) -> dict[str, Any]:
    """Return the notes that a new generation takes over: a copy that was never put back.

    One that was put back is older than what was written since: it must not be put back again.
    """
    pending = UNDO in record.checkpoints and RESTORED not in record.checkpoints
    return {UNDO: record.checkpoints[UNDO]} if pending else {}


def changed_fields(old: EnvironmentSpec, new: EnvironmentSpec) -> list[str]:
    """Return the names of the fields that differ, in the order of the spec."""
    before, after = old.to_json(), new.to_json()
    return [field for field in after if before[field] != after[field] and field not in INTERNAL_FIELDS]


def _require(record: EnvironmentRecord, accepted: Collection[Status], *, verb: str) -> None:
    """Refuse with MWAA's own wording (mwaa.md 1.3)."""
    status = record.status
    if status in accepted:
        return
    if status is Status.CREATE_FAILED:
        raise InvalidRequestError(f"Environments with {status} status cannot be {verb}.")
    raise InvalidRequestError(
        f"Environments with {status} status must complete previous operation before initiating a new operation"
    )


def _not_found(name: str) -> str:
    return f"No environment found with the name {name}."


async def _fetch_one(cursor: Any) -> DictRow:
    row: DictRow | None = await cursor.fetchone()
    assert row is not None  # noqa: S101 - INSERT and UPDATE … RETURNING of a locked row return one
    return row
