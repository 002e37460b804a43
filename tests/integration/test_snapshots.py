"""Snapshots on a real PostgreSQL and object store: equal after a restore, whole after a kill, refused when altered."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from typing import Any

import boto3
import pytest
import pytest_asyncio

from openmwaa.airflow.secrets import FERNET_KEY
from openmwaa.artifacts.snapshot_format import SnapshotDamagedError
from openmwaa.environments.errors import EnvironmentNotFoundError, InvalidRequestError
from openmwaa.environments.record import EnvironmentRecord
from openmwaa.environments.snapshots import (
    SnapshotNotFoundError,
    SnapshotReason,
    SnapshotRecord,
    SnapshotState,
)
from openmwaa.environments.spec import S3File
from openmwaa.kit.errors import GiveUp
from openmwaa.services.endpoints import load_endpoints
from openmwaa.store.leases import LeaseLostError
from tests.support.embedded import running_services
from tests.support.eventually import eventually
from tests.support.service import a_home, clean_environment
from tests.support.snapshots import SCHEMA, Snapshots
from tests.support.specs import a_spec

PORT_BASE = 27750
BUCKET = "openmwaa-snapshots-000000000000"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def world() -> AsyncIterator[Snapshots]:
    with a_home() as home:
        async with running_services(home, PORT_BASE, ["postgres", "seaweedfs"]) as (settings, _, _):
            snapshots = await Snapshots.open(settings)
            try:
                yield snapshots
            finally:
                await snapshots.store.close()


@pytest.fixture
def s3(world: Snapshots) -> Any:
    ends = load_endpoints(world.settings)
    return boto3.Session(
        ends.s3_access_key_id, ends.s3_secret_access_key.reveal(), region_name=ends.region
    ).client("s3", endpoint_url=ends.s3_url)


@pytest_asyncio.fixture(loop_scope="session")
async def environment(world: Snapshots) -> EnvironmentRecord:
    record = await world.environment()
    world.query(record, SCHEMA)
    return record


@asynccontextmanager
async def a_loop(world: Snapshots, holder: str = "test") -> AsyncIterator[None]:
    task = asyncio.create_task(world.loop(holder).run())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@contextmanager
def a_process(world: Snapshots, holder: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run the loop in a process of its own, which is killed at the end."""
    arguments = [str(world.settings.home), str(PORT_BASE), holder]
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.snapshots", *arguments], env=clean_environment()
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def fill(world: Snapshots, record: EnvironmentRecord, megabytes: int) -> None:
    """Add rows that no compression makes smaller."""
    hashes = "SELECT string_agg(sha256((g || '-' || n)::bytea), ''::bytea) FROM generate_series(1, 32768) n"
    world.query(
        record,
        f"INSERT INTO extra.blob (content) SELECT ({hashes}) FROM generate_series(1, {megabytes}) g",
    )


async def take(world: Snapshots, record: EnvironmentRecord) -> SnapshotRecord:
    async with a_loop(world):
        made = await world.made(await world.desk.create(record.name))
    assert made.state is SnapshotState.AVAILABLE, made.error
    return made


async def kinds(world: Snapshots, record: EnvironmentRecord) -> list[str]:
    return [event.kind for event in await world.store.events.list(record.name)]


async def test_a_restore_into_another_database_is_equal(
    world: Snapshots, environment: EnvironmentRecord
) -> None:
    fill(world, environment, 5)
    before = world.digests(environment)
    made = await take(world, environment)
    assert [part["name"] for part in made.parts] == ["database", "dags"]
    assert [one.id for one in await world.desk.list(environment.name)] == [made.id]
    assert made.size_bytes > 4_000_000

    world.query(environment, "DELETE FROM dag_run; UPDATE connection SET password = 'changed'")
    contents = await world.reader.open(made.id)
    assert contents.spec == environment.spec
    assert contents.manifest.tags == {"team": "data"}
    assert contents.manifest.runtime_id == "3.3.1-runtime"
    assert sum(contents.manifest.rows.values()) == sum(rows for rows, _ in before.values())

    other = await world.environment()
    world.query(other, "CREATE TABLE what_was_there_before (id int)")
    for _ in range(2):  # a second time, as after a crash
        await world.reader.load_database(made.id, other.id)
        assert world.digests(other) == before
    name = world.store.metadata_dumps.name(other.id)
    owners = world.query(
        other, "SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname IN ('public', 'extra')"
    )
    assert owners == [(name,)]
    # Sequences go on where they were: a new row collides with none.
    assert world.query(
        other, "INSERT INTO dag_run (dag_id, state) VALUES ('dag_1', 'success') RETURNING id"
    ) == [(2001,)]
    assert world.query(other, "SELECT count(*) FROM failed_runs") == [(1000,)]
    assert (await kinds(world, environment))[-2:] == ["snapshot-requested", "snapshot-available"]


