"""One S3 account per environment in the embedded object store, by its IAM API.

An account may do everything with its environment's source bucket and nothing else. With a
user's own S3 there are no such accounts: tasks use the connections that the user gives them.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from openmwaa.kit.errors import Retry
from openmwaa.kit.secret import Secret
from openmwaa.services.endpoints import ServiceEndpoints

if TYPE_CHECKING:
    from mypy_boto3_iam import IAMClient

P = ParamSpec("P")
R = TypeVar("R")

_POLICY_NAME = "source-bucket"


class S3Accounts:
    """Makes and removes the accounts."""

    def __init__(self, endpoints: ServiceEndpoints) -> None:
        self._endpoints = endpoints

    async def ensure_user(self, environment_id: str, bucket: str) -> tuple[str, Secret] | None:
        """Make the account if missing, give it rights on `bucket` only, and replace its key.

        Safe to repeat after a crash: keys of earlier calls stop working, so the caller stores
        the key and does not call again while it has one (`grant` changes the bucket).

        Returns:
            Access key id and secret; None with a user's own S3.

        Raises:
            Retry: The object store cannot answer now.
        """
        if not self._endpoints.s3_embedded:
            return None
        return await _in_thread(self._ensure_user, _user_name(environment_id), bucket)

    async def grant(self, environment_id: str, *buckets: str) -> None:
        """Give an existing account rights on these buckets instead of its earlier ones; its key stays.

        Raises:
            Retry: The object store cannot answer now.
        """
        if self._endpoints.s3_embedded:
            await _in_thread(self._put_policy, _user_name(environment_id), *buckets)

    async def remove_user(self, environment_id: str) -> None:
        """Remove the account and all its keys, also those it made for itself. Does nothing if it is gone.

        Raises:
            Retry: The object store cannot answer now.
        """
        if self._endpoints.s3_embedded:
            await _in_thread(self._remove_user, _user_name(environment_id))

    @cached_property
    def _iam(self) -> IAMClient:
        client: IAMClient = boto3.Session(
            aws_access_key_id=self._endpoints.s3_access_key_id,
            aws_secret_access_key=self._endpoints.s3_secret_access_key.reveal(),
            region_name=self._endpoints.region,
        ).client(
            "iam",
            endpoint_url=self._endpoints.s3_url,
            config=Config(connect_timeout=3, read_timeout=15, retries={"total_max_attempts": 2}),
        )
        return client

    def _ensure_user(self, name: str, bucket: str) -> tuple[str, Secret]:
        try:
            self._iam.create_user(UserName=name)
        except ClientError as error:
            if _code(error) != "EntityAlreadyExists":
                raise
        self._put_policy(name, bucket)
        old = self._keys(name)
        key = self._iam.create_access_key(UserName=name)["AccessKey"]
        for key_id in old:
            self._iam.delete_access_key(UserName=name, AccessKeyId=key_id)
        return key["AccessKeyId"], Secret(key["SecretAccessKey"])

    def _put_policy(self, name: str, *buckets: str) -> None:
        document = json.dumps(build_policy(*buckets))
        self._iam.put_user_policy(UserName=name, PolicyName=_POLICY_NAME, PolicyDocument=document)

    def _remove_user(self, name: str) -> None:
        try:
            for key_id in self._keys(name):
                self._iam.delete_access_key(UserName=name, AccessKeyId=key_id)
            self._iam.delete_user_policy(UserName=name, PolicyName=_POLICY_NAME)
        except ClientError as error:
            if _code(error) != "NoSuchEntity":
                raise
        try:
            self._iam.delete_user(UserName=name)
        except ClientError as error:
            if _code(error) != "NoSuchEntity":
                raise

    def _keys(self, name: str) -> list[str]:
        return [key["AccessKeyId"] for key in self._iam.list_access_keys(UserName=name)["AccessKeyMetadata"]]


def build_policy(*buckets: str) -> dict[str, Any]:
    """Return the policy document: everything on exactly these buckets."""
    resources = [f"arn:aws:s3:::{bucket}{part}" for bucket in buckets for part in ("", "/*")]
    statement = {"Effect": "Allow", "Action": ["s3:*"], "Resource": resources}
    return {"Version": "2012-10-17", "Statement": [statement]}


def _user_name(environment_id: str) -> str:
    return f"env-{environment_id}"


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


async def _in_thread(function: Callable[P, R], *arguments: P.args, **keywords: P.kwargs) -> R:
    try:
        return await asyncio.to_thread(function, *arguments, **keywords)
    except (BotoCoreError, ClientError) as error:
        raise Retry(f"the object store's account service did not answer: {error}", after_s=1.0) from error
