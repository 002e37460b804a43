"""Waiting for a condition, with a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(
    probe: Callable[[], T],
    *,
    within_s: float,
    every_s: float = 0.2,
    what: str = "",
    errors: tuple[type[Exception], ...] = (),
) -> T:
    """Call `probe` until it returns something true, and return that.

    Args:
        probe: Returns a false value while it must be called again.

        within_s: Deadline in seconds.

        every_s: Pause between two calls.

        what: Named in the failure.

        errors: Exceptions that mean "not yet".

    Raises:
        AssertionError: The deadline passed; shows the last answer.
    """
    deadline = time.monotonic() + within_s
    last: object = None
    while True:
        try:
            last = probe()
            if last:
                return last
        except errors as error:
            last = error
        if time.monotonic() > deadline:
            raise AssertionError(f"{what or 'condition'} not met within {within_s:.0f} s; last: {last!r}")
        time.sleep(every_s)
