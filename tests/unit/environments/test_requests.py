"""Defaults, limits and refusals of CreateEnvironment and UpdateEnvironment."""

# ruff: noqa: E501 - one case per line

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openmwaa.environments.classes import CLASSES
from openmwaa.environments.errors import InvalidRequestError
from openmwaa.environments.requests import Limits, apply_update, build_spec, check_tags
from openmwaa.environments.spec import LOG_TYPES, EnvironmentSpec, LogSetting
from tests.support.specs import a_record

LIMITS = Limits(airflow_versions=("2.11.2", "3.0.6", "3.3.1"), max_workers=25)
SUBNETS = ["subnet-a", "subnet-b"]


def create(**members: Any) -> EnvironmentSpec:
    """Build a spec from the least a caller must give, and `members`."""
    return build_spec(
        {
            "Name": "alpha",
            "ExecutionRoleArn": "arn:aws:iam::000000000000:role/r",
            "SourceBucketArn": "arn:aws:s3:::airflow-alpha",
            "DagS3Path": "dags/",
            "NetworkConfiguration": {"SubnetIds": SUBNETS, "SecurityGroupIds": ["sg-a"]},
            **members,
        },
        LIMITS,
    )


def update(spec: EnvironmentSpec, **members: Any) -> EnvironmentSpec:
    return apply_update(a_record(spec), {"Name": spec.name, **members}, LIMITS)


def refused(text: str, **members: Any) -> None:
    with pytest.raises(InvalidRequestError, match=text):
        create(**members)


def test_defaults_are_mwaas() -> None:
    spec = create()
    assert spec.airflow_version == "3.3.1"
    assert spec.environment_class == "mw1.small"
    assert (spec.min_workers, spec.max_workers, spec.schedulers) == (1, 10, 2)
    assert (spec.min_webservers, spec.max_webservers) == (2, 2)
    assert spec.webserver_access_mode == "PRIVATE_ONLY"
    assert spec.endpoint_management == "SERVICE"
    assert spec.dag_s3_path == "dags/"
    assert {name for name, log in spec.logging.items() if log.enabled} == {"TaskLogs"}
    assert {log.level for log in spec.logging.values()} == {"INFO"}
    assert spec.kms_key is None
    assert spec.airflow_configuration_options == {}
    assert (spec.plugins, spec.requirements, spec.startup_script) == (None, None, None)


def test_micro_has_one_of_everything() -> None:
    spec = create(EnvironmentClass="mw1.micro")
    counts = (spec.min_workers, spec.max_workers, spec.schedulers, spec.min_webservers, spec.max_webservers)
    assert counts == (1, 1, 1, 1, 1)


@given(name=st.from_regex(r"[a-zA-Z][0-9a-zA-Z_-]{0,79}", fullmatch=True))
def test_the_service_chooses_a_window_that_it_accepts(name: str) -> None:
    chosen = create(Name=name).weekly_maintenance_window_start
    assert create(Name=name, WeeklyMaintenanceWindowStart=chosen).weekly_maintenance_window_start == chosen


@given(
    kind=st.sampled_from(sorted(CLASSES)),
    counts=st.fixed_dictionaries(
        {},
        optional={
            "MinWorkers": st.integers(1, 60),
            "MaxWorkers": st.integers(1, 60),
            "Schedulers": st.integers(-1, 7),
            "MinWebservers": st.integers(1, 7),
            "MaxWebservers": st.integers(1, 7),
        },
    ),
)
def test_counts_are_within_limits_or_refused(kind: str, counts: dict[str, int]) -> None:
    spec: EnvironmentSpec | None
    try:
        spec, refusal = create(EnvironmentClass=kind, **counts), ""
    except InvalidRequestError as error:
        spec, refusal = None, str(error)
    if spec is None:
        assert kind in refusal or "must be less than or equal to Max" in refusal
        return
    limits = CLASSES[kind]
    assert 1 <= spec.min_workers <= spec.max_workers <= (1 if kind == "mw1.micro" else LIMITS.max_workers)
    assert spec.schedulers in limits.schedulers
    assert limits.webservers.low <= spec.min_webservers <= spec.max_webservers <= limits.webservers.high
    given_back = {
        "MinWorkers": spec.min_workers,
        "MaxWorkers": spec.max_workers,
        "Schedulers": spec.schedulers,
        "MinWebservers": spec.min_webservers,
        "MaxWebservers": spec.max_webservers,
    }
    assert counts.items() <= given_back.items()


