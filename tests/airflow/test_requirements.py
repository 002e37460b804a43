"""Packages, plugins and start-up scripts: they reach tasks, and those that cannot work change nothing."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from openmwaa.environments.layer import layer_of
from openmwaa.environments.spec import EnvironmentSpec
from tests.support.dags import IMPORTS
from tests.support.environment import Environment
from tests.support.eventually import eventually
from tests.support.packages import sdist, wheel, zipped
from tests.support.runs import trigger, wait_for_dag, wait_for_run
from tests.support.service import Service
from tests.support.updates import Update, effects, events, mend, mirrored, pids, put, show, update

pytestmark = pytest.mark.timeout(900)

NEWEST = "3.3.1"
INDEXED = "cowsay==6.1"
"""A small pure package that Airflow does not have."""

FIND = "--find-links /usr/local/airflow/plugins\n"
LOCAL = f"--no-index\n{FIND}"
REQUIREMENTS = f"{FIND}parcel==1.0\nribbon\n{INDEXED}\n"
PLUGIN = """
from airflow.plugins_manager import AirflowPlugin

class Parcels(AirflowPlugin):
    name = "parcels"
"""
SCRIPT = """
export GREETING="hello from ${MWAA_AIRFLOW_COMPONENT}"
export AIRFLOW__CORE__EXECUTOR=LocalExecutor
"""
DAG = (
    IMPORTS
    + """
import os
import cowsay, parcel, ribbon

GREETING = os.environ["GREETING"]

@dag(dag_id="parcels", schedule=None, catchup=False, is_paused_upon_creation=False)
def parcels():
    @task(retries=0)
    def look():
        assert (parcel.VERSION, ribbon.parcel.VERSION) == ("1.0", "1.0")
        assert "Hi" in cowsay.get_output_string("cow", "Hi")
        assert os.environ["GREETING"] == "hello from hybrid"
        assert os.environ["AIRFLOW__CORE__EXECUTOR"] == "CeleryExecutor"

    look()

parcels()
"""
)
READS_ITS_BUCKET = (
    IMPORTS
    + """
import boto3

@dag(dag_id="reads_its_bucket", schedule=None, catchup=False, is_paused_upon_creation=False)
def reads_its_bucket():
    @task(retries=0)
    def look(**context):
        bucket = context["dag_run"].conf["bucket"]
        assert boto3.client("s3").list_objects_v2(Bucket=bucket)["KeyCount"] > 0

    look()

reads_its_bucket()
"""
)


def plugins_of_the_user(**files: str) -> bytes:
    """Return a plugins.zip with a plugin and two wheels, of which one needs the other."""
    ribbon = wheel("ribbon", "2.0", {"ribbon.py": "import parcel\n"}, requires=["parcel"])
    return zipped({"parcels_plugin.py": PLUGIN, **dict([wheel("parcel", "1.0"), ribbon]), **files})


@dataclass(frozen=True)
class Equipped:
    """The shared environment with all three files.

    Attributes:
        plan: What `env plan` printed before.

        before: Processes before.
    """

    name: str
    bucket: str
    plan: dict[str, Any]
    before: dict[tuple[str, int], int]
    events: list[dict[str, Any]]


@pytest.fixture(scope="module")
def newest(service: Service, environments: dict[str, Environment]) -> Iterator[Environment]:
    """The shared environment of the newest version; AVAILABLE and without files afterwards."""
    environment = environments[NEWEST]
    yield environment
    mend(service, environment.name)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The three files on the user's machine, by option of `env update`."""
    folder = tmp_path_factory.mktemp("files")
    contents = {
        "--requirements": ("requirements.txt", REQUIREMENTS.encode()),
        "--plugins": ("plugins.zip", plugins_of_the_user()),
        "--startup-script": ("startup.sh", SCRIPT.encode()),
    }
    found = {}
    for option, (name, content) in contents.items():
        found[option] = folder / name
        found[option].write_bytes(content)
    return found


