"""`openmwaa snapshot`: copies of whole environments that outlive them."""

from __future__ import annotations

import time
from typing import Any, Final

import click

from openmwaa.cli import account
from openmwaa.cli.clients import Clients
from openmwaa.cli.errors import CommandFailed, ServiceDown
from openmwaa.cli.operator import Operator
from openmwaa.cli.options import DURATION
from openmwaa.cli.output import (
    clock,
    json_option,
    on_terminal,
    print_json,
    print_table,
    size,
    table_lines,
)
from openmwaa.cli.waiting import Progress, Waiter, require_available
from openmwaa.settings import Settings

_POLL_S: Final = 0.3
_PATIENCE_S: Final = 60.0
_DEADLINE_S: Final = 6 * 3600.0
_YES = click.option("--yes", is_flag=True, help="Do not ask.")
_NO_WAIT = click.option("--no-wait", is_flag=True, help="Return when the request is accepted.")


@click.group("snapshot")
def group() -> None:
    """Make, keep and restore snapshots of environments."""


@group.command("create")
@click.argument("name")
@click.option("--pin", is_flag=True, help="Retention never deletes it.")
@_NO_WAIT
@json_option
@click.pass_obj
def create(settings: Settings, name: str, pin: bool, no_wait: bool, as_json: bool) -> None:
    """Make a snapshot of an environment while it runs."""
    operator, progress = Operator(settings), Progress(quiet=as_json)
    snapshot = _make(operator, name, progress, wait=not no_wait, pinned=pin)
    if as_json:
        print_json(snapshot)
    elif no_wait:
        click.echo(f"{snapshot['id']} is being made.")
    else:
        click.echo(f"{snapshot['id']} is available ({size(snapshot['size_bytes'])}).")


@group.command("list")
@click.argument("name", required=False)
@json_option
@click.pass_obj
def list_(settings: Settings, name: str | None, as_json: bool) -> None:
    """List snapshots, oldest first: all, or those of an environment, also of a deleted one."""
    query = {"environment": name} if name else {}
    snapshots = Operator(settings).get("/snapshots", **query)["snapshots"]
    if as_json:
        print_json(snapshots)
        return
    print_table(
        ("id", "environment", "version", "state", "reason", "pinned", "created", "size"),
        [
            (
                one["id"],
                one["environment"],
                one["airflow_version"],
                one["state"],
                one["reason"],
                one["pinned"],
                clock(one["created_at"]),
                size(one["size_bytes"]),
            )
            for one in snapshots
        ],
    )


@group.command("show")
@click.argument("snapshot_id", metavar="ID")
@click.option("--verify", is_flag=True, help="Read every part and check it.")
@json_option
@click.pass_obj
def show(settings: Settings, snapshot_id: str, verify: bool, as_json: bool) -> None:
    """Show one snapshot and its parts."""
    operator = Operator(settings)
    shown = (
        operator.post(f"/snapshots/{snapshot_id}/verify")
        if verify
        else operator.get(f"/snapshots/{snapshot_id}")
    )
    if as_json:
        print_json(shown)
        return
    for line in snapshot_lines(shown):
        click.echo(line)


@group.command("pin")
@click.argument("snapshot_id", metavar="ID")
@click.option("--off", is_flag=True, help="Let retention delete it again.")
@click.pass_obj
def pin(settings: Settings, snapshot_id: str, off: bool) -> None:
    """Keep a snapshot from retention."""
    Operator(settings).post(f"/snapshots/{snapshot_id}/pin", {"pinned": not off})
    click.echo(f"{snapshot_id} is {'no longer ' if off else ''}pinned.")


@group.command("delete")
@click.argument("snapshot_id", metavar="ID")
@_YES
@_NO_WAIT
@click.pass_obj
def delete(settings: Settings, snapshot_id: str, yes: bool, no_wait: bool) -> None:
    """Delete a snapshot for good."""
    operator = Operator(settings)
    one = operator.get(f"/snapshots/{snapshot_id}")
    _confirm(f"Delete the snapshot of {one['environment']} of {clock(one['created_at'])}?", yes=yes)
    operator.post(f"/snapshots/{snapshot_id}/delete")
    if no_wait:
        click.echo(f"{snapshot_id} is being deleted.")
        return
    _follow(operator, snapshot_id, Progress(), until=())
    click.echo(f"{snapshot_id} is deleted.")


