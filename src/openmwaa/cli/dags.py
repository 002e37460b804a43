"""`openmwaa dags deploy`: a local folder becomes the DAG folder of an environment."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click

from openmwaa.cli.clients import Clients
from openmwaa.cli.errors import CommandFailed
from openmwaa.cli.folder_sync import SyncPlan, carry_out, local_files, plan_sync, remote_files
from openmwaa.cli.output import json_option, print_json
from openmwaa.cli.rest import Airflow, last_line
from openmwaa.settings import Settings

_POLL_S: Final = 0.5


@click.group("dags")
def group() -> None:
    """DAG files of environments."""


@group.command("deploy")
@click.argument("name")
@click.argument("folder", type=click.Path(path_type=Path), metavar="DIR")
@click.option("--wait", is_flag=True, help="Return when Airflow has parsed what changed; fail if it cannot.")
@click.option(
    "--timeout", "timeout_s", type=float, default=120, show_default=True, help="With --wait, in seconds."
)
@click.option("--dry-run", is_flag=True, help="Only print what would change.")
@json_option
@click.pass_obj
def deploy(
    settings: Settings, name: str, folder: Path, wait: bool, timeout_s: float, dry_run: bool, as_json: bool
) -> None:
    """Make the environment's DAG folder equal to DIR: upload what changed, delete what is gone."""
    clients = Clients(settings)
    environment = clients.mwaa.get_environment(Name=name)["Environment"]
    bucket = environment["SourceBucketArn"].rpartition(":")[2]
    path = environment["DagS3Path"].strip("/")
    prefix = f"{path}/" if path else ""
    files = local_files(folder)
    plan = plan_sync(files, remote_files(clients.s3, bucket, prefix))
    started = datetime.now(UTC)
    if not dry_run:
        carry_out(clients.s3, bucket, prefix, files, plan)
    if not as_json:
        for line in plan_lines(plan, f"s3://{bucket}/{prefix}"):
            click.echo(line)
    parsed: dict[str, list[str]] = {}
    if wait and not dry_run:
        changed = {path for path in (*plan.added, *plan.changed) if _may_define_dags(files[path])}
        parsed = _wait_until_parsed(Airflow(clients, name), changed, set(files), started, timeout_s)
    if as_json:
        print_json(
            {
                "bucket": bucket,
                "prefix": prefix,
                "added": plan.added,
                "changed": plan.changed,
                "deleted": plan.deleted,
                "unchanged": plan.unchanged,
                "parsed": parsed,
            }
        )
    else:
        for path, dag_ids in parsed.items():
            click.echo(f"{path}: {', '.join(dag_ids) or 'no DAG'}")


def plan_lines(plan: SyncPlan, where: str) -> list[str]:
    """Return a line per file that changes, and a summary."""
    lines = [
        f"{sign} {path}"
        for sign, paths in (("+", plan.added), ("~", plan.changed), ("-", plan.deleted))
        for path in paths
    ]
    counts = f"{len(plan.added)} new, {len(plan.changed)} changed, {len(plan.deleted)} deleted, {plan.unchanged} unchanged"
    return [*lines, f"{where}: {counts}"]


def _may_define_dags(path: Path) -> bool:
    """Return whether Airflow looks for DAGs in a file: both words are in it (its "safe mode")."""
    if path.suffix != ".py":
        return False
    content = path.read_bytes().lower()
    return b"dag" in content and b"airflow" in content


def _wait_until_parsed(
    airflow: Airflow, wanted: set[str], known: set[str], since: datetime, timeout_s: float
) -> dict[str, list[str]]:
    """Return the DAGs of each file when Airflow has read all of them since a moment.

    A file that stays without a DAG for the whole time is reported so: a helper module may look like a DAG file.

    Raises:
        CommandFailed: A file cannot be imported.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        _raise_for_import_errors(airflow.all("/importErrors", "import_errors"), wanted, known, since)
        parsed = _dags_by_file(airflow.all("/dags", "dags"), known, since)
        if wanted <= parsed.keys() or time.monotonic() > deadline:
            return {path: sorted(parsed.get(path, ())) for path in sorted(wanted)}
        time.sleep(_POLL_S)


def _raise_for_import_errors(
    errors: Iterable[Mapping[str, Any]], wanted: set[str], known: set[str], since: datetime
) -> None:
    for error in errors:
        path = file_of(error["filename"], known)
        if path in wanted and datetime.fromisoformat(error["timestamp"]) >= since:
            raise CommandFailed(f"{path} cannot be imported: {last_line(error['stack_trace'])}")


def _dags_by_file(
    dags: Iterable[Mapping[str, Any]], known: set[str], since: datetime
) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for dag in dags:
        at = dag.get("last_parsed_time")
        path = file_of(dag.get("fileloc") or "", known)
        if path and at and datetime.fromisoformat(at) >= since:
            found.setdefault(path, []).append(dag["dag_id"])
    return found


def file_of(location: str, known: set[str]) -> str | None:
    """Return which of the relative paths a file of the DAG folder is: the longest that fits its end."""
    fitting = [path for path in known if location == path or location.endswith(f"/{path}")]
    return max(fitting, key=len, default=None)
