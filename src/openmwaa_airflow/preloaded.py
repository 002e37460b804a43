"""Whether this process was forked from one in which Airflow is imported already.

Such a process must bring Airflow up to date with its own variables before it uses it, and when
those are complete is for the program to know: after the start-up script, where there is one. A
process that was started as a program of its own has nothing to do here: importing does it.
"""

from __future__ import annotations

from collections.abc import Callable

_take_over: Callable[[], None] | None = None
_forked = False


def offer(take_over: Callable[[], None]) -> None:
    """Say how to make what is preloaded this process's own; for `openmwaa_airflow.zygote`."""
    global _take_over, _forked
    _take_over, _forked = take_over, True


def is_forked() -> bool:
    """Return whether Airflow was imported before this process began."""
    return _forked


def use() -> None:
    """Make Airflow usable under the variables as they are now. Call it before Airflow's first use.

    Does nothing in a program of its own, and the second time. Where something that is preloaded
    does not fit the variables, this process becomes a program of its own, and this does not return.
    """
    global _take_over
    take_over, _take_over = _take_over, None
    if take_over is not None:
        take_over()
