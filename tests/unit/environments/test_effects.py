"""The table of effects, against the manifests that really would run."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from openmwaa.environments.changes import Action, Effect, plan_change
from openmwaa.environments.effects import FIELD_EFFECTS, Scope, Tasks
from openmwaa.environments.manifest import Kind
from openmwaa.environments.spec import INTERNAL_FIELDS, EnvironmentSpec, LogSetting, S3File
from tests.support.api import a_manifest
from tests.support.specs import a_record, a_spec

FILE = S3File("f", "v1", "d" * 64, 1)
CHANGES: dict[str, Any] = {
    "airflow_version": "3.0.6",
    "airflow_configuration_options": {"core.default_task_retries": "2"},
    "requirements": FILE,
    "plugins": FILE,
    "startup_script": FILE,
    "environment_class": "mw1.medium",
    "runtime_id": "a-newer-one",
    "min_workers": 2,
    "max_workers": 9,
    "schedulers": 3,
    "min_webservers": 3,
    "max_webservers": 4,
    "source_bucket_arn": "arn:aws:s3:::other",
    "dag_s3_path": "other",
    "execution_role_arn": "arn:aws:iam::000000000000:role/other",
    "security_group_ids": ("sg-b",),
    "webserver_access_mode": "PRIVATE_ONLY",
    "weekly_maintenance_window_start": "MON:01:00",
}
SCOPE_OF = {
    Kind.WORKER: Scope.WORKERS,
    Kind.WEBSERVER: Scope.WEB_SERVERS,
    Kind.SCHEDULER: Scope.SCHEDULERS,
}
ALL = set(Kind)


def before(version: str) -> EnvironmentSpec:
    return a_spec(
        airflow_version=version,
        runtime_id=f"{version}-x",
        environment_class="mw1.small",
        schedulers=2,
        min_webservers=2,
        max_webservers=3,
        min_workers=1,
        max_workers=5,
    )


def effects(spec: EnvironmentSpec, **changes: Any) -> tuple[Effect, ...]:
    record = a_record(spec)
    wanted = dataclasses.replace(spec, **changes)
    return plan_change(spec, wanted, lambda one: a_manifest(record, one)).effects


def scope_of(found: tuple[Effect, ...]) -> Scope:
    if not found:
        return Scope.NOTHING
    if {one.kind for one in found} == ALL and all(one.action is Action.REPLACE for one in found):
        return Scope.ALL
    (only, *others) = found
    assert [(one.kind, one.action) for one in others] == (
        [(Kind.TRIGGERER, Action.REPLACE)] if only.kind is Kind.SCHEDULER else []
    )
    assert only.action is not Action.REPLACE
    return SCOPE_OF[only.kind]


@pytest.mark.parametrize("version", ["2.11.2", "3.3.1"])
@pytest.mark.parametrize(
    "row", [row for row in FIELD_EFFECTS if row.field != "logging"], ids=lambda row: row.field
)
def test_a_field_touches_what_the_table_says(row: Any, version: str) -> None:
    """Also that tasks are only touched where workers are."""
    spec = before(version)
    found = effects(spec, **{row.field: CHANGES[row.field]})
    expected = Scope.ALL if row.scope is Scope.EVERYTHING else row.scope
    assert scope_of(found) is expected
    assert (row.tasks is Tasks.UNTOUCHED) == all(one.kind is not Kind.WORKER for one in found)


@pytest.mark.parametrize("version", ["2.11.2", "3.3.1"])
def test_a_log_type_replaces_its_own_components(version: str) -> None:
    """Task logs are written by workers; the scheduler's group is the triggerer's too (mwaa.md 9.1)."""
    spec = before(version)
    kinds = {
        member: {
            one.kind
            for one in effects(
                spec, logging={**spec.logging, member: LogSetting(enabled=True, level="DEBUG")}
            )
        }
        for member in spec.logging
    }
    assert kinds == {
        "TaskLogs": {Kind.WORKER},
        "WorkerLogs": {Kind.WORKER},
        "SchedulerLogs": {Kind.SCHEDULER, Kind.TRIGGERER},
        "DagProcessingLogs": {Kind.DAG_PROCESSOR},
        "WebserverLogs": {Kind.WEBSERVER},
    }


def test_every_field_of_an_update_is_in_the_table() -> None:
    """What cannot be changed is not."""
    fixed = {"name", "subnet_ids", "kms_key", "endpoint_management", *INTERNAL_FIELDS}
    fields = {entry.name for entry in dataclasses.fields(EnvironmentSpec)} - fixed
    assert {row.field for row in FIELD_EFFECTS} == fields
