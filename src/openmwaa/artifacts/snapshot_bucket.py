"""Streams in and out of S3, of any length, with little memory. Everything here blocks: call it in a thread."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, cast

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from openmwaa.artifacts.snapshot_format import as_file
from openmwaa.artifacts.source_bucket import S3Access
from openmwaa.kit.errors import GiveUp, Retry

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_READ_BYTES: Final = 1024 * 1024
_UPLOAD: Final = TransferConfig(
    multipart_threshold=16 * 1024 * 1024,
    multipart_chunksize=16 * 1024 * 1024,  # 10,000 parts at most: 160 GB
    max_concurrency=2,  # each holds one piece in memory
    num_download_attempts=1,
)
_MISSING: Final = frozenset({"404", "NoSuchBucket", "NoSuchKey", "NotFound", "NoSuchUpload"})
_REFUSED: Final = frozenset(
    {"403", "AccessDenied", "Forbidden", "InvalidAccessKeyId", "SignatureDoesNotMatch"}
)


class ObjectMissingError(Exception):
    """The object is not there."""


class AbandonedError(Exception):
    """The caller does not want the rest of the stream any more."""


class Abandon:
    """Tells a thread that works on a stream to stop at the next piece."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def now(self) -> None:
        """Stop it."""
        self._event.set()

    def watch(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """Yield the pieces until it is stopped.

        Raises:
            AbandonedError: It was.
        """
        for piece in pieces:
            if self._event.is_set():
                raise AbandonedError
            yield piece


class ObjectStreams:
    """Objects of any bucket that the service's own key reaches. Any number of threads may use one."""

    def __init__(self, access: S3Access) -> None:
        self._access = access

    def ensure_bucket(self, bucket: str) -> None:
        """Make a bucket if it is missing, closed to the public where the server knows that.

        Raises:
            GiveUp: The service's key may not.

            Retry: The object store cannot answer now; true of every method here.
        """
        with _translated(bucket):
            try:
                self._s3.head_bucket(Bucket=bucket)
            except ClientError as error:
                if _code(error) not in _MISSING:
                    raise
            else:
                return
            try:
                region = self._access.region
                if region == "us-east-1":  # the only one that must not be named
                    self._s3.create_bucket(Bucket=bucket)
                else:
                    self._s3.create_bucket(
                        Bucket=bucket,
                        CreateBucketConfiguration={"LocationConstraint": cast("Any", region)},
                    )
            except ClientError as error:
                if _code(error) != "BucketAlreadyOwnedByYou":
                    raise
        self._close_to_the_public(bucket)

    def write(self, bucket: str, key: str, pieces: Iterable[bytes]) -> None:
        """Store a stream; nothing is there if it fails. What `pieces` raises is raised."""
        with _translated(bucket):
            self._s3.upload_fileobj(as_file(pieces), bucket, key, Config=_UPLOAD)

    def write_source(self, bucket: str, key: str, pieces: Iterable[bytes]) -> str:
        """Store a stream in a source bucket and return the version that it became; `null` without versioning."""
        self.write(bucket, key, pieces)
        with _translated(bucket):
            return self._s3.head_object(Bucket=bucket, Key=key).get("VersionId", "null")

    def read(self, bucket: str, key: str, *, version: str | None = None) -> Iterator[bytes]:
        """Yield an object piece by piece.

        Raises:
            ObjectMissingError: There is no such object or version.
        """
        with _translated(bucket):
            try:
                named = {"VersionId": version} if version else {}
                body = self._s3.get_object(Bucket=bucket, Key=key, **named)["Body"]  # type: ignore[arg-type]
            except ClientError as error:
                if _code(error) in _MISSING | {"NoSuchVersion"}:
                    raise ObjectMissingError(key) from error
                raise
            with body:
                yield from body.iter_chunks(_READ_BYTES)

    def has(self, bucket: str, key: str, version: str) -> bool:
        """Return whether a version of an object can still be read."""
        with _translated(bucket):
            try:
                self._s3.head_object(Bucket=bucket, Key=key, VersionId=version)
            except ClientError as error:
                if _code(error) in _MISSING | {"NoSuchVersion"} or _status(error) == 400:
                    return False
                raise
            return True

    def keys(self, bucket: str, prefix: str) -> list[str]:
        """Return the keys below a prefix; none if there is no such bucket."""
        with _translated(bucket):
            try:
                pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
                return [entry["Key"] for page in pages for entry in page.get("Contents", [])]
            except ClientError as error:
                if _code(error) in _MISSING:
                    return []
                raise

    def delete(self, bucket: str, key: str) -> None:
        """Delete an object. Does nothing if it is gone."""
        with _translated(bucket):
            self._s3.delete_object(Bucket=bucket, Key=key)

    def empty(self, bucket: str, prefix: str) -> None:
        """Delete everything below a prefix that ends with `/`, also uploads that were never finished."""
        with _translated(bucket):
            for key, upload in self._uploads(bucket, prefix):
                self._abort(bucket, key, upload)
            for key in self.keys(bucket, prefix):
                self._s3.delete_object(Bucket=bucket, Key=key)

    def _uploads(self, bucket: str, prefix: str) -> list[tuple[str, str]]:
        try:
            pages = self._s3.get_paginator("list_multipart_uploads").paginate(Bucket=bucket, Prefix=prefix)
            found = [upload for page in pages for upload in page.get("Uploads", [])]
        except ClientError as error:
            if _code(error) in _MISSING:
                return []
            raise
        return [(upload["Key"], upload["UploadId"]) for upload in found]

    def _abort(self, bucket: str, key: str, upload: str) -> None:
        try:
            self._s3.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload)
        except ClientError as error:
            if _code(error) not in _MISSING:
                raise

    def _close_to_the_public(self, bucket: str) -> None:
        with _translated(bucket):
            try:
                self._s3.put_public_access_block(
                    Bucket=bucket,
                    PublicAccessBlockConfiguration={
                        "BlockPublicAcls": True,
                        "IgnorePublicAcls": True,
                        "BlockPublicPolicy": True,
                        "RestrictPublicBuckets": True,
                    },
                )
            except ClientError as error:
                # A server without public access (source_bucket.py), or a key that may not change this.
                if _status(error) != 501 and _code(error) not in _REFUSED | {"MethodNotAllowed"}:
                    raise

    @cached_property
    def _s3(self) -> S3Client:
        client: S3Client = boto3.Session(
            aws_access_key_id=self._access.access_key_id,
            aws_secret_access_key=self._access.secret_access_key.reveal(),
            region_name=self._access.region,
        ).client(
            "s3",
            endpoint_url=self._access.url,
            config=Config(
                connect_timeout=3,
                read_timeout=60,
                retries={"total_max_attempts": 3, "mode": "standard"},
                max_pool_connections=16,
                s3={"addressing_style": "path"},
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )
        return client


@contextmanager
def _translated(bucket: str) -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        if _code(error) in _REFUSED:
            raise GiveUp(
                f"the service's S3 key may not use the bucket {bucket}",
                code="S3_ACCESS_DENIED",
                component="s3",
                evidence=f"{error.operation_name} was answered with {_code(error)}",
                fix="allow that key to create, list, read, write and delete there",
            ) from error
        raise Retry(f"S3 answered {_code(error)} to {error.operation_name}", after_s=2.0) from error
    except (BotoCoreError, boto3.exceptions.S3UploadFailedError) as error:
        raise Retry(f"S3 did not answer ({type(error).__name__})", after_s=2.0) from error


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
