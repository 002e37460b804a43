"""Accepts restores: a generation whose metadata database gets a snapshot's content."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from openmwaa.airflow.secrets import new_secrets
from openmwaa.environments.arns import EnvironmentArn
from openmwaa.environments.ids import new_environment_id
from openmwaa.environments.record import RESTORE_FROM, EnvironmentRecord
from openmwaa.environments.spec import EnvironmentSpec
from openmwaa.kit.keyring import Keyring
from openmwaa.settings import Settings
from openmwaa.snapshots.reader import SnapshotContents, SnapshotReader
from openmwaa.store import Store

SOURCE: Final = "openmwaa snapshot restore"


class GenerationRestorer:
    """Writes what is wanted; the reconciler's steps load the data."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        keyring: Keyring,
        runtime_of: Callable[[str], str],
        check_host: Callable[[EnvironmentRecord | None, EnvironmentSpec], Awaitable[None]],
    ) -> None:
        """Take the parts.

        Args:
            settings: Account, Region and quota.

            store: Environments.

            keyring: Seals the secrets of new environments.

            runtime_of: Id of the newest runtime of a version: the snapshot's own may be gone.

            check_host: `await check_host(record, spec)` raises InvalidRequestError where there is no
                room for a change of an environment, or without a record for a new one.
        """
        self._settings = settings
        self._store = store
        self._keyring = keyring
        self._runtime_of = runtime_of
        self._check_host = check_host

    async def check(self, record: EnvironmentRecord | None, spec: EnvironmentSpec) -> None:
        """Refuse what this host has no room for; see `desk.Restorer`."""
        await self._check_host(record, spec.with_runtime(self._runtime_of(spec.airflow_version)))

    async def restore_in_place(
        self, name: str, spec: EnvironmentSpec, contents: SnapshotContents
    ) -> EnvironmentRecord:
        """Accept a new generation with the snapshot's data; see `desk.Restorer`."""

        def put_back(current: EnvironmentRecord) -> EnvironmentSpec:
            wanted = spec.with_runtime(self._runtime_of(spec.airflow_version))
            return dataclasses.replace(wanted, worker_series=current.spec.worker_series)

        return await self._store.environments.change(
            name, put_back, source=SOURCE, strategy="FORCED", notes={RESTORE_FROM: contents.record.id}
        )

    async def restore_as_new(
        self, spec: EnvironmentSpec, tags: Mapping[str, str], contents: SnapshotContents
    ) -> EnvironmentRecord:
        """Accept a new environment with the snapshot's data; see `desk.Restorer`."""
        environment_id = new_environment_id()
        secrets = {
            name: self._keyring.seal(secret, context=f"environment/{environment_id}/{name}")
            for name, secret in new_secrets().items()
        }
        return await self._store.environments.create(
            environment_id,
            dataclasses.replace(spec, runtime_id=self._runtime_of(spec.airflow_version), worker_series=0),
            arn=EnvironmentArn(self._settings.region, self._settings.account_id, spec.name),
            tags=tags,
            secrets=secrets,
            quota=self._settings.max_environments,
            notes={RESTORE_FROM: contents.record.id},
        )


class SnapshotSource:
    """What the reconciler's steps read of snapshots."""

    def __init__(self, reader: SnapshotReader) -> None:
        self._reader = reader

    async def load(self, snapshot_id: str, record: EnvironmentRecord) -> Mapping[str, str]:
        """Make the environment's database equal to the snapshot's; return sealed secrets that go with it.

        An environment that gets its own data back has the right secrets already: sealing them anew
        would look like a change to every component.
        """
        secrets: Mapping[str, str] = {}
        if record.good_spec is None:
            secrets = await self._reader.load_secrets(snapshot_id, record.id)
        await self._reader.load_database(snapshot_id, record.id)
        return secrets

    async def version_of(self, snapshot_id: str) -> str:
        """Return the Airflow version that wrote it."""
        return (await self._reader.spec_of(snapshot_id)).airflow_version
