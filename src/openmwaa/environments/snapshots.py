"""Snapshots of environments: what one is, and which ones a schedule lets go. Pure."""

from __future__ import annotations

import secrets
import string
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from openmwaa.environments.errors import DomainError, InvalidRequestError
from openmwaa.environments.status import Status

_ID_CHARACTERS = string.ascii_lowercase + string.digits
_ID_LENGTH: Final = 16

SHORTEST_EVERY: Final = timedelta(minutes=1)
LONGEST: Final = timedelta(days=3650)

ACCEPTS_SNAPSHOT: Final = frozenset(
    {Status.AVAILABLE, Status.UPDATE_FAILED, Status.UNAVAILABLE, Status.MAINTENANCE}
)
"""Statuses in which the metadata database is at rest and belongs to the last good spec."""


class SnapshotNotFoundError(DomainError):
    """No snapshot has this id."""


class SnapshotState(StrEnum):
    """What a reader may do with it: only an `available` one can be restored."""

    CREATING = "creating"
    AVAILABLE = "available"
    FAILED = "failed"
    DELETING = "deleting"


class SnapshotReason(StrEnum):
    """Why it was made. Those that nobody asked for are subject to retention."""

    MANUAL = "manual"
    SCHEDULED = "scheduled"
    BEFORE_RESTORE = "before-restore"
    BEFORE_CHANGE = "before-change"


AUTOMATIC: Final = frozenset(SnapshotReason) - {SnapshotReason.MANUAL}


@dataclass(frozen=True)
class SnapshotRecord:
    """One row of the store.

    Attributes:
        id: `snap-` and 16 characters. Never reused.

        environment_name: As it was called then; another environment may have the name by now.

        size_bytes: Stored, encrypted; grows while it is made.

        parts: Name, size and SHA-256 of each part, once it is available.

        prefix: Where its objects are in the service's bucket; None before it is available.

        error: Why it failed, or why the last try did.

        pinned: Retention never deletes it.
    """

    id: str
    environment_id: str
    environment_name: str
    region: str
    account: str
    airflow_version: str
    state: SnapshotState
    reason: SnapshotReason
    pinned: bool
    created_at: datetime
    completed_at: datetime | None = None
    size_bytes: int = 0
    parts: Sequence[Mapping[str, Any]] = ()
    prefix: str | None = None
    error: str | None = None
    attempts: int = 0


@dataclass(frozen=True)
class SnapshotSchedule:
    """When an environment is snapshotted, and how much of that is kept.

    Attributes:
        every: Time from one to the next.

        keep: Most automatic snapshots to keep; None: no limit.

        max_age: Older automatic ones go; None: no limit.

        next_at: When the next one is due.
    """

    environment_id: str
    every: timedelta
    keep: int | None
    max_age: timedelta | None
    next_at: datetime


def new_snapshot_id() -> str:
    """Return `snap-` and 16 random characters."""
    return "snap-" + "".join(secrets.choice(_ID_CHARACTERS) for _ in range(_ID_LENGTH))


def check_schedule(every: timedelta, keep: int | None, max_age: timedelta | None) -> None:
    """Refuse a schedule that cannot be kept.

    Raises:
        InvalidRequestError: Names the value.
    """
    if not SHORTEST_EVERY <= every <= LONGEST:
        raise InvalidRequestError("A schedule's interval must be between 1 minute and 3650 days.")
    if keep is not None and not 1 <= keep <= 10_000:
        raise InvalidRequestError("The number of snapshots to keep must be between 1 and 10000.")
    if max_age is not None and not SHORTEST_EVERY <= max_age <= LONGEST:
        raise InvalidRequestError("The highest age of a snapshot must be between 1 minute and 3650 days.")


def surplus(
    snapshots: Collection[SnapshotRecord], *, keep: int | None, max_age: timedelta | None, now: datetime
) -> list[SnapshotRecord]:
    """Return which snapshots of one environment its schedule lets go, oldest first.

    Only automatic ones that are available and not pinned; never the newest available one of any
    kind, so that an environment whose snapshots began to fail does not lose the last it has.
    Failed automatic ones go by age alone: they hold nothing but their reason.

    Args:
        snapshots: All of one environment, in any order and state.

        keep: Most automatic available ones to keep, pinned ones counted; None: no limit.

        max_age: None: no limit.

        now: Decides the age.
    """
    newest_first = sorted(snapshots, key=lambda one: (one.created_at, one.id), reverse=True)
    available = [one for one in newest_first if one.state is SnapshotState.AVAILABLE]
    automatic = [one for one in available if one.reason in AUTOMATIC]
    too_many = automatic[keep:] if keep is not None else []
    mortal = [
        one
        for one in newest_first
        if one.reason in AUTOMATIC and one.state in (SnapshotState.AVAILABLE, SnapshotState.FAILED)
    ]
    too_old = [one for one in mortal if max_age is not None and now - one.created_at > max_age]
    going = {one.id for one in (*too_many, *too_old)} - {one.id for one in available[:1]}
    return [one for one in reversed(newest_first) if one.id in going and not one.pinned]
