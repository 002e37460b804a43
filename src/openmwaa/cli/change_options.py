"""Options of `env update` and `env plan`, and the members of UpdateEnvironment that they mean."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

from openmwaa.cli.options import KEY_VALUE, RANGE
from openmwaa.environments.changes import GRACEFUL
from openmwaa.environments.spec import LOG_TYPES

F = TypeVar("F", bound=Callable[..., Any])

_LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_LOGS: Final = {suffix.lower(): member for member, suffix in LOG_TYPES.items()}


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


_OPTIONS: Final = (
    click.option("--version", metavar="VERSION", help="Airflow version, newer or older."),
    click.option("--class", "kind", metavar="CLASS", help="Environment class, e.g. mw1.small."),
    click.option("--requirements", metavar="FILE|none", help="requirements.txt to upload and install."),
    click.option("--plugins", metavar="FILE|none", help="plugins.zip to upload and unpack."),
    click.option(
        "--startup-script", metavar="FILE|none", help="Shell script to upload and run at each start."
    ),
    click.option(
        "--graceful", is_flag=True, help="Workers finish their tasks, for up to 12 hours, beside new ones."
    ),
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


def change_options(command: F) -> F:
    """Give a command the options of a change."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


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
    version: str | None = None,
    kind: str | None = None,
    graceful: bool = False,
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

        version: Of Airflow.

        kind: Environment class.

        graceful: Workers finish their tasks beside their successors.
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
    if version:
        members["AirflowVersion"] = version
    if kind:
        members["EnvironmentClass"] = kind
    if graceful:
        members["WorkerReplacementStrategy"] = GRACEFUL
    return members
