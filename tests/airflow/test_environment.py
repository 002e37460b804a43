"""What a user does with an environment, on every supported version, with stock clients."""

from __future__ import annotations

import base64
import json
import time

import pytest
from botocore.exceptions import ClientError

from tests.support.dags import numbered
from tests.support.environment import Environment
from tests.support.eventually import eventually
from tests.support.runs import state_of, task_instances, trigger, wait_for_dag, wait_for_run
from tests.support.service import Service
from tests.support.updates import mirrored

pytestmark = pytest.mark.timeout(900)


def test_it_is_available_and_described_as_mwaa_does(service: Service, environment: Environment) -> None:
    """GetEnvironment of an available environment has what Terraform and CloudFormation read."""
    seen = service.environment(environment.name)
    assert seen["Status"] == "AVAILABLE"
    assert seen["AirflowVersion"] == environment.version
    assert seen["LastUpdate"]["Status"] == "SUCCESS"
    assert seen["LastUpdate"]["CreatedAt"] == seen["CreatedAt"]
    assert "://" not in seen["WebserverUrl"]
    assert seen["LoggingConfiguration"]["TaskLogs"]["Enabled"] is True
    assert seen["LoggingConfiguration"]["SchedulerLogs"]["Enabled"] is False
    assert "CloudWatchLogGroupArn" not in seen["LoggingConfiguration"]["SchedulerLogs"]
    assert "AirflowConfigurationOptions" not in seen or seen["AirflowConfigurationOptions"] == {}


def test_a_dag_runs_through_invoke_rest_api(service: Service, environment: Environment) -> None:
    """A run started by InvokeRestApi succeeds, and its values pass between tasks."""
    wait_for_dag(service, environment.name, "hello")
    run_id = trigger(service, environment.name, "hello")
    assert wait_for_run(service, environment.name, "hello", run_id) == "success"
    states = {
        one["task_id"]: one["state"] for one in task_instances(service, environment.name, "hello", run_id)
    }
    assert states == {"make": "success", "double": "success"}


def test_a_dag_runs_through_the_cli_token(service: Service, environment: Environment) -> None:
    """`dags trigger` through CreateCliToken starts a run; the answer is Base64 as on MWAA."""
    wait_for_dag(service, environment.name, "hello")
    token = service.client("mwaa").create_cli_token(Name=environment.name)
    run_id = f"by-cli-{int(time.time())}"
    with service.http() as http:
        answer = http.post(
            f"https://{token['WebServerHostname']}/aws_mwaa/cli",
            headers={"Authorization": f"Bearer {token['CliToken']}", "Content-Type": "text/plain"},
            content=f"dags trigger hello --run-id {run_id}",
        )
    assert answer.status_code == 200, answer.text
    streams = {key: base64.b64decode(value).decode() for key, value in answer.json().items()}
    assert set(streams) == {"stdout", "stderr"}
    assert run_id in streams["stdout"] + streams["stderr"]
    assert wait_for_run(service, environment.name, "hello", run_id) == "success"


def test_the_web_token_logs_in_and_opens_the_rest_api(service: Service, environment: Environment) -> None:
    """The documented programmatic login gives a session for Airflow's REST API, as the caller's role."""
    token = service.client("mwaa").create_web_login_token(Name=environment.name)
    host = token["WebServerHostname"]
    new, old = ("/pluginsv2/aws_mwaa/login", "/aws_mwaa/login")
    path, wrong, cookie, prefix = (
        (old, new, "session", "/api/v1") if environment.generation == 2 else (new, old, "_token", "/api/v2")
    )
    with service.http() as http:
        assert http.post(f"https://{host}{wrong}", data={"token": token["WebToken"]}).status_code == 404
        login = http.post(f"https://{host}{path}", data={"token": token["WebToken"]})
        assert login.status_code == 200, login.text
        session = login.cookies[cookie]
    with service.http() as http:
        headers = (
            {"Cookie": f"session={session}"}
            if environment.generation == 2
            else {"Authorization": f"Bearer {session}"}
        )
        dags = http.get(f"https://{host}{prefix}/dags", headers=headers)
        assert dags.status_code == 200, dags.text
        assert "hello" in {dag["dag_id"] for dag in dags.json()["dags"]}
        assert http.get(f"https://{host}{prefix}/dags").status_code in {401, 403}


