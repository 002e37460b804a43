"""A local copy of a DAG folder in S3 that is always one whole listing.

Below the folder given:

    objects/<hash of key, ETag, size>   each object once, verified before it gets its name
    snapshots/<time>-<hash of listing>/ hard links into `objects`, complete before it gets its name
    snapshots/<…>.json                  the listing of that snapshot
    dags -> snapshots/<…>               swapped by a rename

Invariants: `dags` never shows a mixture of two listings or half a file. A file that did not
change keeps its inode and its modification time; a changed one has the time of the swap,
because Airflow compares that time with its last parse. A crash at any line loses at most
downloads that were not finished.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Final

import structlog

from openmwaa.artifacts.pinned_object import ObjectChangedError
from openmwaa.artifacts.source_bucket import SourceBucket, SourceObject
from openmwaa.kit.errors import Retry
from openmwaa.kit.files import write_atomically

_log = structlog.get_logger()

_KEEP_SNAPSHOTS: Final = 3
_DOWNLOADS_AT_ONCE: Final = 8
_ROUNDS: Final = 4
"""How often one sync lists again while uploads are going on, before it takes what it has."""

_MTIME_AHEAD_S: Final = 0.2
"""A changed file's time is set just before the swap; it must not be earlier than the swap. Not much later
either: until then Airflow parses the file again and again."""

_MAX_PART_BYTES: Final = 255
_MAX_PATH_BYTES: Final = 1024
_FILE_MODE: Final = 0o640
_FOLDER_MODE: Final = 0o750


@dataclass(frozen=True)
class MirrorState:
    """What the mirror shows.

    Attributes:
        snapshot: Name of the snapshot that `dags` points to; None before the first.

        synced_at: When a listing last succeeded and `dags` showed it.

        error: Why the last sync failed; the snapshot is then an older one.

        ignored: Keys that cannot be files, with the reason.
    """

    snapshot: str | None
    files: int
    synced_at: datetime | None
    error: str | None = None
    ignored: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Listing:
    files: Mapping[str, SourceObject]
    """Objects by path below the DAG folder."""

    ignored: tuple[str, ...]

    @property
    def digest(self) -> str:
        lines = [f"{path}\0{_object_name(entry)}" for path, entry in sorted(self.files.items())]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]


class DagMirror:
    """Mirrors one prefix into one folder. Only one process may own the folder at a time."""

    def __init__(
        self, source: SourceBucket, bucket: str, prefix: str, folder: Path, *, group: int | None = None
    ) -> None:
        """Remember what to mirror where. No I/O.

        Args:
            source: Reads S3.

            bucket: The source bucket.

            prefix: Ends with `/` or is empty; not part of the paths.

            folder: Belongs to the mirror; made if missing.

            group: Numeric group that may read the files; nobody but the owner may write them,
                because a changed file would change in every snapshot. None: keep our own group.
        """
        self._source = source
        self._bucket = bucket
        self._prefix = prefix
        self._folder = folder
        self._group = group
        self._objects = folder / "objects"
        self._snapshots = folder / "snapshots"
        self._link = folder / "dags"
        self._lock = asyncio.Lock()
        self._state: MirrorState | None = None

    @property
    def dags(self) -> Path:
        """The link that always points to the latest snapshot."""
        return self._link

    @property
    def state(self) -> MirrorState:
        """Return what the last sync found; before the first one, what is on disk."""
        if self._state is None:
            name = self._current()
            files = len(self._manifest(name)) if name else 0
            self._state = MirrorState(name, files, None)
        return self._state

    async def sync(self) -> MirrorState:
        """Bring the folder to the bucket's present listing. Never raises for what S3 or the disk do.

        One listing if nothing changed; otherwise only changed objects are downloaded.
        """
        async with self._lock:
            known = self.state
            try:
                self._state = await self._sync()
            except Retry as error:
                self._state = MirrorState(
                    known.snapshot, known.files, known.synced_at, error.reason, known.ignored
                )
            except OSError as error:
                reason = f"the mirror cannot be written: {error.strerror}"
                self._state = MirrorState(known.snapshot, known.files, known.synced_at, reason, known.ignored)
            return self._state

    async def _sync(self) -> MirrorState:
        await asyncio.to_thread(self._prepare)
        listing = await self._list()
        for round_number in range(1, _ROUNDS + 1):
            current = self._current()
            if current is not None and self._names(self._manifest(current)) == self._names(listing.files):
                return self._seen(current, listing)
            complete = await self._download(listing)
            again = await self._list()
            # Uploads come in groups: as long as the listing moves, take the newer one.
            if complete and (again.digest == listing.digest or round_number == _ROUNDS):
                name = await asyncio.to_thread(self._publish, listing)
                return self._seen(name, listing)
            listing = again
        raise Retry("objects changed faster than they could be read")

    def _seen(self, name: str, listing: _Listing) -> MirrorState:
        return MirrorState(name, len(listing.files), datetime.now(UTC), None, listing.ignored)

    async def _list(self) -> _Listing:
        return choose_files(await self._source.list(self._bucket, self._prefix), self._prefix)

    async def _download(self, listing: _Listing) -> bool:
        """Fetch what is missing; return False if an object is no longer as listed."""
        gate = asyncio.Semaphore(_DOWNLOADS_AT_ONCE)

        async def fetch(entry: SourceObject) -> None:
            target = self._objects / _object_name(entry)
            if target.exists():
                return
            draft = target.with_suffix(".draft")
            async with gate:
                await self._source.download(self._bucket, entry, draft)
            self._set_access(draft, _FILE_MODE)
            draft.rename(target)

        try:
            async with asyncio.TaskGroup() as group:
                for entry in listing.files.values():
                    group.create_task(fetch(entry))
        except ExceptionGroup as failures:
            serious = [one for one in failures.exceptions if not isinstance(one, ObjectChangedError)]
            if serious:
                raise serious[0] from failures
            return False
        return True

    def _publish(self, listing: _Listing) -> str:
        """Build the snapshot beside the others, name it, point `dags` to it, tidy up."""
        current = self._current()
        before = self._names(self._manifest(current)) if current else {}
        moment = datetime.now(UTC)
        name = f"{moment:%Y%m%dT%H%M%S.%f}-{listing.digest}"
        draft = self._snapshots / f".draft-{name}"
        draft.mkdir()
        self._set_access(draft, _FOLDER_MODE)
        changed = []
        for path, entry in listing.files.items():
            target = draft / path
            self._make_folders(draft, target.parent)
            stored = self._objects / _object_name(entry)
            if before.get(path) != stored.name:
                changed.append(stored)
            os.link(stored, target)
        manifest = {path: _to_json(entry) for path, entry in listing.files.items()}
        write_atomically(self._manifest_file(name), json.dumps(manifest))
        draft.rename(self._snapshots / name)
        swap_at = time.time() + _MTIME_AHEAD_S
        _touch(changed, swap_at)
        self._point_to(name)
        if time.time() > swap_at:  # the machine stood still in between
            _touch(changed, time.time())
        _log.info("dags-mirrored", snapshot=name, files=len(listing.files), changed=len(changed))
        self._tidy()
        return name

    def _point_to(self, name: str) -> None:
        draft = self._folder / ".dags.draft"
        draft.unlink(missing_ok=True)
        draft.symlink_to(Path("snapshots", name))
        draft.replace(self._link)

    def _prepare(self) -> None:
        """Make the folders and remove what a killed sync left."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for folder in (self._folder, self._snapshots):
            folder.mkdir(exist_ok=True)
            self._set_access(folder, _FOLDER_MODE)
        self._objects.mkdir(mode=0o700, exist_ok=True)
        for draft in self._snapshots.glob(".draft-*"):
            shutil.rmtree(draft)
        for draft in self._objects.glob("*.draft"):
            draft.unlink()

    def _tidy(self) -> None:
        """Keep the last snapshots; remove objects that none of them has."""
        names = sorted(path.name for path in self._snapshots.iterdir() if path.is_dir())
        # By name, not by place in the order: the clock may have been set back.
        kept = {*names[-_KEEP_SNAPSHOTS:], self._current()}
        for name in names:
            if name not in kept:
                shutil.rmtree(self._snapshots / name)
        for manifest in self._snapshots.glob("*.json"):
            if manifest.stem not in kept:
                manifest.unlink()
        for stored in self._objects.iterdir():
            if stored.stat().st_nlink == 1:
                stored.unlink()

    def _current(self) -> str | None:
        try:
            name = self._link.readlink().name
        except FileNotFoundError:
            return None
        return name if (self._snapshots / name).is_dir() else None

    def _manifest(self, name: str) -> dict[str, SourceObject]:
        try:
            entries = json.loads(self._manifest_file(name).read_text())
        except FileNotFoundError:
            return {}
        return {path: _from_json(entry) for path, entry in entries.items()}

    def _manifest_file(self, name: str) -> Path:
        return self._snapshots / f"{name}.json"

    def _names(self, files: Mapping[str, SourceObject]) -> dict[str, str]:
        return {path: _object_name(entry) for path, entry in files.items()}

    def _make_folders(self, top: Path, folder: Path) -> None:
        missing = []
        while folder != top and not folder.exists():
            missing.append(folder)
            folder = folder.parent
        for path in reversed(missing):
            path.mkdir()
            self._set_access(path, _FOLDER_MODE)

    def _set_access(self, path: Path, mode: int) -> None:
        if self._group is not None:
            os.chown(path, -1, self._group)
        path.chmod(mode)


