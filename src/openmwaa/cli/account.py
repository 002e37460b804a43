"""What `env create` needs of an AWS account and makes up for the embedded one. Pure but for the bucket."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Final

from botocore.exceptions import ClientError

from openmwaa.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

SUBNETS: Final = ("subnet-0000000000000000a", "subnet-0000000000000000b")
SECURITY_GROUPS: Final = ("sg-0000000000000000a",)
"""Well-formed ids: a self-hosted service has no VPC, and MWAA's API wants two subnets and a group."""

_LONGEST_BUCKET: Final = 63


def execution_role(settings: Settings) -> str:
    """Return the role that environments get unless one is named."""
    return f"arn:aws:iam::{settings.account_id}:role/openmwaa-execution"


def bucket_name(account_id: str, environment: str) -> str:
    """Return a valid S3 bucket name for an environment: different environments, different buckets.

    Names that S3 allows are kept readable; others (capitals, underscores, too long) end with a
    hash, because two of them could otherwise become the same.
    """
    plain = re.sub(r"[^a-z0-9-]", "-", environment.lower())
    name = f"openmwaa-{account_id}-{plain}"
    if plain == environment and len(name) <= _LONGEST_BUCKET and not name.endswith("-"):
        return name
    digest = hashlib.sha256(environment.encode()).hexdigest()[:8]
    return f"{name[: _LONGEST_BUCKET - 9].rstrip('-')}-{digest}"


def bucket_arn(bucket: str) -> str:
    """Return the ARN of a bucket."""
    return f"arn:aws:s3:::{bucket}"


def ensure_bucket(s3: S3Client, bucket: str) -> bool:
    """Make a bucket with versioning, as MWAA demands it; return whether it is new. Safe to repeat."""
    new = not _exists(s3, bucket)
    if new:
        s3.create_bucket(Bucket=bucket)
    if s3.get_bucket_versioning(Bucket=bucket).get("Status") != "Enabled":
        s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    return new


def remove_bucket(s3: S3Client, bucket: str) -> None:
    """Delete a bucket with everything in it, old versions too."""
    for page in s3.get_paginator("list_object_versions").paginate(Bucket=bucket):
        for entry in (*page.get("Versions", ()), *page.get("DeleteMarkers", ())):
            s3.delete_object(Bucket=bucket, Key=entry["Key"], VersionId=entry["VersionId"])
    s3.delete_bucket(Bucket=bucket)


def _exists(s3: S3Client, bucket: str) -> bool:
    try:
        s3.head_bucket(Bucket=bucket)
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
            return False
        raise
    return True
