"""The planner, cut off after every step."""

import dataclasses
from typing import Any

import pytest

from openmwaa.environments.record import RESTORE_FROM, UNDO, EnvironmentRecord
from openmwaa.environments.spec import S3File
from openmwaa.environments.status import Status
from openmwaa.reconcile.plan import TAKE_DOWN, Step, next_step, steps_of
from tests.support.specs import a_record, a_spec


def run_until(record: EnvironmentRecord, *, cut_after: int) -> tuple[list[Step], dict[str, Any]]:
    """Do at most `cut_after` steps, as a loop that dies then would."""
    done: dict[str, Any] = dict(record.checkpoints)
    taken: list[Step] = []
    while len(taken) < cut_after and (step := next_step(record, done)) is not None:
        taken.append(step)
        done[step] = True
    return taken, done


SCRIPT = S3File("startup.sh", "v1", "d1")
REQUIREMENTS = S3File("requirements.txt", "v1", "d2")
SITUATIONS = {
    "create": a_record(),
    "create with everything": a_record(a_spec(startup_script=SCRIPT, requirements=REQUIREMENTS)),
    "create from a snapshot": a_record(checkpoints={RESTORE_FROM: "snap-1"}),
    "update": a_record(generation=2, observed_generation=1, good_spec=a_spec()),
    "requirements": a_record(
        a_spec(requirements=REQUIREMENTS), generation=2, observed_generation=1, good_spec=a_spec()
    ),
    "same requirements": a_record(
        a_spec(requirements=S3File("requirements.txt", "v2", "d2")),
        generation=2,
        observed_generation=1,
        good_spec=a_spec(requirements=REQUIREMENTS),
    ),
    "options": a_record(
        a_spec(airflow_configuration_options={"mine.key": "1"}),
        generation=2,
        observed_generation=1,
        good_spec=a_spec(),
    ),
    "patch": a_record(
        a_spec(runtime_id="3.3.1-b"),
        generation=2,
        observed_generation=1,
        good_spec=a_spec(runtime_id="3.3.1-a"),
    ),
    "bucket": a_record(
        a_spec(source_bucket_arn="arn:aws:s3:::other"),
        generation=2,
        observed_generation=1,
        good_spec=a_spec(),
    ),
    "upgrade": a_record(generation=2, observed_generation=1, good_spec=a_spec(airflow_version="3.0.6")),
    "restore in place": a_record(
        generation=2, observed_generation=1, good_spec=a_spec(), checkpoints={RESTORE_FROM: "snap-1"}
    ),
    "rollback": a_record(
        generation=3, observed_generation=1, failed_generation=2, rolling_back=True, good_spec=a_spec()
    ),
    "rollback of an upgrade": a_record(
        generation=3, observed_generation=1, rolling_back=True, good_spec=a_spec(), checkpoints={UNDO: "g2"}
    ),
    "upgrade after a failed rollback": a_record(
        generation=4,
        observed_generation=1,
        failed_generation=3,
        good_spec=a_spec(airflow_version="3.0.6"),
        checkpoints={UNDO: "g2"},
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
    assert steps_of(a_record()) == (
        Step.INSTALL_RUNTIME,
        Step.CREATE_DATABASE,
        Step.CREATE_ACCOUNT,
        Step.PREPARE,
        Step.MIGRATE_DATABASE,
        Step.START,
        Step.VERIFY,
    )


@pytest.mark.parametrize("situation", SITUATIONS)
def test_what_can_be_refused_is_refused_before_anything_that_runs_is_touched(situation: str) -> None:
    """Within a version, layer, script and DAGs are tried before components are stopped or replaced."""
    steps = steps_of(SITUATIONS[situation])
    touched = next((n for n, step in enumerate(steps) if step in {Step.STOP_COMPONENTS, Step.START}), 0)
    checks = {Step.INSTALL_RUNTIME, Step.BUILD_LAYER, Step.CHECK_STARTUP_SCRIPT, Step.LOOK_AT_DAGS}
    assert all(steps.index(step) < touched for step in checks & set(steps))
    if Step.MIGRATE_DATABASE not in steps and Step.CHECK_DAGS in steps:
        assert steps.index(Step.CHECK_DAGS) < touched


@pytest.mark.parametrize("situation", SITUATIONS)
def test_the_database_is_copied_while_nothing_runs_and_before_it_is_changed(situation: str) -> None:
    """Whatever changes the database of an environment that runs can be put back."""
    record = SITUATIONS[situation]
    steps = steps_of(record)
    if Step.MIGRATE_DATABASE in steps and record.good_spec is not None:
        order = [Step.STOP_COMPONENTS, Step.COPY_DATABASE, Step.MIGRATE_DATABASE, Step.START]
        assert [step for step in steps if step in order] == order
        assert steps[-1] is Step.DROP_COPIES
        assert steps.index(Step.VERIFY) < steps.index(Step.DROP_COPIES)


def test_the_database_is_migrated_only_when_the_version_changes() -> None:
    """An update within a version leaves the database alone and stops nothing at once."""
    for situation in ("update", "requirements", "patch", "bucket"):
        assert not {Step.MIGRATE_DATABASE, Step.STOP_COMPONENTS} & set(steps_of(SITUATIONS[situation]))
    assert Step.MIGRATE_DATABASE in steps_of(SITUATIONS["upgrade"])


def test_what_a_failed_change_left_is_put_back_first() -> None:
    """Also by an update that follows a rollback which failed."""
    for situation in ("rollback of an upgrade", "upgrade after a failed rollback"):
        steps = steps_of(SITUATIONS[situation])
        assert (
            steps.index(Step.STOP_COMPONENTS) < steps.index(Step.RESTORE_DATABASE) < steps.index(Step.START)
        )
    assert Step.RESTORE_DATABASE not in steps_of(SITUATIONS["rollback"])


def test_a_rollback_refuses_nothing() -> None:
    """What is put back was seen to work; a DAG that was broken since must not stop it."""
    for situation in ("rollback", "rollback of an upgrade"):
        assert not {Step.CHECK_DAGS, Step.CHECK_STARTUP_SCRIPT} & set(steps_of(SITUATIONS[situation]))


def test_dags_are_imported_before_whatever_they_may_read_changes() -> None:
    """Options too: a DAG file may read them at its top, and `env plan` imports it with them."""
    for situation in ("options", "requirements", "patch"):
        steps = steps_of(SITUATIONS[situation])
        assert steps.index(Step.CHECK_DAGS) < steps.index(Step.START)
    for situation in ("update", "same requirements", "bucket", "rollback"):
        assert Step.CHECK_DAGS not in steps_of(SITUATIONS[situation])


def test_a_rollback_gives_the_environment_its_bucket_back() -> None:
    """The change that failed may have been one of the bucket; the account has rights on one bucket only."""
    steps = steps_of(SITUATIONS["rollback"])
    assert steps.index(Step.CREATE_ACCOUNT) < steps.index(Step.START)
    assert Step.CREATE_ACCOUNT not in steps_of(SITUATIONS["update"])


def test_an_upgrade_shows_when_its_snapshot_is_made() -> None:
    """CREATING_SNAPSHOT between stopping the components and the copy of their database."""
    record = SITUATIONS["upgrade"]
    seen = []
    done: dict[str, Any] = {}
    while (step := next_step(record, done)) is not None:
        seen.append((step, dataclasses.replace(record, checkpoints=done).status))
        done = {**done, step: True}
    snapshot = [step for step, status in seen if status is Status.CREATING_SNAPSHOT]
    assert snapshot == [Step.COPY_DATABASE]
    assert {status for _, status in seen} == {Status.UPDATING, Status.CREATING_SNAPSHOT}


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