@group.command("schedule")
@click.argument("name")
@click.option("--every", type=DURATION, metavar="TIME", help="E.g. 24h.")
@click.option("--keep", type=int, metavar="N", help="Most scheduled snapshots to keep.")
@click.option("--max-age", type=DURATION, metavar="TIME", help="Older scheduled ones go, e.g. 30d.")
@click.option("--off", is_flag=True, help="Make no more; those made stay.")
@json_option
@click.pass_obj
def schedule(
    settings: Settings,
    name: str,
    every: int | None,
    keep: int | None,
    max_age: int | None,
    off: bool,
    as_json: bool,
) -> None:
    """Have snapshots made by themselves. Without options: show the schedule."""
    if off and (every or keep or max_age):
        raise click.UsageError("--off goes with no other option.")
    if (keep is not None or max_age is not None) and every is None:
        raise click.UsageError("--keep and --max-age need --every.")
    operator, path = Operator(settings), f"/environments/{name}/snapshot-schedule"
    if off:
        answer = operator.post(path, {"off": True})
    elif every is not None:
        answer = operator.post(path, {"every_s": every, "keep": keep, "max_age_s": max_age})
    else:
        answer = operator.get(path)
    if as_json:
        print_json(answer["schedule"])
    else:
        click.echo(schedule_line(name, answer["schedule"]))


@group.command("restore")
@click.argument("snapshot_id", metavar="ID")
@click.option("--to", metavar="NAME", help="Make a new environment of this name.")
@click.option("--in-place", is_flag=True, help="Put the environment itself back to the snapshot.")
@click.option("--version", metavar="VERSION", help="Newer Airflow version of the new environment.")
@click.option("--bucket", help="Source bucket of the new environment (default: the one the old one had).")
@click.option("--dags", is_flag=True, help="Put the snapshot's DAG files back as well.")
@click.option("--no-snapshot", is_flag=True, help="In place: make no snapshot of the present state first.")
@_YES
@_NO_WAIT
@click.pass_obj
def restore(
    settings: Settings,
    snapshot_id: str,
    to: str | None,
    in_place: bool,
    version: str | None,
    bucket: str | None,
    dags: bool,
    no_snapshot: bool,
    yes: bool,
    no_wait: bool,
) -> None:
    """Restore a snapshot: in place, or as a new environment, also of a newer version.

    Every part is checked before anything is changed. In place, a snapshot of the present state is made first.
    A new environment with --dags gets a bucket of its own unless one is named.
    """
    if in_place == (to is not None):
        raise click.UsageError("Say either --to NAME or --in-place.")
    if in_place and (version or bucket):
        raise click.UsageError("--version and --bucket go with --to.")
    clients, operator, progress = Clients(settings), Operator(settings), Progress()
    shown = operator.get(f"/snapshots/{snapshot_id}")
    name = to or shown["environment"]
    if in_place:
        when = clock(shown["created_at"])
        _confirm(f"Replace the history, connections and variables of {name} by those of {when}?", yes=yes)
        if not no_snapshot:
            before = _make(operator, name, progress, wait=True, reason="before-restore")
            progress.line(f"The present state is kept as {before['id']}.")
    elif dags:
        bucket = bucket or account.bucket_name(settings.account_id, name)
        if account.ensure_bucket(clients.s3, bucket):
            progress.line(f"Bucket {bucket} was made, with versioning.")
    waiter = Waiter(clients, operator, name, progress)
    waiter.skip_events()
    body = {"name": name, "in_place": in_place, "dags": dags}
    body |= {"airflow_version": version, "bucket": bucket} if not in_place else {}
    progress.line(f"{snapshot_id} is checked.")
    operator.post(f"/snapshots/{snapshot_id}/restore", body)
    if no_wait:
        progress.line(f"{name} is being restored.")
        return
    require_available(waiter.until_settled())
    click.echo(f"{name} is AVAILABLE with the data of {clock(shown['created_at'])}.")


