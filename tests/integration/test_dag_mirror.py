"""The mirror against the embedded object store: whole listings, also across kills."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import pytest_asyncio

from openmwaa.artifacts.dag_mirror import DagMirror
from openmwaa.artifacts.source_bucket import S3Access, SourceBucket
from openmwaa.environments.errors import InvalidRequestError
from openmwaa.kit.errors import Retry
from openmwaa.kit.secret import Secret
from openmwaa.services.endpoints import ServiceEndpoints, load_endpoints
from openmwaa.services.s3_accounts import S3Accounts, build_policy
from tests.support.embedded import running_services
from tests.support.service import a_home, clean_environment

PORT_BASE = 22100


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def endpoints() -> AsyncIterator[ServiceEndpoints]:
    with a_home() as home:
        async with running_services(home, PORT_BASE, ["seaweedfs"]) as (settings, _, _):
            yield load_endpoints(settings)


@pytest.fixture
def s3(endpoints: ServiceEndpoints) -> Any:
    return client(endpoints, endpoints.s3_access_key_id, endpoints.s3_secret_access_key)


@pytest.fixture
def bucket(s3: Any) -> str:
    name = f"airflow-{uuid.uuid4().hex[:8]}"
    s3.create_bucket(Bucket=name)
    s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    return name


@pytest.fixture
def source(endpoints: ServiceEndpoints) -> SourceBucket:
    return SourceBucket(access(endpoints))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "mirror"


def client(endpoints: ServiceEndpoints, key_id: str, secret: Secret, service: str = "s3") -> Any:
    return boto3.Session(key_id, secret.reveal(), region_name=endpoints.region).client(
        service, endpoint_url=endpoints.s3_url
    )


def access(endpoints: ServiceEndpoints) -> S3Access:
    return S3Access(
        endpoints.s3_url, endpoints.s3_access_key_id, endpoints.s3_secret_access_key, endpoints.region
    )


def content(folder: Path) -> dict[str, str]:
    """Read the folder as a component sees it: through the link, resolved once."""
    top = (folder / "dags").resolve()
    return {str(path.relative_to(top)): path.read_text() for path in sorted(top.rglob("*")) if path.is_file()}


async def test_uploads_changes_and_deletions_arrive(
    s3: Any, bucket: str, source: SourceBucket, folder: Path
) -> None:
    for key in ("dags/a.py", "dags/lib/b.py", "other/x.py"):
        s3.put_object(Bucket=bucket, Key=key, Body=key.encode())
    s3.put_object(Bucket=bucket, Key="dags/empty/", Body=b"")
    mirror = DagMirror(source, bucket, "dags/", folder)
    state = await mirror.sync()
    assert (state.files, state.error, state.ignored) == (2, None, ())
    assert content(folder) == {"a.py": "dags/a.py", "lib/b.py": "dags/lib/b.py"}
    assert not (folder / "dags").readlink().is_absolute()

    s3.put_object(Bucket=bucket, Key="dags/a.py", Body=b"new")
    s3.delete_object(Bucket=bucket, Key="dags/lib/b.py")
    s3.put_object(Bucket=bucket, Key="dags/ünï côdé.py", Body=b"u")
    assert (await mirror.sync()).files == 2
    assert content(folder) == {"a.py": "new", "ünï côdé.py": "u"}


async def test_an_unchanged_file_keeps_inode_and_time_and_a_changed_one_has_the_time_of_the_swap(
    s3: Any, bucket: str, source: SourceBucket, folder: Path
) -> None:
    mirror = DagMirror(source, bucket, "", folder)
    for key, body in (("same.py", b"1"), ("changed.py", b"1"), ("twin.py", b"1")):
        s3.put_object(Bucket=bucket, Key=key, Body=body)
    await mirror.sync()
    first = {key: (folder / "dags" / key).stat() for key in ("same.py", "changed.py", "twin.py")}
    assert len({stat.st_ino for stat in first.values()}) == 3  # equal files are not one inode

    for body in (b"2", b"1"):  # the second is a return to the first content: its time must move on, too
        before = (folder / "dags/changed.py").stat().st_mtime
        s3.put_object(Bucket=bucket, Key="changed.py", Body=body)
        began = time.time()
        await mirror.sync()
        assert (folder / "dags/changed.py").read_bytes() == body
        changed = (folder / "dags/changed.py").stat().st_mtime
        assert changed > before
        assert began <= changed <= time.time() + 1.5
        for key in ("same.py", "twin.py"):
            now = (folder / "dags" / key).stat()
            assert (now.st_ino, now.st_mtime) == (first[key].st_ino, first[key].st_mtime)


async def test_nothing_changed_means_one_listing_and_the_same_snapshot(
    s3: Any, bucket: str, source: SourceBucket, folder: Path
) -> None:
    s3.put_object(Bucket=bucket, Key="a.py", Body=b"1")
    first = await DagMirror(source, bucket, "", folder).sync()
    again = await DagMirror(source, bucket, "", folder).sync()  # as after a restart of the node
    assert again.snapshot == first.snapshot
    assert again.synced_at
    assert first.synced_at
    assert again.synced_at > first.synced_at


async def test_only_the_last_three_snapshots_and_their_objects_stay(
    s3: Any, bucket: str, source: SourceBucket, folder: Path
) -> None:
    mirror = DagMirror(source, bucket, "", folder)
    for number in range(6):
        s3.put_object(Bucket=bucket, Key="a.py", Body=str(number).encode())
        await mirror.sync()
    assert len([path for path in (folder / "snapshots").iterdir() if path.is_dir()]) == 3
    assert len(list((folder / "snapshots").glob("*.json"))) == 3
    assert len(list((folder / "objects").iterdir())) == 3


async def test_when_s3_is_away_the_last_snapshot_stays_and_the_state_says_why(
    s3: Any, bucket: str, source: SourceBucket, folder: Path
) -> None:
    s3.put_object(Bucket=bucket, Key="a.py", Body=b"1")
    first = await DagMirror(source, bucket, "", folder).sync()
    nowhere = SourceBucket(S3Access("http://127.0.0.1:1", "AKIA", Secret("none"), "us-east-1"))
    state = await DagMirror(nowhere, bucket, "", folder).sync()
    assert state.snapshot == first.snapshot
    assert state.error
    assert "127.0.0.1:1" in state.error
    gone = await DagMirror(source, "airflow-no-such-bucket", "", folder).sync()
    assert gone.error
    assert content(folder) == {"a.py": "1"}


async def test_files_are_readable_by_the_group_and_writable_by_the_owner_only(
    s3: Any, bucket: str, source: SourceBucket, folder: Path
) -> None:
    s3.put_object(Bucket=bucket, Key="lib/a.py", Body=b"1")
    group = 700_123_456 if os.geteuid() == 0 else os.getegid()
    await DagMirror(source, bucket, "", folder, group=group).sync()
    for path, mode in ((folder / "dags/lib/a.py", 0o640), (folder / "dags/lib", 0o750), (folder, 0o750)):
        assert (path.stat().st_gid, path.stat().st_mode & 0o777) == (group, mode)
    assert (folder / "dags").resolve().stat().st_gid == group


async def test_a_thousand_files_are_cheap(s3: Any, bucket: str, source: SourceBucket, folder: Path) -> None:
    await asyncio.gather(
        *(
            asyncio.to_thread(s3.put_object, Bucket=bucket, Key=f"dags/{n:04}.py", Body=b"x" * n)
            for n in range(1100)
        )
    )
    mirror = DagMirror(source, bucket, "dags/", folder)
    assert (await mirror.sync()).files == 1100
    began = time.monotonic()
    await mirror.sync()
    unchanged_s = time.monotonic() - began
    s3.put_object(Bucket=bucket, Key="dags/0007.py", Body=b"new")
    began = time.monotonic()
    assert (await mirror.sync()).files == 1100
    changed_s = time.monotonic() - began
    assert (folder / "dags/0007.py").read_text() == "new"
    assert unchanged_s < 3
    assert changed_s < 6


async def test_while_files_change_every_snapshot_is_one_moment(
    s3: Any, bucket: str, source: SourceBucket, folder: Path
) -> None:
    """A writer replaces each object over and over; no sync ever shows a file that was not uploaded whole."""
    keys = [f"{n}.py" for n in range(8)]
    stop = asyncio.Event()

    def write(number: int) -> None:
        for key in keys:
            s3.put_object(Bucket=bucket, Key=key, Body=f"{number:06}\n".encode() * 2000)

    async def writer() -> None:
        number = 0
        while not stop.is_set():
            await asyncio.to_thread(write, number)
            number += 1

    write(0)
    task = asyncio.create_task(writer())
    mirror = DagMirror(source, bucket, "", folder)
    try:
        for _ in range(6):
            await mirror.sync()
            for text in content(folder).values():
                assert len(text) == 14000
                assert len(set(text.splitlines())) == 1
    finally:
        stop.set()
        await task
    assert (await mirror.sync()).error is None
    expected = {key: s3.get_object(Bucket=bucket, Key=key)["Body"].read().decode() for key in keys}
    assert content(folder) == expected


_LOOP = """
import asyncio, json, sys
from pathlib import Path
from openmwaa.artifacts.dag_mirror import DagMirror
from openmwaa.artifacts.source_bucket import S3Access, SourceBucket
from openmwaa.kit.secret import Secret
url, key, secret, bucket, folder = json.load(sys.stdin)
async def main():
    mirror = DagMirror(SourceBucket(S3Access(url, key, Secret(secret), "us-east-1")), bucket, "", Path(folder))
    print("go", flush=True)
    while True:
        await mirror.sync()