def test_a_new_file_is_parsed_within_ten_seconds_and_a_deleted_one_disappears(
    service: Service, environment: Environment
) -> None:
    """An uploaded DAG can be used within 10 s of PutObject's answer; deleting the object removes the file."""
    s3 = service.client("s3")
    dag_id = f"fresh_{int(time.time())}"
    s3.put_object(Bucket=environment.bucket, Key=f"dags/sub/{dag_id}.py", Body=numbered(dag_id).encode())
    started = time.monotonic()
    wait_for_dag(service, environment.name, dag_id, within_s=10)
    assert time.monotonic() - started <= 10
    file = mirrored(service, environment.name, f"sub/{dag_id}.py")
    assert file.exists()
    s3.delete_object(Bucket=environment.bucket, Key=f"dags/sub/{dag_id}.py")
    eventually(lambda: not file.exists(), within_s=15, what="file gone from the mirror")


def test_a_running_tasks_log_can_be_read(service: Service, environment: Environment) -> None:
    """The log is readable while the task runs, and what it printed so far is in it."""
    wait_for_dag(service, environment.name, "talkative")
    run_id = trigger(service, environment.name, "talkative")
    path = f"/dags/talkative/dagRuns/{run_id}/taskInstances/wait/logs/1"

    def live_log() -> bool:
        answer = service.rest(environment.name, "GET", path, query={"full_content": True})
        return "second 3" in json.dumps(answer)

    eventually(live_log, within_s=60, errors=(ClientError,), what="live log")
    assert state_of(service, environment.name, "talkative", run_id) == "running"
    assert wait_for_run(service, environment.name, "talkative", run_id) == "success"


def test_unknown_environments_give_mwaas_404(service: Service) -> None:
    """Every operation on a name that does not exist is a ResourceNotFoundException."""
    mwaa = service.client("mwaa")
    for call in (
        mwaa.get_environment,
        mwaa.delete_environment,
        mwaa.create_cli_token,
        mwaa.create_web_login_token,
    ):
        with pytest.raises(mwaa.exceptions.ResourceNotFoundException):
            call(Name="nobody")


@pytest.mark.thorough
def test_options_and_counts_can_be_updated(service: Service, environments: dict[str, Environment]) -> None:
    """UpdateEnvironment changes what really runs: an option reaches the components, workers are added."""
    environment = environments["3.3.1"]
    mwaa = service.client("mwaa")
    before = service.json("env", "show", environment.name)
    mwaa.update_environment(
        Name=environment.name, AirflowConfigurationOptions={"core.default_task_retries": "3"}
    )
    assert service.environment(environment.name)["Status"] == "UPDATING"
    seen = service.available(environment.name)
    assert seen["AirflowConfigurationOptions"] == {"core.default_task_retries": "3"}
    after = service.json("env", "show", environment.name)
    pids = {(one["kind"], one["index"]): one["pid"] for one in before["replicas"]}
    assert all(pids[one["kind"], one["index"]] != one["pid"] for one in after["replicas"])
    mwaa.update_environment(Name=environment.name, AirflowConfigurationOptions={})
    service.available(environment.name)


@pytest.mark.thorough
def test_a_setting_that_airflow_does_not_survive_is_undone(
    service: Service, environments: dict[str, Environment]
) -> None:
    """A value with which a component cannot start ends UPDATE_FAILED with the old setting in force, and says why."""
    environment = environments["3.3.1"]
    mwaa = service.client("mwaa")
    before = service.environment(environment.name).get("AirflowConfigurationOptions", {})
    mwaa.update_environment(
        Name=environment.name, AirflowConfigurationOptions={"celery.worker_autoscale": "abc"}
    )
    seen = service.settled(environment.name, within_s=400)
    assert seen["Status"] == "UPDATE_FAILED"
    assert seen["LastUpdate"]["Status"] == "FAILED"
    assert "worker-" in seen["LastUpdate"]["Error"]["ErrorMessage"]
    assert seen.get("AirflowConfigurationOptions", {}) == before
    wait_for_dag(service, environment.name, "hello")
    run_id = trigger(service, environment.name, "hello")
    assert wait_for_run(service, environment.name, "hello", run_id) == "success"
    mwaa.update_environment(Name=environment.name)
    assert service.settled(environment.name, within_s=400)["Status"] == "AVAILABLE"
