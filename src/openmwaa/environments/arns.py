"""Amazon Resource Names of environments and of what they refer to."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

from openmwaa.environments.errors import InvalidRequestError

_ENVIRONMENT = re.compile(
    r"^arn:(?P<partition>aws[a-z-]*):airflow:(?P<region>[a-z0-9-]+):(?P<account>\d{12}):environment/(?P<name>[a-zA-Z][0-9a-zA-Z_-]*)$"
)
_NAME = re.compile(r"[a-zA-Z][0-9a-zA-Z_-]{0,79}")
_BUCKET = re.compile(r"^arn:aws[a-z-]*:s3:::(?P<bucket>[a-z0-9.-]+)$")


@dataclass(frozen=True)
class EnvironmentArn:
    """`arn:aws:airflow:<region>:<account>:environment/<name>`."""

    region: str
    account: str
    name: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read an ARN.

        Raises:
            InvalidRequestError: The text is not the ARN of an environment.
        """
        match = _ENVIRONMENT.match(text)
        if match is None:
            raise InvalidRequestError(f"{text!r} is not the ARN of an environment")
        return cls(match["region"], match["account"], match["name"])

    def __str__(self) -> str:
        return f"arn:aws:airflow:{self.region}:{self.account}:environment/{self.name}"


def check_name(name: str) -> None:
    """Refuse what no environment may be called (mwaa.md 1.4).

    Raises:
        InvalidRequestError: Says which names are accepted.
    """
    if not _NAME.fullmatch(name):
        raise InvalidRequestError(
            f"{name!r} cannot be the name of an environment: 1 to 80 letters, digits, '-' and '_', a letter first."
        )


def role_arn(region: str, account: str, environment: str, airflow_role: str) -> str:
    """Return the resource on which CreateWebLoginToken and InvokeRestApi are authorised (mwaa.md 1.9)."""
    return f"arn:aws:airflow:{region}:{account}:role/{environment}/{airflow_role}"


def log_group_arn(region: str, account: str, environment: str, log_type: str) -> str:
    """Return the log group of one log type, e.g. `Task` or `DAGProcessing` (mwaa.md 1.7)."""
    return f"arn:aws:logs:{region}:{account}:log-group:airflow-{environment}-{log_type}:*"


def bucket_of(arn: str) -> str:
    """Return the bucket's name.

    Raises:
        InvalidRequestError: The text is not the ARN of a bucket.
    """
    match = _BUCKET.match(arn)
    if match is None:
        raise InvalidRequestError(f"{arn!r} is not the ARN of an S3 bucket")
    return match["bucket"]
