"""Reads of the bucket that holds a user's DAGs: plain S3, on any server that speaks it."""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

import boto3
import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.utils import parse_timestamp

from openmwaa.artifacts.pinned_object import (
    MISSING,
    REFUSED,
    ObjectChangedError,
    PinCache,
    PinnedObject,
    code_of,
    fetch_object,
    open_object,
    pin_object,
    status_of,
)
from openmwaa.environments.errors import InvalidRequestError
from openmwaa.kit.errors import Retry
from openmwaa.kit.secret import Secret

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import GetObjectOutputTypeDef

P = ParamSpec("P")
R = TypeVar("R")

_CHUNK_BYTES: Final = 1024 * 1024
_MD5_DIGITS: Final = 32
_NO_BLOCK: Final = "NoSuchPublicAccessBlockConfiguration"


@dataclass(frozen=True)
class S3Access:
    """Where S3 is and the key to read with."""

    url: str
    access_key_id: str
    secret_access_key: Secret
    region: str


@dataclass(frozen=True)
class SourceObject:
    """One object as listed.

    Attributes:
        etag: Without quotes; changes with the content.
    """

    key: str
    etag: str
    size: int
    modified_at: datetime


class SourceBucket:
    """Lists and reads buckets. Any number of tasks may use one instance."""

    def __init__(self, access: S3Access) -> None:
        self._access = access
        self._pins = PinCache()

    async def check(self, bucket: str, prefix: str) -> None:
        """Refuse a bucket that MWAA would refuse at once.

        An object store without public access blocks (it answers 501) has no public access either.

        Args:
            bucket: Name of the bucket.

            prefix: DAG folder as the user wrote it.

        Raises:
            InvalidRequestError: No such bucket, no versioning, public access not blocked, or
                the DAG folder cannot be listed.

            Retry: The object store cannot answer now.

        Source: mwaa.md 1.3 and 5.1; the wording for a missing bucket and for versioning is ours.
        """
        await self._in_thread(self._check, bucket, prefix)

    async def pin(self, bucket: str, key: str, version: str | None, *, max_bytes: int) -> PinnedObject:
        """Read an object once and return what identifies it for ever.

        A second call for the same version costs nothing: versions do not change. A caller that stops
        waiting loses nothing either: the read goes on and the next call finds its result.

        Args:
            bucket: Name of the bucket.

            key: Key of the object.

            version: Its version; None or empty for the newest.

            max_bytes: Largest size that is accepted.

        Raises:
            InvalidRequestError: It cannot be read, with MWAA's wording (mwaa.md 1.3), or is too large.

            Retry: The object store cannot answer now.
        """
        return await self._in_thread(pin_object, self._s3, bucket, key, version, max_bytes, self._pins)

    async def read(self, bucket: str, key: str, version: str | None, *, max_bytes: int) -> bytes:
        """Return the content of a small object, e.g. a requirements file.

        Raises:
            InvalidRequestError: As `pin`.

            Retry: The object store cannot answer now.
        """
        return await self._in_thread(self._read, bucket, key, version, max_bytes)

    async def fetch(
        self, bucket: str, key: str, version: str, target: Path, *, digest: str | None = None
    ) -> PinnedObject:
        """Write one version of an object to `target`, flushed to disk; return what was written.

        On any error there is no file.

        Args:
            bucket: Name of the bucket.

            key: Key of the object.

            version: As `pin` returned it.

            target: File to write; its folder exists.

            digest: SHA-256 that the content must have; None: not checked.

        Raises:
            InvalidRequestError: The version is gone or cannot be read (mwaa.md 1.3).

            ObjectChangedError: The content is not that of the digest, or arrived damaged.

            Retry: The object store cannot answer now.
        """
        return await self._in_thread(fetch_object, self._s3, bucket, key, version, target, digest)

    async def list(self, bucket: str, prefix: str) -> list[SourceObject]:
        """Return all objects below a prefix, in key order, page after page.

        Raises:
            Retry: The object store cannot answer now, or refuses.
        """
        return await self._in_thread(self._list, bucket, prefix)

    async def download(self, bucket: str, entry: SourceObject, target: Path) -> None:
        """Write the object as it was listed to `target`, flushed to disk.

        Raises:
            ObjectChangedError: It is another object by now, is gone, or arrived damaged.

            Retry: The object store cannot answer now, or refuses.
        """
        await self._in_thread(self._download, bucket, entry, target)

    @cached_property
    def _s3(self) -> S3Client:
        session = botocore.session.get_session()
        session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=_to_time)
        client: S3Client = boto3.Session(
            botocore_session=session,
            aws_access_key_id=self._access.access_key_id,
            aws_secret_access_key=self._access.secret_access_key.reveal(),
            region_name=self._access.region,
        ).client(
            "s3",
            endpoint_url=self._access.url,
            config=Config(
                connect_timeout=3,
                read_timeout=30,
                retries={"total_max_attempts": 3, "mode": "standard"},
                max_pool_connections=16,
                s3={"addressing_style": "path"},
                # Not every server of this protocol knows the newer checksums.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )
        return client

    def _check(self, bucket: str, prefix: str) -> None:
        unreadable = InvalidRequestError(
            "Invalid request provided: Provided role does not have sufficient permissions for s3 location "
            f"{bucket}/{prefix}"
        )
        try:
            self._s3.head_bucket(Bucket=bucket)
            versioning = self._s3.get_bucket_versioning(Bucket=bucket).get("Status")
            if versioning != "Enabled":
                raise InvalidRequestError(
                    f"Invalid request provided: Provided bucket does not have versioning enabled for s3 bucket {bucket}"
                )
            if not self._blocks_public_access(bucket):
                raise InvalidRequestError(
                    f"Invalid request provided: Provided bucket does not have BlockPublicAccess set for s3 bucket {bucket}"
                )
            self._s3.list_objects_v2(Bucket=bucket, Prefix=prefix, MaxKeys=1)
        except ClientError as error:
            if code_of(error) in MISSING:
                raise InvalidRequestError(
                    f"Invalid request provided: The s3 bucket {bucket} does not exist"
                ) from error
            if code_of(error) in REFUSED:
                raise unreadable from error
            raise

    def _blocks_public_access(self, bucket: str) -> bool:
        try:
            block = self._s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"]
        except ClientError as error:
            if status_of(error) == 501 or code_of(error) in {"NotImplemented", "MethodNotAllowed"}:
                return True
            if code_of(error) == _NO_BLOCK:
                return False
            raise
        return all(
            (
                block.get("BlockPublicAcls"),
                block.get("IgnorePublicAcls"),
                block.get("BlockPublicPolicy"),
                block.get("RestrictPublicBuckets"),
            )
        )

    def _read(self, bucket: str, key: str, version: str | None, max_bytes: int) -> bytes:
        with open_object(self._s3, bucket, key, version, max_bytes) as (_, body):
            return body.read()

    def _list(self, bucket: str, prefix: str) -> builtins.list[SourceObject]:
        pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        return [
            SourceObject(entry["Key"], entry["ETag"].strip('"'), entry["Size"], entry["LastModified"])
            for page in pages
            for entry in page.get("Contents", [])
        ]

    def _download(self, bucket: str, entry: SourceObject, target: Path) -> None:
        try:
            answer = self._s3.get_object(Bucket=bucket, Key=entry.key, IfMatch=f'"{entry.etag}"')
        except ClientError as error:
            if code_of(error) in MISSING or status_of(error) == 412:
                raise ObjectChangedError(entry.key) from error
            raise
        digest, size = hashlib.md5(usedforsecurity=False), 0
        with target.open("wb") as file, answer["Body"] as body:
            for chunk in iter(lambda: body.read(_CHUNK_BYTES), b""):
                digest.update(chunk)
                size += len(chunk)
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        if size != entry.size or (_etag_is_md5(entry, answer) and digest.hexdigest() != entry.etag):
            raise ObjectChangedError(entry.key)

    async def _in_thread(self, function: Callable[P, R], *arguments: P.args, **keywords: P.kwargs) -> R:
        try:
            return await asyncio.to_thread(function, *arguments, **keywords)
        except ClientError as error:
            raise Retry(f"S3 answered {code_of(error)} to {error.operation_name}", after_s=2.0) from error
        except BotoCoreError as error:
            raise Retry(f"S3 at {self._access.url} did not answer ({type(error).__name__})") from error


def _to_time(value: Any) -> datetime:
    """Read a time of an answer. What botocore does for each is half the cost of a listing of 1,000 objects."""
    with contextlib.suppress(TypeError, ValueError):
        if (moment := datetime.fromisoformat(value)).tzinfo is not None:
            return moment
    return parse_timestamp(value)


def _etag_is_md5(entry: SourceObject, answer: GetObjectOutputTypeDef) -> bool:
    """Multipart uploads and some encryptions have other ETags (S3 API reference, "Object")."""
    encrypted = answer.get("ServerSideEncryption", "AES256") != "AES256" or "SSECustomerAlgorithm" in answer
    return len(entry.etag) == _MD5_DIGITS and not encrypted
