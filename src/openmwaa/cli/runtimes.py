"""`openmwaa runtimes`: the Airflow versions of this host."""

from __future__ import annotations

import click

from openmwaa.cli.operator import Operator
from openmwaa.cli.output import json_option, print_json, print_table, size
from openmwaa.cli.waiting import Progress, show_installation
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
