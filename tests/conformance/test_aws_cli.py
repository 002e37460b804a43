"""The stock AWS CLI, as a process, set up by variables alone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.support.api import REQUEST, ApiServer
from tests.support.service import clean_environment

AWS = str(Path(sys.executable).with_name("aws"))


def aws(api: ApiServer, *arguments: str, fails: bool = False) -> Any:
    """Run `aws arguments` with what `openmwaa aws-env` would set; returns its JSON, or its errors."""
    variables = {
        "AWS_ACCESS_KEY_ID": api.admin.id,
        "AWS_SECRET_ACCESS_KEY": api.admin.secret.reveal(),
        "AWS_DEFAULT_REGION": api.settings.region,
        "AWS_ENDPOINT_URL_MWAA": api.url,
        "AWS_ENDPOINT_URL_STS": api.url,
        "AWS_DISABLE_HOST_PREFIX_INJECTION": "true",
        "AWS_MAX_ATTEMPTS": "1",
        "AWS_CONFIG_FILE": "/nonexistent",
        "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
    }
    done = subprocess.run(
        [AWS, *arguments],
        env=clean_environment() | variables,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if fails:
        assert done.returncode != 0, done.stdout
        return done.stderr
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout) if done.stdout.strip() else None


def test_the_life_of_an_environment(api: ApiServer) -> None:
    network = json.dumps(REQUEST["NetworkConfiguration"])
    created = aws(
        api,
        "mwaa", "create-environment", "--name", "alpha",
        "--execution-role-arn", REQUEST["ExecutionRoleArn"],
        "--source-bucket-arn", REQUEST["SourceBucketArn"],
        "--dag-s3-path", "dags",
        "--network-configuration", network,
        "--airflow-configuration-options", "core.parallelism=7",
        "--tags", "Team=data",
    )  # fmt: skip
    arn = created["Arn"]
    environment = aws(api, "mwaa", "get-environment", "--name", "alpha")["Environment"]
    assert environment["AirflowConfigurationOptions"] == {"core.parallelism": "7"}
    api.reconciled("alpha")
    aws(api, "mwaa", "update-environment", "--name", "alpha", "--max-workers", "3")
    api.reconciled("alpha")
    assert aws(api, "mwaa", "list-environments") == {"Environments": ["alpha"]}
    aws(api, "mwaa", "tag-resource", "--resource-arn", arn, "--tags", "a=b")
    aws(api, "mwaa", "untag-resource", "--resource-arn", arn, "--tag-keys", "Team")
    assert aws(api, "mwaa", "list-tags-for-resource", "--resource-arn", arn) == {"Tags": {"a": "b"}}
    assert set(aws(api, "mwaa", "create-cli-token", "--name", "alpha")) == {"CliToken", "WebServerHostname"}
    assert aws(api, "mwaa", "create-web-login-token", "--name", "alpha")["AirflowIdentity"] == "user/admin"
    dags = aws(api, "mwaa", "invoke-rest-api", "--name", "alpha", "--path", "/dags", "--method", "GET")
    assert dags["RestApiStatusCode"] == 200
    aws(api, "mwaa", "delete-environment", "--name", "alpha")
    assert aws(api, "mwaa", "get-environment", "--name", "alpha")["Environment"]["Status"] == "DELETING"


def test_errors_and_identity(api: ApiServer) -> None:
    text = aws(api, "mwaa", "get-environment", "--name", "nobody", fails=True)
    assert "(ResourceNotFoundException) when calling the GetEnvironment operation" in text
    assert aws(api, "sts", "get-caller-identity")["Arn"] == "arn:aws:iam::000000000000:user/admin"