def snapshot_lines(shown: dict[str, Any]) -> list[str]:
    """Return a snapshot for people."""
    facts = [
        ("Id", shown["id"]),
        ("Environment", f"{shown['environment']} ({shown['environment_id']})"),
        ("Airflow", shown["airflow_version"]),
        ("State", shown["state"]),
        ("Reason", shown["reason"] + (", pinned" if shown["pinned"] else "")),
        ("Created", clock(shown["created_at"])),
        ("Stored", size(shown["size_bytes"])),
    ]
    if shown["error"]:
        facts.append(("Error", shown["error"]))
    if "rows" in shown:
        rows = shown["rows"]
        facts.append(("Verified", f"every part; {sum(rows.values())} rows in {len(rows)} tables"))
    lines = [f"{title + ':':<14}{value}" for title, value in facts]
    if not shown["parts"]:
        return lines
    table = table_lines(
        ("part", "size", "sha256"),
        [(part["name"], size(part["size_bytes"]), part["sha256"]) for part in shown["parts"]],
    )
    return [*lines, "", *table]


def schedule_line(name: str, schedule: dict[str, Any] | None) -> str:
    """Return a schedule as a sentence."""
    if schedule is None:
        return f"{name} has no schedule."
    limits = []
    if schedule["keep"]:
        limits.append(f"the newest {schedule['keep']} are kept")
    if schedule["max_age_s"]:
        limits.append(f"none longer than {_span(schedule['max_age_s'])}")
    kept = ", ".join(limits) or "all are kept"
    return f"{name}: every {_span(schedule['every_s'])}, {kept}; the next at {clock(schedule['next_at'])}."


def _span(seconds: int) -> str:
    """Return a chosen duration as it would be typed, e.g. `1d` and not `1d 0h`."""
    units = (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1))
    return next(f"{seconds // each}{letter}" for letter, each in units if seconds % each == 0)


def _make(
    operator: Operator,
    name: str,
    progress: Progress,
    *,
    wait: bool,
    pinned: bool = False,
    reason: str = "manual",
) -> dict[str, Any]:
    snapshot: dict[str, Any] = operator.post(
        f"/environments/{name}/snapshots", {"pinned": pinned, "reason": reason}
    )
    if not wait:
        return snapshot
    made = _follow(operator, snapshot["id"], progress, until=("available", "failed"))
    if made is None or made["state"] != "available":
        cause = made["error"] if made else "it was deleted meanwhile"
        raise CommandFailed(f"Snapshot {snapshot['id']} of {name} failed: {cause}")
    return made


def _follow(
    operator: Operator, snapshot_id: str, progress: Progress, *, until: tuple[str, ...]
) -> dict[str, Any] | None:
    """Return a snapshot once it is in one of the states; None once it is gone."""
    deadline = time.monotonic() + _DEADLINE_S
    heard, told = time.monotonic(), None
    with progress.running():
        while time.monotonic() < deadline:
            try:
                listed = operator.get("/snapshots")["snapshots"]
                heard = time.monotonic()
            except ServiceDown:
                if time.monotonic() - heard > _PATIENCE_S:
                    raise
                progress.now("waiting for the service")
            else:
                one = next((one for one in listed if one["id"] == snapshot_id), None)
                if one is None or one["state"] in until:
                    return one
                progress.now(f"{snapshot_id} is {one['state']}, {size(one['size_bytes'])} stored")
                if one["error"] and one["error"] != told:
                    told = one["error"]
                    progress.line(f"Trying again: {told}.")
            time.sleep(_POLL_S)
    raise CommandFailed(f"{snapshot_id} was not done within {_DEADLINE_S / 3600:.0f} hours.")


def _confirm(question: str, *, yes: bool) -> None:
    """Ask on a terminal; elsewhere demand `--yes`, because nothing brings this back."""
    if yes:
        return
    if not on_terminal():
        raise CommandFailed("This needs --yes where nobody can be asked.")
    click.confirm(question, abort=True)
