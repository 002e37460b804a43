"""requirements.txt, plugins.zip and start-up script of an environment, from files of the user's machine."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from openmwaa.cli.waiting import Progress
from openmwaa.environments.source_files import SOURCE_FILES, SourceFile

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

_NONE: Final = "none"
_KEYS: Final = {
    "requirements": "requirements.txt",
    "plugins": "plugins.zip",
    "startup_script": "startup.sh",
}
"""Where a file is uploaded that has no place yet."""

Files = Mapping[SourceFile, Path | None]
"""What was chosen; None: the setting is cleared."""


def chosen_files(options: dict[str, Any]) -> dict[SourceFile, Path | None]:
    """Take the files out of a command's options.

    Raises:
        click.UsageError: There is no such file.
    """
    files: dict[SourceFile, Path | None] = {}
    for file in SOURCE_FILES:
        text = options.pop(file.field, None)
        if text is None:
            continue
        path = None if text == _NONE else Path(text)
        if path is not None and not path.is_file():
            flag = file.field.replace("_", "-")
            raise click.UsageError(f"--{flag}: there is no file {text}. To clear the setting: --{flag} none")
        files[file] = path
    return files


def clear_members(files: Files) -> dict[str, str]:
    """Return the members of UpdateEnvironment that clear settings."""
    return {file.path_member: "" for file, path in files.items() if path is None}


def read_files(files: Files) -> dict[str, dict[str, str]]:
    """Return the contents as the operator's `plan` takes them: without uploading anything."""
    return {
        file.field: {"path": _KEYS[file.field], "content": base64.b64encode(path.read_bytes()).decode()}
        for file, path in files.items()
        if path is not None
    }


def upload(
    s3: S3Client, bucket: str, files: Files, spec: Mapping[str, Any], progress: Progress
) -> dict[str, str]:
    """Upload what was chosen and return the members that name path and version.

    Args:
        s3: Client of the object store.

        bucket: The environment's source bucket.

        files: What was chosen.

        spec: What is wanted now: a file that has a place keeps it. Empty for a new environment.

        progress: Told about each file.
    """
    members: dict[str, str] = {}
    for file, path in files.items():
        if path is None:
            continue
        key = (spec.get(file.field) or {}).get("path") or _KEYS[file.field]
        version = s3.put_object(Bucket=bucket, Key=key, Body=path.read_bytes())["VersionId"]
        progress.line(f"{path} is at s3://{bucket}/{key}, version {version}.")
        members |= {file.path_member: key, file.version_member: version}
    return members
