"""Pinning and fetching versions of objects in the embedded object store."""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import pytest_asyncio

from openmwaa.artifacts.pinned_object import ObjectChangedError, PinnedObject
from openmwaa.artifacts.source_bucket import S3Access, SourceBucket
from openmwaa.environments.errors import InvalidRequestError
from openmwaa.kit.errors import Retry
from openmwaa.kit.secret import Secret
from openmwaa.services.endpoints import ServiceEndpoints, load_endpoints
from tests.support.embedded import running_services
from tests.support.ports import free_port
from tests.support.service import a_home

PORT_BASE = 34750
KEY = "requirements.txt"
MIB = 1024**2


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def endpoints() -> AsyncIterator[ServiceEndpoints]:
    with a_home() as home:
        async with running_services(home, PORT_BASE, ["seaweedfs"]) as (settings, _, _):
            yield load_endpoints(settings)


@pytest.fixture
def s3(endpoints: ServiceEndpoints) -> Any:
    secret = endpoints.s3_secret_access_key.reveal()
    session = boto3.Session(endpoints.s3_access_key_id, secret, region_name=endpoints.region)
    return session.client("s3", endpoint_url=endpoints.s3_url)


@pytest.fixture
def bucket(s3: Any) -> str:
    name = f"airflow-{uuid.uuid4().hex[:8]}"
    s3.create_bucket(Bucket=name)
    s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    return name


@pytest.fixture
def source(endpoints: ServiceEndpoints) -> SourceBucket:
    return SourceBucket(access(endpoints))


def access(endpoints: ServiceEndpoints, url: str = "", secret: Secret | None = None) -> S3Access:
    return S3Access(
        url or endpoints.s3_url,
        endpoints.s3_access_key_id,
        secret or endpoints.s3_secret_access_key,
        endpoints.region,
    )


def put(s3: Any, bucket: str, content: bytes, key: str = KEY) -> str:
    return str(s3.put_object(Bucket=bucket, Key=key, Body=content)["VersionId"])


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


async def test_every_version_keeps_its_content(
    source: SourceBucket, s3: Any, bucket: str, tmp_path: Path
) -> None:
    old, new = b"pandas==2.2\n", b"pandas==2.3\nrequests\n"
    first, second = put(s3, bucket, old), put(s3, bucket, new)
    assert await source.pin(bucket, KEY, first, max_bytes=MIB) == PinnedObject(first, sha256(old), len(old))
    for version in (None, "", second):  # none: the newest
        pinned = await source.pin(bucket, KEY, version, max_bytes=MIB)
        assert pinned == PinnedObject(second, sha256(new), len(new))
    assert await source.read(bucket, KEY, first, max_bytes=MIB) == old
    target = tmp_path / "requirements.txt"
    assert await source.fetch(bucket, KEY, first, target, digest=sha256(old)) == PinnedObject(
        first, sha256(old), len(old)
    )
    assert target.read_bytes() == old


async def test_what_was_pinned_can_be_fetched_after_a_deletion(
    source: SourceBucket, s3: Any, bucket: str, tmp_path: Path
) -> None:
    version = put(s3, bucket, b"x")
    marker = s3.delete_object(Bucket=bucket, Key=KEY)["VersionId"]
    assert (await source.pin(bucket, KEY, version, max_bytes=MIB)).version == version
    for gone in (None, marker):
        named = f"version {marker} of " if gone else ""
        with pytest.raises(InvalidRequestError, match=f"^Unable to access {named}{bucket}/{KEY}$"):
            await source.pin(bucket, KEY, gone, max_bytes=MIB)


@pytest.mark.parametrize("version", ["nope", "0" * 32, "../../x"])
async def test_a_version_that_is_not_there_has_mwaa_s_wording(
    source: SourceBucket, s3: Any, bucket: str, version: str, tmp_path: Path
) -> None:
    put(s3, bucket, b"x")
    target = tmp_path / "file"
    wording = f"Unable to access version {version} of {bucket}/requirements.txt"
    with pytest.raises(InvalidRequestError) as caught:
        await source.pin(bucket, KEY, version, max_bytes=MIB)
    assert str(caught.value) == wording
    with pytest.raises(InvalidRequestError) as caught:
        await source.fetch(bucket, KEY, version, target)
    assert str(caught.value) == wording
    assert not target.exists()


async def test_a_missing_object_or_bucket_is_named(source: SourceBucket, bucket: str) -> None:
    with pytest.raises(InvalidRequestError, match=f"^Unable to access {bucket}/plugins.zip$"):
        await source.pin(bucket, "plugins.zip", None, max_bytes=MIB)
    with pytest.raises(InvalidRequestError, match=r"^Unable to access airflow-none/plugins\.zip$"):
        await source.pin("airflow-none", "plugins.zip", None, max_bytes=MIB)


async def test_what_is_too_large_is_refused_before_it_is_read(
    source: SourceBucket, s3: Any, bucket: str
) -> None:
    put(s3, bucket, b"x" * (MIB + 1))
    for read in (source.pin, source.read):
        with pytest.raises(InvalidRequestError, match=r"has 1,048,577 bytes; at most 1,048,576 bytes"):
            await read(bucket, KEY, None, max_bytes=MIB)


async def test_another_content_than_was_pinned_leaves_no_file(
    source: SourceBucket, s3: Any, bucket: str, tmp_path: Path
) -> None:
    version = put(s3, bucket, b"x")
    with pytest.raises(ObjectChangedError):
        await source.fetch(bucket, KEY, version, tmp_path / "file", digest=sha256(b"y"))
    assert list(tmp_path.iterdir()) == []


async def test_an_object_from_before_versioning_can_be_pinned(source: SourceBucket, s3: Any) -> None:
    bucket = f"airflow-{uuid.uuid4().hex[:8]}"
    s3.create_bucket(Bucket=bucket)
    s3.put_object(Bucket=bucket, Key=KEY, Body=b"early")
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    pinned = await source.pin(bucket, KEY, None, max_bytes=MIB)
    assert pinned == PinnedObject("null", sha256(b"early"), 5)
    assert await source.pin(bucket, KEY, "null", max_bytes=MIB) == pinned


async def test_a_large_file_is_read_once(source: SourceBucket, s3: Any, bucket: str) -> None:
    content = b"0123456789abcdef" * (4 * MIB)
    put(s3, bucket, content, "plugins.zip")
    times = []
    for _ in range(2):
        started = time.monotonic()
        pinned = await source.pin(bucket, "plugins.zip", None, max_bytes=1024 * MIB)
        times.append(time.monotonic() - started)
        assert pinned.digest == sha256(content)
    assert times[1] < times[0] / 2, times


async def test_a_store_that_is_away_is_no_fault_of_the_request(
    endpoints: ServiceEndpoints, s3: Any, bucket: str
) -> None:
    put(s3, bucket, b"x")
    away = SourceBucket(access(endpoints, url=f"http://127.0.0.1:{free_port()}"))
    with pytest.raises(Retry):
        await away.pin(bucket, KEY, None, max_bytes=MIB)


async def test_a_key_that_may_not_read_gets_mwaa_s_wording(
    endpoints: ServiceEndpoints, s3: Any, bucket: str
) -> None:
    version = put(s3, bucket, b"x")
    stranger = SourceBucket(access(endpoints, secret=Secret("wrong")))
    with pytest.raises(InvalidRequestError, match=f"^Unable to access version {version} of "):
        await stranger.pin(bucket, KEY, version, max_bytes=MIB)
