"""Which snapshots a schedule lets go."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openmwaa.environments.errors import InvalidRequestError
from openmwaa.environments.snapshots import (
    AUTOMATIC,
    SnapshotReason,
    SnapshotRecord,
    SnapshotState,
    check_schedule,
    new_snapshot_id,
    surplus,
)

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)


def a_snapshot(
    hours: float,
    state: SnapshotState = SnapshotState.AVAILABLE,
    reason: SnapshotReason = SnapshotReason.SCHEDULED,
    *,
    pinned: bool = False,
) -> SnapshotRecord:
    return SnapshotRecord(
        id=new_snapshot_id(),
        environment_id="abcdefghijkl",
        environment_name="alpha",
        region="us-east-1",
        account="000000000000",
        airflow_version="3.3.1",
        state=state,
        reason=reason,
        pinned=pinned,
        created_at=NOW - timedelta(hours=hours),
    )


SNAPSHOTS = st.lists(
    st.builds(
        a_snapshot,
        st.floats(0, 2000),
        st.sampled_from(SnapshotState),
        st.sampled_from(SnapshotReason),
        pinned=st.booleans(),
    ),
    max_size=30,
)
KEEP = st.none() | st.integers(1, 10)
AGE = st.none() | st.integers(1, 1500).map(lambda hours: timedelta(hours=hours))


@given(SNAPSHOTS, KEEP, AGE)
def test_only_what_nobody_asked_for_goes_and_never_the_last_available(
    snapshots: list[SnapshotRecord], keep: int | None, max_age: timedelta | None
) -> None:
    going = surplus(snapshots, keep=keep, max_age=max_age, now=NOW)
    for one in going:
        assert one.reason in AUTOMATIC
        assert not one.pinned
        assert one.state in (SnapshotState.AVAILABLE, SnapshotState.FAILED)
    available = [one for one in snapshots if one.state is SnapshotState.AVAILABLE]
    if available:
        newest = max(available, key=lambda one: (one.created_at, one.id))
        assert newest not in going


@given(SNAPSHOTS, KEEP, AGE)
def test_what_is_left_fits_and_letting_go_again_changes_nothing(
    snapshots: list[SnapshotRecord], keep: int | None, max_age: timedelta | None
) -> None:
    going = surplus(snapshots, keep=keep, max_age=max_age, now=NOW)
    left = [one for one in snapshots if one not in going]
    mortal = [
        one
        for one in left
        if one.state is SnapshotState.AVAILABLE and one.reason in AUTOMATIC and not one.pinned
    ]
    if keep is not None:
        assert len(mortal) <= keep
    if max_age is not None:
        assert sum(NOW - one.created_at > max_age for one in mortal) <= 1  # the last available one
    assert surplus(left, keep=keep, max_age=max_age, now=NOW) == []


@given(SNAPSHOTS)
def test_without_limits_nothing_goes(snapshots: list[SnapshotRecord]) -> None:
    assert surplus(snapshots, keep=None, max_age=None, now=NOW) == []


def test_the_oldest_go_first() -> None:
    snapshots = [a_snapshot(hours) for hours in (1, 2, 3, 4)]
    going = surplus(snapshots, keep=2, max_age=None, now=NOW)
    assert going == [snapshots[3], snapshots[2]]
    assert surplus(snapshots, keep=None, max_age=timedelta(minutes=30), now=NOW) == snapshots[:0:-1]


@pytest.mark.parametrize(
    ("every", "keep", "max_age"),
    [
        (timedelta(0), None, None),
        (timedelta(days=4000), None, None),
        (timedelta(hours=1), 0, None),
        (timedelta(hours=1), None, timedelta(0)),
    ],
)
def test_a_schedule_out_of_range_is_refused(
    every: timedelta, keep: int | None, max_age: timedelta | None
) -> None:
    with pytest.raises(InvalidRequestError):
        check_schedule(every, keep, max_age)
