"""`openmwaa env create`: everything that CreateEnvironment wants, made up where it is not given."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from botocore.exceptions import ClientError

from openmwaa.airflow.versions import NEWEST
from openmwaa.cli import account
from openmwaa.cli.clients import Clients
from openmwaa.cli.errors import one_line
from openmwaa.cli.folder_sync import carry_out, local_files, plan_sync, remote_files
from openmwaa.cli.operator import Operator
from openmwaa.cli.options import KEY_VALUE, RANGE
from openmwaa.cli.output import json_option, print_json
from openmwaa.cli.source_files import chosen_files, upload
from openmwaa.cli.waiting import Progress, Waiter, require_available, show_installation
from openmwaa.environments.classes import CLASSES
from openmwaa.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_mwaa.type_defs import CreateEnvironmentInputTypeDef

DAGS_PREFIX = "dags/"


@click.command("create")
@click.argument("name")
@click.option(
    "--dags", type=click.Path(path_type=Path), metavar="DIR", help="Folder with DAG files to upload."
)
@click.option("--version", help=f"Airflow version (default {NEWEST}).")
@click.option(
    "--class", "kind", default="mw1.micro", help="Environment class: mw1.micro is one of each component."
)
@click.option("--workers", type=RANGE, metavar="MIN:MAX", help="Number of workers.")
@click.option(
    "--option",
    "options",
    type=KEY_VALUE,
    multiple=True,
    metavar="K=V",
    help="Airflow option, e.g. core.parallelism=8.",
)
@click.option("--requirements", metavar="FILE", help="requirements.txt to upload and install.")
@click.option("--plugins", metavar="FILE", help="plugins.zip to upload and unpack.")
@click.option("--startup-script", metavar="FILE", help="Shell script to upload and run at each start.")
@click.option("--tag", "tags", type=KEY_VALUE, multiple=True, metavar="K=V")
@click.option("--bucket", help="Source bucket, with versioning on (default: one of its own).")
@click.option("--role", metavar="ARN", help="Execution role.")
@click.option("--no-wait", is_flag=True, help="Return when the request is accepted.")
@json_option
@click.pass_obj
def command(
    settings: Settings,
    /,
    name: str,
    dags: Path | None,
    version: str | None,
    kind: str,
    workers: tuple[int, int] | None,
    options: tuple[tuple[str, str], ...],
    tags: tuple[tuple[str, str], ...],
    bucket: str | None,
    role: str | None,
    no_wait: bool,
    as_json: bool,
    **chosen: Any,
) -> None:
    """Create an environment. `openmwaa env create NAME --dags DIR` is enough.

    Makes a bucket with versioning unless one is given, uploads DIR below dags/, and waits until
    the environment is AVAILABLE.
    """
    clients, operator, progress = Clients(settings), Operator(settings), Progress(quiet=as_json)
    source = bucket or account.bucket_name(settings.account_id, name)
    files = local_files(dags) if dags else {}
    extras = chosen_files(chosen)
    request = build_request(
        settings,
        name,
        bucket=source,
        kind=kind,
        version=version,
        workers=workers,
        options=dict(options),
        tags=dict(tags),
        role=role,
    )
    new = account.ensure_bucket(clients.s3, source)
    if new:
        progress.line(f"Bucket {source} was made, with versioning.")
    if dags:
        # Only a bucket of our own making is emptied of what is not in the folder.
        plan = plan_sync(files, remote_files(clients.s3, source, DAGS_PREFIX), delete=bucket is None)
        carry_out(clients.s3, source, DAGS_PREFIX, files, plan)
        progress.line(f"{len(files)} files of {dags} are at s3://{source}/{DAGS_PREFIX}.")
    try:
        request.update(upload(clients.s3, source, extras, {}, progress))  # type: ignore[typeddict-item]
        create(clients, operator, request, progress, wait=not no_wait)
    except ClientError:
        if new and not _exists(clients, name):  # refused: leave nothing behind
            account.remove_bucket(clients.s3, source)
        raise
    environment = clients.mwaa.get_environment(Name=name)["Environment"]
    if as_json:
        print_json({key: value for key, value in environment.items() if key != "ResponseMetadata"})
    elif not no_wait:
        click.echo(f"{name} is {environment['Status']} at https://{environment['WebserverUrl']}")
        click.echo(f"Log in with: openmwaa env open {name}")


def _exists(clients: Clients, name: str) -> bool:
    try:
        clients.mwaa.get_environment(Name=name)
    except ClientError:
        return False
    return True


def build_request(
    settings: Settings,
    name: str,
    *,
    bucket: str,
    kind: str,
    version: str | None = None,
    workers: tuple[int, int] | None = None,
    options: dict[str, str] | None = None,
    tags: dict[str, str] | None = None,
    role: str | None = None,
) -> CreateEnvironmentInputTypeDef:
    """Return the members of CreateEnvironment; what was not chosen is left to the service."""
    request: dict[str, Any] = {
        "Name": name,
        "AirflowVersion": version or NEWEST,
        "EnvironmentClass": kind,
        "ExecutionRoleArn": role or account.execution_role(settings),
        "SourceBucketArn": account.bucket_arn(bucket),
        "DagS3Path": DAGS_PREFIX.rstrip("/"),
        "NetworkConfiguration": {
            "SubnetIds": list(account.SUBNETS),
            "SecurityGroupIds": list(account.SECURITY_GROUPS),
        },
    }
    if workers:
        request["MinWorkers"], request["MaxWorkers"] = workers
    elif kind in CLASSES and kind != "mw1.micro":
        request["MaxWorkers"] = 1
    if options:
        request["AirflowConfigurationOptions"] = options
    if tags:
        request["Tags"] = tags
    typed: CreateEnvironmentInputTypeDef = request  # type: ignore[assignment]
    return typed


def create(
    clients: Clients,
    operator: Operator,
    request: CreateEnvironmentInputTypeDef,
    progress: Progress,
    *,
    wait: bool = True,
) -> None:
    """Call CreateEnvironment and follow it until the environment is AVAILABLE.

    Raises:
        CommandFailed: It ended otherwise; the text is the cause.
    """
    waiter = Waiter(clients, operator, request["Name"], progress)
    waiter.skip_events()  # of an environment that had this name before
    clients.mwaa.create_environment(**request)
    if not wait:
        progress.line(one_line(f"{request['Name']} is being created."))
        return
    waiter.show_events()
    show_installation(operator, request["AirflowVersion"], progress)
    require_available(waiter.until_settled())