asyncio.run(main())
"""


async def test_killed_at_any_moment_the_folder_is_whole_and_the_next_sync_finishes(
    s3: Any, bucket: str, source: SourceBucket, folder: Path, endpoints: ServiceEndpoints
) -> None:
    """kill -9 after random times while every object changes from round to round."""
    request = json.dumps(
        [
            endpoints.s3_url,
            endpoints.s3_access_key_id,
            endpoints.s3_secret_access_key.reveal(),
            bucket,
            str(folder),
        ]
    )

    def publish(number: int) -> None:
        for n in range(12):
            s3.put_object(Bucket=bucket, Key=f"lib{n % 3}/{n}.py", Body=f"{number:04}\n".encode() * 500)

    publish(0)
    await DagMirror(source, bucket, "", folder).sync()
    for number in range(1, 9):
        child = subprocess.Popen(
            [sys.executable, "-c", _LOOP],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=clean_environment(),
        )
        try:
            assert child.stdin
            assert child.stdout
            child.stdin.write(request.encode())
            child.stdin.close()
            await asyncio.to_thread(child.stdout.readline)
            writer = asyncio.create_task(asyncio.to_thread(publish, number))
            await asyncio.sleep(random.uniform(0, 0.35))
        finally:
            child.send_signal(signal.SIGKILL)
            child.wait()
            if child.stdout:
                child.stdout.close()
        seen = content(folder)
        assert len(seen) == 12
        assert all(len(text) == 2500 and len(set(text.splitlines())) == 1 for text in seen.values())
        await writer
    state = await DagMirror(source, bucket, "", folder).sync()
    assert (state.files, state.error) == (12, None)
    assert set(content(folder).values()) == {"0008\n" * 500}
    assert not list((folder / "snapshots").glob(".draft-*"))


async def test_a_bucket_is_checked_with_the_service_s_wording(
    s3: Any, bucket: str, source: SourceBucket, endpoints: ServiceEndpoints
) -> None:
    await source.check(bucket, "dags")
    with pytest.raises(InvalidRequestError, match="does not exist"):
        await source.check("airflow-no-such-bucket", "dags")
    plain = f"airflow-{uuid.uuid4().hex[:8]}"
    s3.create_bucket(Bucket=plain)
    with pytest.raises(InvalidRequestError, match=f"versioning enabled for s3 bucket {plain}"):
        await source.check(plain, "dags")
    account = await S3Accounts(endpoints).ensure_user("other1234567", plain)
    assert account
    stranger = SourceBucket(S3Access(endpoints.s3_url, account[0], account[1], "us-east-1"))
    with pytest.raises(
        InvalidRequestError,
        match="^Invalid request provided: Provided role does not have sufficient permissions for s3 location "
        f"{bucket}/dags$",
    ):
        await stranger.check(bucket, "dags")
    with pytest.raises(Retry):
        await SourceBucket(S3Access("http://127.0.0.1:1", "AKIA", Secret("x"), "us-east-1")).check(
            "b", "dags"
        )


async def test_an_account_reaches_its_own_bucket_only_until_it_is_removed(
    s3: Any, bucket: str, endpoints: ServiceEndpoints
) -> None:
    accounts = S3Accounts(endpoints)
    foreign = f"airflow-{uuid.uuid4().hex[:8]}"
    s3.create_bucket(Bucket=foreign)
    s3.put_object(Bucket=foreign, Key="secret", Body=b"x")
    identity = uuid.uuid4().hex[:12]

    first = await accounts.ensure_user(identity, bucket)
    second = await accounts.ensure_user(identity, bucket)  # as after a crash
    assert first
    assert second
    assert first[0] != second[0]
    old, new = client(endpoints, *first), client(endpoints, *second)

    def refused(call: Any, **arguments: Any) -> bool:
        try:
            call(**arguments)
        except new.exceptions.ClientError as error:
            return bool(error.response["ResponseMetadata"]["HTTPStatusCode"] == 403)
        return False

    new.put_object(Bucket=bucket, Key="out/x", Body=b"1")
    assert new.get_object(Bucket=bucket, Key="out/x")["Body"].read() == b"1"
    assert refused(old.list_objects_v2, Bucket=bucket)
    assert refused(new.get_object, Bucket=foreign, Key="secret")
    assert refused(new.list_objects_v2, Bucket=foreign)
    assert refused(new.put_object, Bucket=foreign, Key="x", Body=b"1")
    assert refused(new.create_bucket, Bucket=f"airflow-{uuid.uuid4().hex[:8]}")
    sts = client(endpoints, *second, service="sts")
    assert refused(sts.assume_role, RoleArn="arn:aws:iam::000000000000:role/Broad", RoleSessionName="task")

    await accounts.grant(identity, foreign)
    assert new.get_object(Bucket=foreign, Key="secret")["Body"].read() == b"x"
    assert refused(new.list_objects_v2, Bucket=bucket)

    await accounts.remove_user(identity)
    await accounts.remove_user(identity)
    assert refused(new.get_object, Bucket=foreign, Key="secret")


async def test_the_control_plane_makes_narrowed_temporary_credentials(
    s3: Any, bucket: str, endpoints: ServiceEndpoints
) -> None:
    sts = client(endpoints, endpoints.s3_access_key_id, endpoints.s3_secret_access_key, "sts")
    answer = sts.assume_role(
        RoleArn="arn:aws:iam::000000000000:role/Broad",
        RoleSessionName="task",
        DurationSeconds=3600,
        Policy=json.dumps(build_policy(bucket)),
    )["Credentials"]
    session = boto3.Session(
        answer["AccessKeyId"], answer["SecretAccessKey"], answer["SessionToken"], region_name="us-east-1"
    )
    narrowed = session.client("s3", endpoint_url=endpoints.s3_url)
    narrowed.put_object(Bucket=bucket, Key="x", Body=b"1")
    with pytest.raises(narrowed.exceptions.ClientError, match="AccessDenied"):
        narrowed.list_objects_v2(Bucket="openmwaa-probe")
