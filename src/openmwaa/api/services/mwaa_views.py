"""How an environment looks from outside: the answer of GetEnvironment (mwaa.md 1.7). Pure."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any, Final

from openmwaa.environments.arns import log_group_arn
from openmwaa.environments.errors import InvalidRequestError
from openmwaa.environments.record import EnvironmentRecord, LastUpdate
from openmwaa.environments.spec import LOG_TYPES

_NAME: Final = re.compile(r"[a-zA-Z][0-9a-zA-Z_-]{0,79}")
_TOKEN_PREFIX: Final = "after:"  # noqa: S105 - not a secret
_LONGEST_ERROR: Final = 1024


def environment_view(record: EnvironmentRecord, web_host: str) -> dict[str, Any]:
    """Return the member `Environment`.

    What the user did not choose and clients compare with their configuration (KmsKey, options,
    paths) is left out: Terraform would plan a change forever (mwaa.md 13.2).

    Args:
        record: The environment.

        web_host: Host of its web server, without a scheme although the model asks for one: that is
            what MWAA sends and templates rely on.
    """
    spec = record.spec
    region, account = record.arn.region, record.arn.account
    view: dict[str, Any] = {
        "Name": record.name,
        "Status": record.status.value,
        "Arn": str(record.arn),
        "CreatedAt": record.created_at,
        "WebserverUrl": web_host,
        "ExecutionRoleArn": spec.execution_role_arn,
        "ServiceRoleArn": (
            f"arn:aws:iam::{account}:role/aws-service-role/airflow.amazonaws.com/AWSServiceRoleForAmazonMWAA"
        ),
        "AirflowVersion": spec.airflow_version,
        "SourceBucketArn": spec.source_bucket_arn,
        "DagS3Path": spec.dag_s3_path,
        "EnvironmentClass": spec.environment_class,
        "MinWorkers": spec.min_workers,
        "MaxWorkers": spec.max_workers,
        "Schedulers": spec.schedulers,
        "MinWebservers": spec.min_webservers,
        "MaxWebservers": spec.max_webservers,
        "NetworkConfiguration": {
            "SubnetIds": list(spec.subnet_ids),
            "SecurityGroupIds": list(spec.security_group_ids),
        },
        "LoggingConfiguration": _logging_view(record),
        "LastUpdate": _last_update_view(record.last_update),
        "WeeklyMaintenanceWindowStart": spec.weekly_maintenance_window_start,
        "Tags": dict(record.tags),
        "WebserverAccessMode": spec.webserver_access_mode,
        "EndpointManagement": spec.endpoint_management,
        "CeleryExecutorQueue": f"arn:aws:sqs:{region}:{account}:airflow-celery-{record.id}",
    }
    if spec.airflow_configuration_options:
        view["AirflowConfigurationOptions"] = dict(spec.airflow_configuration_options)
    if spec.kms_key:
        view["KmsKey"] = spec.kms_key
    for member, file in (
        ("Plugins", spec.plugins),
        ("Requirements", spec.requirements),
        ("StartupScript", spec.startup_script),
    ):
        if file is not None:
            view[f"{member}S3Path"] = file.path
            view[f"{member}S3ObjectVersion"] = file.version
    return view


def _logging_view(record: EnvironmentRecord) -> dict[str, Any]:
    view: dict[str, Any] = {}
    for member, setting in record.spec.logging.items():
        view[member] = {"Enabled": setting.enabled, "LogLevel": setting.level}
        if setting.enabled:
            view[member]["CloudWatchLogGroupArn"] = log_group_arn(
                record.arn.region, record.arn.account, record.name, LOG_TYPES[member]
            )
    return view


def _last_update_view(update: LastUpdate) -> dict[str, Any]:
    view: dict[str, Any] = {"Status": update.status, "CreatedAt": update.created_at}
    if update.error is not None and update.status == "FAILED":
        view["Error"] = {
            "ErrorCode": update.error.code,
            "ErrorMessage": update.error.message[:_LONGEST_ERROR],
        }
    if update.source:
        view["Source"] = update.source
    if update.worker_replacement_strategy:
        view["WorkerReplacementStrategy"] = update.worker_replacement_strategy
    return view


def next_token(last_name: str) -> str:
    """Return the opaque token that continues a list after `last_name`."""
    return base64.urlsafe_b64encode(f"{_TOKEN_PREFIX}{last_name}".encode()).decode()


def name_in_token(token: str) -> str:
    """Return the name that `next_token` was made of.

    Raises:
        InvalidRequestError: The token is not one of ours.
    """
    try:
        text = base64.b64decode(token.encode(), altchars=b"-_", validate=True).decode()
    except (binascii.Error, UnicodeError) as error:
        raise InvalidRequestError("Invalid NextToken.") from error
    name = text.removeprefix(_TOKEN_PREFIX)
    if name == text or not _NAME.fullmatch(name):
        raise InvalidRequestError("Invalid NextToken.")
    return name
