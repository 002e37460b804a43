"""The lifecycle as data: states, what is accepted in each, and the status of a row.

The public status is never stored: it is a pure function of what is wanted and what
was seen. Source: mwaa.md 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Status(StrEnum):
    """MWAA's twelve statuses."""

    CREATING = "CREATING"
    PENDING = "PENDING"
    CREATE_FAILED = "CREATE_FAILED"
    AVAILABLE = "AVAILABLE"
    UPDATING = "UPDATING"
    CREATING_SNAPSHOT = "CREATING_SNAPSHOT"
    ROLLING_BACK = "ROLLING_BACK"
    UPDATE_FAILED = "UPDATE_FAILED"
    UNAVAILABLE = "UNAVAILABLE"
    MAINTENANCE = "MAINTENANCE"
    DELETING = "DELETING"
    DELETED = "DELETED"


ACCEPTS_UPDATE: Final = frozenset(
    {Status.AVAILABLE, Status.UPDATE_FAILED, Status.MAINTENANCE, Status.UNAVAILABLE}
)
"""Statuses in which UpdateEnvironment is accepted (mwaa.md 1.6)."""

ACCEPTS_DELETE: Final = frozenset(
    {Status.AVAILABLE, Status.CREATE_FAILED, Status.UPDATE_FAILED, Status.UNAVAILABLE}
)
"""Statuses in which DeleteEnvironment is accepted (mwaa.md 2.2)."""

USABLE: Final = frozenset(
    {
        Status.AVAILABLE,
        Status.UPDATING,
        Status.UPDATE_FAILED,
        Status.MAINTENANCE,
        Status.CREATING_SNAPSHOT,
        Status.ROLLING_BACK,
    }
)
"""Statuses in which tokens are given out and the web server can be reached."""


@dataclass(frozen=True)
class Facts:
    """The part of a row that decides its status.

    Attributes:
        generation: Number of the wanted spec; 1 at creation, +1 with each accepted change.

        observed_generation: Generation that was last brought up and seen healthy; 0 before the first.

        failed_generation: Generation that cannot be reached; 0 if none. A rollback gives the
            old spec a new generation.

        rolling_back: The wanted spec is the last good one, put back after a failure.

        rollback_failed: The last good spec could not be restored either.

        last_change_failed: The newest change ended in a rollback that succeeded.

        deleting: DeleteEnvironment was accepted.

        deleted: Observation showed that nothing is left.

        snapshotting: The metadata database is being copied before a version change.

        maintenance: The change comes from the service, in the environment's maintenance window.
    """

    generation: int
    observed_generation: int
    failed_generation: int = 0
    rolling_back: bool = False
    last_change_failed: bool = False
    deleting: bool = False
    deleted: bool = False
    snapshotting: bool = False
    maintenance: bool = False

    @property
    def rollback_failed(self) -> bool:
        return self.rolling_back and self.failed_generation == self.generation


def status_of(facts: Facts) -> Status:
    """Return the public status; total over every combination of facts."""
    if facts.deleted:
        return Status.DELETED
    if facts.deleting:
        return Status.DELETING
    if facts.observed_generation == 0:
        failed = facts.failed_generation == facts.generation
        return Status.CREATE_FAILED if failed else Status.CREATING
    if facts.observed_generation == facts.generation:
        return Status.UPDATE_FAILED if facts.last_change_failed else Status.AVAILABLE
    return _status_of_change(facts)


def _status_of_change(facts: Facts) -> Status:
    if facts.rollback_failed:
        return Status.UNAVAILABLE
    if facts.rolling_back:
        return Status.ROLLING_BACK
    if facts.maintenance:
        return Status.MAINTENANCE
    return Status.CREATING_SNAPSHOT if facts.snapshotting else Status.UPDATING
