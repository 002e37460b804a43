"""Every change of an environment touches exactly what its plan says, and no task that it says it leaves alone."""

from __future__ import annotations

import sys
import time
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.support.dags import IMPORTS
from tests.support.environment import Environment
from tests.support.eventually import eventually
from tests.support.runs import task_instances, trigger, wait_for_dag, wait_for_run
from tests.support.service import Service
from tests.support.updates import as_planned, patiently, pids, plan, put, replaced, show, update

pytestmark = pytest.mark.timeout(900)

NEWEST = "3.3.1"
ROLE = "arn:aws:iam::000000000000:role/another-execution-role"
LASTING = (
    IMPORTS
    + """
import boto3

@dag(dag_id="lasting", schedule=None, catchup=False, is_paused_upon_creation=False)
def lasting():
    @task(retries=1, retry_delay=1)
    def wait(**context):
        conf, began = context["dag_run"].conf, time.monotonic()
        s3 = boto3.client("s3")
        for second in range(900):
            time.sleep(1)
            listed = s3.list_objects_v2(Bucket=conf["bucket"], Prefix=conf["may_end"])
            if listed["KeyCount"] and time.monotonic() - began > conf["seconds"]:
                return

    wait()

lasting()
"""
)
"""Takes so many seconds, and as long as there is no object that lets it end."""


@pytest.fixture(scope="module")
def newest(environments: dict[str, Environment]) -> Environment:
    """The shared environment of the newest version."""
    return environments[NEWEST]


def test_what_only_describes_an_environment_touches_nothing(service: Service, newest: Environment) -> None:
    """Window, role, security groups and tags reach GetEnvironment; every process stays."""
    before = pids(service, newest.name)
    group = "sg-0000000000000000b"
    done = update(
        service,
        newest.name,
        {
            "WeeklyMaintenanceWindowStart": "TUE:02:30",
            "ExecutionRoleArn": ROLE,
            "NetworkConfiguration": {"SecurityGroupIds": [group]},
        },
    )
    as_planned(done)
    assert done.seen == {}
    assert done.environment["WeeklyMaintenanceWindowStart"] == "TUE:02:30"
    assert done.environment["ExecutionRoleArn"] == ROLE
    assert done.environment["NetworkConfiguration"]["SecurityGroupIds"] == [group]
    generation = show(service, newest.name)["generation"]
    mwaa = service.client("mwaa")
    mwaa.tag_resource(ResourceArn=done.environment["Arn"], Tags={"team": "data"})
    tagged = service.environment(newest.name)
    assert (tagged["Status"], tagged["Tags"]) == ("AVAILABLE", {"team": "data"})
    mwaa.untag_resource(ResourceArn=done.environment["Arn"], tagKeys=["team"])
    assert show(service, newest.name)["generation"] == generation
    assert pids(service, newest.name) == before


def test_log_settings_replace_the_components_that_write_those_logs(
    service: Service, newest: Environment
) -> None:
    """Scheduler logs are written by scheduler and triggerer; workers and their tasks are left alone."""
    now = service.environment(newest.name)["LoggingConfiguration"]["SchedulerLogs"]["LogLevel"]
    level = "CRITICAL" if now == "ERROR" else "ERROR"  # one that is off writes warnings anyway
    logs = {"SchedulerLogs": {"Enabled": True, "LogLevel": level}}
    done = update(service, newest.name, {"LoggingConfiguration": logs})
    as_planned(done)
    assert done.seen == replaced("scheduler", "triggerer")
    shown = done.environment["LoggingConfiguration"]["SchedulerLogs"]
    assert (shown["Enabled"], shown["LogLevel"]) == (True, level)


@pytest.mark.thorough
@pytest.mark.parametrize("seconds", [45, pytest.param(90, marks=pytest.mark.thorough)])
def test_a_task_goes_on_across_a_graceful_change(service: Service, newest: Environment, seconds: int) -> None:
    """The old worker finishes it at its first try while new tasks run on the new worker; UPDATING until then."""
    name = newest.name
    may_end = f"may-end/{time.time()}"
    run_id, old = _lasting_run(service, newest, seconds, may_end)
    before = pids(service, name)
    value = str(100 + int(time.time()) % 100)
    members: dict[str, Any] = {"AirflowConfigurationOptions": {"core.max_active_runs_per_dag": value}}
    promised = plan(service, name, {**members, "WorkerReplacementStrategy": "GRACEFUL"})
    assert (promised["strategy"], promised["running_tasks"], promised["stops_workers"]) == (
        "GRACEFUL",
        1,
        True,
    )
    started = time.monotonic()
    service.client("mwaa").update_environment(Name=name, WorkerReplacementStrategy="GRACEFUL", **members)
    assert service.environment(name)["Status"] == "UPDATING"

    new = eventually(lambda: _new_worker(service, name, old), within_s=120, what="a new worker")
    meanwhile = eventually(
        lambda: trigger(service, name, "hello"), within_s=180, errors=(ClientError,), what="a new run"
    )
    assert wait_for_run(service, name, "hello", meanwhile) == "success"
    hosts = {one["hostname"] for one in task_instances(service, name, "hello", meanwhile)}
    assert hosts == {f"worker-{new}"}
    assert service.environment(name)["Status"] == "UPDATING"
    put(service, newest.bucket, may_end, "")

    def task_state() -> str | None:  # not the run's: the scheduler sets that later
        tasks = patiently(lambda: task_instances(service, name, "lasting", run_id))
        return str(tasks[0]["state"]) if tasks else None

    def finished() -> bool:
        if task_state() == "success":
            return True
        status, workers = service.environment(name)["Status"], _workers(service, name)
        if task_state() == "running":
            assert (status, workers.get(old)) == ("UPDATING", before["worker", old])
        return False

    eventually(finished, within_s=seconds + 60, every_s=1, what="the task ended")
    seen = service.available(name, within_s=120)
    took = time.monotonic() - started
    (task,) = task_instances(service, name, "lasting", run_id)
    assert (task["try_number"], task["hostname"]) == (1, f"worker-{old}")
    assert list(_workers(service, name)) == [new]
    assert seen["LastUpdate"]["Status"] == "SUCCESS"
    assert seen["LastUpdate"]["WorkerReplacementStrategy"] == "GRACEFUL"
    sys.stdout.write(f"\ngraceful, with a task of {seconds} s: {took:.1f} s\n")


