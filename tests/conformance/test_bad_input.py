"""Wrong requests: MWAA's error for each, and nothing left behind."""

# ruff: noqa: E501 - one case per line

from __future__ import annotations

from typing import Any

import pytest

from tests.conformance.errors import an_error
from tests.support.api import REQUEST, ApiServer

NETWORK = REQUEST["NetworkConfiguration"]
BUCKET = "arn:aws:s3:::"

CREATE: list[tuple[str, dict[str, Any], str]] = [
    ("a name that begins with a digit", {"Name": "1alpha"}, "at 'name' failed to satisfy constraint"),
    ("a name with a dot", {"Name": "al.pha"}, "at 'name'"),
    ("a name with a slash", {"Name": "al/pha"}, "at 'name'"),
    ("a name of 81 characters", {"Name": "a" * 81}, "length less than or equal to 80"),
    ("no role", {"ExecutionRoleArn": None}, "Value null at 'executionRoleArn'"),
    ("a role that is no ARN", {"ExecutionRoleArn": "admin"}, "at 'executionRoleArn'"),
    ("a role of a short account", {"ExecutionRoleArn": "arn:aws:iam::12:role/r"}, "at 'executionRoleArn'"),
    ("a bucket that is no ARN", {"SourceBucketArn": "airflow-tests"}, "at 'sourceBucketArn'"),
    ("a bucket with a trailing slash", {"SourceBucketArn": f"{BUCKET}airflow-tests/"}, "at 'sourceBucketArn'"),
    ("a missing bucket", {"SourceBucketArn": f"{BUCKET}nowhere"}, "Provided role does not have sufficient permissions"),
    ("an unversioned bucket", {"SourceBucketArn": f"{BUCKET}airflow-unversioned"}, "Versioning is not enabled"),
    ("no DAG folder", {"DagS3Path": None}, "Value null at 'dagS3Path'"),
    ("an absolute DAG folder", {"DagS3Path": "/dags"}, "DagS3Path"),
    ("a DAG folder that is a URL", {"DagS3Path": "s3://airflow-tests/dags"}, "DagS3Path"),
    ("one subnet", {"NetworkConfiguration": {**NETWORK, "SubnetIds": ["subnet-a"]}}, "subnetIds"),
    ("one subnet twice", {"NetworkConfiguration": {**NETWORK, "SubnetIds": ["subnet-a"] * 2}}, "SubnetIds"),
    ("a subnet that is none", {"NetworkConfiguration": {**NETWORK, "SubnetIds": ["vpc-a", "vpc-b"]}}, "subnetIds"),
    ("no security groups", {"NetworkConfiguration": {"SubnetIds": NETWORK["SubnetIds"]}}, "SecurityGroupIds"),
    ("six security groups", {"NetworkConfiguration": {**NETWORK, "SecurityGroupIds": [f"sg-{n}" for n in range(6)]}}, "securityGroupIds"),
    ("an unknown class", {"EnvironmentClass": "mw1.huge"}, "EnvironmentClass"),
    ("an unknown version", {"AirflowVersion": "9.9.9"}, "AirflowVersion 9.9.9"),
    ("a version that is none", {"AirflowVersion": "3.3.1!"}, "at 'airflowVersion'"),
    ("no workers", {"MaxWorkers": 0}, "at 'maxWorkers' failed to satisfy constraint: Member must have value greater"),
    ("more workers than the quota", {"MaxWorkers": 26}, "worker count"),
    ("more workers at least than at most", {"MinWorkers": 5, "MaxWorkers": 4}, "MinWorkers"),
    ("one scheduler", {"Schedulers": 1}, "scheduler count"),
    ("six schedulers", {"Schedulers": 6}, "at 'schedulers'"),
    ("two web servers on micro", {"EnvironmentClass": "mw1.micro", "MaxWebservers": 2}, "The web server count for environment class mw1.micro must be 1."),
    ("an unknown log level", {"LoggingConfiguration": {"TaskLogs": {"Enabled": True, "LogLevel": "TRACE"}}}, "enum value set: [CRITICAL, ERROR, WARNING, INFO, DEBUG]"),
    ("a log type without level", {"LoggingConfiguration": {"TaskLogs": {"Enabled": True}}}, "at 'loggingConfiguration.taskLogs.logLevel'"),
    ("a window at a quarter past", {"WeeklyMaintenanceWindowStart": "MON:03:15"}, "at 'weeklyMaintenanceWindowStart'"),
    ("a window on no day", {"WeeklyMaintenanceWindowStart": "XMON:3:00"}, "weeklyMaintenanceWindowStart"),
    ("an option without section", {"AirflowConfigurationOptions": {"parallelism": "1"}}, "section.option"),
    ("an option in capitals", {"AirflowConfigurationOptions": {"CORE.Parallelism": "1"}}, "Map keys must satisfy"),
    ("an option that is not ASCII", {"AirflowConfigurationOptions": {"core.x": "ü"}}, "Map value must satisfy"),
    ("a reserved tag", {"Tags": {"aws:x": "1"}}, "reserved"),
    ("an empty tag value", {"Tags": {"a": ""}}, "at 'tags'"),
    ("51 tags", {"Tags": {f"k{n}": "v" for n in range(51)}}, "at 'tags'"),
    ("a KMS alias", {"KmsKey": "alias/mine"}, "alias"),
    ("a KMS key", {"KmsKey": "11111111-2222-3333-4444-555555555555"}, "KmsKey"),
    ("an unknown access mode", {"WebserverAccessMode": "OPEN"}, "at 'webserverAccessMode'"),
    ("both ways in on an old Airflow", {"WebserverAccessMode": "PUBLIC_AND_PRIVATE", "AirflowVersion": "3.0.6"}, "PUBLIC_AND_PRIVATE"),
    ("customer endpoints", {"EndpointManagement": "CUSTOMER"}, "EndpointManagement"),
    ("missing plugins", {"PluginsS3Path": "p.zip", "PluginsS3ObjectVersion": "gone"}, "Unable to access version gone"),
    ("requirements without a path", {"RequirementsS3ObjectVersion": "v1"}, "RequirementsS3ObjectVersion needs RequirementsS3Path"),
    ("a start-up script outside the bucket", {"StartupScriptS3Path": "s3://other/startup.sh"}, "StartupScriptS3Path must be relative"),
]  # fmt: skip


