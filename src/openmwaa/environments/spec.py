"""What a user wants an environment to be: every choice, with no default left open."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Self

LOG_TYPES: Mapping[str, str] = MappingProxyType(
    {
        "DagProcessingLogs": "DAGProcessing",
        "SchedulerLogs": "Scheduler",
        "TaskLogs": "Task",
        "WebserverLogs": "WebServer",
        "WorkerLogs": "Worker",
    }
)
"""Member of LoggingConfiguration -> suffix of its log group (mwaa.md 9.1)."""


INTERNAL_FIELDS = frozenset({"worker_series", "roll", "hurry"})
"""Fields of the spec that no user chose: not shown as a change of their own."""


@dataclass(frozen=True)
class LogSetting:
    """One member of LoggingConfiguration."""

    enabled: bool
    level: str


def default_logging() -> dict[str, LogSetting]:
    """Return MWAA's defaults: only task logs are on (mwaa.md 1.5)."""
    return {member: LogSetting(enabled=member == "TaskLogs", level="INFO") for member in LOG_TYPES}


@dataclass(frozen=True)
class S3File:
    """A file of the source bucket, pinned by its version.

    Attributes:
        digest: SHA-256 of its content, hexadecimal: two environments with equal files share what is
            made of them.

        size: In bytes.
    """

    path: str
    version: str
    digest: str = ""
    size: int = 0


@dataclass(frozen=True)
class EnvironmentSpec:
    """Everything GetEnvironment returns that a user chose, fully defaulted.

    Attributes:
        runtime_id: The installed Airflow it was accepted for. A newer patch of the same version is
            another runtime; only an update or the maintenance window moves an environment to it.

        worker_series: Counts the replacements in which workers finish their tasks beside their
            successors: each gives the successors names of their own.

        roll: Generation at which every component was last wanted to be replaced although nothing
            that is named changed.

        hurry: Workers that are leaving get no more than the 90 seconds of a forced replacement.
    """

    name: str
    airflow_version: str
    environment_class: str
    execution_role_arn: str
    source_bucket_arn: str
    dag_s3_path: str
    subnet_ids: tuple[str, ...]
    security_group_ids: tuple[str, ...]
    min_workers: int
    max_workers: int
    schedulers: int
    min_webservers: int
    max_webservers: int
    webserver_access_mode: str
    endpoint_management: str
    weekly_maintenance_window_start: str
    logging: Mapping[str, LogSetting] = field(default_factory=default_logging)
    airflow_configuration_options: Mapping[str, str] = field(default_factory=dict)
    kms_key: str | None = None
    plugins: S3File | None = None
    requirements: S3File | None = None
    startup_script: S3File | None = None
    runtime_id: str = ""
    worker_series: int = 0
    roll: int = 1
    hurry: bool = False

    def with_runtime(self, runtime_id: str) -> Self:
        """Return the same environment on another patch of its version."""
        return dataclasses.replace(self, runtime_id=runtime_id)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values; `from_json` restores an equal spec."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Restore a spec. Members unknown to this release are ignored, so that a rollback of OpenMWAA works."""
        known = {entry.name for entry in dataclasses.fields(cls)}
        values = {key: value for key, value in data.items() if key in known}
        values["logging"] = {key: LogSetting(**value) for key, value in data["logging"].items()}
        for pinned in ("plugins", "requirements", "startup_script"):
            values[pinned] = S3File(**data[pinned]) if data.get(pinned) else None
        for many in ("subnet_ids", "security_group_ids"):
            values[many] = tuple(data[many])
        return cls(**values)