async def test_the_fernet_key_comes_along_sealed_for_its_new_environment(
    world: Snapshots, environment: EnvironmentRecord
) -> None:
    made = await take(world, environment)
    old = world.keyring.open(environment.secrets[FERNET_KEY], context=environment.secret_context(FERNET_KEY))
    other = await world.environment()
    sealed = await world.reader.load_secrets(made.id, other.id)
    assert list(sealed) == [FERNET_KEY]
    assert world.keyring.open(sealed[FERNET_KEY], context=other.secret_context(FERNET_KEY)) == old
    everything = b"".join(b"".join(world.streams.read(BUCKET, key)) for key in world.objects(made))
    for hidden in (
        old.reveal().encode(),
        b"gAAAA-encrypted",
        b"print('a')",
        environment.name.encode(),
        b"PGDMP",
    ):
        assert hidden not in everything


async def test_a_dump_sees_one_moment_of_a_database_in_use(
    world: Snapshots, environment: EnvironmentRecord
) -> None:
    fill(world, environment, 10)
    stop = asyncio.Event()

    async def write() -> None:
        # Always as many successes as failures: a torn dump would have a different number.
        while not stop.is_set():
            await asyncio.to_thread(
                world.query,
                environment,
                "INSERT INTO dag_run (dag_id, state) VALUES ('dag_1', 'success'), ('dag_2', 'failed')",
            )

    writer = asyncio.create_task(write())
    try:
        made = await take(world, environment)
    finally:
        stop.set()
        await writer
    other = await world.environment()
    rows = await world.reader.load_database(made.id, other.id)
    assert rows["public.dag_run"] == 2 * world.query(other, "SELECT count(*) FROM failed_runs")[0][0]


async def test_layer_inputs_and_dags_come_back_into_a_bucket(world: Snapshots, s3: Any) -> None:
    for name in ("airflow-source", "airflow-target"):
        s3.create_bucket(Bucket=name)
        s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    pinned = {}
    for name, body in (
        ("requirements", b"six==1"),
        ("plugins", os.urandom(2_500_000)),
        ("startup_script", b""),
    ):
        version = s3.put_object(Bucket="airflow-source", Key=f"in/{name}", Body=body)["VersionId"]
        s3.put_object(Bucket="airflow-source", Key=f"in/{name}", Body=b"a later version")
        pinned[name] = (S3File(path=f"in/{name}", version=version), body)
    spec = a_spec(
        "inputs",
        source_bucket_arn="arn:aws:s3:::airflow-source",
        **{name: file for name, (file, _) in pinned.items()},
    )
    record = await world.environment(spec)
    made = await take(world, record)
    assert [part["name"] for part in made.parts] == ["database", "dags", *pinned]

    # The same bucket still has the versions: nothing is uploaded.
    assert await world.reader.with_readable_inputs(made.id, "airflow-source") == spec
    # One is gone: it alone is uploaded again.
    s3.delete_object(Bucket="airflow-source", Key="in/plugins", VersionId=pinned["plugins"][0].version)
    again = await world.reader.with_readable_inputs(made.id, "airflow-source")
    assert again.requirements == spec.requirements
    assert again.plugins
    assert again.plugins.version != pinned["plugins"][0].version
    # Another bucket gets all.
    moved = await world.reader.with_readable_inputs(made.id, "airflow-target")
    assert moved.source_bucket_arn == "arn:aws:s3:::airflow-target"
    for name, (_, body) in pinned.items():
        file = getattr(moved, name)
        stored = s3.get_object(Bucket="airflow-target", Key=file.path, VersionId=file.version)["Body"]
        assert stored.read() == body

    s3.put_object(Bucket="airflow-target", Key="dags/extra.py", Body=b"extra")
    s3.put_object(Bucket="airflow-target", Key="dags-not/extra.py", Body=b"extra")
    assert await world.reader.upload_dags(made.id, "airflow-target", "dags/", exact=False) == 2
    keys = world.streams.keys("airflow-target", "dags")
    assert keys == ["dags-not/extra.py", "dags/a.py", "dags/extra.py", "dags/lib/b.py"]
    await world.reader.upload_dags(made.id, "airflow-target", "dags", exact=True)
    keys = world.streams.keys("airflow-target", "dags")
    assert keys == ["dags-not/extra.py", "dags/a.py", "dags/lib/b.py"]
    assert s3.get_object(Bucket="airflow-target", Key="dags/a.py")["Body"].read() == b"print('a')"