@pytest.mark.parametrize(("members", "text"), [case[1:] for case in CREATE], ids=[case[0] for case in CREATE])
def test_create_refuses(api: ApiServer, members: dict[str, Any], text: str) -> None:
    request = {
        key: value for key, value in {"Name": "alpha", **REQUEST, **members}.items() if value is not None
    }
    with an_error("ValidationException", 400, text):
        api.client(parameter_validation=False).create_environment(**request)
    assert api.names() == []
    assert api.run(api.store.database.all("SELECT * FROM events")) == []


def test_create_refuses_a_taken_name(api: ApiServer) -> None:
    api.create("alpha", MaxWorkers=3)
    with an_error("ValidationException", 400, "alpha already exists"):
        api.create("alpha", MaxWorkers=4)
    assert api.environment("alpha")["MaxWorkers"] == 3


def test_create_refuses_more_than_the_quota(api: ApiServer) -> None:
    for number in range(10):
        api.create(f"e{number}")
    with an_error("ValidationException", 400, "maximum number of environments (10)"):
        api.create("e10")
    assert len(api.names()) == 10


UPDATE: list[tuple[str, dict[str, Any], str]] = [
    ("unknown version", {"AirflowVersion": "2.4.3"}, "AirflowVersion 2.4.3 is not supported"),
    ("class", {"EnvironmentClass": "mw1.tiny"}, "EnvironmentClass mw1.tiny is not supported"),
    ("bucket", {"SourceBucketArn": f"{BUCKET}airflow-unversioned"}, "Versioning is not enabled"),
    ("bucket before its files", {
        "SourceBucketArn": f"{BUCKET}airflow-unversioned",
        "RequirementsS3Path": "requirements.txt",
        "RequirementsS3ObjectVersion": "gone",
    }, "Versioning is not enabled"),
    ("folder", {"DagS3Path": "/dags"}, "DagS3Path must be relative"),
    ("access mode", {"AirflowVersion": "3.0.6", "WebserverAccessMode": "PUBLIC_AND_PRIVATE"}, "needs Airflow 3.2"),
    ("groups", {"NetworkConfiguration": {"SecurityGroupIds": []}}, "securityGroupIds"),
    ("plugins", {"PluginsS3Path": "p.zip", "PluginsS3ObjectVersion": "gone"}, "Unable to access version gone"),
    ("version without a path", {"RequirementsS3ObjectVersion": "v"}, "RequirementsS3ObjectVersion"),
    ("start-up script", {"StartupScriptS3Path": "../startup.sh"}, "StartupScriptS3Path"),
    ("teams", {"Teams": {"Remove": ["data"]}}, "Teams"),
    ("strategy", {"WorkerReplacementStrategy": "GENTLE"}, "enum value set: [FORCED, GRACEFUL]"),
    ("counts", {"MinWorkers": 20}, "MinWorkers (20) must be less than or equal to MaxWorkers (10)"),
    ("level", {"LoggingConfiguration": {"TaskLogs": {"Enabled": True, "LogLevel": "info"}}}, "logLevel"),
]  # fmt: skip


