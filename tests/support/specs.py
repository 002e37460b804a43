"""Specs and rows to test with."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from typing import Any

from openmwaa.environments.arns import EnvironmentArn
from openmwaa.environments.record import EnvironmentRecord, LastUpdate
from openmwaa.environments.spec import EnvironmentSpec

ACCOUNT = "000000000000"
REGION = "us-east-1"


def a_spec(name: str = "alpha", **changes: Any) -> EnvironmentSpec:
    """Return a small valid spec."""
    spec = EnvironmentSpec(
        name=name,
        airflow_version="3.3.1",
        environment_class="mw1.micro",
        execution_role_arn=f"arn:aws:iam::{ACCOUNT}:role/execution",
        source_bucket_arn="arn:aws:s3:::airflow-alpha",
        dag_s3_path="dags",
        subnet_ids=("subnet-0000000000000000a", "subnet-0000000000000000b"),
        security_group_ids=("sg-0000000000000000a",),
        min_workers=1,
        max_workers=1,
        schedulers=1,
        min_webservers=1,
        max_webservers=1,
        webserver_access_mode="PUBLIC_ONLY",
        endpoint_management="SERVICE",
        weekly_maintenance_window_start="SUN:03:30",
    )
    return dataclasses.replace(spec, **changes)


def an_arn(name: str = "alpha") -> EnvironmentArn:
    """Return the ARN that belongs to `a_spec(name)`."""
    return EnvironmentArn(REGION, ACCOUNT, name)


def a_record(spec: EnvironmentSpec | None = None, **changes: Any) -> EnvironmentRecord:
    """Return the row of an environment that was just accepted."""
    spec = spec or a_spec()
    now = datetime.now(UTC)
    record = EnvironmentRecord(
        id="abcdefghijkl",
        ordinal=1,
        arn=an_arn(spec.name),
        created_at=now,
        spec=spec,
        generation=1,
        observed_generation=0,
        last_update=LastUpdate(status="PENDING", created_at=now),
    )
    return dataclasses.replace(record, **changes)
