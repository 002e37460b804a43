"""What is looked at before a request is accepted: the source bucket, this host, the database server.

Only what can never work is refused, within seconds and before anything is built.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from openmwaa.airflow.options import WEB_PORT
from openmwaa.artifacts.source_bucket import SourceBucket
from openmwaa.environments.layer import layer_of
from openmwaa.environments.manifest import Kind
from openmwaa.environments.preflight import added_replicas, wanted_replicas
from openmwaa.environments.record import EnvironmentRecord
from openmwaa.environments.spec import EnvironmentSpec, S3File
from openmwaa.reconcile.parts import Parts
from openmwaa.services.host_check import HostNeed, check_host, refuse
from openmwaa.settings import Settings
from openmwaa.store.database_server import DatabaseServer

_UNPACKED: Final = 4
"""A layer takes a few times the size of its files."""


class Preflight:
    """Implements the API's `Preflight` on one host."""

    def __init__(
        self, settings: Settings, parts: Parts, source: SourceBucket, database: DatabaseServer
    ) -> None:
        self._settings = settings
        self._parts = parts
        self._source = source
        self._database = database

    async def check(self, bucket: str, prefix: str) -> None:
        """Refuse a bucket that MWAA would refuse; see `SourceBucket.check`."""
        await self._source.check(bucket, prefix)

    async def pin(self, bucket: str, path: str, version: str | None, *, max_bytes: int) -> S3File:
        """Look an object up; see `SourceBucket.pin`."""
        pinned = await self._source.pin(bucket, path, version, max_bytes=max_bytes)
        return S3File(path, pinned.version, pinned.digest, pinned.size)

    async def host(self, record: EnvironmentRecord | None, wanted: EnvironmentSpec) -> None:
        """Refuse what this host has no room for.

        Args:
            record: The environment; None for a new one.

            wanted: What is wanted of it.

        Raises:
            InvalidRequestError: Names what is needed and what is there.

            Retry: The database server does not answer.
        """
        before = record.spec if record else None
        moves = before is not None and before.airflow_version != wanted.airflow_version
        web = wanted_replicas(wanted)[Kind.WEBSERVER]
        running = wanted_replicas(before)[Kind.WEBSERVER] if before else 0
        files = (wanted.requirements, wanted.plugins)
        new_layer = layer_of(wanted) and (before is None or layer_of(before) != layer_of(wanted))
        need = HostNeed(
            installs_runtime=not self._parts.runtimes.has(self._parts.runtime_id(wanted)),
            layer_bytes=_UNPACKED * sum(file.size for file in files if file) if new_layer else 0,
            database_bytes=await self._database.size_bytes(record.id) if record and moves else 0,
            replicas=added_replicas(before, wanted),
            ports=_ports(range(running, web)),
            new_database=record is None,
            ordinal=record.ordinal if record else None,
        )
        refuse(await check_host(self._settings, need, self._database))


def _ports(indexes: Collection[int]) -> tuple[int, ...]:
    return tuple(WEB_PORT + index for index in indexes)
