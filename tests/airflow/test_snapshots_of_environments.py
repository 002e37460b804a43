"""Snapshots of a real environment: it is deleted and comes back, under another name or of another version."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import boto3
import psycopg
import pytest

from openmwaa.services.endpoints import load_endpoints
from tests.support.eventually import eventually
from tests.support.moves import READS, SECRETS, Traveller, settled
from tests.support.runs import trigger, wait_for_dag, wait_for_run
from tests.support.service import Service

pytestmark = pytest.mark.timeout(900)

OLD, NEW = "2.11.2", "3.3.1"
RUNS = 20
TABLES = ("dag_run", "task_instance", "connection", "variable")


@pytest.fixture
def leftovers(service: Service) -> Iterator[list[str]]:
    """Names of environments that are deleted at the end, if they are there."""
    names: list[str] = []
    yield names
    for name in names:
        if name in service.client("mwaa").list_environments()["Environments"]:
            settled(service, name)
            service.delete(name)


def restored(service: Service, name: str) -> Traveller:
    """Return a restored environment."""
    shown = service.json("env", "show", name)
    return Traveller(service, name, shown["spec"]["source_bucket_arn"].rpartition(":")[2], shown["id"])


def take(service: Service, name: str) -> dict[str, Any]:
    """Make a snapshot and verify it."""
    made: dict[str, Any] = service.json("snapshot", "create", name)
    assert service.json("snapshot", "show", made["id"], "--verify")["state"] == "available"
    return made


def rows(traveller: Traveller) -> dict[str, list[Any]]:
    """Return what identifies each run, task, connection and variable; encrypted values as they are."""
    return {
        "runs": traveller.sql(
            "SELECT dag_id, run_id, state, start_date, end_date FROM dag_run ORDER BY 1, 2"
        ),
        "tasks": traveller.sql(
            "SELECT dag_id, run_id, task_id, state, try_number FROM task_instance ORDER BY 1, 2, 3"
        ),
        "connections": traveller.sql("SELECT conn_id, password, extra FROM connection ORDER BY 1"),
        "variables": traveller.sql("SELECT key, val FROM variable ORDER BY 1"),
    }


def secrets_are_readable(traveller: Traveller) -> None:
    """Assert that a task gets the decrypted values."""
    service, name = traveller.service, traveller.name
    wait_for_dag(service, name, "reads")
    run_id = trigger(service, name, "reads")
    assert wait_for_run(service, name, "reads", run_id) == "success"
    path = f"/dags/reads/dagRuns/{run_id}/taskInstances/read/xcomEntries/return_value"
    assert service.rest(name, "GET", path)["value"].strip('"') == SECRETS


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("version", "newer"),
    [(NEW, NEW), pytest.param(OLD, NEW, marks=pytest.mark.thorough)],
    ids=["same-version", "newer-version"],
)
def test_a_deleted_environment_comes_back_under_another_name(
    service: Service, leftovers: list[str], version: str, newer: str
) -> None:
    """Runs, tasks, connections, variables and DAGs of the restored one equal those of the deleted one."""
    leftovers += ["kept-1", "kept-2"]
    first = Traveller.start(service, "kept-1", version)
    first.populate(RUNS)
    before = rows(first)
    made = take(service, first.name)
    service.delete(first.name)
    assert [one["id"] for one in service.json("snapshot", "list", first.name)] == [made["id"]]
    options = ["--version", newer] if newer != version else []
    service.run("snapshot", "restore", made["id"], "--to", "kept-2", "--dags", *options, timeout_s=600)
    second = restored(service, "kept-2")
    assert second.bucket != first.bucket
    assert second.version == newer
    assert rows(second) == before
    objects = service.client("s3").list_objects_v2(Bucket=second.bucket, Prefix="dags/")["Contents"]
    assert {one["Key"] for one in objects} == {"dags/hello.py", "dags/reads.py"}
    secrets_are_readable(second)
    second.is_readable(RUNS)
    second.works()
    second.is_tidy()
    service.run("snapshot", "delete", made["id"], "--yes")
    assert service.json("snapshot", "list", first.name) == []


@pytest.mark.thorough
def test_an_environment_is_put_back_in_place(service: Service, leftovers: list[str]) -> None:
    """What was changed, added and removed since is undone, also a newer version; the present state is kept."""
    leftovers.append("put-back")
    one = Traveller.start(service, "put-back", OLD)
    one.populate(RUNS)
    before = rows(one)
    made = take(service, one.name)
    service.rest(one.name, "DELETE", "/connections/c1")
    service.rest(one.name, "PATCH", "/variables/v1", body={"key": "v1", "value": "other"})
    one.works()
    service.client("s3").delete_object(Bucket=one.bucket, Key="dags/reads.py")
    one.at(NEW)
    assert rows(one) != before
    service.run("snapshot", "restore", made["id"], "--in-place", "--dags", "--yes", timeout_s=600)
    assert one.version == OLD
    assert rows(one) == before
    assert object_of(service, one.bucket, "dags/reads.py") == READS
    secrets_are_readable(one)
    one.works()
    one.is_tidy()
    kept = service.json("snapshot", "list", one.name)
    assert [(snapshot["reason"], snapshot["airflow_version"]) for snapshot in kept] == [
        ("manual", OLD),
        ("before-restore", NEW),
    ]


@pytest.mark.thorough
def test_a_tampered_object_refuses_the_restore(service: Service, leftovers: list[str]) -> None:
    """One changed byte of a part: named, refused before anything is touched."""
    leftovers.append("tampered")
    one = Traveller.start(service, "tampered", NEW)
    made = take(service, one.name)
    s3 = operators_s3(service)
    bucket = f"openmwaa-snapshots-{service.settings.account_id}"
    key = next(
        entry["Key"]
        for entry in s3.list_objects_v2(Bucket=bucket, Prefix=f"{made['id']}/")["Contents"]
        if "database" in entry["Key"]
    )
    content = bytearray(s3.get_object(Bucket=bucket, Key=key)["Body"].read())
    content[len(content) // 2] ^= 1
    s3.put_object(Bucket=bucket, Key=key, Body=bytes(content))
    generation = service.json("env", "show", one.name)["generation"]
    for command in (["--in-place", "--no-snapshot", "--yes"], ["--to", "tampered-2"]):
        refused = service.run("snapshot", "restore", made["id"], *command, check=False)
        assert refused.returncode == 1
        assert "database" in refused.stderr
        assert made["id"] in refused.stderr
    assert service.environment(one.name)["Status"] == "AVAILABLE"
    assert service.json("env", "show", one.name)["generation"] == generation
    assert "tampered-2" not in service.client("mwaa").list_environments()["Environments"]
    one.works()


@pytest.mark.thorough
def test_a_schedule_keeps_so_many(service: Service, leftovers: list[str]) -> None:
    """Snapshots are made by themselves at their time; beyond the number to keep the oldest goes."""
    leftovers.append("scheduled")
    one = Traveller.start(service, "scheduled", NEW)
    by_hand = take(service, one.name)
    service.run("snapshot", "schedule", one.name, "--every", "1h", "--keep", "2")
    ids: list[str] = []
    for _ in range(3):
        it_is_time(service, one)
        known = set(ids)
        ids += eventually(
            lambda known=known: scheduled(service, one.name) - known, within_s=60, what="another snapshot"
        )
    eventually(lambda: scheduled(service, one.name) == set(ids[1:]), within_s=60, what="the oldest is gone")
    assert by_hand["id"] in {snapshot["id"] for snapshot in service.json("snapshot", "list", one.name)}
    service.run("snapshot", "schedule", one.name, "--off")


def scheduled(service: Service, name: str) -> set[str]:
    """Return the ids of the snapshots that were made by themselves."""
    listed = service.json("snapshot", "list", name)
    return {
        snapshot["id"]
        for snapshot in listed
        if snapshot["reason"] == "scheduled" and snapshot["state"] == "available"
    }


def it_is_time(service: Service, traveller: Traveller) -> None:
    """Bring the next time of the schedule to now."""
    with psycopg.connect(load_endpoints(service.settings).postgres_url.reveal(), autocommit=True) as store:
        store.execute(
            "UPDATE snapshot_schedules SET next_at = now() WHERE environment_id = %s", (traveller.id,)
        )


def operators_s3(service: Service) -> Any:
    """Return a client with the service's own key: snapshots are in no user's bucket."""
    endpoints = load_endpoints(service.settings)
    return boto3.client(
        "s3",
        endpoint_url=endpoints.s3_url,
        aws_access_key_id=endpoints.s3_access_key_id,
        aws_secret_access_key=endpoints.s3_secret_access_key.reveal(),
        region_name=endpoints.region,
    )


def object_of(service: Service, bucket: str, key: str) -> str:
    """Return the text of an object."""
    content: bytes = service.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()
    return content.decode()
