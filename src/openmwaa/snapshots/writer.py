"""Making one snapshot: every part as a stream into the bucket, then the manifest."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import structlog

from openmwaa.airflow.secrets import FERNET_KEY
from openmwaa.artifacts import dag_archive
from openmwaa.artifacts.snapshot_bucket import Abandon, ObjectMissingError, ObjectStreams
from openmwaa.artifacts.snapshot_format import DAGS, DATABASE, INPUTS, Part, PartWriter, SnapshotManifest
from openmwaa.environments.arns import bucket_of
from openmwaa.environments.errors import EnvironmentNotFoundError
from openmwaa.environments.record import EnvironmentRecord
from openmwaa.environments.snapshots import ACCEPTS_SNAPSHOT, SnapshotRecord
from openmwaa.environments.spec import EnvironmentSpec, S3File
from openmwaa.kit.errors import GiveUp, Retry
from openmwaa.kit.keyring import Keyring
from openmwaa.services.postgres_tools import PostgresTools
from openmwaa.snapshots.places import MANIFEST, bucket_name, in_thread, prefix_of, streaming
from openmwaa.store import Store

_log = structlog.get_logger()

DATA_SECRETS: Final = (FERNET_KEY,)
"""Without it connections and variables in the database cannot be read. The others sign sessions and
tokens, which are not data: an environment restored under another name has its own, so that a
token of one is worth nothing in the other."""

_BUSY_AGAIN_S: Final = 10.0


@dataclass(frozen=True)
class Written:
    """What the row says of a snapshot that is complete."""

    prefix: str
    parts: tuple[dict[str, Any], ...]
    size_bytes: int


class SnapshotWriter:
    """Writes snapshots of environments of this host."""

    def __init__(
        self,
        *,
        store: Store,
        keyring: Keyring,
        streams: ObjectStreams,
        tools: PostgresTools,
        dag_folder: Callable[[EnvironmentRecord], Path | None],
        runtime_id: Callable[[EnvironmentSpec], str],
    ) -> None:
        """Remember the parts. No I/O.

        Args:
            store: Knows environments and their databases.

            keyring: Opens the environment's secrets, seals the manifest.

            streams: Reaches the source buckets and the service's own.

            tools: `pg_dump`.

            dag_folder: The folder that the environment's DAGs are read from now, links resolved;
                None if it is not on this host.

            runtime_id: Id of the runtime that a spec runs on.
        """
        self._store = store
        self._keyring = keyring
        self._streams = streams
        self._tools = tools
        self._dag_folder = dag_folder
        self._runtime_id = runtime_id

    async def write(self, snapshot: SnapshotRecord, attempt: int, progress: Callable[[int], None]) -> Written:
        """Store all of a snapshot. The caller says in the row that it is there.

        Args:
            snapshot: The row.

            attempt: Number of this attempt, never used before for this snapshot.

            progress: Called with the bytes stored so far, from other threads too.

        Raises:
            Retry: Not now: the environment is being changed, or a service is away.

            GiveUp: It cannot be made.
        """
        record = await self._at_rest(snapshot)
        spec = record.good_spec
        assert spec is not None  # noqa: S101 - `_at_rest` demands it
        bucket, prefix = bucket_name(snapshot.account), prefix_of(snapshot.id, attempt)
        await in_thread(self._streams.ensure_bucket, bucket)
        # What killed attempts left; only earlier ones, for this one may itself be late without knowing.
        for earlier in range(1, attempt):
            await in_thread(self._streams.empty, bucket, prefix_of(snapshot.id, earlier))
        parts: list[Part] = []

        async def store(name: str, content: Iterator[bytes]) -> None:
            before = sum(part.stored_bytes for part in parts)

            def work(abandon: Abandon) -> Part:
                writer = PartWriter(snapshot.id, name, abandon.watch(content))
                with _ending(content, abandon):
                    pieces = _reported(writer, lambda: progress(before + writer.stored_bytes))
                    self._streams.write(bucket, prefix + name, pieces)
                return writer.part

            parts.append(await streaming(work))

        async with self._store.metadata_dumps.export(record.id) as moment:
            url = self._store.metadata_dumps.url(self._store.metadata_dumps.name(record.id))
            await store(DATABASE, self._tools.dump(url, snapshot=moment.id))
        await store(DAGS, dag_archive.pack(self._dags_of(record)))
        for name in INPUTS:
            pinned: S3File | None = getattr(spec, name)
            if pinned is not None:
                await store(name, self._source(spec, pinned))
        again = await self._at_rest(snapshot)
        if again.observed_generation != record.observed_generation:
            raise Retry("the environment was changed while the snapshot was made")
        manifest = SnapshotManifest(
            snapshot_id=snapshot.id,
            environment_id=record.id,
            environment_name=record.name,
            region=snapshot.region,
            account=snapshot.account,
            created_at=snapshot.created_at,
            reason=snapshot.reason,
            airflow_version=spec.airflow_version,
            runtime_id=self._runtime_id(spec),
            spec=spec.to_json(),
            tags=record.tags,
            rows=moment.rows,
            secrets={
                name: self._keyring.open(record.secrets[name], context=record.secret_context(name))
                for name in DATA_SECRETS
                if name in record.secrets
            },
            parts=tuple(parts),
        )
        sealed = manifest.seal(self._keyring)
        await in_thread(self._streams.write, bucket, prefix + MANIFEST, [sealed])
        return Written(
            prefix,
            tuple(
                {"name": part.name, "size_bytes": part.size_bytes, "sha256": part.sha256} for part in parts
            ),
            sum(part.stored_bytes for part in parts) + len(sealed),
        )

    async def remove(self, snapshot: SnapshotRecord, attempt: int | None = None) -> None:
        """Delete the objects of a snapshot, or of one attempt. Does nothing if there are none."""
        bucket = bucket_name(snapshot.account)
        await in_thread(self._streams.empty, bucket, prefix_of(snapshot.id, attempt))

    async def _at_rest(self, snapshot: SnapshotRecord) -> EnvironmentRecord:
        try:
            record = await self._store.environments.get_by_id(snapshot.environment_id)
        except EnvironmentNotFoundError as error:
            raise GiveUp(
                f"the environment {snapshot.environment_name} was deleted", code="ENVIRONMENT_GONE"
            ) from error
        if record.deleting:
            raise GiveUp(f"the environment {record.name} is being deleted", code="ENVIRONMENT_GONE")
        if record.status not in ACCEPTS_SNAPSHOT or record.good_spec is None:
            raise Retry(f"the environment is {record.status}", after_s=_BUSY_AGAIN_S)
        return record

    def _dags_of(self, record: EnvironmentRecord) -> Path:
        # Asked for only now: dumping may have taken long, and old folders are removed.
        folder = self._dag_folder(record)
        if folder is None:
            raise GiveUp(
                "the DAG folder of the environment is not on this host",
                code="DAGS_MISSING",
                component=DAGS,
                fix=f"see `openmwaa env show {record.name}`",
            )
        return folder

    def _source(self, spec: EnvironmentSpec, pinned: S3File) -> Iterator[bytes]:
        bucket = bucket_of(spec.source_bucket_arn)
        try:
            yield from self._streams.read(bucket, pinned.path, version=pinned.version)
        except ObjectMissingError as error:
            raise GiveUp(
                f"version {pinned.version} of s3://{bucket}/{pinned.path} is gone",
                code="SOURCE_MISSING",
                component=pinned.path,
                fix="update the environment to a version that exists",
            ) from error


def _reported(pieces: Iterable[bytes], report: Callable[[], None]) -> Iterator[bytes]:
    for piece in pieces:
        yield piece
        report()


@contextmanager
def _ending(content: Iterator[bytes], abandon: Abandon) -> Iterator[None]:
    """End a stream that was not read to its end, also while another thread still reads a piece of it."""
    try:
        yield
    finally:
        abandon.now()
        if isinstance(content, Generator):
            with suppress(ValueError):  # being read: it ends itself at the next piece
                content.close()
