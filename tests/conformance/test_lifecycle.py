"""Environments from create to delete, as an unmodified boto3 sees them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from botocore.exceptions import ClientError

from tests.conformance.errors import an_error
from tests.support.api import REQUEST, ApiServer

ALWAYS = {
    "Name", "Status", "Arn", "CreatedAt", "AirflowVersion", "ExecutionRoleArn", "SourceBucketArn",
    "DagS3Path", "EnvironmentClass", "MinWorkers", "MaxWorkers", "MinWebservers", "MaxWebservers",
    "Schedulers", "NetworkConfiguration", "LoggingConfiguration", "WeeklyMaintenanceWindowStart",
    "WebserverAccessMode", "EndpointManagement", "LastUpdate", "Tags", "WebserverUrl", "ServiceRoleArn",
    "CeleryExecutorQueue",
}  # fmt: skip


def test_a_minimal_environment_has_every_default_and_nothing_else(api: ApiServer) -> None:
    before = datetime.now(UTC) - timedelta(seconds=1)
    assert api.create("alpha") == "arn:aws:airflow:us-east-1:000000000000:environment/alpha"
    environment = api.environment("alpha")
    assert set(environment) == ALWAYS
    assert environment["Status"] == "CREATING"
    assert environment["LastUpdate"] == {"Status": "PENDING", "CreatedAt": environment["CreatedAt"]}
    assert before < environment["CreatedAt"] < datetime.now(UTC) + timedelta(seconds=1)
    assert environment["WebserverUrl"] == f"{api.settings.ports.address(1)}:{api.settings.ports.https}"
    assert environment["Tags"] == {}
    assert environment["DagS3Path"] == "dags"
    assert environment["CeleryExecutorQueue"].startswith("arn:aws:sqs:us-east-1:000000000000:airflow-celery-")
    logging = environment["LoggingConfiguration"]
    assert logging.pop("TaskLogs") == {
        "Enabled": True,
        "LogLevel": "INFO",
        "CloudWatchLogGroupArn": "arn:aws:logs:us-east-1:000000000000:log-group:airflow-alpha-Task:*",
    }
    assert set(logging) == {"DagProcessingLogs", "SchedulerLogs", "WebserverLogs", "WorkerLogs"}
    assert all(setting == {"Enabled": False, "LogLevel": "INFO"} for setting in logging.values())


def test_everything_that_is_given_comes_back(api: ApiServer) -> None:
    given = {
        **REQUEST,
        "AirflowVersion": "2.11.2",
        "EnvironmentClass": "mw1.medium",
        "DagS3Path": "deep/dags/",
        "MinWorkers": 2,
        "MaxWorkers": 7,
        "Schedulers": 3,
        "MinWebservers": 2,
        "MaxWebservers": 4,
        "WebserverAccessMode": "PUBLIC_ONLY",
        "EndpointManagement": "SERVICE",
        "WeeklyMaintenanceWindowStart": "SUN:23:30",
        "AirflowConfigurationOptions": {"core.parallelism": "7", "mine.setting": "a = b; c"},
        "Tags": {"Team": "data", "Größe": "x y"},
    }
    api.create("Alpha_1-x", **given)
    environment = api.environment("Alpha_1-x")
    assert {member: environment[member] for member in given} == given


def test_the_secrets_of_an_environment_are_sealed(api: ApiServer) -> None:
    api.create("alpha")
    record = api.run(api.store.environments.get("alpha"))
    assert "AIRFLOW__CORE__FERNET_KEY" in record.secrets
    assert all(text.startswith("v1.") for text in record.secrets.values())


def test_status_update_and_failure(api: ApiServer) -> None:
    mwaa = api.client()
    api.available("alpha", Tags={"a": "b"})
    created = api.environment("alpha")
    assert created["Status"] == "AVAILABLE"
    assert created["LastUpdate"]["Status"] == "SUCCESS"
    assert mwaa.update_environment(Name="alpha", MaxWorkers=5)["Arn"] == created["Arn"]
    updating = api.environment("alpha")
    assert (updating["Status"], updating["MaxWorkers"]) == ("UPDATING", 5)
    assert updating["LastUpdate"]["Status"] == "PENDING"
    assert updating["LastUpdate"]["WorkerReplacementStrategy"] == "FORCED"
    with an_error(
        "ValidationException", 400, "Environments with UPDATING status must complete previous operation"
    ):
        mwaa.update_environment(Name="alpha")
    with an_error("ValidationException", 400, "Environments with UPDATING status must complete"):
        mwaa.delete_environment(Name="alpha")
    api.reconciled("alpha")
    mwaa.update_environment(Name="alpha", WorkerReplacementStrategy="FORCED")  # changes no member
    assert api.environment("alpha")["LastUpdate"]["WorkerReplacementStrategy"] == "FORCED"
    api.reconciled("alpha")
    assert api.environment("alpha")["Status"] == "AVAILABLE"


def test_each_supported_update(api: ApiServer) -> None:
    api.available("alpha", AirflowConfigurationOptions={"core.parallelism": "7"})
    changes = {
        "MinWorkers": 2,
        "MaxWorkers": 3,
        "Schedulers": 4,
        "MinWebservers": 3,
        "MaxWebservers": 5,
        "WeeklyMaintenanceWindowStart": "TUE:00:30",
        "AirflowConfigurationOptions": {"smtp.smtp_host": "localhost"},
    }
    api.client().update_environment(
        Name="alpha", LoggingConfiguration={"WorkerLogs": {"Enabled": True, "LogLevel": "ERROR"}}, **changes
    )
    environment = api.environment("alpha")
    assert {member: environment[member] for member in changes} == changes
    assert environment["LoggingConfiguration"]["WorkerLogs"] == {
        "Enabled": True,
        "LogLevel": "ERROR",
        "CloudWatchLogGroupArn": "arn:aws:logs:us-east-1:000000000000:log-group:airflow-alpha-Worker:*",
    }
    assert environment["LoggingConfiguration"]["TaskLogs"]["Enabled"]
    api.reconciled("alpha")
    api.client().update_environment(Name="alpha", AirflowConfigurationOptions={})
    assert "AirflowConfigurationOptions" not in api.environment("alpha")


def test_options_without_effect_are_told(api: ApiServer) -> None:
    api.create("alpha", AirflowConfigurationOptions={"metrics.statsd_on": "True", "core.parallelism": "7"})
    events = api.run(api.store.events.list("alpha"))
    (told,) = [event.message for event in events if event.kind == "options"]
    assert told.startswith("metrics.statsd_on has no effect on Airflow itself")


def test_a_failed_creation_can_only_be_deleted(api: ApiServer) -> None:
    api.create("alpha")
    api.reconciled("alpha", failed=True)
    environment = api.environment("alpha")
    assert environment["Status"] == "CREATE_FAILED"
    assert environment["LastUpdate"]["Status"] == "FAILED"
    assert environment["LastUpdate"]["Error"] == {
        "ErrorCode": "INCORRECT_CONFIGURATION",
        "ErrorMessage": "Something is wrong.",
    }
    with an_error("ValidationException", 400, "Environments with CREATE_FAILED status cannot be updated."):
        api.client().update_environment(Name="alpha")
    with an_error("ValidationException", 400):
        api.create("alpha")
    api.client().delete_environment(Name="alpha")
    assert api.environment("alpha")["Status"] == "DELETING"
    with an_error("ValidationException", 400, "Environments with DELETING status must complete"):
        api.client().delete_environment(Name="alpha")
    api.reconciled("alpha", deleted=True)
    with an_error("ResourceNotFoundException", 404):
        api.environment("alpha")
    api.create("alpha")


def test_what_does_not_exist_is_not_found(api: ApiServer) -> None:
    mwaa, arn = api.client(), "arn:aws:airflow:us-east-1:000000000000:environment/nobody"
    for call in (
        lambda: mwaa.get_environment(Name="nobody"),
        lambda: mwaa.update_environment(Name="nobody"),
        lambda: mwaa.delete_environment(Name="nobody"),
        lambda: mwaa.create_cli_token(Name="nobody"),
        lambda: mwaa.create_web_login_token(Name="nobody"),
        lambda: mwaa.invoke_rest_api(Name="nobody", Path="/dags", Method="GET"),
        lambda: mwaa.list_tags_for_resource(ResourceArn=arn),
        lambda: mwaa.tag_resource(ResourceArn=arn, Tags={"a": "b"}),
        lambda: mwaa.untag_resource(ResourceArn=arn, tagKeys=["a"]),
    ):
        with an_error("ResourceNotFoundException", 404, "nobody"):
            call()


def test_lists_are_paged_in_order(api: ApiServer) -> None:
    names = ["B", "a", "a-b", "a_b", "b", "c0", "c1"]
    for name in names:
        api.create(name)
    mwaa = api.client()
    assert mwaa.list_environments()["Environments"] == names
    first = mwaa.list_environments(MaxResults=3)
    assert first["Environments"] == names[:3]
    api.create("a-a")  # between the pages
    rest = mwaa.list_environments(NextToken=first["NextToken"])
    assert rest["Environments"] == names[3:]
    assert "NextToken" not in rest
    pages = mwaa.get_paginator("list_environments").paginate(PaginationConfig={"PageSize": 2})
    assert [name for page in pages for name in page["Environments"]] == sorted([*names, "a-a"])
    assert "NextToken" not in mwaa.list_environments(MaxResults=8)


def test_tags(api: ApiServer) -> None:
    mwaa, arn = api.client(), api.create("alpha", Tags={"a": "1", "b": "2"})
    mwaa.tag_resource(ResourceArn=arn, Tags={"b": "3", "c/d=@": "ü +-.:_ 1"})
    assert mwaa.list_tags_for_resource(ResourceArn=arn)["Tags"] == {"a": "1", "b": "3", "c/d=@": "ü +-.:_ 1"}
    mwaa.untag_resource(ResourceArn=arn, tagKeys=["a", "c/d=@", "never there"])
    assert api.environment("alpha")["Tags"] == {"b": "3"}
    mwaa.untag_resource(ResourceArn=arn, tagKeys=["b"])
    assert mwaa.list_tags_for_resource(ResourceArn=arn)["Tags"] == {}
    mwaa.tag_resource(ResourceArn=arn, Tags={f"k{n}": "v" for n in range(50)})
    with an_error("ValidationException", 400, "at most 50 tags"):
        mwaa.tag_resource(ResourceArn=arn, Tags={"one-more": "v"})
    assert len(mwaa.list_tags_for_resource(ResourceArn=arn)["Tags"]) == 50
    assert api.environment("alpha")["Status"] == "CREATING"


def test_publish_metrics_is_accepted_and_dropped(api: ApiServer) -> None:
    answer = api.client().publish_metrics(
        EnvironmentName="alpha",
        MetricData=[{"MetricName": "x", "Timestamp": datetime.now(UTC), "Value": 1.5, "Unit": "Count"}],
    )
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 200


def test_one_of_many_creates_at_once_wins(api: ApiServer) -> None:
    def create(_: int) -> str:
        try:
            api.create("alpha")
        except ClientError as error:
            return str(error.response["Error"]["Code"])
        return "created"

    with ThreadPoolExecutor(4) as pool:
        results = sorted(pool.map(create, range(8)))
    assert results == ["ValidationException"] * 7 + ["created"]
    assert api.names() == ["alpha"]


@pytest.mark.parametrize("operation", ["get_environment", "delete_environment"])
def test_a_successful_answer_has_status_200_and_a_request_id(api: ApiServer, operation: str) -> None:
    api.available("alpha")
    metadata = getattr(api.client(), operation)(Name="alpha")["ResponseMetadata"]
    assert metadata["HTTPStatusCode"] == 200
    assert len(metadata["RequestId"]) == 36
