"""One update per field of UpdateEnvironment: it touches what its plan says, and GRACEFUL leaves tasks alone."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest
from botocore.exceptions import ClientError

from tests.support.dags import HELLO, IMPORTS, numbered
from tests.support.environment import Environment
from tests.support.eventually import eventually
from tests.support.packages import wheel, zipped
from tests.support.runs import task_instances, trigger, wait_for_dag
from tests.support.service import GROUPS, Service
from tests.support.updates import as_planned, put, replaced, update

pytestmark = [pytest.mark.thorough, pytest.mark.timeout(5400)]

VERSIONS = ("2.11.2", "3.3.1")
ROLE = "arn:aws:iam::000000000000:role/another-execution-role"
SECONDS = 90
LONG = (
    IMPORTS
    + """
@dag(dag_id="long", schedule=None, catchup=False, is_paused_upon_creation=False)
def long():
    @task(retries=1, retry_delay=1)
    def wait(**context):
        time.sleep(context["dag_run"].conf["seconds"])

    wait()

long()
"""
)
LOCAL = "--no-index\n--find-links /usr/local/airflow/plugins\n"
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
    elsewhere = service.bucket({"elsewhere.py": numbered("elsewhere"), "long.py": LONG})
    put(service, bucket, "more/dags/other.py", numbered("other"))
    put(service, bucket, "more/dags/long.py", LONG)
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


@pytest.fixture(params=VERSIONS)
def micro(service: Service, request: pytest.FixtureRequest) -> Iterator[Environment]:
    """An environment of the smallest class."""
    version = str(request.param)
    name = f"fields-{version.replace('.', '-')}"
    bucket = service.bucket({"hello.py": HELLO, "long.py": LONG})
    service.create(name, bucket, AirflowVersion=version, EnvironmentClass="mw1.micro")
    service.available(name, within_s=600)
    yield Environment(name, version, bucket)
    service.delete(name)


def test_every_field_touches_what_its_plan_says(service: Service, micro: Environment) -> None:
    """Promised and seen restarts are equal, every status is as on MWAA."""
    _make_every_change(service, micro, {}, before_each=lambda field: None)


def test_a_task_goes_on_across_each_graceful_change(service: Service, micro: Environment) -> None:
    """Before each change a task of 90 s starts; each ends well at its first try."""
    tasks = LongTasks(service, micro.name)
    _make_every_change(service, micro, {"WorkerReplacementStrategy": "GRACEFUL"}, before_each=tasks.start)
    tasks.all_ended_well()


def _make_every_change(
    service: Service, environment: Environment, always: dict[str, Any], before_each: Callable[[str], None]
) -> None:
    wrong = []
    for field, members, expected in every_field(service, environment.bucket):
        before_each(field)
        done = update(service, environment.name, {**members, **always})
        words = "; ".join(f"{kind} {action} {was}->{will}" for kind, (action, was, will) in done.seen.items())
        line = f"{environment.version} {field}: {done.seconds:.1f} s, {words or 'nothing touched'}"
        sys.stdout.write(f"\n{line}")
        try:
            as_planned(done)
            assert done.seen == expected
        except AssertionError as error:
            wrong.append(f"{line}; promised {dict(done.promised)}, expected {expected}: {error}")
        if field == "bucket":
            wait_for_dag(service, environment.name, "elsewhere")
    assert not wrong, "\n".join(wrong)


class LongTasks:
    """Runs of one task of 90 s each; no more at once than the class has slots for."""

    SLOTS: Final = 3

    def __init__(self, service: Service, environment: str) -> None:
        self._service = service
        self._environment = environment
        self._runs: dict[str, str] = {}

    def start(self, field: str) -> None:
        """Start one for the change of a field, and wait until it runs."""
        eventually(
            lambda: len(self._unfinished()) < self.SLOTS,
            within_s=2 * SECONDS,
            errors=(ClientError,),
            what=f"a free slot before {field}",
        )
        wait_for_dag(self._service, self._environment, "long")
        run_id = eventually(
            lambda: trigger(self._service, self._environment, "long", conf={"seconds": SECONDS}),
            within_s=60,
            errors=(ClientError,),
            what=f"a run before {field}",
        )
        self._runs[run_id] = field
        eventually(
            lambda: self._task(run_id)["state"] == "running",
            within_s=60,
            errors=(ClientError, ValueError),
            what=f"the task runs before {field}",
        )

    def all_ended_well(self) -> None:
        """Wait for all of them."""
        eventually(
            lambda: not self._unfinished(), within_s=2 * SECONDS, errors=(ClientError,), what="all ended"
        )
        tasks = {field: self._task(run_id) for run_id, field in self._runs.items()}
        assert len(tasks) == len(self._runs) > 20
        seen = {field: (task["state"], task["try_number"]) for field, task in tasks.items()}
        assert seen == dict.fromkeys(seen, ("success", 1)), tasks
        assert all(task["duration"] >= SECONDS for task in tasks.values())

    def _unfinished(self) -> list[str]:
        return [run_id for run_id in self._runs if self._task(run_id)["state"] not in {"success", "failed"}]

    def _task(self, run_id: str) -> dict[str, Any]:
        (task,) = task_instances(self._service, self._environment, "long", run_id)
        return task