@pytest.mark.parametrize(
    ("members", "text"),
    [
        ({"EnvironmentClass": "mw1.micro", "MaxWebservers": 2}, "^The web server count for environment class mw1.micro must be 1.$"),
        ({"EnvironmentClass": "mw1.micro", "MaxWorkers": 2}, "The worker count for environment class mw1.micro must be 1"),
        ({"EnvironmentClass": "mw1.micro", "Schedulers": 2}, "The scheduler count"),
        ({"Schedulers": 1}, "must be between 2 and 5"),
        ({"MaxWorkers": 26}, "must be between 1 and 25; MaxWorkers is 26"),
        ({"MinWorkers": 11}, r"MinWorkers \(11\) must be less than or equal to MaxWorkers \(10\)"),
        ({"MinWebservers": 4, "MaxWebservers": 3}, "MinWebservers"),
        ({"EnvironmentClass": "mw1.huge"}, "EnvironmentClass mw1.huge is not supported"),
        ({"AirflowVersion": "2.2.2"}, "AirflowVersion 2.2.2 is not supported. Supported versions: 2.11.2"),
        ({"WeeklyMaintenanceWindowStart": "XMON:03:30"}, "WeeklyMaintenanceWindowStart"),
        ({"WeeklyMaintenanceWindowStart": "MON:03:300"}, "WeeklyMaintenanceWindowStart"),
        ({"WeeklyMaintenanceWindowStart": "MON:03:30\n"}, "WeeklyMaintenanceWindowStart"),
        ({"NetworkConfiguration": {}}, "SubnetIds must hold exactly 2"),
        ({"NetworkConfiguration": {"SubnetIds": ["subnet-a", "subnet-a"], "SecurityGroupIds": ["sg-a"]}}, "2 different"),
        ({"NetworkConfiguration": {"SubnetIds": SUBNETS}}, "1 to 5 security groups"),
        ({"NetworkConfiguration": {"SubnetIds": SUBNETS, "SecurityGroupIds": ["sg-a", "sg-a"]}}, "different security groups"),
        ({"KmsKey": "alias/mine"}, "aliases are not supported"),
        ({"KmsKey": "11111111-2222-3333-4444-555555555555"}, "KmsKey is not supported"),
        ({"WebserverAccessMode": "PUBLIC_AND_PRIVATE", "AirflowVersion": "3.0.6"}, "needs Airflow 3.2"),
        ({"EndpointManagement": "CUSTOMER"}, "EndpointManagement CUSTOMER"),
        ({"AirflowConfigurationOptions": {"parallelism": "3"}}, "section.option"),
        ({"DagS3Path": "/dags"}, "relative to the bucket"),
        ({"DagS3Path": "s3://airflow-alpha/dags"}, "relative to the bucket"),
        ({"DagS3Path": "a/../b"}, r"'\.\.'"),
        ({"DagS3Path": "dags\x00"}, "control characters"),
        ({"Tags": {"AWS:createdBy": "me"}}, "reserved"),
        ({"IdentityCenterConfiguration": {"StartUrl": "https://x"}}, "IdentityCenterConfiguration"),
        ({"Teams": {"data": {}}}, "Teams"),
    ],
)  # fmt: skip
def test_a_request_that_cannot_be_carried_out_is_refused(members: dict[str, Any], text: str) -> None:
    refused(text, **members)


def test_what_asks_for_nothing_is_accepted() -> None:
    spec = create(PluginsS3Path="", RequirementsS3ObjectVersion="", IdentityCenterConfiguration={})
    assert spec == create()
    assert create(EndpointManagement="SERVICE") == spec


def test_a_newer_airflow_may_have_both_ways_in() -> None:
    spec = create(WebserverAccessMode="PUBLIC_AND_PRIVATE", AirflowVersion="3.3.1")
    assert spec.webserver_access_mode == "PUBLIC_AND_PRIVATE"


def test_unmentioned_log_types_keep_their_setting() -> None:
    spec = create(LoggingConfiguration={"WorkerLogs": {"Enabled": True, "LogLevel": "DEBUG"}})
    assert set(spec.logging) == set(LOG_TYPES)
    changed = update(spec, LoggingConfiguration={"TaskLogs": {"Enabled": False, "LogLevel": "ERROR"}})
    assert changed.logging["WorkerLogs"] == LogSetting(enabled=True, level="DEBUG")
    assert changed.logging["TaskLogs"] == LogSetting(enabled=False, level="ERROR")


def test_tags_are_limited() -> None:
    check_tags({f"k{n}": "v" for n in range(50)})
    with pytest.raises(InvalidRequestError, match="at most 50"):
        check_tags({f"k{n}": "v" for n in range(51)})


def test_an_empty_update_changes_nothing_and_is_accepted() -> None:
    spec = create(AirflowConfigurationOptions={"core.parallelism": "7"})
    assert update(spec) == spec
    assert update(spec, WorkerReplacementStrategy="FORCED") == spec


def test_options_are_replaced_as_a_whole() -> None:
    spec = create(AirflowConfigurationOptions={"core.parallelism": "7", "core.dag_concurrency": "3"})
    changed = update(spec, AirflowConfigurationOptions={"smtp.smtp_port": "25"})
    assert changed.airflow_configuration_options == {"smtp.smtp_port": "25"}
    assert update(changed, AirflowConfigurationOptions={}).airflow_configuration_options == {}


