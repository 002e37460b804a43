"""Making a prefix of a bucket equal to a local folder: what to upload, what to delete, and doing it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from openmwaa.cli.errors import CommandFailed

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

_SKIPPED_FOLDERS: Final = frozenset(
    {
        "__pycache__",
        ".git",
        ".venv",
        ".mypy_cache",
        ".ruff_cache",
        ".pytest_cache",
        ".idea",
        ".vscode",
        "node_modules",
    }
)
_SKIPPED_SUFFIXES: Final = (".pyc", ".pyo", ".swp")
_SKIPPED_NAMES: Final = frozenset({".DS_Store"})


@dataclass(frozen=True)
class Remote:
    """An object as a listing shows it. `etag` is the MD5 of its content unless it was uploaded in parts."""

    etag: str
    bytes: int


@dataclass(frozen=True)
class SyncPlan:
    """Paths relative to folder and prefix, sorted."""

    added: tuple[str, ...]
    changed: tuple[str, ...]
    deleted: tuple[str, ...]
    unchanged: int

    @property
    def empty(self) -> bool:
        return not (self.added or self.changed or self.deleted)


def local_files(folder: Path) -> dict[str, Path]:
    """Return the files to upload by relative path, leaving out caches and version control.

    Raises:
        CommandFailed: There is no such folder.
    """
    if not folder.is_dir():
        raise CommandFailed(f"{folder} is not a folder.")
    return dict(sorted(_walk(folder)))


def _walk(folder: Path) -> Iterator[tuple[str, Path]]:
    for root, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name not in _SKIPPED_FOLDERS]
        for name in files:
            path = Path(root) / name
            if name not in _SKIPPED_NAMES and not name.endswith(_SKIPPED_SUFFIXES) and path.is_file():
                yield path.relative_to(folder).as_posix(), path


def remote_files(s3: S3Client, bucket: str, prefix: str) -> dict[str, Remote]:
    """Return the objects below a prefix by relative path."""
    found: dict[str, Remote] = {}
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for entry in page.get("Contents", ()):
            path = entry["Key"].removeprefix(prefix)
            if path and not path.endswith("/"):  # consoles make objects for folders
                found[path] = Remote(entry["ETag"].strip('"'), entry["Size"])
    return found


def plan_sync(local: Mapping[str, Path], remote: Mapping[str, Remote], *, delete: bool = True) -> SyncPlan:
    """Return what is to be done.

    Args:
        local: Wanted files by relative path.

        remote: Objects by relative path.

        delete: Whether objects without a file go.
    """
    changed = tuple(path for path in local if path in remote and not _same(local[path], remote[path]))
    added = tuple(path for path in local if path not in remote)
    gone = tuple(sorted(path for path in remote if path not in local)) if delete else ()
    return SyncPlan(added, changed, gone, len(local) - len(changed) - len(added))


def carry_out(s3: S3Client, bucket: str, prefix: str, local: Mapping[str, Path], plan: SyncPlan) -> None:
    """Upload what is new or changed, then delete what is gone. Safe to repeat after a failure."""
    for path in (*plan.added, *plan.changed):
        s3.put_object(Bucket=bucket, Key=prefix + path, Body=local[path].read_bytes())
    for path in plan.deleted:
        s3.delete_object(Bucket=bucket, Key=prefix + path)


def _same(path: Path, remote: Remote) -> bool:
    data = path.read_bytes()
    return len(data) == remote.bytes and hashlib.md5(data, usedforsecurity=False).hexdigest() == remote.etag
