"""`openmwaa events`: the history of an environment, also of one that was deleted."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from typing import Any, Final

import click

from openmwaa.cli.errors import ServiceDown
from openmwaa.cli.operator import Operator
from openmwaa.cli.output import clock, json_option, print_json
from openmwaa.settings import Settings

_POLL_S: Final = 1.0


@click.command("events")
@click.argument("name")
@click.option("--follow", is_flag=True, help="Go on with new events until interrupted.")
@click.option("--limit", type=click.IntRange(1, 1000), default=200, show_default=True, help="The newest N.")
@json_option
@click.pass_obj
def command(settings: Settings, name: str, follow: bool, limit: int, as_json: bool) -> None:
    """Show what happened to an environment. With --follow, --json prints one object per line."""
    operator = Operator(settings)
    events = operator.get(f"/environments/{name}/events", limit=limit)["events"]
    if as_json and not follow:
        print_json(events)
        return
    _print(events, as_json=as_json)
    last = events[-1]["id"]
    while follow:
        time.sleep(_POLL_S)
        with suppress(ServiceDown):
            events = operator.get(f"/environments/{name}/events", after=last)["events"]
            _print(events, as_json=as_json)
            last = events[-1]["id"] if events else last


def _print(events: list[dict[str, Any]], *, as_json: bool) -> None:
    for event in events:
        click.echo(
            json.dumps(event) if as_json else f"{clock(event['at'])}  {event['kind']:<22}  {event['message']}"
        )
