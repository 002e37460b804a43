"""The planner, cut off after every step."""

import dataclasses

import pytest

from openmwaa.environments.record import EnvironmentRecord
from openmwaa.reconcile.plan import BRING_UP, TAKE_DOWN, Step, next_step, steps_of
from tests.support.specs import a_record, a_spec


def run_until(record: EnvironmentRecord, *, cut_after: int) -> tuple[list[Step], dict[str, bool]]:
    """Do at most `cut_after` steps, as a loop that dies then would."""
    done: dict[str, bool] = dict(record.checkpoints)
    taken: list[Step] = []
    while len(taken) < cut_after and (step := next_step(record, done)) is not None:
        taken.append(step)
        done[step] = True
    return taken, done


SITUATIONS = {
    "create": a_record(),
    "update": a_record(generation=2, observed_generation=1, good_spec=a_spec()),
    "upgrade": a_record(generation=2, observed_generation=1, good_spec=a_spec(airflow_version="3.0.6")),
    "rollback": a_record(
        generation=3, observed_generation=1, failed_generation=2, rolling_back=True, good_spec=a_spec()
    ),
    "delete": a_record(generation=1, observed_generation=1, good_spec=a_spec(), deleting=True),
    "delete of a failed creation": a_record(failed_generation=1, deleting=True),
}


@pytest.mark.parametrize("situation", SITUATIONS)
def test_cut_after_every_step_the_end_is_the_same(situation: str) -> None:
    """Wherever the work is cut off, going on from the row does exactly the steps that were left."""
    record = SITUATIONS[situation]
    whole, _ = run_until(record, cut_after=100)
    assert whole == list(steps_of(record))
    for cut in range(len(whole) + 1):
        first, done = run_until(record, cut_after=cut)
        second, _ = run_until(dataclasses.replace(record, checkpoints=done), cut_after=100)
        assert first + second == whole


def test_a_new_environment_is_verified_last_and_migrated_before_it_starts() -> None:
    """Nothing starts on a database that is not ready; nothing is available that was not seen healthy."""
    assert steps_of(a_record()) == BRING_UP
    assert BRING_UP.index(Step.MIGRATE_DATABASE) < BRING_UP.index(Step.START)
    assert BRING_UP[-1] is Step.VERIFY


def test_the_database_is_migrated_only_when_the_version_changes() -> None:
    """An update within a version leaves the database alone."""
    assert Step.MIGRATE_DATABASE not in steps_of(SITUATIONS["update"])
    assert Step.MIGRATE_DATABASE in steps_of(SITUATIONS["upgrade"])


@pytest.mark.parametrize(
    "record",
    [
        a_record(observed_generation=1, good_spec=a_spec()),
        a_record(failed_generation=1),
    ],
)
def test_nothing_is_left_to_do_when_reached_or_given_up(record: EnvironmentRecord) -> None:
    """A settled row plans nothing."""
    assert steps_of(record) == ()


def test_deleting_wins_over_everything() -> None:
    """A deletion takes down, whatever else was going on."""
    assert steps_of(a_record(deleting=True)) == TAKE_DOWN
