"""What callers may ask for: snapshots made, listed, kept, deleted, scheduled and restored.

Everything that takes long is only written down here; loops do it.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Collection, Mapping
from datetime import timedelta
from typing import Protocol

from openmwaa.airflow.option_check import check_options
from openmwaa.airflow.version_changes import allowed_change
from openmwaa.environments.arns import bucket_of, check_name
from openmwaa.environments.errors import InvalidRequestError
from openmwaa.environments.record import EnvironmentRecord
from openmwaa.environments.snapshots import SnapshotReason, SnapshotRecord, SnapshotSchedule, check_schedule
from openmwaa.environments.spec import EnvironmentSpec
from openmwaa.environments.status import ACCEPTS_UPDATE
from openmwaa.snapshots.reader import SnapshotContents, SnapshotReader
from openmwaa.store import Store


class Restorer(Protocol):
    """Accepts restores as generations of environments; the reconciler carries them out.

    The first checkpoint of such a generation is `{RESTORE_FROM: <snapshot id>}`, which also keeps the
    snapshot from being deleted. Its steps call `SnapshotReader.load_secrets` and `load_database`
    once nothing runs that uses the database.
    """

    async def check(self, record: EnvironmentRecord | None, spec: EnvironmentSpec) -> None:
        """Refuse what this host has no room for, before anything is uploaded.

        Raises:
            InvalidRequestError: Names what is needed and what is there.
        """
        ...

    async def restore_in_place(
        self, name: str, spec: EnvironmentSpec, contents: SnapshotContents
    ) -> EnvironmentRecord:
        """Accept a new generation of a living environment with this spec and the snapshot's data.

        Raises:
            InvalidRequestError: Its status does not accept an update, or the spec cannot run here.
        """
        ...

    async def restore_as_new(
        self, spec: EnvironmentSpec, tags: Mapping[str, str], contents: SnapshotContents
    ) -> EnvironmentRecord:
        """Accept a new environment with this spec and the snapshot's data and fernet key.

        Raises:
            InvalidRequestError: The name is taken, the quota is used up, or the spec cannot run here.
        """
        ...


class SnapshotDesk:
    """Answers callers. `create(...)`, `delete(...)` and schedules return as soon as they are durable."""

    def __init__(
        self,
        *,
        store: Store,
        reader: SnapshotReader,
        restorer: Restorer,
        versions: Collection[str],
    ) -> None:
        """Remember the parts.

        Args:
            store: Rows.

            reader: Verified contents.

            restorer: Accepts restores.

            versions: Airflow versions that a new environment may have.
        """
        self._store = store
        self._reader = reader
        self._restorer = restorer
        self._versions = versions

    async def create(
        self, name: str, *, reason: SnapshotReason = SnapshotReason.MANUAL, pinned: bool = False
    ) -> SnapshotRecord:
        """Ask for a snapshot of an environment.

        Raises:
            EnvironmentNotFoundError: No living environment has this name.

            InvalidRequestError: Its status does not allow one.
        """
        record = await self._store.environments.get(name)
        return await self._store.snapshots.request(record, reason, pinned=pinned)

    async def list(self, environment_name: str | None = None) -> list[SnapshotRecord]:
        """Return all snapshots, or those of environments that have or had a name; oldest first."""
        return await self._store.snapshots.list(environment_name=environment_name)

    async def get(self, snapshot_id: str) -> SnapshotRecord:
        """Return one, or raise SnapshotNotFoundError."""
        return await self._store.snapshots.get(snapshot_id)

    async def verify(self, snapshot_id: str) -> SnapshotContents:
        """Return the contents after every part was read and found undamaged; see `SnapshotReader.open`."""
        return await self._reader.open(snapshot_id)

    async def delete(self, snapshot_id: str) -> None:
        """Ask for a deletion, also of a pinned one. Safe to repeat.

        Raises:
            SnapshotNotFoundError: There is none, or no more.

            InvalidRequestError: An environment is being restored from it.
        """
        await self._store.snapshots.request_deletion(snapshot_id)

    async def pin(self, snapshot_id: str, *, pinned: bool) -> SnapshotRecord:
        """Keep one from retention, or no longer; raises SnapshotNotFoundError."""
        return await self._store.snapshots.set_pinned(snapshot_id, pinned=pinned)

    async def schedule(
        self, name: str, *, every: timedelta, keep: int | None, max_age: timedelta | None
    ) -> SnapshotSchedule:
        """Have snapshots made by themselves.

        Raises:
            EnvironmentNotFoundError: No living environment has this name.

            InvalidRequestError: A value is out of range.
        """
        check_schedule(every, keep, max_age)
        record = await self._store.environments.get(name)
        return await self._store.schedules.set(record, every=every, keep=keep, max_age=max_age)

    async def schedule_of(self, name: str) -> SnapshotSchedule | None:
        """Return an environment's schedule; raises EnvironmentNotFoundError."""
        return await self._store.schedules.get((await self._store.environments.get(name)).id)

    async def schedule_off(self, name: str) -> bool:
        """End an environment's schedule; return whether there was one."""
        return await self._store.schedules.remove(await self._store.environments.get(name))

    async def restore_in_place(self, snapshot_id: str, name: str, *, dags: bool) -> EnvironmentRecord:
        """Put an environment's data, spec and layer inputs back to a snapshot of it.

        What is wanted afterwards is the snapshot's spec; the inputs are pinned to the versions that
        the source bucket has of them, uploaded again if those are gone.

        Args:
            snapshot_id: Must be of this environment, under whatever name it had.

            name: The environment.

            dags: Put the DAG files back as well; other files below the prefix are deleted.

        Raises:
            InvalidRequestError: Not a snapshot of it, or its status does not allow a restore.

            SnapshotDamagedError: A part is not what was written. Nothing was changed.
        """
        record = await self._store.environments.get(name)
        # The restorer decides; here it is asked before files of the bucket are replaced.
        if record.status not in ACCEPTS_UPDATE:
            raise InvalidRequestError(f"{name} cannot be restored while its status is {record.status}.")
        contents = await self._reader.open(snapshot_id)
        if contents.record.environment_id != record.id:
            raise InvalidRequestError(
                f"Snapshot {snapshot_id} is not of this environment {name}: restore it as a new one."
            )
        await self._restorer.check(record, contents.spec)
        bucket = bucket_of(contents.spec.source_bucket_arn)
        spec = dataclasses.replace(
            await self._reader.with_readable_inputs(snapshot_id, bucket), name=record.name
        )
        restored = await self._restorer.restore_in_place(name, spec, contents)
        if dags:
            # Only once it is accepted: a refusal must not leave other DAGs behind.
            await self._reader.upload_dags(snapshot_id, bucket, spec.dag_s3_path, exact=True)
        return restored

    async def restore_as_new(
        self,
        snapshot_id: str,
        name: str,
        *,
        version: str | None = None,
        bucket: str | None = None,
        dags: bool = False,
    ) -> EnvironmentRecord:
        """Create an environment with a snapshot's data.

        Args:
            snapshot_id: Of any environment, living or gone.

            name: Of the new one.

            version: Airflow version, the snapshot's or a newer one; default: the snapshot's.

            bucket: Source bucket, default: the one the snapshot's environment had. Layer inputs
                are uploaded to it unless it still has their versions.

            dags: Upload the snapshot's DAG files below the prefix; what else is there stays.

        Raises:
            InvalidRequestError: The version is unknown or older, or the environment is refused.

            SnapshotDamagedError: A part is not what was written. Nothing was made.
        """
        contents, taken = await asyncio.gather(
            self._reader.open(snapshot_id), self._store.environments.list(limit=1000)
        )
        if any(one.name == name for one in taken):
            raise InvalidRequestError(f"Environment with name {name} already exists.")
        version = version or contents.spec.airflow_version
        check_name(name)
        self._check_version(version, contents.spec.airflow_version)
        check_options(
            contents.spec.airflow_configuration_options,
            version,
            more_packages=contents.spec.requirements is not None,
        )
        await self._restorer.check(None, dataclasses.replace(contents.spec, airflow_version=version))
        target = bucket or bucket_of(contents.spec.source_bucket_arn)
        spec = dataclasses.replace(
            await self._reader.with_readable_inputs(snapshot_id, target), name=name, airflow_version=version
        )
        if dags:
            await self._reader.upload_dags(snapshot_id, target, spec.dag_s3_path, exact=False)
        return await self._restorer.restore_as_new(spec, contents.manifest.tags, contents)

    def _check_version(self, wanted: str, had: str) -> None:
        if wanted != had and wanted not in self._versions:
            raise InvalidRequestError(
                f"Airflow {wanted} is not supported; supported: {', '.join(self._versions)}."
            )
        if refusal := allowed_change(had, wanted):
            raise InvalidRequestError(refusal)
        if _number(wanted) < _number(had):
            raise InvalidRequestError(
                f"The snapshot is of Airflow {had}: it cannot be restored with the older {wanted}."
            )


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))
