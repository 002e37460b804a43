"""`openmwaa runtimes`: the Airflow versions of this host."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import click

from openmwaa.cli.operator import Operator
from openmwaa.cli.output import json_option, print_json, print_table, size
from openmwaa.cli.waiting import Progress, show_build, show_installation
from openmwaa.settings import Settings

_PROVIDERS = ("amazon", "celery", "fab")


@click.group("runtimes")
def group() -> None:
    """Airflow versions: which there are, and installing one ahead of its first use."""


@group.command("list")
@json_option
@click.pass_obj
def list_(settings: Settings, as_json: bool) -> None:
    """List supported versions, and older builds that are still on disk.

    The Amazon, Celery and Flask-AppBuilder providers' versions are shown; --json has all.
    """
    runtimes = Operator(settings).get("/runtimes")["runtimes"]
    if as_json:
        print_json(runtimes)
        return
    print_table(
        ("version", "installed", "python", "released", "end of support", *_PROVIDERS, "size", "id"),
        [
            (
                one["version"] + ("" if one["current"] else " (older build)"),
                one["installed"],
                one["python"],
                one["released"],
                one["end_of_support"],
                *(one["providers"].get(name) for name in _PROVIDERS),
                size(one["size_bytes"]) if one["installed"] else "-",
                one["id"],
            )
            for one in runtimes
        ],
    )


@group.command("install")
@click.argument("version")
@click.pass_obj
def install(settings: Settings, version: str) -> None:
    """Install a version. Does nothing if it is installed."""
    show_installation(Operator(settings), version, Progress())
    click.echo(f"Airflow {version} is installed.")


@group.command("update")
@click.argument("version")
@click.option(
    "--as-of", type=click.DateTime(["%Y-%m-%d"]), help="Resolve with packages up to this day (UTC)."
)
@click.option(
    "--lock", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Use this lock file."
)
@click.option("--back", is_flag=True, help="Go back to the packages of this release of OpenMWAA.")
@click.pass_obj
def update(settings: Settings, version: str, as_of: datetime | None, lock: Path | None, back: bool) -> None:
    """Bring a newer patch of a version: the same Airflow, newer packages around it.

    It is installed and checked before it counts. Environments move to it with their next update, or
    by themselves in their weekly maintenance window; nothing that runs changes now.
    """
    if sum((as_of is not None, lock is not None, back)) != 1:
        raise click.UsageError("Give one of --as-of, --lock and --back.")
    body: dict[str, Any] = {"back": True} if back else {}
    if as_of:
        body["as_of"] = as_of.date().isoformat()
    if lock:
        body["lock"] = lock.read_text()
    reports = Operator(settings).stream(f"/runtimes/{version}/update", body)
    runtime = show_build(version, reports, Progress())
    click.echo(f"Airflow {version} is now installed as {runtime}.")
