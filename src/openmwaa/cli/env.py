"""`openmwaa env`: the group, and looking at environments."""

from __future__ import annotations

from typing import Any

import click

from openmwaa.cli import env_access, env_change, env_create
from openmwaa.cli.operator import Operator
from openmwaa.cli.output import age, clock, json_option, print_json, print_table, size, table_lines
from openmwaa.settings import Settings


@click.group("env")
def group() -> None:
    """Create, look at, change and use environments."""


@group.command("list")
@json_option
@click.pass_obj
def list_(settings: Settings, as_json: bool) -> None:
    """List environments with their status."""
    environments = Operator(settings).get("/environments")["environments"]
    if as_json:
        print_json(environments)
        return
    print_table(
        ("name", "status", "version", "class", "ready", "age", "url"),
        [
            (
                one["name"],
                one["status"],
                one["airflow_version"],
                one["environment_class"],
                f"{one['replicas_ready']}/{one['replicas']}" if one["observed"] else "?",
                age(one["age_s"]),
                one["webserver_url"],
            )
            for one in environments
        ],
    )


@group.command("show")
@click.argument("name")
@json_option
@click.pass_obj
def show(settings: Settings, name: str, as_json: bool) -> None:
    """Show one environment: what is wanted, what runs, and where things are."""
    environment = Operator(settings).get(f"/environments/{name}")
    if as_json:
        print_json(environment)
        return
    for line in environment_lines(environment):
        click.echo(line)


def environment_lines(shown: dict[str, Any]) -> list[str]:
    """Return an environment for people."""
    spec = shown["spec"]
    facts = [
        ("Name", shown["name"]),
        ("Status", shown["status"]),
        ("URL", shown["webserver_url"]),
        ("Airflow", f"{spec['airflow_version']} on {spec['environment_class']}"),
        ("ARN", shown["arn"]),
        (
            "DAGs",
            f"s3://{spec['source_bucket_arn'].rpartition(':')[2]}/{spec['dag_s3_path']}{_mirror(shown)}",
        ),
        ("Workers", f"{spec['min_workers']} to {spec['max_workers']}"),
        ("Age", age(shown["age_s"])),
        ("Last update", _last_update(shown["last_update"])),
    ]
    if shown["last_error"] and (shown["attempts"] or shown["status"] != "AVAILABLE"):
        facts.append(("Last error", shown["last_error"]))
    for key, value in spec["airflow_configuration_options"].items():
        facts.append(("Option", f"{key} = {value}"))
    for key, value in shown["tags"].items():
        facts.append(("Tag", f"{key} = {value}"))
    if shown["isolation"]:
        facts.append(("Isolation", shown["isolation"]))
    facts += [("Not enforced", sentence) for sentence in shown["missing_isolation"]]
    if shown["replicas"]:
        why = shown["not_forked"]
        facts.append(("Start", f"as programs: {why}" if why else "forked from one preloaded process"))
    if "logs" in shown:
        facts.append(("Logs", shown["logs"]["components"]))
        facts.append(("Task logs", shown["logs"]["tasks"]))
    lines = [f"{title + ':':<14}{value}" for title, value in facts]
    lines.append("")
    if shown["unseen"]:
        return [*lines, f"What runs is not known: {shown['unseen']}."]
    return lines + table_lines(
        ("component", "state", "pid", "since", "restarts", "memory", "last exit"),
        [
            (
                f"{one['kind']}-{one['index']}",
                "ready" if one["ready"] else "starting" if one["running"] else "down",
                one["pid"],
                clock(one["since"]),
                one["restarts"],
                size(one["rss_bytes"]) if one["rss_bytes"] else "-",
                one["last_exit"] or "-",
            )
            for one in shown["replicas"]
        ],
    )


def _mirror(shown: dict[str, Any]) -> str:
    dags = shown["dags"]
    if not dags:
        return ""
    if dags["error"]:
        return f" (not synced: {dags['error']})"
    return f" ({dags['files']} files" + (
        f", synced {clock(dags['synced_at'])})" if dags["synced_at"] else ")"
    )


def _last_update(update: dict[str, Any]) -> str:
    error = update["error"]
    cause = f": {error['code']}: {error['message']}" if error else ""
    source = f" by {update['source']}" if update["source"] else ""
    return f"{update['status']} of {clock(update['created_at'])}{source}{cause}"


for command in (
    env_create.command,
    env_change.plan,
    env_change.update,
    env_change.restart,
    env_change.delete,
    env_access.open_,
    env_access.cli,
):
    group.add_command(command)
