"""One version of one object: what identifies it, and its content.

A version of an object never changes, so its digest is computed once. Requirements, plugins
and start-up script are pinned this way when a request is accepted; what is built from them
is then a function of the spec.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import ClientError
from botocore.response import StreamingBody

from openmwaa.environments.errors import InvalidRequestError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

MAX_REQUIREMENTS_BYTES: Final = 1024**2
MAX_STARTUP_SCRIPT_BYTES: Final = 1024**2
MAX_PLUGINS_BYTES: Final = 1024**3
"""MWAA recommends at most 1 GB for requirements and plugins together (mwaa.md 5.3)."""

MISSING: Final = frozenset({"404", "NoSuchBucket", "NoSuchKey", "NotFound", "NoSuchVersion"})
REFUSED: Final = frozenset(
    {"403", "AccessDenied", "Forbidden", "InvalidAccessKeyId", "SignatureDoesNotMatch"}
)

_CHUNK_BYTES: Final = 1024 * 1024
_CACHED_PINS: Final = 512
_UNVERSIONED: Final = "null"
"""Version id of an object that is older than the bucket's versioning: the only one that can change."""


class ObjectChangedError(Exception):
    """The object is not what was announced (a listing, a digest), or arrived damaged."""


@dataclass(frozen=True)
class PinnedObject:
    """What identifies the content of an object.

    Attributes:
        version: Id of its version; never empty.

        digest: SHA-256 of the content, as hexadecimal digits.

        size: In bytes.
    """

    version: str
    digest: str
    size: int


class PinCache:
    """Digests by version. Any number of threads may use it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pins: dict[tuple[str, str, str], PinnedObject] = {}

    def get(self, bucket: str, key: str, version: str) -> PinnedObject | None:
        """Return what is known of a version."""
        with self._lock:
            return self._pins.get((bucket, key, version))

    def put(self, bucket: str, key: str, pinned: PinnedObject) -> None:
        """Remember a version; the one that was remembered first makes room."""
        if pinned.version == _UNVERSIONED:
            return
        with self._lock:
            self._pins[bucket, key, pinned.version] = pinned
            if len(self._pins) > _CACHED_PINS:
                del self._pins[next(iter(self._pins))]


def pin_object(
    s3: S3Client, bucket: str, key: str, version: str | None, max_bytes: int, cache: PinCache
) -> PinnedObject:
    """Return what identifies a version of an object, or its newest one. Contract: `SourceBucket.pin`."""
    with open_object(s3, bucket, key, version, max_bytes) as (found, body):
        # The answer's head proves that the version can still be read; its body may be known already.
        known = cache.get(bucket, key, found)
        if known is None:
            digest, size = hashlib.sha256(), 0
            for chunk in iter(lambda: body.read(_CHUNK_BYTES), b""):
                digest.update(chunk)
                size += len(chunk)
            known = PinnedObject(found, digest.hexdigest(), size)
            cache.put(bucket, key, known)
    return known


def fetch_object(
    s3: S3Client, bucket: str, key: str, version: str, target: Path, digest: str | None
) -> PinnedObject:
    """Write a version of an object to a file. Contract: `SourceBucket.fetch`."""
    try:
        return _write(s3, bucket, key, version, target, digest)
    except BaseException:
        target.unlink(missing_ok=True)
        raise


def _write(
    s3: S3Client, bucket: str, key: str, version: str, target: Path, wanted: str | None
) -> PinnedObject:
    digest, size = hashlib.sha256(), 0
    with open_object(s3, bucket, key, version, None) as (found, body), target.open("wb") as file:
        for chunk in iter(lambda: body.read(_CHUNK_BYTES), b""):
            digest.update(chunk)
            size += len(chunk)
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
    if wanted is not None and digest.hexdigest() != wanted:
        raise ObjectChangedError(f"{bucket}/{key} version {version}")
    return PinnedObject(found, digest.hexdigest(), size)


@contextmanager
def open_object(
    s3: S3Client, bucket: str, key: str, version: str | None, max_bytes: int | None
) -> Iterator[tuple[str, StreamingBody]]:
    """Give the version id and the content of an object, whose length the body checks itself.

    Raises:
        InvalidRequestError: It cannot be read, or is larger than `max_bytes`.
    """
    wanted: dict[str, Any] = {"VersionId": version} if version else {}
    try:
        answer = s3.get_object(Bucket=bucket, Key=key, **wanted)
    except ClientError as error:
        # A malformed version id is a 400, the version of a deletion a 405.
        if code_of(error) in MISSING | REFUSED or status_of(error) in {400, 405}:
            named = f"version {version} of " if version else ""
            raise InvalidRequestError(f"Unable to access {named}{bucket}/{key}") from error
        raise
    with closing(answer["Body"]) as body:
        size = answer["ContentLength"]
        if max_bytes is not None and size > max_bytes:
            raise InvalidRequestError(
                f"{bucket}/{key} has {size:,} bytes; at most {max_bytes:,} bytes are accepted."
            )
        yield answer.get("VersionId") or version or _UNVERSIONED, body


def code_of(error: ClientError) -> str:
    """Return S3's code of an error, or its HTTP status where S3 gives no code."""
    return str(error.response.get("Error", {}).get("Code", ""))


def status_of(error: ClientError) -> int:
    """Return the HTTP status of an error."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
