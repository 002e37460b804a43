"""What changing a field replaces, and what becomes of running tasks: one table, as data.

`openmwaa env plan --table` prints it, the documentation shows it, and a test holds it against the
manifests that really would run. A plan for an environment is computed from those manifests; this
says beforehand what to expect.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Scope(StrEnum):
    """Which components a change touches."""

    NOTHING = "nothing"
    WORKERS = "workers are added or drained"
    WEB_SERVERS = "web servers are added or stopped"
    SCHEDULERS = "schedulers are added or stopped, the triggerer is replaced"
    LOGGING = "the components of that log type are replaced"
    ALL = "every component is replaced, workers last"
    EVERYTHING = "everything is stopped, the database is migrated, everything is started"


class Tasks(StrEnum):
    """What becomes of running tasks."""

    UNTOUCHED = "untouched"
    FINISH = "finish on the worker that leaves, for up to 12 hours"
    STRATEGY = "FORCED: 90 s to finish; GRACEFUL: finish beside new workers, for up to 12 hours"
    STOPPED = "stopped after at most 90 s; retried as the DAG says"


@dataclass(frozen=True)
class FieldEffect:
    """One row.

    Attributes:
        members: Of UpdateEnvironment.

        field: Of the spec.
    """

    members: str
    field: str
    scope: Scope
    tasks: Tasks


FIELD_EFFECTS: Final = (
    FieldEffect("AirflowVersion", "airflow_version", Scope.EVERYTHING, Tasks.STOPPED),
    FieldEffect("AirflowConfigurationOptions", "airflow_configuration_options", Scope.ALL, Tasks.STRATEGY),
    FieldEffect("RequirementsS3Path, …ObjectVersion", "requirements", Scope.ALL, Tasks.STRATEGY),
    FieldEffect("PluginsS3Path, …ObjectVersion", "plugins", Scope.ALL, Tasks.STRATEGY),
    FieldEffect("StartupScriptS3Path, …ObjectVersion", "startup_script", Scope.ALL, Tasks.STRATEGY),
    FieldEffect("EnvironmentClass", "environment_class", Scope.ALL, Tasks.STRATEGY),
    FieldEffect("no member, or a newer patch", "runtime_id", Scope.ALL, Tasks.STRATEGY),
    FieldEffect("LoggingConfiguration: TaskLogs, WorkerLogs", "logging", Scope.LOGGING, Tasks.STRATEGY),
    FieldEffect("LoggingConfiguration: the others", "logging", Scope.LOGGING, Tasks.UNTOUCHED),
    FieldEffect("MinWorkers", "min_workers", Scope.WORKERS, Tasks.FINISH),
    FieldEffect("MaxWorkers", "max_workers", Scope.NOTHING, Tasks.UNTOUCHED),
    FieldEffect("Schedulers", "schedulers", Scope.SCHEDULERS, Tasks.UNTOUCHED),
    FieldEffect("MinWebservers", "min_webservers", Scope.WEB_SERVERS, Tasks.UNTOUCHED),
    FieldEffect("MaxWebservers", "max_webservers", Scope.NOTHING, Tasks.UNTOUCHED),
    FieldEffect("SourceBucketArn", "source_bucket_arn", Scope.NOTHING, Tasks.UNTOUCHED),
    FieldEffect("DagS3Path", "dag_s3_path", Scope.NOTHING, Tasks.UNTOUCHED),
    FieldEffect("ExecutionRoleArn", "execution_role_arn", Scope.NOTHING, Tasks.UNTOUCHED),
    FieldEffect("NetworkConfiguration", "security_group_ids", Scope.NOTHING, Tasks.UNTOUCHED),
    FieldEffect("WebserverAccessMode", "webserver_access_mode", Scope.NOTHING, Tasks.UNTOUCHED),
    FieldEffect(
        "WeeklyMaintenanceWindowStart", "weekly_maintenance_window_start", Scope.NOTHING, Tasks.UNTOUCHED
    ),
)
