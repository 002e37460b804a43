"""The public status over every combination of facts."""

import itertools

import pytest

from openmwaa.environments.status import ACCEPTS_DELETE, ACCEPTS_UPDATE, Facts, Status, status_of

EVERY_COMBINATION = [
    Facts(
        generation=generation,
        observed_generation=observed,
        failed_generation=failed,
        rolling_back=rolling_back,
        last_change_failed=last_failed,
        deleting=deleting,
        deleted=deleted,
        snapshotting=snapshotting,
        maintenance=maintenance,
    )
    for (
        generation,
        observed,
        failed,
        rolling_back,
        last_failed,
        deleting,
        deleted,
        snapshotting,
        maintenance,
    ) in itertools.product((1, 2, 3), (0, 1, 2, 3), (0, 1, 2, 3), *[(False, True)] * 6)
    if observed <= generation and failed <= generation and (deleting or not deleted)
]


@pytest.mark.parametrize(
    ("facts", "status"),
    [
        (Facts(1, 0), Status.CREATING),
        (Facts(1, 0, failed_generation=1), Status.CREATE_FAILED),
        (Facts(1, 1), Status.AVAILABLE),
        (Facts(2, 1), Status.UPDATING),
        (Facts(2, 2), Status.AVAILABLE),
        (Facts(2, 1, snapshotting=True), Status.CREATING_SNAPSHOT),
        (Facts(2, 1, maintenance=True), Status.MAINTENANCE),
        (Facts(2, 2, maintenance=True), Status.AVAILABLE),
        (Facts(3, 1, rolling_back=True, maintenance=True, snapshotting=True), Status.ROLLING_BACK),
        (Facts(3, 1, rolling_back=True), Status.ROLLING_BACK),
        (Facts(3, 3, last_change_failed=True), Status.UPDATE_FAILED),
        (Facts(3, 1, failed_generation=3, rolling_back=True), Status.UNAVAILABLE),
        (Facts(4, 1, failed_generation=3), Status.UPDATING),
        (Facts(1, 0, failed_generation=1, deleting=True), Status.DELETING),
        (Facts(1, 1, deleting=True, deleted=True), Status.DELETED),
    ],
)
def test_status_of_a_row(facts: Facts, status: Status) -> None:
    """Each stage of a lifecycle shows MWAA's status."""
    assert status_of(facts) is status


def test_every_combination_keeps_the_rules() -> None:
    """Deletion hides all else; AVAILABLE only shows what was seen; an unfinished creation is never UPDATING."""
    for facts in EVERY_COMBINATION:
        status = status_of(facts)
        if facts.deleting:
            assert status in {Status.DELETING, Status.DELETED}, facts
            continue
        if status in {Status.AVAILABLE, Status.UPDATE_FAILED}:
            assert facts.observed_generation == facts.generation, facts
        if facts.observed_generation == 0:
            assert status in {Status.CREATING, Status.CREATE_FAILED}, facts


def test_no_operation_is_accepted_while_another_runs() -> None:
    """A running operation blocks updates and deletions."""
    running = {
        Status.CREATING,
        Status.UPDATING,
        Status.DELETING,
        Status.ROLLING_BACK,
        Status.CREATING_SNAPSHOT,
    }
    assert not running & (ACCEPTS_UPDATE | ACCEPTS_DELETE)
