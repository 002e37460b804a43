"""What `aws-env` prints reaches an AWS client unchanged."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import botocore.session
import pytest
from click.testing import CliRunner

from openmwaa.cli.main import main
from openmwaa.settings import Layout

NAMES = {
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_DEFAULT_REGION",
    "AWS_ENDPOINT_URL_MWAA",
    "AWS_ENDPOINT_URL_S3",
    "AWS_ENDPOINT_URL_CLOUDWATCH_LOGS",
    "AWS_ENDPOINT_URL_CLOUDWATCH",
    "AWS_ENDPOINT_URL_STS",
    "AWS_DISABLE_HOST_PREFIX_INJECTION",
    "AWS_CA_BUNDLE",
    "REQUESTS_CA_BUNDLE",
}
AWKWARD = 'it\'s a "home" with $VARS & `ticks`'


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home whose path no careless quoting survives, with the administrator's key."""
    layout = Layout(tmp_path / AWKWARD)
    layout.admin_credentials.parent.mkdir(parents=True)
    layout.admin_credentials.write_text(
        json.dumps(
            {
                "access_key_id": "AKIAEXAMPLE",
                "secret_access_key": "a/b+c$d'e",
                "principal_arn": "arn:aws:iam::000000000000:user/admin",
            }
        )
    )
    return layout.home


def aws_env(home: Path, *arguments: str) -> str:
    result = CliRunner().invoke(main, ["--home", str(home), "aws-env", *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_json_holds_exactly_the_variables_of_the_contract(home: Path) -> None:
    """Names and values are those that the documentation promises."""
    variables = json.loads(aws_env(home, "--format", "json"))
    assert variables.keys() == NAMES
    assert variables["AWS_ENDPOINT_URL_MWAA"] == "https://127.0.0.1:8750"
    assert variables["AWS_ENDPOINT_URL_S3"] == "http://127.0.0.1:8752"
    assert variables["AWS_CA_BUNDLE"] == str(home / "tls" / "ca-bundle.pem")


def test_a_shell_that_evaluates_it_gets_the_same_values(home: Path) -> None:
    """Quotes, dollars, spaces and backticks survive `eval`."""
    script = 'eval "$(cat)"; exec "$0" -c "import json, os; print(json.dumps(dict(os.environ)))"'
    for shell in ("sh", "bash"):
        done = subprocess.run(
            [shell, "-c", script, sys.executable],
            input=aws_env(home),
            env={"PATH": os.environ["PATH"]},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stderr == ""
        seen = json.loads(done.stdout)
        expected = json.loads(aws_env(home, "--format", "json"))
        assert {name: seen[name] for name in NAMES} == expected


def test_a_profile_configures_botocore(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An SDK session with the profile has endpoints, region, certificates and keys."""
    config = tmp_path / "config"
    config.write_text(aws_env(home, "--format", "profile"))
    for name in os.environ:
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    session = botocore.session.Session(profile="openmwaa")
    client = session.create_client("mwaa")
    assert client.meta.endpoint_url == "https://127.0.0.1:8750"
    assert client.meta.region_name == "us-east-1"
    assert client.meta.config.inject_host_prefix is False
    assert session.create_client("s3").meta.endpoint_url == "http://127.0.0.1:8752"
    assert session.create_client("logs").meta.endpoint_url == "https://127.0.0.1:8750"
    assert session.get_config_variable("ca_bundle") == str(home / "tls" / "ca-bundle.pem")
    credentials = session.get_credentials()
    assert (credentials.access_key, credentials.secret_key) == ("AKIAEXAMPLE", "a/b+c$d'e")


def test_another_principal_is_refused(home: Path) -> None:
    """Only the administrator exists in this release, and the refusal says so."""
    result = CliRunner().invoke(main, ["--home", str(home), "aws-env", "--principal", "anna"])
    assert result.exit_code == 1
    assert "anna" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_home_without_a_service_says_what_to_do(tmp_path: Path) -> None:
    """One line, exit code 1."""
    result = CliRunner().invoke(main, ["--home", str(tmp_path), "aws-env"])
    assert result.exit_code == 1
    assert "openmwaa up" in result.stderr
    assert len(result.stderr.splitlines()) == 1