@pytest.fixture(scope="module")
def equipped(service: Service, newest: Environment, files: dict[str, Path]) -> Iterator[Equipped]:
    """Plan and make the update by the command line, with a DAG there that needs it."""
    _without_files(service, newest)
    put(service, newest.bucket, "dags/parcels.py", DAG)
    _until_mirrored(service, newest.name, "parcels.py")
    last_event = events(service, newest.name)[-1]["id"]
    options = [str(part) for pair in files.items() for part in pair]
    promised = service.json("env", "plan", newest.name, *options)
    before = pids(service, newest.name)
    service.run("env", "update", newest.name, *options)
    yield Equipped(
        newest.name, newest.bucket, promised, before, events(service, newest.name, after=last_event)
    )
    _without_files(service, newest)


def _without_files(service: Service, environment: Environment) -> None:
    """Clear what a test, or an earlier run on a kept home, has left."""
    service.client("s3").delete_object(Bucket=environment.bucket, Key="dags/parcels.py")
    _until_mirrored(service, environment.name, "parcels.py", there=False)
    spec = show(service, environment.name)["spec"]
    if any(spec[field] for field in ("requirements", "plugins", "startup_script")):
        update(service, environment.name, CLEARED)


CLEARED = {"RequirementsS3Path": "", "PluginsS3Path": "", "StartupScriptS3Path": ""}


@pytest.mark.thorough
def test_an_update_brings_what_its_plan_said(service: Service, equipped: Equipped) -> None:
    """Packages, replaced components and DAGs that work again are those of `env plan`."""
    promised = equipped.plan
    assert promised["packages"]["added"] == [["cowsay", "6.1"], ["parcel", "1.0"], ["ribbon", "2.0"]]
    assert (promised["packages"]["changed"], promised["packages"]["removed"]) == ([], [])
    assert promised["dags"]["fixed"] == ["parcels.py"]
    assert promised["dags"]["new_errors"] == {}
    assert {one["field"] for one in promised["fields"]} == {"requirements", "plugins", "startup_script"}
    facts = _layer(service, equipped.name)
    assert sorted(facts["added"].items()) == [tuple(pair) for pair in promised["packages"]["added"]]
    seen = effects(equipped.before, pids(service, equipped.name))
    assert seen == {one["kind"]: (one["action"], 1, 1) for one in promised["components"]}
    assert len(seen) == 5
    kinds = [one["kind"] for one in equipped.events]
    assert "step-check-startup-script" in kinds
    (imported,) = [one["message"] for one in equipped.events if one["kind"] == "step-check-dags"]
    assert imported.startswith(f"{promised['dags']['imported']} DAGs were imported with the change")
    for one in equipped.events:
        sys.stdout.write(f"\n{one['kind']}: {one['message']}")


@pytest.mark.thorough
def test_packages_and_script_reach_tasks_and_plugins_airflow(service: Service, equipped: Equipped) -> None:
    """A DAG imports the packages at its top; its task has what the script exported, and nothing it may not set."""
    wait_for_dag(service, equipped.name, "parcels")
    run_id = trigger(service, equipped.name, "parcels")
    assert wait_for_run(service, equipped.name, "parcels", run_id) == "success"
    listed = service.run("env", "cli", equipped.name, "--direct", "--", "plugins", "-o", "json").stdout
    assert "parcels" in {one["name"] for one in json.loads(listed[listed.index("[") :])}


@pytest.mark.thorough
def test_the_same_files_again_build_nothing(service: Service, equipped: Equipped) -> None:
    """Other versions of the objects with the same content are the same layer: ready at once, nothing restarts."""
    marker = _layer_folder(service, equipped.name) / "layer.json"
    built = marker.stat().st_mtime_ns
    version = put(service, equipped.bucket, "requirements.txt", REQUIREMENTS)
    done = update(service, equipped.name, {"RequirementsS3ObjectVersion": version})
    assert done.statuses[-1] == "AVAILABLE"
    assert done.seen == done.promised == {}
    assert done.environment["RequirementsS3ObjectVersion"] == version
    assert done.event("step-build-layer")["data"]["seconds"] < 1
    assert _layer_folder(service, equipped.name) / "layer.json" == marker
    assert marker.stat().st_mtime_ns == built