def choose_files(objects: Sequence[SourceObject], prefix: str) -> _Listing:
    """Return which objects become which files. Pure.

    Markers of empty folders are skipped silently. Keys that no file can have are reported:
    unsafe or too long parts, and a file at a path that is also a folder.
    """
    files: dict[str, SourceObject] = {}
    ignored = []
    for entry in objects:
        path = entry.key.removeprefix(prefix)
        if not path or (path.endswith("/") and entry.size == 0):
            continue
        reason = _why_unsafe(path)
        if reason:
            ignored.append(f"{entry.key!r}: {reason}")
        else:
            files[path] = entry
    folders = {str(folder) for path in files for folder in PurePosixPath(path).parents}
    ignored += [f"{files.pop(path).key!r}: is also a folder" for path in sorted(folders & files.keys())]
    return _Listing(files, tuple(ignored))


def _why_unsafe(path: str) -> str | None:
    parts = path.split("/")
    if "\0" in path:
        return "contains NUL"
    if any(part in {"", ".", ".."} for part in parts):
        return "has an empty, '.' or '..' part"
    try:
        encoded = [len(part.encode()) for part in parts]
    except UnicodeEncodeError:
        return "is not valid UTF-8"
    if max(encoded) > _MAX_PART_BYTES or sum(encoded) + len(parts) > _MAX_PATH_BYTES:
        return "is too long"
    return None


def _object_name(entry: SourceObject) -> str:
    # With the key: two equal files are two inodes, so one can change its time without the other.
    return hashlib.sha256(f"{entry.key}\0{entry.etag}\0{entry.size}".encode()).hexdigest()[:40]


def _touch(paths: Sequence[Path], moment: float) -> None:
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            os.utime(path, (moment, moment))


def _to_json(entry: SourceObject) -> list[str | int]:
    return [entry.key, entry.etag, entry.size, entry.modified_at.isoformat()]


def _from_json(values: list[str | int]) -> SourceObject:
    key, etag, size, modified_at = values
    return SourceObject(str(key), str(etag), int(size), datetime.fromisoformat(str(modified_at)))
