"""Which files of the source bucket a request names: requirements, plugins, start-up script. Pure.

Each is pinned by its object version when the request is accepted: uploading again does
nothing until an update names the new version (mwaa.md 5.3). A path without a version means
the object as it is now, and an empty path clears the setting (mwaa.md 1.5, 1.6).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from openmwaa.environments.arns import bucket_of
from openmwaa.environments.errors import InvalidRequestError
from openmwaa.environments.spec import EnvironmentSpec, S3File

_MIB: Final = 1024**2


@dataclass(frozen=True)
class SourceFile:
    """One kind of file.

    Attributes:
        member: Start of its members' names in MWAA's API: `<member>S3Path`, `<member>S3ObjectVersion`.

        field: Its field in the spec.

        max_bytes: Larger ones are refused. MWAA: requirements and plugins up to 1 GB in all.
    """

    member: str
    field: str
    max_bytes: int

    @property
    def path_member(self) -> str:
        return f"{self.member}S3Path"

    @property
    def version_member(self) -> str:
        return f"{self.member}S3ObjectVersion"


SOURCE_FILES: Final = (
    SourceFile("Requirements", "requirements", _MIB),
    SourceFile("Plugins", "plugins", 1024 * _MIB),
    SourceFile("StartupScript", "startup_script", _MIB),
)


@dataclass(frozen=True)
class Pin:
    """An object to look up; `version` None: the newest."""

    bucket: str
    path: str
    version: str | None
    max_bytes: int


Pins = Mapping[str, S3File]
"""What was found, by field of the spec."""


def pins_wanted(request: Mapping[str, Any], spec: EnvironmentSpec | None = None) -> dict[str, Pin]:
    """Return which objects a request pins, by field of the spec; the others stay or are cleared.

    Args:
        request: Members of CreateEnvironment or UpdateEnvironment.

        spec: Of the environment that is updated; None for a new one.

    Raises:
        InvalidRequestError: A version without a path, or a path that leaves the bucket.
    """
    arn = request.get("SourceBucketArn") or (spec.source_bucket_arn if spec else None)
    bucket = bucket_of(arn) if arn else ""
    moved = spec is not None and bucket_of(spec.source_bucket_arn) != bucket
    found = {}
    for file in SOURCE_FILES:
        known: S3File | None = getattr(spec, file.field) if spec else None
        path = request.get(file.path_member)
        version = request.get(file.version_member) or None
        if path == "":
            if version:
                raise InvalidRequestError(_without_path(file))
            continue
        if path is None and known is None:
            if version:
                raise InvalidRequestError(_without_path(file))
            continue
        chosen = relative_path(file.path_member, path) if path is not None else known.path if known else ""
        same = known is not None and known.path == chosen and not moved
        if same and known is not None and (version is None or version == known.version):
            continue  # sent again by a client that sends everything (mwaa.md 13.3)
        found[file.field] = Pin(bucket, chosen, version, file.max_bytes)
    return found


def files_after(
    request: Mapping[str, Any], pins: Pins, spec: EnvironmentSpec | None = None
) -> dict[str, S3File | None]:
    """Return the three fields of the spec as a request wants them.

    Args:
        request: As for `pins_wanted`.

        pins: What `pins_wanted` asked for, found.

        spec: As for `pins_wanted`.
    """
    after: dict[str, S3File | None] = {}
    for file in SOURCE_FILES:
        if request.get(file.path_member) == "":
            after[file.field] = None
        else:
            after[file.field] = pins.get(file.field) or (getattr(spec, file.field) if spec else None)
    return after


def relative_path(member: str, path: str) -> str:
    """Return a path in the bucket as it was given.

    Raises:
        InvalidRequestError: It is absolute, leaves its folder, or holds control characters.
    """
    if path.startswith("/") or "://" in path:
        raise InvalidRequestError(f"{member} must be relative to the bucket, for example dags.")
    if ".." in path.split("/") or any(ord(char) < 0x20 or ord(char) == 0x7F for char in path):
        raise InvalidRequestError(f"{member} must not hold control characters or the folder name '..'.")
    return path


def _without_path(file: SourceFile) -> str:
    return f"{file.version_member} needs {file.path_member}."