@pytest.mark.parametrize("part", ["database", "dags", "manifest"])
@pytest.mark.parametrize("how", ["flip", "cut", "gone", "exchanged"])
async def test_an_altered_object_is_named_and_what_is_there_stays(
    world: Snapshots, environment: EnvironmentRecord, s3: Any, part: str, how: str
) -> None:
    made = await take(world, environment)
    key = f"{made.prefix}{part}"
    stored = s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()
    if how == "flip":
        middle = len(stored) // 2
        other = b"A" if stored[middle : middle + 1] != b"A" else b"B"
        s3.put_object(Bucket=BUCKET, Key=key, Body=stored[:middle] + other + stored[middle + 1 :])
    elif how == "cut":
        s3.put_object(Bucket=BUCKET, Key=key, Body=stored[:-20])
    elif how == "gone":
        s3.delete_object(Bucket=BUCKET, Key=key)
    else:  # the same part of another snapshot of the same environment
        twin = await take(world, environment)
        s3.copy_object(Bucket=BUCKET, Key=key, CopySource=f"{BUCKET}/{twin.prefix}{part}")
    for attempt in (
        world.reader.open(made.id),
        world.desk.restore_in_place(made.id, environment.name, dags=True),
        world.desk.restore_as_new(made.id, "another"),
    ):
        with pytest.raises(SnapshotDamagedError) as caught:
            await attempt
        assert caught.value.component == part
        assert part in caught.value.reason
    if part == "database":
        before = world.digests(environment)
        with pytest.raises(SnapshotDamagedError):
            await world.reader.load_database(made.id, environment.id)
        assert world.digests(environment) == before
        databases = world.query(environment, "SELECT datname FROM pg_database")
        assert not [name for (name,) in databases if name.endswith("_load")]


async def test_a_killed_process_leaves_nothing_half_listed_and_the_next_finishes(
    world: Snapshots, environment: EnvironmentRecord, s3: Any
) -> None:
    fill(world, environment, 60)
    before = world.digests(environment)
    snapshot = await world.desk.create(environment.name)
    with a_process(world, "same-holder") as process:
        await asyncio.to_thread(
            eventually,
            lambda: s3.list_multipart_uploads(Bucket=BUCKET, Prefix=f"{snapshot.id}/").get("Uploads"),
            within_s=60,
            every_s=0.02,
            what="the dump is being stored",
            errors=(s3.exceptions.NoSuchBucket,),
        )
        process.kill()
        process.wait()
    half = await world.desk.get(snapshot.id)
    assert half.state is SnapshotState.CREATING
    with pytest.raises(InvalidRequestError, match="is creating"):
        await world.reader.open(snapshot.id)
    async with a_loop(world, "same-holder"):  # the restarted control plane: no need to wait for the lease
        made = await world.made(snapshot)
    assert made.state is SnapshotState.AVAILABLE, made.error
    assert made.attempts == 2
    assert not s3.list_multipart_uploads(Bucket=BUCKET, Prefix=f"{snapshot.id}/").get("Uploads")
    assert {key.rpartition("/")[0] + "/" for key in world.objects(made)} == {made.prefix}
    other = await world.environment()
    await world.reader.load_database(made.id, other.id)
    assert world.digests(other) == before


async def test_a_holder_that_stood_still_cannot_spoil_what_the_next_one_made(
    world: Snapshots, environment: EnvironmentRecord
) -> None:
    fill(world, environment, 60)
    snapshot = await world.desk.create(environment.name)
    with a_process(world, "first") as process:
        await asyncio.to_thread(
            eventually,
            lambda: world.query(
                environment, "SELECT 1 FROM pg_stat_activity WHERE application_name = 'openmwaa-snapshot'"
            ),
            within_s=60,
            every_s=0.02,
            what="the dump is being made",
        )
        process.send_signal(signal.SIGSTOP)
        await world.store.database.all(
            "UPDATE snapshots SET lease_expires_at = now() WHERE id = %s", (snapshot.id,)
        )
        async with a_loop(world, "second"):
            made = await world.made(snapshot)
        assert made.state is SnapshotState.AVAILABLE, made.error
        process.send_signal(signal.SIGCONT)

        def only_ours() -> bool:
            return {key.rpartition("/")[0] + "/" for key in world.objects(made)} == {made.prefix}

        await asyncio.sleep(3)  # longer than the stopped one needs to notice; it must not become worse
        await asyncio.to_thread(eventually, only_ours, within_s=30, what="the first took its objects back")
    await world.reader.open(made.id)