def test_counts_and_window_can_be_updated_one_by_one() -> None:
    spec = create(MinWorkers=2, MaxWorkers=5)
    changed = update(spec, MaxWorkers=9, Schedulers=3, WeeklyMaintenanceWindowStart="SAT:23:30")
    assert changed == dataclasses.replace(
        spec, max_workers=9, schedulers=3, weekly_maintenance_window_start="SAT:23:30"
    )
    with pytest.raises(InvalidRequestError, match="MinWorkers"):
        update(spec, MaxWorkers=1)


SAME: dict[str, Any] = {
    "AirflowVersion": "3.3.1",
    "EnvironmentClass": "mw1.small",
    "ExecutionRoleArn": "arn:aws:iam::000000000000:role/r",
    "SourceBucketArn": "arn:aws:s3:::airflow-alpha",
    "DagS3Path": "dags/",
    "WebserverAccessMode": "PRIVATE_ONLY",
    "NetworkConfiguration": {"SecurityGroupIds": ["sg-a"]},
    "PluginsS3Path": "",
    "RequirementsS3Path": "",
}
OTHER: dict[str, tuple[Any, dict[str, Any]]] = {
    "AirflowVersion": ("3.0.6", {"airflow_version": "3.0.6", "runtime_id": "3.0.6"}),
    "EnvironmentClass": ("mw1.medium", {"environment_class": "mw1.medium"}),
    "ExecutionRoleArn": (
        "arn:aws:iam::000000000000:role/other",
        {"execution_role_arn": "arn:aws:iam::000000000000:role/other"},
    ),
    "SourceBucketArn": ("arn:aws:s3:::airflow-beta", {"source_bucket_arn": "arn:aws:s3:::airflow-beta"}),
    "DagS3Path": ("other", {"dag_s3_path": "other"}),
    "WebserverAccessMode": ("PUBLIC_ONLY", {"webserver_access_mode": "PUBLIC_ONLY"}),
    "NetworkConfiguration": ({"SecurityGroupIds": ["sg-b"]}, {"security_group_ids": ("sg-b",)}),
}


def test_the_whole_model_with_the_same_values_is_accepted() -> None:
    """CloudFormation sends every member with each update (mwaa.md 13.3)."""
    spec = create()
    assert update(spec, **SAME, MaxWorkers=4) == dataclasses.replace(spec, max_workers=4)


@pytest.mark.parametrize("member", sorted(OTHER))
def test_a_member_changes_its_field_and_no_other(member: str) -> None:
    """Absent members keep their value (mwaa.md 1.6)."""
    value, fields = OTHER[member]
    spec = create()
    assert update(spec, **{member: value}) == dataclasses.replace(spec, **fields)


@pytest.mark.parametrize("member", ["IdentityCenterConfiguration", "Teams"])
def test_what_is_not_built_is_refused_by_name(member: str) -> None:
    """Never accepted and ignored."""
    with pytest.raises(InvalidRequestError, match=f"^{member}"):
        update(create(), **{member: {"x": "y"}})


def test_another_class_moves_counts_that_nobody_named_into_its_range() -> None:
    """From micro to small there must be two schedulers; a count that is named is checked."""
    micro = create(EnvironmentClass="mw1.micro")
    small = update(micro, EnvironmentClass="mw1.small")
    assert (small.schedulers, small.min_webservers, small.max_webservers) == (2, 2, 2)
    assert update(small, EnvironmentClass="mw1.micro").max_workers == 1
    with pytest.raises(InvalidRequestError, match="The scheduler count"):
        update(micro, EnvironmentClass="mw1.small", Schedulers=1)


def test_only_an_update_without_a_field_and_another_version_move_to_the_newest_runtime() -> None:
    """An environment stays on its patch of Airflow until then (mwaa.md 1.6)."""
    spec = dataclasses.replace(create(), runtime_id="3.3.1-old")
    limits = dataclasses.replace(LIMITS, runtime_of=lambda version: f"{version}-new")

    def after(**members: Any) -> str:
        return apply_update(a_record(spec), {"Name": "alpha", **members}, limits).runtime_id

    assert after() == "3.3.1-new"
    assert after(AirflowVersion="3.0.6") == "3.0.6-new"
    assert after(MaxWorkers=4) == "3.3.1-old"


def test_a_change_of_version_that_mwaa_does_not_make_is_refused() -> None:
    """In the words of who knows versions."""
    limits = dataclasses.replace(
        LIMITS, change_refused=lambda _from, to: f"not to {to}" if to == "2.11.2" else None
    )
    with pytest.raises(InvalidRequestError, match=r"^not to 2\.11\.2$"):
        apply_update(a_record(create()), {"AirflowVersion": "2.11.2"}, limits)
    assert apply_update(a_record(create()), {}, limits)


def test_security_groups_have_no_order() -> None:
    groups = {"SubnetIds": SUBNETS, "SecurityGroupIds": ["sg-a", "sg-b"]}
    spec = create(NetworkConfiguration=groups)
    assert update(spec, NetworkConfiguration={"SecurityGroupIds": ["sg-b", "sg-a"]}) == spec
