"""When the service may move an environment to a newer patch by itself. Pure.

Only in the environment's weekly window, which begins at its stored time in UTC and lasts two
hours (mwaa.md 2.7), and at most once in each: what failed is not tried again before the next.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from openmwaa.environments.record import MAINTENANCE, EnvironmentRecord
from openmwaa.environments.status import Status

WINDOW: Final = timedelta(hours=2)
_DAYS: Final = ("MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN")
_WEEK: Final = timedelta(days=7)


def window_start(window: str, now: datetime) -> datetime:
    """Return when the window last began, at or before `now`.

    Args:
        window: `DAY:HH:MM` in UTC.

        now: With a time zone.
    """
    day, hour, minute = window.split(":")
    moment = now.astimezone(UTC)
    start = moment.replace(hour=int(hour), minute=int(minute), second=0, microsecond=0)
    start -= timedelta(days=(moment.weekday() - _DAYS.index(day)) % 7)
    return start if start <= moment else start - _WEEK


def is_due(record: EnvironmentRecord, newest_runtime: str, now: datetime) -> bool:
    """Return whether an environment should be moved to the newest patch of its version now.

    Args:
        record: The environment.

        newest_runtime: Id of the newest runtime of its version.

        now: With a time zone.
    """
    if record.spec.runtime_id in ("", newest_runtime):
        return False
    start = window_start(record.spec.weekly_maintenance_window_start, now)
    if not start <= now < start + WINDOW:
        return False
    update = record.last_update
    tried = update.source == MAINTENANCE and update.created_at >= start
    return record.status in {Status.AVAILABLE, Status.UPDATE_FAILED} and not tried
