"""`openmwaa env plan`, `update`, `restart` and `delete`."""

from __future__ import annotations

from typing import Any

import click

from openmwaa.cli.change_options import change_options, update_members
from openmwaa.cli.clients import Clients
from openmwaa.cli.operator import Operator
from openmwaa.cli.output import json_option, on_terminal, print_json, print_table
from openmwaa.cli.plan_text import plan_lines
from openmwaa.cli.source_files import chosen_files, clear_members, read_files, upload
from openmwaa.cli.waiting import Progress, Waiter, require_available
from openmwaa.environments.effects import FIELD_EFFECTS
from openmwaa.settings import Settings


@click.command("plan")
@click.argument("name", required=False)
@click.option("--table", is_flag=True, help="Print what each field replaces; needs no environment.")
@change_options
@click.option("--quick", is_flag=True, help="Do not resolve packages, nor import DAGs.")
@json_option
@click.pass_obj
def plan(
    settings: Settings, /, name: str | None, table: bool, quick: bool, as_json: bool, **chosen: Any
) -> None:
    """Show what `env update` with the same options would do. Changes nothing.

    Packages are resolved and built, and the environment's DAGs are imported with them, on the
    side; a file that is given here is not uploaded.
    """
    if table:
        print_table(
            ("member", "replaces", "running tasks"),
            [(row.members, row.scope.value, row.tasks.value) for row in FIELD_EFFECTS],
        )
        return
    if name is None:
        raise click.UsageError("Missing argument 'NAME'.")
    operator = Operator(settings)
    files = chosen_files(chosen)
    members = update_members(operator.get(f"/environments/{name}")["spec"], **chosen)
    body = {"members": members | clear_members(files), "files": read_files(files), "deep": not quick}
    answer = operator.post(f"/environments/{name}/plan", body)
    if as_json:
        print_json(answer)
        return
    for line in plan_lines(answer):
        click.echo(line)


@click.command("update")
@click.argument("name")
@change_options
@click.option(
    "--allow-import-errors", is_flag=True, help="DAGs that can no longer be imported do not stop the update."
)
@click.option("--no-wait", is_flag=True, help="Return when the request is accepted.")
@click.pass_obj
def update(settings: Settings, /, name: str, allow_import_errors: bool, no_wait: bool, **chosen: Any) -> None:
    """Change an environment and wait until the change is live. See it before with `env plan`."""
    operator, clients = Operator(settings), Clients(settings)
    files = chosen_files(chosen)
    spec = operator.get(f"/environments/{name}")["spec"]
    members = update_members(spec, **chosen)
    if not members and not files:
        raise click.UsageError("Nothing to change. To replace every component: openmwaa env restart NAME")
    waiter = Waiter(clients, operator, name, progress := Progress())
    waiter.skip_events()
    bucket = spec["source_bucket_arn"].rpartition(":")[2]
    members |= clear_members(files) | upload(clients.s3, bucket, files, spec, progress)
    body = {"members": members, "allow_import_errors": allow_import_errors}
    operator.post(f"/environments/{name}/update", body)
    _follow(waiter, progress, name, no_wait=no_wait)


@click.command("restart")
@click.argument("name")
@click.option("--no-wait", is_flag=True, help="Return when the request is accepted.")
@click.pass_obj
def restart(settings: Settings, name: str, no_wait: bool) -> None:
    """Replace every component, workers last."""
    operator = Operator(settings)
    waiter = Waiter(Clients(settings), operator, name, progress := Progress())
    waiter.skip_events()
    operator.post(f"/environments/{name}/restart")
    _follow(waiter, progress, name, no_wait=no_wait)


@click.command("delete")
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--no-wait", is_flag=True, help="Return when the request is accepted.")
@click.pass_obj
def delete(settings: Settings, name: str, yes: bool, no_wait: bool) -> None:
    """Delete an environment with its database and logs. Its bucket stays."""
    clients, operator = Clients(settings), Operator(settings)
    bucket = clients.mwaa.get_environment(Name=name)["Environment"]["SourceBucketArn"].rpartition(":")[2]
    if not yes and on_terminal():
        click.confirm(f"Delete {name} with its history, connections and variables?", abort=True)
    waiter = Waiter(clients, operator, name, Progress())
    waiter.skip_events()
    clients.mwaa.delete_environment(Name=name)
    if not no_wait:
        waiter.until_gone()
        click.echo(f"{name} is deleted. Its bucket {bucket} was kept.")


def _follow(waiter: Waiter, progress: Progress, name: str, *, no_wait: bool) -> None:
    if no_wait:
        progress.line(f"{name} is being updated.")
        return
    require_available(waiter.until_settled())
    click.echo(f"{name} is AVAILABLE.")
