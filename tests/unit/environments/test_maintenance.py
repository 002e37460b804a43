"""Maintenance windows: when they are open, and what is done in one."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openmwaa.environments.maintenance import WINDOW, is_due, window_start
from openmwaa.environments.record import MAINTENANCE, EnvironmentRecord, LastUpdate
from tests.support.specs import a_record, a_spec

SUNDAY = datetime(2026, 11, 29, 3, 30, tzinfo=UTC)
OLD, NEW = "3.3.1-old", "3.3.1-new"


def settled(**changes: Any) -> EnvironmentRecord:
    spec = a_spec(weekly_maintenance_window_start="SUN:03:30", runtime_id=OLD)
    record = a_record(spec, observed_generation=1, good_spec=spec)
    return dataclasses.replace(record, **changes)


@given(
    day=st.sampled_from(["MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN"]),
    hour=st.integers(0, 23),
    half=st.sampled_from(["00", "30"]),
    now=st.datetimes(timezones=st.just(UTC), min_value=datetime(2024, 1, 1), max_value=datetime(2030, 1, 1)),  # noqa: DTZ001 - hypothesis adds the time zone,
)
def test_a_window_begins_once_a_week(day: str, hour: int, half: str, now: datetime) -> None:
    """At its day and time, within the last seven days."""
    start = window_start(f"{day}:{hour:02}:{half}", now)
    assert now - timedelta(days=7) < start <= now
    assert start.strftime("%a:%H:%M").upper() == f"{day}:{hour:02}:{half}"


@pytest.mark.parametrize(
    ("after", "due"),
    [
        (timedelta(seconds=-1), False),
        (timedelta(0), True),
        (WINDOW - timedelta(seconds=1), True),
        (WINDOW, False),
    ],
)
def test_only_while_the_window_is_open(after: timedelta, due: bool) -> None:
    """Nothing changes outside but by the user's own update."""
    assert is_due(settled(), NEW, SUNDAY + after) is due


def test_the_newest_patch_needs_no_maintenance() -> None:
    """There is nothing to move to."""
    assert not is_due(settled(), OLD, SUNDAY)


def test_what_is_under_way_is_left_alone() -> None:
    """So is what never worked, and what goes away."""
    assert not is_due(settled(generation=2), NEW, SUNDAY)
    assert not is_due(settled(deleting=True), NEW, SUNDAY)
    assert not is_due(a_record(a_spec(runtime_id=OLD), failed_generation=1), NEW, SUNDAY)


def test_a_failed_maintenance_is_tried_again_in_the_next_window() -> None:
    """Not every half minute."""
    failed = settled(
        last_change_failed=True,
        last_update=LastUpdate(status="FAILED", created_at=SUNDAY, source=MAINTENANCE),
    )
    assert not is_due(failed, NEW, SUNDAY + timedelta(minutes=30))
    assert is_due(failed, NEW, SUNDAY + timedelta(days=7))
