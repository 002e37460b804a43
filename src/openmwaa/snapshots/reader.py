"""Giving snapshots back: verified contents for whoever restores, and the parts of it that are I/O."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import structlog

from openmwaa.artifacts import dag_archive
from openmwaa.artifacts.snapshot_bucket import Abandon, ObjectMissingError, ObjectStreams
from openmwaa.artifacts.snapshot_format import (
    DAGS,
    DATABASE,
    INPUTS,
    Part,
    SnapshotDamagedError,
    SnapshotManifest,
    read_part,
)
from openmwaa.environments.arns import bucket_of
from openmwaa.environments.errors import InvalidRequestError
from openmwaa.environments.snapshots import SnapshotNotFoundError, SnapshotRecord, SnapshotState
from openmwaa.environments.spec import EnvironmentSpec, S3File
from openmwaa.kit.errors import GiveUp
from openmwaa.kit.keyring import Keyring
from openmwaa.services.postgres_tools import PostgresTools
from openmwaa.snapshots.places import MANIFEST, bucket_name, in_thread, streaming
from openmwaa.store import Store

_log = structlog.get_logger()

_LARGEST_MANIFEST: Final = 64 * 1024 * 1024


@dataclass(frozen=True)
class SnapshotContents:
    """A snapshot as its manifest describes it.

    Attributes:
        record: The row.

        manifest: Opened, so neither altered nor of another snapshot.

        spec: What ran.
    """

    record: SnapshotRecord
    manifest: SnapshotManifest
    spec: EnvironmentSpec


class SnapshotReader:
    """Reads available snapshots. Every method may be repeated after a crash at any line.

    Each raises, besides what it says itself: SnapshotNotFoundError (no such snapshot),
    InvalidRequestError (it is not available), SnapshotDamagedError (names the part that is not what was
    written), Retry (a service is away). `load_secrets` and `load_database`, which steps of the reconciler call,
    raise GiveUp in place of the first two.
    """

    def __init__(
        self, *, store: Store, keyring: Keyring, streams: ObjectStreams, tools: PostgresTools
    ) -> None:
        self._store = store
        self._keyring = keyring
        self._streams = streams
        self._tools = tools

    async def contents(self, snapshot_id: str) -> SnapshotContents:
        """Return what the manifest says; the parts themselves are not read."""
        record = await self._store.snapshots.get(snapshot_id)
        if record.state is not SnapshotState.AVAILABLE or record.prefix is None:
            raise InvalidRequestError(f"Snapshot {snapshot_id} is {record.state}: it cannot be restored.")
        stored = await in_thread(self._manifest, record)
        manifest = SnapshotManifest.open(stored, snapshot_id, self._keyring)
        return SnapshotContents(record, manifest, EnvironmentSpec.from_json(manifest.spec))

    async def open(self, snapshot_id: str) -> SnapshotContents:
        """Return the contents after every part was read and found as it was written.

        Takes as long as reading all of it. Call it before anything is changed.
        """
        contents = await self.contents(snapshot_id)

        def work(abandon: Abandon) -> None:
            for part in contents.manifest.parts:
                for _ in abandon.watch(self._part(contents, part)):
                    pass

        await streaming(work)
        return contents

    async def spec_of(self, snapshot_id: str) -> EnvironmentSpec:
        """Return what ran when it was made."""
        return (await self.contents(snapshot_id)).spec

    async def load_secrets(self, snapshot_id: str, environment_id: str) -> dict[str, str]:
        """Return the secrets that the data needs, by name, sealed for the environment that gets the data.

        They take the place of the environment's own of the same name; its others stay.
        """
        manifest = (await self._for_a_step(snapshot_id)).manifest
        return {
            name: self._keyring.seal(secret, context=f"environment/{environment_id}/{name}")
            for name, secret in manifest.secrets.items()
        }

    async def load_database(self, snapshot_id: str, environment_id: str) -> Mapping[str, int]:
        """Put the snapshot's metadata database in the place of an environment's; return rows by table.

        The environment's role must exist (`AirflowDatabases.ensure`) and owns everything then. It is
        loaded beside the present database, compared with the manifest, and takes its place at
        the end; on any failure the present one stays as it is. Sessions of the present one are
        ended: stop the components before.

        Raises:
            GiveUp: The dump cannot be loaded, or has other rows than the manifest says.
        """
        contents = await self._for_a_step(snapshot_id)
        part = _required(contents, DATABASE)
        dumps = self._store.metadata_dumps
        draft = await dumps.make_draft(environment_id)
        try:
            url, role = dumps.url(draft), dumps.name(environment_id)
            await streaming(
                lambda abandon: self._tools.load(
                    url, role=role, content=abandon.watch(self._part(contents, part))
                )
            )
            rows = await dumps.count_rows(draft)
            _compare(contents, rows)
        except BaseException:
            await dumps.drop_draft(environment_id)
            raise
        await dumps.swap_in(environment_id)
        _log.info("snapshot_database_loaded", snapshot=snapshot_id, tables=len(rows), rows=sum(rows.values()))
        return rows

    async def upload_dags(self, snapshot_id: str, bucket: str, prefix: str, *, exact: bool) -> int:
        """Upload the snapshot's DAG files below a prefix; return how many.

        Args:
            snapshot_id: Which.

            bucket: A source bucket; its versioning keeps what is replaced.

            prefix: Of the DAG folder, with or without the last `/`.

            exact: Delete what else is below the prefix, after all was uploaded.
        """
        contents = await self.contents(snapshot_id)
        part = _required(contents, DAGS)
        folder = f"{prefix.strip('/')}/" if prefix.strip("/") else ""

        def work(abandon: Abandon) -> int:
            written = set()
            for path, content in dag_archive.unpack(abandon.watch(self._part(contents, part))):
                self._streams.write(bucket, folder + path, content)
                written.add(folder + path)
            for key in self._streams.keys(bucket, folder) if exact else ():
                if key not in written:
                    self._streams.delete(bucket, key)
            return len(written)

        return await streaming(work)

    async def with_readable_inputs(self, snapshot_id: str, bucket: str) -> EnvironmentSpec:
        """Return the snapshot's spec on a source bucket, with layer inputs that can be read there.

        Versions that the bucket still has stay as they are; others, and in another bucket all, are
        uploaded from the snapshot to the same path and pinned to what that gave.
        """
        contents = await self.contents(snapshot_id)
        same = bucket == bucket_of(contents.spec.source_bucket_arn)
        changes: dict[str, Any] = {}
        if not same:
            changes["source_bucket_arn"] = f"arn:aws:s3:::{bucket}"

        def work(abandon: Abandon) -> None:
            for name in INPUTS:
                pinned: S3File | None = getattr(contents.spec, name)
                part = contents.manifest.part(name)
                if pinned is None or (same and self._streams.has(bucket, pinned.path, pinned.version)):
                    continue
                if part is None:
                    raise SnapshotDamagedError(snapshot_id, name, "the manifest does not have it")
                pieces = abandon.watch(self._part(contents, part))
                version = self._streams.write_source(bucket, pinned.path, pieces)
                changes[name] = dataclasses.replace(pinned, version=version)

        await streaming(work)
        return dataclasses.replace(contents.spec, **changes)

    async def _for_a_step(self, snapshot_id: str) -> SnapshotContents:
        """Return the contents for a step of the reconciler, which knows no errors of requests."""
        try:
            return await self.contents(snapshot_id)
        except (SnapshotNotFoundError, InvalidRequestError) as error:
            raise GiveUp(str(error).rstrip("."), code="SNAPSHOT_GONE") from error

    def _manifest(self, record: SnapshotRecord) -> bytes:
        stored = bytearray()
        try:
            for piece in self._streams.read(bucket_name(record.account), f"{record.prefix}{MANIFEST}"):
                stored += piece
                if len(stored) > _LARGEST_MANIFEST:
                    raise SnapshotDamagedError(record.id, MANIFEST, "it is too large")
        except ObjectMissingError as error:
            raise SnapshotDamagedError(record.id, MANIFEST, "the object is gone") from error
        return bytes(stored)

    def _part(self, contents: SnapshotContents, part: Part) -> Iterator[bytes]:
        record = contents.record
        stored = self._streams.read(bucket_name(record.account), f"{record.prefix}{part.name}")
        try:
            yield from read_part(record.id, part, stored)
        except ObjectMissingError as error:
            raise SnapshotDamagedError(record.id, part.name, "the object is gone") from error


def _compare(contents: SnapshotContents, rows: Mapping[str, int]) -> None:
    expected = contents.manifest.rows
    if rows == expected:
        return
    table = next(one for one in sorted({*rows, *expected}) if rows.get(one) != expected.get(one))
    raise GiveUp(
        f"the restored database is not that of snapshot {contents.record.id}",
        code="SNAPSHOT_ROWS_DIFFER",
        component=DATABASE,
        evidence=f"{table} has {rows.get(table)} rows, the snapshot had {expected.get(table)}",
    )


def _required(contents: SnapshotContents, name: str) -> Part:
    part = contents.manifest.part(name)
    if part is None:
        raise SnapshotDamagedError(contents.record.id, name, "the manifest does not have it")
    return part
