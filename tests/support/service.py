"""A running service, used as a stranger would: the command line, then stock AWS clients."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import httpx

from openmwaa.settings import Settings, load_settings
from tests.support.eventually import eventually

OPENMWAA = str(Path(sys.executable).with_name("openmwaa"))
KEPT_HOME = os.environ.get("OPENMWAA_TEST_HOME")
"""A home whose service and environments tests use and leave behind."""

RUNTIMES_FOLDER = "OPENMWAA_RUNTIMES_FOLDER"
"""Variable of the setting: the homes of a session share what is installed."""

SETTLED = {"AVAILABLE", "CREATE_FAILED", "UPDATE_FAILED", "UNAVAILABLE"}
SUBNETS = ["subnet-0000000000000000a", "subnet-0000000000000000b"]
GROUPS = ["sg-0000000000000000a"]


def clean_environment() -> dict[str, str]:
    """Return this process's environment without what would point AWS clients or the service elsewhere."""
    foreign = ("AWS_", "OPENMWAA_", "PYTHONDONTWRITEBYTECODE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
    kept = {RUNTIMES_FOLDER, "OPENMWAA_ZYGOTE"}
    return {key: value for key, value in os.environ.items() if key in kept or not key.startswith(foreign)}


@dataclass
class Service:
    """A home with a service that answers."""

    home: Path
    port_base: int
    variables: dict[str, str]

    @property
    def settings(self) -> Settings:
        return load_settings(home=self.home)

    @property
    def ca_bundle(self) -> str:
        return str(self.settings.layout.ca_bundle)

    def run(
        self, *arguments: str, check: bool = True, timeout_s: float = 300
    ) -> subprocess.CompletedProcess[str]:
        """Run `openmwaa --home … arguments`."""
        return subprocess.run(
            [OPENMWAA, "--home", str(self.home), *arguments],
            env=clean_environment(),
            capture_output=True,
            text=True,
            check=check,
            timeout=timeout_s,
        )

    def json(self, *arguments: str) -> Any:
        """Run a listing command and return what it prints."""
        return json.loads(self.run(*arguments, "--json").stdout)

    def client(self, service: str) -> Any:
        """Return an unmodified boto3 client, set up from what `openmwaa aws-env` prints."""
        session = boto3.Session(
            aws_access_key_id=self.variables["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=self.variables["AWS_SECRET_ACCESS_KEY"],
            region_name=self.variables["AWS_DEFAULT_REGION"],
        )
        from botocore.config import Config  # noqa: PLC0415 - beside its only use

        return session.client(
            service,
            endpoint_url=self.variables[f"AWS_ENDPOINT_URL_{service.upper()}"],
            verify=self.variables["AWS_CA_BUNDLE"],
            config=Config(inject_host_prefix=False, retries={"max_attempts": 1}),
        )

    def http(self) -> httpx.Client:
        """Return a client that trusts the local authority and keeps cookies."""
        import ssl  # noqa: PLC0415 - beside its only use

        context = ssl.create_default_context(cafile=self.ca_bundle)
        return httpx.Client(verify=context, timeout=60)

    def bucket(self, dags: dict[str, str | bytes] | None = None) -> str:
        """Make a versioned bucket with these DAG files below `dags/`."""
        s3 = self.client("s3")
        name = f"airflow-test-{uuid.uuid4().hex[:10]}"
        s3.create_bucket(Bucket=name)
        s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
        for key, body in (dags or {}).items():
            s3.put_object(Bucket=name, Key=f"dags/{key}", Body=body)
        return name

    def create(self, name: str, bucket: str, **members: Any) -> str:
        """Call CreateEnvironment with the least a caller must give; returns the ARN."""
        request = {
            "Name": name,
            "ExecutionRoleArn": "arn:aws:iam::000000000000:role/airflow-execution",
            "SourceBucketArn": f"arn:aws:s3:::{bucket}",
            "DagS3Path": "dags",
            "NetworkConfiguration": {"SubnetIds": SUBNETS, "SecurityGroupIds": GROUPS},
            **members,
        }
        return str(self.client("mwaa").create_environment(**request)["Arn"])

    def environment(self, name: str) -> dict[str, Any]:
        """Return GetEnvironment's answer."""
        answer: dict[str, Any] = self.client("mwaa").get_environment(Name=name)["Environment"]
        return answer

    def settled(self, name: str, *, within_s: float = 300) -> dict[str, Any]:
        """Wait until no operation runs on an environment."""

        def probe() -> dict[str, Any] | None:
            environment = self.environment(name)
            return environment if environment["Status"] in SETTLED else None

        return eventually(probe, within_s=within_s, every_s=0.5, what=f"{name} settled")

    def available(self, name: str, *, within_s: float = 300) -> dict[str, Any]:
        """Wait until an environment is AVAILABLE; fail with its error if it ends otherwise."""
        environment = self.settled(name, within_s=within_s)
        assert environment["Status"] == "AVAILABLE", (environment["Status"], environment.get("LastUpdate"))
        return environment

    def delete(self, name: str, *, within_s: float = 120) -> None:
        """Delete an environment and wait until it is gone."""
        mwaa = self.client("mwaa")
        mwaa.delete_environment(Name=name)
        eventually(
            lambda: name not in mwaa.list_environments()["Environments"], within_s=within_s, what="gone"
        )

    def rest(
        self, name: str, method: str, path: str, *, body: Any = None, query: dict[str, Any] | None = None
    ) -> Any:
        """Call Airflow's REST API through InvokeRestApi."""
        members: dict[str, Any] = {"Name": name, "Method": method, "Path": path}
        if body is not None:
            members["Body"] = body
        if query is not None:
            members["QueryParameters"] = query
        return self.client("mwaa").invoke_rest_api(**members)["RestApiResponse"]


@contextmanager
def a_home() -> Iterator[Path]:
    """Give an empty folder for a home, short enough for unix sockets.

    pytest's own temporary folders are closed to other users, but as root the service gives
    PostgreSQL and each environment users of their own.
    """
    home = Path(tempfile.mkdtemp(prefix="openmwaa-"))
    home.chmod(0o755)
    try:
        yield home
    finally:
        shutil.rmtree(home, ignore_errors=True)


def start(home: Path, port_base: int, *, settings: str = "") -> Service:
    """Start a service, unless it runs already; `settings` is the content of its `openmwaa.toml`."""
    service = Service(home, port_base, {})
    if settings:
        home.mkdir(parents=True, exist_ok=True)
        service.settings.layout.settings_file.write_text(settings)
    service.run("up", "--detach", "--port-base", str(port_base), timeout_s=180)
    service.variables = json.loads(service.run("aws-env", "--format", "json").stdout)
    return service


@contextmanager
def a_service(home: Path, port_base: int, *, settings: str = "") -> Iterator[Service]:
    """Start a service on an empty home; stop it, environments included, at the end."""
    try:
        yield start(home, port_base, settings=settings)
    finally:
        Service(home, port_base, {}).run("down", check=False, timeout_s=180)