async def test_two_control_planes_make_a_snapshot_once(
    world: Snapshots, environment: EnvironmentRecord
) -> None:
    async with a_loop(world, "one"), a_loop(world, "two"):
        made = [await world.desk.create(environment.name) for _ in range(4)]
        done = [await world.made(one) for one in made]
    assert {one.state for one in done} == {SnapshotState.AVAILABLE}
    assert (await kinds(world, environment)).count("snapshot-available") == 4


async def test_delete_leaves_no_object_and_no_row(world: Snapshots, environment: EnvironmentRecord) -> None:
    made = await take(world, environment)
    assert world.objects(made)
    await world.desk.delete(made.id)
    with pytest.raises(InvalidRequestError, match="is deleting"):
        await world.reader.open(made.id)
    async with a_loop(world):
        await gone(world, made)
    assert world.objects(made) == []
    assert (await kinds(world, environment))[-2:] == ["snapshot-delete-requested", "snapshot-deleted"]


async def test_one_that_is_being_made_can_be_deleted(
    world: Snapshots, environment: EnvironmentRecord
) -> None:
    fill(world, environment, 60)
    async with a_loop(world):
        snapshot = await world.desk.create(environment.name)
        async with asyncio.timeout(60):
            while not await world.store.database.one(
                "SELECT 1 FROM snapshots WHERE id = %s AND lease_holder IS NOT NULL", (snapshot.id,)
            ):
                await asyncio.sleep(0.02)
        await world.desk.delete(snapshot.id)
        await gone(world, snapshot)
    assert world.objects(snapshot) == []


async def gone(world: Snapshots, snapshot: SnapshotRecord) -> None:
    async with asyncio.timeout(60):
        with contextlib.suppress(SnapshotNotFoundError):
            while await world.desk.get(snapshot.id):
                await asyncio.sleep(0.05)


async def test_a_snapshot_outlives_its_environment(world: Snapshots, environment: EnvironmentRecord) -> None:
    before = world.digests(environment)
    made = await take(world, environment)
    await world.store.environments.request_deletion(environment.name)
    await world.store.airflow_databases.drop(environment.id)
    with pytest.raises(EnvironmentNotFoundError):
        await world.settle(environment.name)
    record = await world.desk.restore_as_new(made.id, f"{environment.name}-again", version="3.3.1")
    assert record.spec.airflow_version == "3.3.1"
    name, spec, contents = world.restorer.accepted[-1]
    assert (name, spec.name, contents.record.id) == (record.name, record.name, made.id)
    other = await world.environment()
    await world.reader.load_database(made.id, other.id)
    assert world.digests(other) == before


async def test_what_cannot_be_made_fails_with_its_reason_and_leaves_nothing(
    world: Snapshots, environment: EnvironmentRecord
) -> None:
    await world.store.airflow_databases.drop(environment.id)
    async with a_loop(world):
        failed = await world.made(await world.desk.create(environment.name))
    assert failed.state is SnapshotState.FAILED
    assert failed.error
    assert "does not exist" in failed.error
    assert world.objects(failed) == []
    events = await world.store.events.list(environment.name)
    assert (events[-1].kind, events[-1].data["code"]) == ("snapshot-failed", "DATABASE_MISSING")


async def test_a_busy_environment_is_refused_or_waited_for(
    world: Snapshots, environment: EnvironmentRecord
) -> None:
    snapshot = await world.desk.create(environment.name)
    await world.store.environments.change(environment.name, lambda record: record.spec)
    with pytest.raises(InvalidRequestError, match="UPDATING"):
        await world.desk.create(environment.name)
    async with a_loop(world):
        async with asyncio.timeout(30):
            while not (await world.desk.get(snapshot.id)).error:
                await asyncio.sleep(0.05)
        assert (await world.desk.get(snapshot.id)).error == "the environment is UPDATING"
        await world.settle(environment.name)
        await world.store.database.all("UPDATE snapshots SET next_attempt_at = now()")
        assert (await world.made(snapshot)).state is SnapshotState.AVAILABLE


