"""`openmwaa aws-env`: what any AWS client needs to talk to this service."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping

import click

from openmwaa.cli.clients import Credentials, api_url, s3_url
from openmwaa.cli.errors import CommandFailed
from openmwaa.settings import Settings

_PROFILE = "openmwaa"


@click.command("aws-env")
@click.option("--principal", metavar="NAME", default="admin", help="Whose access key to print.")
@click.option("--format", "form", type=click.Choice(["shell", "json", "profile"]), default="shell")
@click.pass_obj
def command(settings: Settings, principal: str, form: str) -> None:
    """Print what an AWS client needs: eval "$(openmwaa aws-env)".

    "profile" prints a section for ~/.aws/config, to be used with --profile openmwaa.
    """
    credentials = Credentials.load(settings)
    known = credentials.principal_arn.rpartition("/")[2]
    if principal != known:
        raise CommandFailed(f"There is no principal {principal}: this release knows only {known}.")
    variables = aws_variables(settings, credentials)
    match form:
        case "json":
            click.echo(json.dumps(variables, indent=2))
        case "profile":
            click.echo(profile_section(variables))
        case _:
            click.echo(shell_exports(variables))


def aws_variables(settings: Settings, credentials: Credentials) -> dict[str, str]:
    """Return the variables that every AWS SDK reads, by name."""
    api, ca = api_url(settings), str(settings.layout.ca_bundle)
    return {
        "AWS_ACCESS_KEY_ID": credentials.access_key_id,
        "AWS_SECRET_ACCESS_KEY": credentials.secret_access_key,
        "AWS_DEFAULT_REGION": settings.region,
        "AWS_ENDPOINT_URL_MWAA": api,
        "AWS_ENDPOINT_URL_S3": s3_url(settings),
        "AWS_ENDPOINT_URL_CLOUDWATCH_LOGS": api,
        "AWS_ENDPOINT_URL_CLOUDWATCH": api,
        "AWS_ENDPOINT_URL_STS": api,
        # Without it clients call api.127.0.0.1, env.127.0.0.1 and so on.
        "AWS_DISABLE_HOST_PREFIX_INJECTION": "true",
        "AWS_CA_BUNDLE": ca,
        "REQUESTS_CA_BUNDLE": ca,
    }


def shell_exports(variables: Mapping[str, str]) -> str:
    """Return commands for a POSIX shell."""
    return "\n".join(f"export {name}={shlex.quote(value)}" for name, value in variables.items())


def profile_section(variables: Mapping[str, str]) -> str:
    """Return a profile and its services for the file that AWS_CONFIG_FILE names."""
    services = {
        "mwaa": "AWS_ENDPOINT_URL_MWAA",
        "s3": "AWS_ENDPOINT_URL_S3",
        "cloudwatch_logs": "AWS_ENDPOINT_URL_CLOUDWATCH_LOGS",
        "cloudwatch": "AWS_ENDPOINT_URL_CLOUDWATCH",
        "sts": "AWS_ENDPOINT_URL_STS",
    }
    lines = [
        f"[profile {_PROFILE}]",
        f"aws_access_key_id = {variables['AWS_ACCESS_KEY_ID']}",
        f"aws_secret_access_key = {variables['AWS_SECRET_ACCESS_KEY']}",
        f"region = {variables['AWS_DEFAULT_REGION']}",
        f"ca_bundle = {variables['AWS_CA_BUNDLE']}",
        "disable_host_prefix_injection = true",
        f"services = {_PROFILE}",
        "",
        f"[services {_PROFILE}]",
    ]
    for service, name in services.items():
        lines += [f"{service} =", f"  endpoint_url = {variables[name]}"]
    return "\n".join(lines)
