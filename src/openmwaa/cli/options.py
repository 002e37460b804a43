"""Types of command-line options that several commands share."""

from __future__ import annotations

from typing import Any

import click


class Range(click.ParamType[tuple[int, int]]):
    """`MIN:MAX`, or one number for both."""

    name = "min:max"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        """Return both ends."""
        if isinstance(value, tuple):
            return value
        low, colon, high = str(value).partition(":")
        try:
            pair = (int(low), int(high) if colon else int(low))
        except ValueError:
            self.fail(f"{value!r} is not MIN:MAX, for example 1:5.", param, ctx)
        return pair


class KeyValue(click.ParamType[tuple[str, str]]):
    """`key=value`; the value may be empty and may hold further equals signs."""

    name = "key=value"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        """Return key and value."""
        if isinstance(value, tuple):
            return value
        key, equals, text = str(value).partition("=")
        if not equals or not key:
            self.fail(f"{value!r} is not key=value.", param, ctx)
        return key, text


class Duration(click.ParamType[int]):
    """A number with a unit: `30m`, `24h`, `30d`, `90s`. The value is in seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return seconds."""
        if isinstance(value, int):
            return value
        text = str(value)
        number, unit = text[:-1], _SECONDS.get(text[-1:])
        if unit is None or not (number.isascii() and number.isdigit()) or len(number) > 9:
            self.fail(f"{value!r} is not a number with s, m, h or d, for example 24h.", param, ctx)
        return int(number) * unit


_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
DURATION = Duration()
RANGE = Range()
KEY_VALUE = KeyValue()