async def test_a_schedule_makes_and_lets_go(world: Snapshots, environment: EnvironmentRecord) -> None:
    by_hand = await take(world, environment)
    await world.desk.schedule(environment.name, every=timedelta(hours=1), keep=2, max_age=None)
    async with a_loop(world):
        for count in range(1, 5):
            async with asyncio.timeout(60):
                while len([e for e in await kinds(world, environment) if e == "snapshot-available"]) <= count:
                    await asyncio.sleep(0.05)
            await world.store.database.all(
                "UPDATE snapshot_schedules SET next_at = next_at - interval '1 hour' WHERE environment_id = %s",
                (environment.id,),
            )
            if count == 1:
                first = (await world.desk.list(environment.name))[-1]
                await world.desk.pin(first.id, pinned=True)
        async with asyncio.timeout(60):
            while True:
                left = await world.desk.list(environment.name)
                made = [one for one in await kinds(world, environment) if one == "snapshot-available"]
                if len(left) == 4 and len(made) >= 5 and {one.state for one in left} == {"available"}:
                    break
                await asyncio.sleep(0.05)
        assert [one.id for one in left[:2]] == [by_hand.id, first.id]
        assert {one.reason for one in left[1:]} == {SnapshotReason.SCHEDULED}
        assert await world.desk.schedule_off(environment.name)
    assert not await world.desk.schedule_off(environment.name)
    assert (await world.desk.schedule_of(environment.name)) is None


async def test_a_host_without_room_refuses_before_anything_is_uploaded(
    world: Snapshots, environment: EnvironmentRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await take(world, environment)
    accepted = len(world.restorer.accepted)
    monkeypatch.setattr(world.restorer, "no_room", "This host cannot carry out the request.")
    for restore in (  # an upload would fail in another way: there is no such bucket
        world.desk.restore_in_place(made.id, environment.name, dags=True),
        world.desk.restore_as_new(made.id, "no-room", dags=True),
    ):
        with pytest.raises(InvalidRequestError, match="cannot carry out"):
            await restore
    assert len(world.restorer.accepted) == accepted


async def test_restores_that_cannot_be_are_refused(world: Snapshots, environment: EnvironmentRecord) -> None:
    made = await take(world, environment)
    other = await world.environment()
    with pytest.raises(InvalidRequestError, match="not of this environment"):
        await world.desk.restore_in_place(made.id, other.name, dags=False)
    with pytest.raises(InvalidRequestError, match="already exists"):
        await world.desk.restore_as_new(made.id, other.name)
    with pytest.raises(InvalidRequestError, match="older"):
        await world.desk.restore_as_new(made.id, "older", version="3.0.6")
    with pytest.raises(InvalidRequestError, match="not supported"):
        await world.desk.restore_as_new(made.id, "newer", version="9.9.9")
    with pytest.raises(SnapshotNotFoundError):
        await world.desk.restore_as_new("snap-0000000000000000", "none")
    with pytest.raises(GiveUp, match="role"):
        await world.reader.load_database(made.id, "aaaaaaaaaaaa")
    record = await world.desk.restore_in_place(made.id, environment.name, dags=False)
    # Without a field that changes, everything is replaced all the same.
    assert (record.generation, record.spec) == (2, dataclasses.replace(environment.spec, roll=2))
    # While the data is on its way, nobody can take the snapshot away.
    await world.store.database.all(
        "UPDATE environments SET checkpoints = jsonb_build_object('restore-from', %s::text) WHERE id = %s",
        (made.id, environment.id),
    )
    with pytest.raises(InvalidRequestError, match="being restored"):
        await world.desk.delete(made.id)
    await world.store.snapshots.let_go(made.id)
    assert (await world.desk.get(made.id)).state is SnapshotState.AVAILABLE
    await world.settle(environment.name)
    await world.desk.delete(made.id)
    with pytest.raises(GiveUp, match="is deleting"):
        await world.reader.load_database(made.id, environment.id)
    async with a_loop(world):
        await gone(world, made)


async def test_a_lost_lease_writes_nothing(world: Snapshots, environment: EnvironmentRecord) -> None:
    rows = world.store.snapshots
    snapshot = await world.desk.create(environment.name)
    first = await rows.take_due("first", timedelta(0))
    second = await rows.take_due("second", timedelta(minutes=1))
    assert first
    assert second
    assert first[1].id == second[1].id == snapshot.id
    for late in (
        rows.available(first[0], prefix="x/", parts=[], size_bytes=1),
        rows.failed(first[0], "late", {}),
        rows.retry(first[0], "late", timedelta(0)),
        rows.renew(first[0], timedelta(minutes=1)),
        rows.gone(first[0]),
    ):
        with pytest.raises(LeaseLostError):
            await late
    await rows.release(first[0])
    await rows.failed(second[0], "on purpose", {})
    assert (await rows.get(snapshot.id)).error == "on purpose"