@pytest.mark.thorough
def test_a_second_environment_with_the_same_files_builds_nothing(
    service: Service, equipped: Equipped
) -> None:
    """It shares the layer of the first."""
    bucket, name = service.bucket({"parcels.py": DAG}), "parcels-too"
    put(service, bucket, "r.txt", REQUIREMENTS)
    put(service, bucket, "p.zip", plugins_of_the_user())
    put(service, bucket, "s.sh", SCRIPT)
    paths = {"RequirementsS3Path": "r.txt", "PluginsS3Path": "p.zip", "StartupScriptS3Path": "s.sh"}
    service.create(name, bucket, AirflowVersion=NEWEST, EnvironmentClass="mw1.micro", **paths)
    try:
        service.available(name, within_s=600)
        built = [one for one in events(service, name) if one["kind"] == "step-build-layer"]
        assert [one["data"]["seconds"] < 1 for one in built] == [True]
        assert _layer_folder(service, name) == _layer_folder(service, equipped.name)
        wait_for_dag(service, name, "parcels")
        assert wait_for_run(service, name, "parcels", trigger(service, name, "parcels")) == "success"
    finally:
        service.delete(name)


@pytest.mark.thorough
def test_a_package_that_a_dag_needs_is_taken_away_only_with_consent(
    service: Service, equipped: Equipped
) -> None:
    """The plan names the DAG; the update is undone for it, and passes with `--allow-import-errors`."""
    name = equipped.name
    options = ("--requirements", "none", "--plugins", "none", "--startup-script", "none")
    promised = service.json("env", "plan", name, *options)
    assert list(promised["dags"]["new_errors"]) == ["parcels.py"]
    assert "No module named 'cowsay'" in promised["dags"]["new_errors"]["parcels.py"]
    assert [one for one, _ in promised["packages"]["removed"]] == ["cowsay", "parcel", "ribbon"]
    before = pids(service, name)

    refused = service.run("env", "update", name, *options, check=False)
    assert refused.returncode == 1
    assert "parcels.py can no longer be imported" in refused.stderr
    assert "--allow-import-errors" in refused.stderr
    seen = service.environment(name)
    assert (seen["Status"], seen["LastUpdate"]["Status"]) == ("UPDATE_FAILED", "FAILED")
    assert seen["RequirementsS3Path"] == "requirements.txt"
    assert pids(service, name) == before

    service.run("env", "update", name, *options, "--allow-import-errors")
    seen = service.environment(name)
    assert seen["Status"] == "AVAILABLE"
    assert not [
        member for member in seen if member.endswith(("S3Path", "S3ObjectVersion")) and "Dag" not in member
    ]
    assert effects(before, pids(service, name)) == {
        one["kind"]: (one["action"], 1, 1) for one in promised["components"]
    }


ENDLESS = sdist("endless", "1.0", code="time.sleep(3600)")
BROKEN = ("broken-1.0-py3-none-any.whl", b"this is no zip file")
THINGS = (wheel("thing", "1.0"), wheel("thing", "2.0"))
REFUSED = {
    "conflict": (
        "thing==1.0\nthing==2.0\n",
        THINGS,
        "REQUIREMENTS_CONFLICT",
        r"line 3: thing==1\.0 conflicts with line 4",
    ),
    "missing": ("nobody-has-this==1.0\n", (), "REQUIREMENTS_NOT_FOUND", r"line 3: nobody-has-this==1\.0"),
    "broken wheel": ("broken==1.0\n", (BROKEN,), "REQUIREMENTS_BUILD_FAILED", r"line 3: broken==1\.0"),
    "syntax": ("thing == == 1\n", THINGS, "REQUIREMENTS_SYNTAX", r"line 3: thing == == 1"),
    "endless build": ("endless\n", (ENDLESS,), "REQUIREMENTS_TIMEOUT", "not ready after 60 s"),
}


