"""The command line from the first environment to the last event, as a user types it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.dags import HELLO, numbered
from tests.support.eventually import eventually
from tests.support.runs import trigger, wait_for_run
from tests.support.service import Service

NAME = "Typed_by_hand"

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def dags(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dags")
    (folder / "hello.py").write_text(HELLO)
    return folder


@pytest.fixture(scope="module", autouse=True)
def created(service: Service, dags: Path) -> Iterator[subprocess.CompletedProcess[str]]:
    """An environment made by nothing but a name and a folder."""
    yield service.run("env", "create", NAME, "--dags", str(dags), timeout_s=500)
    service.run("env", "delete", NAME, check=False)


def test_create_waits_and_says_what_happens(
    service: Service, created: subprocess.CompletedProcess[str]
) -> None:
    """Bucket, upload, events, address; a laptop's class."""
    assert "with versioning" in created.stdout
    assert f"{NAME} is AVAILABLE at https://127." in created.stdout
    environment = service.environment(NAME)
    assert environment["EnvironmentClass"] == "mw1.micro"
    assert environment["SourceBucketArn"].startswith("arn:aws:s3:::openmwaa-000000000000-typed-by-hand-")
    listed = {one["name"]: one for one in service.json("env", "list")}
    assert listed[NAME]["replicas"] == listed[NAME]["replicas_ready"] == 5


def test_a_refused_creation_leaves_no_bucket(service: Service) -> None:
    """One line with AWS's code, exit code 1."""
    refused = service.run("env", "create", "refused", "--class", "mw1.giant", check=False)
    assert refused.returncode == 1
    assert refused.stderr.startswith("ValidationException: EnvironmentClass mw1.giant is not supported")
    assert len(refused.stderr.splitlines()) == 1
    assert "refused" not in str(service.client("s3").list_buckets()["Buckets"])


def test_deploy_syncs_and_waits_until_parsed(service: Service, dags: Path) -> None:
    """New, changed, deleted; a file that cannot be imported is an error with its reason."""
    (dags / "second.py").write_text(numbered("second"))
    shown = service.run("dags", "deploy", NAME, str(dags), "--wait").stdout
    assert "+ second.py" in shown
    assert "second.py: second" in shown
    (dags / "second.py").write_text("from airflow import nonsense  # dag\n")
    broken = service.run("dags", "deploy", NAME, str(dags), "--wait", check=False)
    assert broken.returncode == 1
    assert broken.stderr.startswith("second.py cannot be imported: ImportError")
    (dags / "second.py").unlink()
    assert "- second.py" in service.run("dags", "deploy", NAME, str(dags)).stdout
    assert service.json("dags", "deploy", NAME, str(dags))["unchanged"] == 1


def test_airflows_command_line_through_a_token_and_directly(service: Service) -> None:
    """MWAA's commands for everybody, all of them for the operator."""
    assert "hello" in service.run("env", "cli", NAME, "--", "dags", "list").stdout
    refused = service.run("env", "cli", NAME, "--", "users", "list", check=False)
    assert refused.returncode == 1
    assert "not supported" in refused.stderr
    assert service.run("env", "cli", NAME, "--direct", "--", "users", "list").returncode == 0
    failed = service.run("env", "cli", NAME, "--direct", "--", "dags", "nonsense", check=False)
    assert failed.returncode == 2


def test_open_prints_a_link_that_logs_in(service: Service) -> None:
    """The token in its fragment is good for a session."""
    url = service.json("env", "open", NAME)["url"]
    page, _, token = url.partition("#")
    assert page.endswith("/aws_mwaa/aws-console-sso?login=true")
    with service.http() as http:
        assert http.get(page).status_code == 200
        login = http.post(page.partition("/aws_mwaa")[0] + "/pluginsv2/aws_mwaa/login", data={"token": token})
        assert login.status_code == 200, login.text


def test_logs_show_tasks_and_components(service: Service) -> None:
    """What a task printed, and what its worker says."""
    run_id = trigger(service, NAME, "hello")
    assert wait_for_run(service, NAME, "hello", run_id) == "success"
    eventually(
        lambda: "made by the first task" in service.run("logs", NAME, "--component", "task").stdout,
        within_s=20,
        every_s=1,
        what="the task's line",
    )
    names = {json.loads(line)["name"] for line in service.run("logs", NAME, "--json").stdout.splitlines()}
    assert any(name.startswith("hello/") for name in names)
    assert "scheduler-0" in {
        json.loads(line)["name"]
        for line in service.run("logs", NAME, "--component", "scheduler", "--json").stdout.splitlines()
    }


@pytest.mark.thorough
def test_an_update_does_what_its_plan_says(service: Service) -> None:
    """Every component is named, every process is replaced."""
    option = ("--option", "core.default_task_retries=2")
    plan = service.json("env", "plan", NAME, *option)
    assert {one["action"] for one in plan["components"]} == {"replace"}
    before = pids(service)
    service.run("env", "update", NAME, *option)
    assert service.environment(NAME)["AirflowConfigurationOptions"] == {"core.default_task_retries": "2"}
    after = pids(service)
    assert before.keys() == after.keys()
    assert not set(before.values()) & set(after.values())


def test_a_deleted_environment_keeps_its_history(service: Service) -> None:
    """Runs last: the environment is gone, its events and its bucket are not."""
    bucket = service.environment(NAME)["SourceBucketArn"].rpartition(":")[2]
    service.run("env", "delete", NAME, "--yes")
    gone = service.run("env", "show", NAME, check=False)
    assert gone.stderr == f"ResourceNotFoundException: No environment found with the name {NAME}.\n"
    assert "Deleted in" in service.run("events", NAME).stdout
    assert service.client("s3").head_object(Bucket=bucket, Key="dags/hello.py")


def pids(service: Service) -> dict[str, int]:
    """Return the pid of each replica."""
    return {
        f"{one['kind']}-{one['index']}": one["pid"] for one in service.json("env", "show", NAME)["replicas"]
    }
