"""Constraints of the model, in AWS's words."""

# ruff: noqa: E501 - one case per line

from __future__ import annotations

import re
import sys
import time
import unicodedata
from typing import Any

import pytest

from openmwaa.api.errors import ServiceError
from openmwaa.api.models import PATCHES, load
from openmwaa.api.validate import _FIRST_PLANES, _compile, validate

MODEL = load("mwaa")
GOOD: dict[str, Any] = {
    "Name": "alpha",
    "ExecutionRoleArn": "arn:aws:iam::000000000000:role/r",
    "SourceBucketArn": "arn:aws:s3:::airflow-alpha",
    "DagS3Path": "dags",
    "NetworkConfiguration": {"SubnetIds": ["subnet-a", "subnet-b"], "SecurityGroupIds": ["sg-a"]},
}


def problems(operation: str = "CreateEnvironment", without: str = "", **members: Any) -> str:
    parameters = {**(GOOD if operation == "CreateEnvironment" else {}), **members}
    parameters.pop(without, None)
    try:
        validate(MODEL.operation_model(operation).input_shape, parameters)
    except ServiceError as error:
        return error.message if error.code == "ValidationException" else error.code
    return ""


def test_a_good_request_passes() -> None:
    assert problems() == ""
    assert problems(Tags={"Überschrift/a": "größe = 1+2"}, MaxWorkers=1, Schedulers=5) == ""


def test_the_form_of_the_message() -> None:
    assert problems(Name="1alpha") == (
        "1 validation error detected: Value '1alpha' at 'name' failed to satisfy constraint: Member must"
        " satisfy regular expression pattern: [a-zA-Z][0-9a-zA-Z-_]*"
    )
    assert problems(Name="", MaxWorkers=0) == (
        "3 validation errors detected:"
        " Value '' at 'name' failed to satisfy constraint: Member must have length greater than or equal to 1;"
        " Value '' at 'name' failed to satisfy constraint: Member must satisfy regular expression pattern:"
        " [a-zA-Z][0-9a-zA-Z-_]*;"
        " Value '0' at 'maxWorkers' failed to satisfy constraint: Member must have value greater than or equal to 1"
    )


@pytest.mark.parametrize(
    ("members", "text"),
    [
        ({"without": "DagS3Path"}, "Value null at 'dagS3Path' failed to satisfy constraint: Member must not be null"),
        ({"Name": "a" * 81}, "Member must have length less than or equal to 80"),
        ({"Name": "alpha\n"}, "at 'name'"),
        ({"ExecutionRoleArn": "arn:aws:iam::1:role/r"}, "at 'executionRoleArn'"),
        ({"SourceBucketArn": "arn:aws:s3:::alpha/"}, "at 'sourceBucketArn'"),
        ({"Schedulers": 6}, "Member must have value less than or equal to 5"),
        ({"WebserverAccessMode": "OPEN"}, "Member must satisfy enum value set: [PRIVATE_ONLY, PUBLIC_ONLY, PUBLIC_AND_PRIVATE]"),
        ({"LoggingConfiguration": {"TaskLogs": {"Enabled": True}}}, "Value null at 'loggingConfiguration.taskLogs.logLevel'"),
        ({"LoggingConfiguration": {"TaskLogs": {"Enabled": True, "LogLevel": "TRACE"}}}, "Value 'TRACE' at 'loggingConfiguration.taskLogs.logLevel'"),
        ({"NetworkConfiguration": {"SubnetIds": ["subnet-a"]}}, "Value '[subnet-a]' at 'networkConfiguration.subnetIds' failed to satisfy constraint: Member must have length greater than or equal to 2"),
        ({"NetworkConfiguration": {"SecurityGroupIds": ["vpc-1"]}}, "Value '[vpc-1]' at 'networkConfiguration.securityGroupIds' failed to satisfy constraint: Member must satisfy constraint: [Member must have length less than or equal to 1024, Member must have length greater than or equal to 1, Member must satisfy regular expression pattern: sg-[a-zA-Z0-9\\-._]+]"),
        ({"Tags": {}}, "Value '{}' at 'tags' failed to satisfy constraint: Member must have length greater than or equal to 1"),
        ({"Tags": {"a": ""}}, "Value '{a=}' at 'tags' failed to satisfy constraint: Map value must satisfy constraint: [Member must have length less than or equal to 256"),
        ({"Tags": {"a*": "b"}}, "Map keys must satisfy constraint: [Member must have length less than or equal to 128"),
        ({"Teams": {"data": {"DagS3Path": "d"}}}, "Value null at 'teams.data.member.sourceBucketArn'"),
        ({"KmsKey": "not-a-key"}, "Value 'not-a-key' at 'kmsKey'"),
    ],
)  # fmt: skip
def test_each_kind_of_constraint(members: dict[str, Any], text: str) -> None:
    assert text in problems(**members)


def test_sensitive_values_are_not_repeated() -> None:
    message = problems(AirflowConfigurationOptions={"smtp.smtp_password": "geheim-ä"})
    assert "Value at 'airflowConfigurationOptions' failed to satisfy constraint: Map value must" in message
    assert "geheim" not in message


def test_long_values_are_cut() -> None:
    assert len(problems(SourceBucketArn="x" * 100_000)) < 1500


def test_a_hostile_key_is_answered_at_once() -> None:
    """The pattern of option keys backtracks without end on a long text that nearly matches."""
    started = time.perf_counter()
    assert "airflowConfigurationOptions" in problems(AirflowConfigurationOptions={"a" * 200_000 + "!": "x"})
    assert "airflowConfigurationOptions" in problems(AirflowConfigurationOptions={"a" * 63 + "!": "x"})
    assert time.perf_counter() - started < 1


def test_paths_of_rest_calls_may_be_long() -> None:
    """13.4: Airflow's amazon provider exceeds the 64 characters of the model."""
    assert problems("InvokeRestApi", Name="a", Method="GET", Path="/" + "x" * 500) == ""
    assert "at 'path'" in problems("InvokeRestApi", Name="a", Method="GET", Path="")


def test_patches_name_shapes_that_exist_and_reasons() -> None:
    for service, patches in PATCHES.items():
        for patch in patches:
            assert patch.shape in load(service).shape_names
            assert patch.reason


def test_every_pattern_of_the_model_compiles_alike() -> None:
    for name in MODEL.shape_names:
        pattern = MODEL.shape_for(name).metadata.get("pattern")
        if pattern:
            assert isinstance(_compile(pattern), re.Pattern), name


def test_java_classes_are_ascii_and_unicode_classes_are_not() -> None:
    assert problems("ListTagsForResource", ResourceArn="arn:aws:airflow:r:٣٣٣٣٣٣٣٣٣٣٣٣:environment/a")
    assert not problems(Tags={"日本語 ³ ª": "Ωmega"})
    assert problems(Tags={"tab\there": "x"})
    assert problems(Tags={"emoji😀": "x"})


def test_no_letter_number_or_separator_is_missed() -> None:
    """The table stops at the fourth plane: nothing of these categories may be above."""
    above = (chr(point) for point in range(_FIRST_PLANES, sys.maxunicode + 1))
    assert not {unicodedata.category(char)[0] for char in above} & set("LNZ")
