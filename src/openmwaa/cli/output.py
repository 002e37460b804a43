"""How commands print: tables for people, JSON for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def json_option(command: F) -> F:
    """Add `--json` to a command; its parameter is `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


def on_terminal() -> bool:
    """Return whether a person watches."""
    return sys.stdout.isatty()


def print_json(value: Any) -> None:
    """Print a value as JSON: indented on a terminal and in files alike."""
    click.echo(json.dumps(value, indent=2, default=str))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print aligned columns; numbers to the right. The same text on a terminal and elsewhere."""
    for line in table_lines(columns, rows):
        click.echo(line)


def table_lines(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Return a table as lines without trailing spaces."""
    cells = [[_text(cell) for cell in row] for row in rows]
    given = [list(row) for row in rows] if not isinstance(rows, list) else rows
    numeric = [
        bool(cells) and all(isinstance(row[index], int | float) or row[index] is None for row in given)
        for index in range(len(columns))
    ]
    widths = [max(len(row[index]) for row in [list(columns), *cells]) for index in range(len(columns))]

    def line(row: Sequence[str]) -> str:
        padded = (
            text.rjust(width) if right else text.ljust(width)
            for text, width, right in zip(row, widths, numeric, strict=True)
        )
        return "  ".join(padded).rstrip()

    return [line([column.upper() for column in columns]), *(line(row) for row in cells)]


def _text(cell: object) -> str:
    if cell is None:
        return "-"
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    return f"{cell:.1f}" if isinstance(cell, float) else str(cell)


def age(seconds: float) -> str:
    """Return a duration in its largest two units, e.g. `3m 20s`."""
    total = max(0, round(seconds))
    units = (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1))
    parts: list[str] = []
    for letter, size in units:
        count, total = divmod(total, size)
        if count or (parts and len(parts) < 2) or letter == "s":
            parts.append(f"{count}{letter}")
    while len(parts) > 1 and parts[0].startswith("0"):
        parts.pop(0)
    return " ".join(parts[:2])


def size(count: int) -> str:
    """Return bytes in the unit that reads best, e.g. `45.2 MB`."""
    if count < 1000:
        return f"{count} B"
    number = float(count)
    for unit in ("kB", "MB", "GB"):
        number /= 1000
        if number < 1000 or unit == "GB":
            break
    return f"{number:.1f} {unit}"


def clock(moment: str) -> str:
    """Return an ISO time as local `2026-11-23 03:10:00`."""
    return datetime.fromisoformat(moment).astimezone().strftime("%Y-%m-%d %H:%M:%S")