@pytest.mark.thorough
def test_a_forced_change_stops_a_task_after_its_grace(service: Service, newest: Environment) -> None:
    """The only worker takes no new task, is killed after 90 s, and its successor runs the second try."""
    name = newest.name
    run_id, old = _lasting_run(service, newest, 600, "never")
    value = str(200 + int(time.time()) % 100)
    done = update(
        service,
        name,
        {
            "AirflowConfigurationOptions": {"core.max_active_runs_per_dag": value},
            "WorkerReplacementStrategy": "FORCED",
        },
    )
    as_planned(done)
    assert done.seconds > 90
    assert list(_workers(service, name)) == [old]

    def second_try() -> bool:
        (task,) = task_instances(service, name, "lasting", run_id)
        return bool(task["try_number"] == 2)

    eventually(second_try, within_s=180, every_s=1, errors=(ClientError,), what="the second try")
    service.rest(name, "PATCH", f"/dags/lasting/dagRuns/{run_id}", body={"state": "failed"})


def _lasting_run(service: Service, environment: Environment, seconds: int, may_end: str) -> tuple[str, int]:
    """Start a task that takes so long; returns its run and the number of its worker when it runs."""
    put(service, environment.bucket, "dags/lasting.py", LASTING)
    wait_for_dag(service, environment.name, "lasting")
    conf = {"seconds": seconds, "bucket": environment.bucket, "may_end": may_end}
    run_id = trigger(service, environment.name, "lasting", conf=conf)

    def host() -> str | None:
        (task,) = task_instances(service, environment.name, "lasting", run_id)
        return task["hostname"] if task["state"] == "running" else None

    worker = eventually(host, within_s=60, errors=(ClientError, ValueError), what="the task runs")
    return run_id, int(worker.rpartition("-")[2])


def _workers(service: Service, name: str) -> dict[int, int]:
    return {index: pid for (kind, index), pid in pids(service, name).items() if kind == "worker"}


def _new_worker(service: Service, name: str, old: int) -> int | None:
    """Return the number of the one worker beside the old one, once it is ready."""
    ready = [
        one["index"] for one in show(service, name)["replicas"] if one["kind"] == "worker" and one["ready"]
    ]
    return next((index for index in ready if index != old), None)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "bucket without versioning": ({"SourceBucketArn": "unversioned"}, "does not have versioning enabled"),
    "missing bucket": ({"SourceBucketArn": "arn:aws:s3:::nobody-has-this"}, "nobody-has-this does not exist"),
    "missing object": ({"RequirementsS3Path": "nothing/requirements.txt"}, "nothing/requirements.txt"),
    "missing version of an object": (
        {"PluginsS3Path": "dags/hello.py", "PluginsS3ObjectVersion": "0" * 32},
        "Unable to access version",
    ),
    "unknown option": (
        {"AirflowConfigurationOptions": {"core.paralelism": "8"}},
        "did you mean core.parallelism",
    ),
    "protected option": (
        {"AirflowConfigurationOptions": {"core.executor": "LocalExecutor"}},
        "core.executor is set by the service",
    ),
    "option of another type": (
        {"AirflowConfigurationOptions": {"core.parallelism": "many"}},
        "core.parallelism must be an integer",
    ),
    "more workers than the class has": ({"MinWorkers": 2, "MaxWorkers": 3}, "must be 1"),
    "more workers than the quota": (
        {"EnvironmentClass": "mw1.small", "MinWorkers": 26, "MaxWorkers": 26},
        "between 1 and 25",
    ),
    "unsupported version": ({"AirflowVersion": "2.4.3"}, "2.4.3 is not supported"),
    "unsupported jump of versions": ({"AirflowVersion": "2.10.3"}, "Update to version 2.11.2 first"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_work_is_refused_within_seconds(service: Service, newest: Environment, what: str) -> None:
    """A ValidationException that names the cause comes within 5 s; the environment's generation stays."""
    members, said = REFUSED[what]
    if members.get("SourceBucketArn") == "unversioned":
        name = f"airflow-unversioned-{int(time.time())}"
        service.client("s3").create_bucket(Bucket=name)
        members = {"SourceBucketArn": f"arn:aws:s3:::{name}"}
    before = show(service, newest.name)
    started = time.monotonic()
    with pytest.raises(ClientError) as caught:
        service.client("mwaa").update_environment(Name=newest.name, **members)
    assert time.monotonic() - started < 5
    assert caught.value.response["Error"]["Code"] == "ValidationException"
    assert said in caught.value.response["Error"]["Message"]
    after = show(service, newest.name)
    assert (after["generation"], after["status"]) == (before["generation"], before["status"])
