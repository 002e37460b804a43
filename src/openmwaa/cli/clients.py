"""Stock AWS clients, set up from the settings: the command line is one more client of the API."""

from __future__ import annotations

import json
import ssl
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import boto3
import botocore.session
import httpx
from botocore.config import Config

from openmwaa.cli.errors import CommandFailed
from openmwaa.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_mwaa.client import MWAAClient
    from mypy_boto3_s3.client import S3Client

_CONFIG = Config(
    inject_host_prefix=False,
    retries={"total_max_attempts": 3, "mode": "standard"},
    connect_timeout=5,
    read_timeout=70,
    proxies={},  # the service is on this host, whatever HTTPS_PROXY says
)


@dataclass(frozen=True)
class Credentials:
    """The administrator's access key."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    principal_arn: str

    @classmethod
    def load(cls, settings: Settings) -> Credentials:
        """Read what the control plane wrote at its first start.

        Raises:
            CommandFailed: There is none yet, or this user may not read it.
        """
        path = settings.layout.admin_credentials
        try:
            data = json.loads(path.read_text())
        except FileNotFoundError as error:
            raise CommandFailed(
                f"{settings.home} has no credentials yet. Start the service with: openmwaa up --detach"
            ) from error
        except PermissionError as error:
            raise CommandFailed(f"{path} belongs to another user: run this as the service's user.") from error
        return cls(data["access_key_id"], data["secret_access_key"], data["principal_arn"])


def api_url(settings: Settings) -> str:
    """Return the endpoint of every AWS API but S3."""
    return f"https://127.0.0.1:{settings.ports.https}"


def s3_url(settings: Settings) -> str:
    """Return the endpoint of S3: the embedded one, or the user's own."""
    return settings.s3_endpoint_url or f"http://127.0.0.1:{settings.ports.s3}"


class Clients:
    """Clients of one home."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @cached_property
    def mwaa(self) -> MWAAClient:
        """The service's API."""
        client: MWAAClient = self._session().client(
            "mwaa",
            endpoint_url=api_url(self.settings),
            verify=str(self.settings.layout.ca_bundle),
            config=_CONFIG,
        )
        return client

    @cached_property
    def s3(self) -> S3Client:
        """The S3 server with the source buckets; the user's own with the keys from the settings."""
        settings = self.settings
        keys: dict[str, Any] = {}
        if settings.s3_endpoint_url and settings.s3_secret_access_key:
            keys = {
                "aws_access_key_id": settings.s3_access_key_id,
                "aws_secret_access_key": settings.s3_secret_access_key.get_secret_value(),
            }
        client: S3Client = self._session().client("s3", endpoint_url=s3_url(settings), config=_CONFIG, **keys)
        return client

    @cached_property
    def web(self) -> httpx.Client:
        """A client for the environments' web servers, which trusts the local authority."""
        context = ssl.create_default_context(cafile=str(self.settings.layout.ca_bundle))
        return httpx.Client(verify=context, timeout=httpx.Timeout(60, read=660), trust_env=False)

    def _session(self) -> boto3.Session:
        """Return a session that no profile, file or variable of the caller's AWS set-up reaches."""
        credentials = Credentials.load(self.settings)
        unset = (None, None, None, None)
        core = botocore.session.Session(
            session_vars={"profile": unset, "config_file": (None, None, "/dev/null", None)}
        )
        return boto3.Session(
            aws_access_key_id=credentials.access_key_id,
            aws_secret_access_key=credentials.secret_access_key,
            region_name=self.settings.region,
            botocore_session=core,
        )