@pytest.mark.parametrize(
    "what",
    [
        pytest.param(what, marks=() if what in {"conflict", "broken wheel"} else pytest.mark.thorough)
        for what in REFUSED
    ],
)
def test_requirements_that_cannot_work_change_nothing(
    service: Service, newest: Environment, what: str
) -> None:
    """UPDATE_FAILED with the cause; no process is touched, and tasks run before, meanwhile and afterwards."""
    lines, packages, code, said = REFUSED[what]
    put(service, newest.bucket, "bad/requirements.txt", LOCAL + lines)
    put(service, newest.bucket, "bad/plugins.zip", zipped({"nothing.py": "", **dict(packages)}))
    known = {field: show(service, newest.name)["spec"][field] for field in ("requirements", "plugins")}
    wait_for_dag(service, newest.name, "hello")
    runs = [trigger(service, newest.name, "hello")]
    done = update(
        service,
        newest.name,
        {"RequirementsS3Path": "bad/requirements.txt", "PluginsS3Path": "bad/plugins.zip"},
        meanwhile=lambda: runs.append(trigger(service, newest.name, "hello")),
    )
    runs.append(trigger(service, newest.name, "hello"))
    _failed_with(service, newest.name, done, code, said)
    assert {field: show(service, newest.name)["spec"][field] for field in known} == known
    for run_id in runs:
        assert wait_for_run(service, newest.name, "hello", run_id) == "success"
    assert pids(service, newest.name) == done.before
    assert len(runs) == 3
    sys.stdout.write(f"\n{what}: refused after {done.seconds:.1f} s")


def test_a_script_that_fails_is_undone_with_a_change_of_bucket(service: Service, newest: Environment) -> None:
    """Its last lines are the evidence; no process is touched, and tasks still read the former bucket."""
    put(service, newest.bucket, "dags/reads_its_bucket.py", READS_ITS_BUCKET)
    wait_for_dag(service, newest.name, "reads_its_bucket")
    other = service.bucket({"hello.py": IMPORTS})
    put(service, other, "startup.sh", "echo asking for a licence\necho no licence for you >&2\nexit 3\n")
    done = update(
        service,
        newest.name,
        {"SourceBucketArn": f"arn:aws:s3:::{other}", "StartupScriptS3Path": "startup.sh"},
    )
    _failed_with(
        service, newest.name, done, "STARTUP_SCRIPT_FAILED", "asking for a licence | no licence for you"
    )
    assert done.environment["SourceBucketArn"] == f"arn:aws:s3:::{newest.bucket}"
    run_id = trigger(service, newest.name, "reads_its_bucket", conf={"bucket": newest.bucket})
    assert wait_for_run(service, newest.name, "reads_its_bucket", run_id) == "success"
    assert pids(service, newest.name) == done.before


def _failed_with(service: Service, name: str, done: Update, code: str, said: str) -> None:
    """The cause is in LastUpdate within MWAA's limit, and in full in the history."""
    # ROLLING_BACK is over in a moment where nothing was replaced yet.
    assert [one for one in done.statuses if one != "ROLLING_BACK"] == ["UPDATING", "UPDATE_FAILED"]
    assert done.seen == {}
    error = done.environment["LastUpdate"]["Error"]
    assert done.environment["LastUpdate"]["Status"] == "FAILED"
    assert error["ErrorCode"] == "INCORRECT_CONFIGURATION"
    assert len(error["ErrorMessage"]) <= 1024
    assert error["ErrorMessage"].endswith(f"Code: {code}")
    event = done.event("rolling-back")
    assert event["data"]["code"] == code
    assert re.search(said, error["ErrorMessage"]) or said in error["ErrorMessage"]
    for part in ("reason", "evidence", "fix"):
        assert event["data"][part] in event["message"]
    assert event["message"] in service.run("events", name).stdout


def _until_mirrored(service: Service, name: str, file: str, *, there: bool = True) -> None:
    path = mirrored(service, name, file)
    eventually(lambda: path.exists() == there, within_s=20, what=f"{file} mirrored")


def _layer_folder(service: Service, name: str) -> Path:
    layer = layer_of(EnvironmentSpec.from_json(show(service, name)["spec"]))
    assert layer is not None
    return service.settings.layout.layers / layer


def _layer(service: Service, name: str) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((_layer_folder(service, name) / "layer.json").read_text())
    return facts
