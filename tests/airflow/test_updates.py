"""Every change of an environment touches exactly what its plan says, and no task that it says it leaves alone."""

from __future__ import annotations

import sys
import time
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.support.dags import HELLO, IMPORTS, numbered
from tests.support.environment import Environment
from tests.support.eventually import eventually
from tests.support.packages import wheel, zipped
from tests.support.runs import task_instances, trigger, wait_for_dag, wait_for_run
from tests.support.service import GROUPS, Service
from tests.support.updates import Update, patiently, pids, plan, put, show, update

pytestmark = pytest.mark.timeout(900)

NEWEST = "3.3.1"
ROLE = "arn:aws:iam::000000000000:role/another-execution-role"
LOCAL = "--no-index\n--find-links /usr/local/airflow/plugins\n"
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


def as_planned(update: Update) -> None:
    """An update that ended well did to what runs what the plan had said, and nothing else."""
    # One that touches nothing may be over before its status can be asked for.
    at_once = update.statuses == ("AVAILABLE",) and update.event("available")["data"]["seconds"] < 1
    assert at_once or update.statuses == ("UPDATING", "AVAILABLE"), update.environment["LastUpdate"]
    assert update.environment["LastUpdate"]["Status"] == "SUCCESS"
    assert update.seen == update.promised
    worker = update.seen.get("worker")
    assert update.plan["stops_workers"] == (worker is not None and worker[0] != "add")


def replaced(*kinds: str) -> dict[str, tuple[str, int, int]]:
    """Return the effects of replacing the one replica of each of some kinds."""
    return dict.fromkeys(kinds, ("replace", 1, 1))


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


ALL = replaced("scheduler", "dag-processor", "triggerer", "webserver", "worker")
MICRO_TO_SMALL = {
    "scheduler": ("replace", 1, 2),
    "dag-processor": ("replace", 1, 1),
    "triggerer": ("replace", 1, 1),
    "webserver": ("replace", 1, 2),
    "worker": ("replace", 1, 1),
}
SMALL_TO_MICRO = {kind: (action, after, before) for kind, (action, before, after) in MICRO_TO_SMALL.items()}


def _log(member: str) -> dict[str, Any]:
    return {"LoggingConfiguration": {member: {"Enabled": True, "LogLevel": "ERROR"}}}


def every_field(service: Service, bucket: str) -> list[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Return updates to make one after the other, and what they must touch.

    Class mw1.micro has fixed counts, so counts come after the class has changed.
    """
    elsewhere = service.bucket({"elsewhere.py": numbered("elsewhere")})
    put(service, bucket, "more/dags/other.py", numbered("other"))
    put(service, elsewhere, "requirements.txt", f"{LOCAL}parcel==1.0\n")
    put(service, elsewhere, "plugins.zip", zipped(dict([wheel("parcel", "1.0")])))
    put(service, elsewhere, "startup.sh", "export GREETING=hello\n")
    return [
        ("options", {"AirflowConfigurationOptions": {"core.default_task_retries": "1"}}, ALL),
        ("no options any more", {"AirflowConfigurationOptions": {}}, ALL),
        ("log of the scheduler", _log("SchedulerLogs"), replaced("scheduler", "triggerer")),
        ("log of the DAG processor", _log("DagProcessingLogs"), replaced("dag-processor")),
        ("log of the web server", _log("WebserverLogs"), replaced("webserver")),
        ("log of the worker", _log("WorkerLogs"), replaced("worker")),
        ("log of tasks", _log("TaskLogs"), replaced("worker")),
        ("window", {"WeeklyMaintenanceWindowStart": "WED:03:30"}, {}),
        ("role", {"ExecutionRoleArn": ROLE}, {}),
        ("groups", {"NetworkConfiguration": {"SecurityGroupIds": [*GROUPS, "sg-0000000000000000b"]}}, {}),
        ("access mode", {"WebserverAccessMode": "PUBLIC_ONLY"}, {}),
        ("DAG folder", {"DagS3Path": "more/dags"}, {}),
        ("bucket", {"SourceBucketArn": f"arn:aws:s3:::{elsewhere}", "DagS3Path": "dags"}, {}),
        ("plugins", {"PluginsS3Path": "plugins.zip"}, ALL),
        ("requirements", {"RequirementsS3Path": "requirements.txt"}, ALL),
        ("start-up script", {"StartupScriptS3Path": "startup.sh"}, ALL),
        (
            "no files any more",
            {"PluginsS3Path": "", "RequirementsS3Path": "", "StartupScriptS3Path": ""},
            ALL,
        ),
        ("nothing", {}, ALL),
        ("larger class", {"EnvironmentClass": "mw1.small"}, MICRO_TO_SMALL),
        ("highest number of workers", {"MaxWorkers": 3}, {}),
        ("more workers", {"MinWorkers": 2}, {"worker": ("add", 1, 2)}),
        ("fewer workers", {"MinWorkers": 1}, {"worker": ("remove", 2, 1)}),
        ("more schedulers", {"Schedulers": 3}, {"scheduler": ("add", 2, 3), **replaced("triggerer")}),
        ("fewer schedulers", {"Schedulers": 2}, {"scheduler": ("remove", 3, 2), **replaced("triggerer")}),
        ("highest number of web servers", {"MaxWebservers": 3}, {}),
        ("more web servers", {"MinWebservers": 3}, {"webserver": ("add", 2, 3)}),
        ("fewer web servers", {"MinWebservers": 2, "MaxWebservers": 2}, {"webserver": ("remove", 3, 2)}),
        ("smaller class", {"EnvironmentClass": "mw1.micro"}, SMALL_TO_MICRO),
    ]


@pytest.mark.thorough
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("version", ["2.11.2", NEWEST])
def test_every_field_touches_what_its_plan_says(service: Service, version: str) -> None:
    """One update per field of UpdateEnvironment: promised and seen restarts are equal, every status is as on MWAA."""
    name = f"fields-{version.replace('.', '-')}"
    bucket = service.bucket({"hello.py": HELLO})
    service.create(name, bucket, AirflowVersion=version, EnvironmentClass="mw1.micro")
    service.available(name, within_s=600)
    lines, wrong = [], []
    try:
        for field, members, expected in every_field(service, bucket):
            done = update(service, name, members)
            words = "; ".join(
                f"{kind} {action} {was}->{will}" for kind, (action, was, will) in done.seen.items()
            )
            line = f"{version} {field}: {done.seconds:.1f} s, {words or 'nothing touched'}"
            lines.append(line)
            sys.stdout.write(f"\n{line}")
            try:
                as_planned(done)
                assert done.seen == expected
            except AssertionError as error:
                wrong.append(f"{line}; promised {dict(done.promised)}, expected {expected}: {error}")
            if field == "bucket":
                wait_for_dag(service, name, "elsewhere")
        assert not wrong, "\n".join(wrong)
    finally:
        service.delete(name)