@pytest.mark.parametrize(("members", "text"), [case[1:] for case in UPDATE], ids=[case[0] for case in UPDATE])
def test_update_refuses_and_changes_nothing(api: ApiServer, members: dict[str, Any], text: str) -> None:
    api.available("alpha")
    before = api.environment("alpha")
    with an_error("ValidationException", 400, text):
        api.client(parameter_validation=False).update_environment(Name="alpha", **members)
    assert api.environment("alpha") == before


@pytest.mark.parametrize(
    "token", ["x", "YQ==", "YWZ0ZXI6", "YWZ0ZXI6MQ==", "YWZ0ZXI6YQ", "é", "%00", "a" * 2049]
)
def test_list_refuses_a_token_that_is_not_ours(api: ApiServer, token: str) -> None:
    with an_error("ValidationException", 400):
        api.client().list_environments(NextToken=token)


@pytest.mark.parametrize("number", [0, 26, -1])
def test_list_refuses_a_page_size(api: ApiServer, number: int) -> None:
    with an_error("ValidationException", 400, "at 'maxResults'"):
        api.client(parameter_validation=False).list_environments(MaxResults=number)


def test_wrong_types_are_refused(api: ApiServer) -> None:
    mwaa = api.client(parameter_validation=False)
    with an_error("SerializationException", 400, "STRING_VALUE can not be converted to an Integer"):
        mwaa.create_environment(Name="alpha", **REQUEST, MaxWorkers="three")
    assert api.names() == []


@pytest.mark.parametrize(
    ("arn", "code", "status"),
    [
        ("arn:aws:airflow:us-east-1:000000000000:environment", "ValidationException", 400),
        ("arn:aws:airflow:us-east-1:000000000000:environment/al pha", "ValidationException", 400),
        ("alpha", "ValidationException", 400),
        ("arn:aws:airflow:us-east-1:111111111111:environment/alpha", "AccessDeniedException", 403),
        ("arn:aws:airflow:eu-west-1:000000000000:environment/alpha", "ResourceNotFoundException", 404),
    ],
)
def test_tags_of_something_else(api: ApiServer, arn: str, code: str, status: int) -> None:
    api.create("alpha")
    mwaa = api.client()
    for call in (
        lambda: mwaa.list_tags_for_resource(ResourceArn=arn),
        lambda: mwaa.tag_resource(ResourceArn=arn, Tags={"a": "b"}),
        lambda: mwaa.untag_resource(ResourceArn=arn, tagKeys=["a"]),
    ):
        with an_error(code, status):
            call()
    assert api.environment("alpha")["Tags"] == {}


def test_tags_that_belong_to_aws(api: ApiServer) -> None:
    arn = api.create("alpha")
    with an_error("ValidationException", 400, "reserved"):
        api.client().tag_resource(ResourceArn=arn, Tags={"ok": "1", "aws:x": "1"})
    assert api.environment("alpha")["Tags"] == {}
