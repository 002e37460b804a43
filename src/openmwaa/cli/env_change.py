"""`openmwaa env plan`, `update`, `restart` and `delete`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from openmwaa.cli.clients import Clients
from openmwaa.cli.operator import Operator
from openmwaa.cli.options import KEY_VALUE, RANGE
from openmwaa.cli.output import json_option, on_terminal, print_json
from openmwaa.cli.waiting import Progress, Waiter, require_available
from openmwaa.environments.spec import LOG_TYPES
from openmwaa.settings import Settings

F = TypeVar("F", bound=Callable[..., Any])

_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_LOGS = {suffix.lower(): member for member, suffix in LOG_TYPES.items()}


class _LogLevel(click.ParamType[tuple[str, str]]):
    """`type=LEVEL` or `type=off`."""

    name = "type=level"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        if isinstance(value, tuple):
            return value
        kind, _, level = str(value).lower().partition("=")
        if kind not in _LOGS or level.upper() not in {*_LEVELS, "OFF"}:
            accepted = f"one of {', '.join(_LOGS)} = one of {', '.join(_LEVELS)}, off"
            self.fail(f"{value!r} is not {accepted}.", param, ctx)
        return kind, level.upper()


_OPTIONS = (
    click.option("--workers", type=RANGE, metavar="MIN:MAX"),
    click.option("--webservers", type=RANGE, metavar="MIN:MAX"),
    click.option("--schedulers", type=int, metavar="N"),
    click.option(
        "--option", "options", type=KEY_VALUE, multiple=True, metavar="K=V", help="Set an Airflow option."
    ),
    click.option("--unset-option", "unset", multiple=True, metavar="K", help="Remove an Airflow option."),
    click.option(
        "--log",
        "logs",
        type=_LogLevel(),
        multiple=True,
        metavar="TYPE=LEVEL",
        help="E.g. scheduler=INFO, worker=off.",
    ),
    click.option("--window", metavar="DAY:HH:MM", help="Start of the weekly maintenance window, UTC."),
)


def _change_options(command: F) -> F:
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@click.command("plan")
@click.argument("name")
@_change_options
@json_option
@click.pass_obj
def plan(settings: Settings, /, name: str, as_json: bool, **chosen: Any) -> None:
    """Show what `env update` with the same options would do. Changes nothing."""
    operator = Operator(settings)
    members = update_members(operator.get(f"/environments/{name}")["spec"], **chosen)
    answer = operator.post(f"/environments/{name}/plan", members)
    if as_json:
        print_json(answer)
        return
    for line in plan_lines(answer):
        click.echo(line)


@click.command("update")
@click.argument("name")
@_change_options
@click.option("--no-wait", is_flag=True, help="Return when the request is accepted.")
@click.pass_obj
def update(settings: Settings, /, name: str, no_wait: bool, **chosen: Any) -> None:
    """Change an environment and wait until the change is live. See it before with `env plan`."""
    operator, clients = Operator(settings), Clients(settings)
    members = update_members(operator.get(f"/environments/{name}")["spec"], **chosen)
    if not members:
        raise click.UsageError("Nothing to change. To replace every component: openmwaa env restart NAME")
    waiter = Waiter(clients, operator, name, progress := Progress())
    waiter.skip_events()
    clients.mwaa.update_environment(Name=name, **members)
    _follow(waiter, progress, name, no_wait=no_wait)


@click.command("restart")
@click.argument("name")
@click.option("--no-wait", is_flag=True, help="Return when the request is accepted.")
@click.pass_obj
def restart(settings: Settings, name: str, no_wait: bool) -> None:
    """Replace every component, one after the other."""
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


def update_members(
    spec: dict[str, Any],
    *,
    workers: tuple[int, int] | None = None,
    webservers: tuple[int, int] | None = None,
    schedulers: int | None = None,
    options: tuple[tuple[str, str], ...] = (),
    unset: tuple[str, ...] = (),
    logs: tuple[tuple[str, str], ...] = (),
    window: str | None = None,
) -> dict[str, Any]:
    """Return the members of UpdateEnvironment for what was chosen on the command line.

    UpdateEnvironment replaces all Airflow options at once; here single ones are set and
    removed, so the others are carried over.

    Args:
        spec: What is wanted now, as the operator's API shows it.

        workers: Lowest and highest count.

        webservers: Lowest and highest count.

        schedulers: Count.

        options: To set.

        unset: To remove.

        logs: Log type and level, or `OFF`.

        window: `DAY:HH:MM`.
    """
    members: dict[str, Any] = {}
    if workers:
        members |= {"MinWorkers": workers[0], "MaxWorkers": workers[1]}
    if webservers:
        members |= {"MinWebservers": webservers[0], "MaxWebservers": webservers[1]}
    if schedulers is not None:
        members["Schedulers"] = schedulers
    if options or unset:
        current: dict[str, str] = spec["airflow_configuration_options"]
        kept = {key: value for key, value in current.items() if key not in unset}
        members["AirflowConfigurationOptions"] = kept | dict(options)
    if logs:
        members["LoggingConfiguration"] = {
            _LOGS[kind]: {
                "Enabled": level != "OFF",
                "LogLevel": spec["logging"][_LOGS[kind]]["level"] if level == "OFF" else level,
            }
            for kind, level in logs
        }
    if window:
        members["WeeklyMaintenanceWindowStart"] = window
    return members


def plan_lines(plan: dict[str, Any]) -> list[str]:
    """Return a plan for people."""
    lines = []
    for change in plan["fields"]:
        lines += _difference(change["field"], change["before"], change["after"])
        effects = [_effect(effect) for effect in change["components"]]
        lines.append(f"    {'; '.join(effects) or 'no component is touched'}")
    if not plan["fields"]:
        lines.append("No field changes. An update replaces every component all the same.")
    lines.append("")
    lines += [f"{_effect(effect)[0].upper()}{_effect(effect)[1:]}." for effect in plan["components"]]
    if not plan["components"]:
        lines.append("No component is replaced.")
    workers = [effect for effect in plan["components"] if effect["kind"] == "worker"]
    if plan["stops_workers"]:
        grace_s = max(effect["stop_grace_s"] for effect in workers)
        lines.append(
            f"Running tasks: a worker that is stopped takes no new task and has {grace_s:.0f} s to finish those it runs."
        )
    else:
        lines.append("Running tasks: not touched.")
    return lines


def _difference(field: str, before: Any, after: Any) -> list[str]:
    if isinstance(before, dict) and isinstance(after, dict):
        keys = [key for key in {**before, **after} if before.get(key) != after.get(key)]
        return [f"{field}.{key}: {_value(before.get(key))} -> {_value(after.get(key))}" for key in keys]
    return [f"{field}: {_value(before)} -> {_value(after)}"]


def _value(value: Any) -> str:
    match value:
        case None:
            return "not set"
        case {"enabled": enabled, "level": level}:
            return str(level) if enabled else "off"
        case _:
            return str(value)


def _effect(effect: dict[str, Any]) -> str:
    kind, before, after = effect["kind"], effect["before"], effect["after"]
    count = f"{before}" if before == after else f"{before} -> {after}"
    verb = {"replace": "is replaced", "add": "gets more replicas", "remove": "gets fewer replicas"}
    return f"{kind} {verb[effect['action']]} ({count})"
