"""`openmwaa logs`: what components and tasks of an environment print, read from their files."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Final

import click

from openmwaa.cli.errors import CommandFailed, ServiceDown
from openmwaa.cli.log_lines import LogFile, LogLine, parse_since
from openmwaa.cli.operator import Operator
from openmwaa.settings import Settings

_KINDS: Final = MappingProxyType(
    {
        "task": ("task",),
        "scheduler": ("scheduler", "triggerer"),  # one log group on MWAA too
        "worker": ("worker",),
        "webserver": ("webserver",),
        "dag-processing": ("dag-processor",),
    }
)
_POLL_S: Final = 0.5
_LIST_EVERY_S: Final = 2.0
_OLDEST: Final = datetime.min.replace(tzinfo=UTC)


@click.command("logs")
@click.argument("name")
@click.option("--component", type=click.Choice(list(_KINDS)), help="Only this one (default: all).")
@click.option("--follow", is_flag=True, help="Go on with new lines until interrupted.")
@click.option("--since", metavar="WHEN", help="10m, 2h, 1d, or an ISO time: every line from then on.")
@click.option(
    "--lines", type=click.IntRange(0), default=200, show_default=True, help="Without --since: the newest N."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
@click.pass_obj
def command(
    settings: Settings,
    name: str,
    component: str | None,
    follow: bool,
    since: str | None,
    lines: int,
    as_json: bool,
) -> None:
    """Show the logs of an environment, in the order of time."""
    try:
        start = parse_since(since, datetime.now(UTC)) if since else None
    except ValueError as error:
        raise click.BadParameter(
            f"{since!r} is neither like 10m, 2h, 1d nor an ISO time.", param_hint="--since"
        ) from error
    reader = _Reader(Operator(settings), name, component)
    reader.find(since=start.timestamp() if start else 0, whole=start is not None)
    entries = reader.read()
    if not follow:
        entries += reader.finish()
    entries.sort(key=lambda line: line.at or _OLDEST)
    entries = (
        [line for line in entries if line.at is None or line.at >= start]
        if start
        else entries[-lines:]
        if lines
        else []
    )
    _print(entries, as_json=as_json)
    while follow:
        time.sleep(_POLL_S)
        reader.find_new()
        _print(sorted(reader.read(), key=lambda line: line.at or _OLDEST), as_json=as_json)


class _Reader:
    """The log files of one environment, those included that appear later."""

    def __init__(self, operator: Operator, name: str, component: str | None) -> None:
        self._operator = operator
        self._name = name
        self._kinds = _KINDS[component] if component else ()
        self._files: dict[str, LogFile] = {}
        self._listed_at = 0.0

    def find(self, *, since: float, whole: bool) -> None:
        """Take up the files that were written since; those that are known already stay.

        Args:
            since: Seconds since 1970.

            whole: Read them from their beginning, however long they are.
        """
        self._listed_at = time.monotonic()
        query: dict[str, Any] = {"component": list(self._kinds), "since": int(since)}
        for file in self._operator.get(f"/environments/{self._name}/logs", **query)["files"]:
            if file["path"] in self._files:
                continue
            taken = LogFile(file["name"], file["path"])
            if not whole:
                with suppress(OSError):  # `read` says what is wrong with it
                    taken.start_near_end()
            self._files[file["path"]] = taken

    def find_new(self) -> None:
        """Take up files that appeared; now and then, and not while the service is away."""
        if time.monotonic() - self._listed_at > _LIST_EVERY_S:
            with suppress(ServiceDown):
                self.find(since=0, whole=True)

    def read(self) -> list[LogLine]:
        """Return what was written since the last call, file by file."""
        try:
            return [line for file in self._files.values() for line in file.read()]
        except PermissionError as error:
            raise CommandFailed(f"{error.filename} may not be read by this user.") from error

    def finish(self) -> list[LogLine]:
        """Return unfinished last lines."""
        return [line for file in self._files.values() for line in file.finish()]


def _print(lines: Iterable[LogLine], *, as_json: bool) -> None:
    for line in lines:
        if as_json:
            at = line.at.isoformat() if line.at else None
            click.echo(json.dumps({"at": at, "name": line.name, "text": line.text}))
        else:
            click.echo(f"{line.name} | {line.text}")
