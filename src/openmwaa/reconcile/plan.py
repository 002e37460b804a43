"""What to do next for one environment. Pure: no clock, no I/O.

A plan is a list of steps in order. Each step is idempotent and leaves a checkpoint, so the
next step follows from the row alone, however often the work was cut off.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from openmwaa.environments.changes import changes_code, may_break_dags
from openmwaa.environments.layer import layer_of
from openmwaa.environments.record import (
    COPIED,
    RESTORE_FROM,
    RESTORED,
    STARTED,
    STOPPED,
    UNDO,
    EnvironmentRecord,
)


class Step(StrEnum):
    """One idempotent piece of work; its value is the name of its checkpoint."""

    INSTALL_RUNTIME = "install-runtime"
    BUILD_LAYER = "build-layer"
    CREATE_DATABASE = "create-database"
    CREATE_ACCOUNT = "create-account"
    PREPARE = "prepare"
    CHECK_STARTUP_SCRIPT = "check-startup-script"
    LOOK_AT_DAGS = "look-at-dags"
    CHECK_DAGS = "check-dags"
    STOP_COMPONENTS = STOPPED
    RESTORE_DATABASE = RESTORED
    COPY_DATABASE = COPIED
    MIGRATE_DATABASE = "migrate-database"
    START = STARTED
    VERIFY = "verify"
    DRAIN = "drain"
    DROP_COPIES = "drop-copies"

    STOP = "stop"
    DROP_DATABASE = "drop-database"
    DROP_ACCOUNT = "drop-account"


TAKE_DOWN: Final = (Step.STOP, Step.DROP_DATABASE, Step.DROP_ACCOUNT)


def steps_of(record: EnvironmentRecord) -> tuple[Step, ...]:
    """Return every step that leads to what is wanted, in order; empty if it was reached or given up."""
    if record.deleted_at is not None:
        return ()
    if record.deleting:
        return TAKE_DOWN
    if record.generation in (record.observed_generation, record.failed_generation):
        return ()
    change = _Change.of(record)
    return tuple(step for step, due in _bring_up(change) if due)


def next_step(record: EnvironmentRecord, done: Collection[str]) -> Step | None:
    """Return the first step without a checkpoint; None if nothing is left to do."""
    return next((step for step in steps_of(record) if step not in done), None)


@dataclass(frozen=True)
class _Change:
    """What of a row decides which steps are due.

    Attributes:
        new: Nothing was ever seen healthy.

        undo: A copy of the metadata database from before a failed change must be put back.

        moves_data: The metadata database changes as a whole: another version, or a snapshot's content.

        code: Packages, plugins, start-up script or the patch of Airflow change.

        dags: DAG files might no longer be imported.

        tried: What is wanted was seen to work before: it is the undoing of another change.
    """

    new: bool
    undo: bool
    version: bool
    moves_data: bool
    code: bool
    dags: bool
    script: bool
    layer: bool
    bucket: bool
    tried: bool

    @classmethod
    def of(cls, record: EnvironmentRecord) -> _Change:
        spec, good = record.spec, record.good_spec
        version = good is not None and good.airflow_version != spec.airflow_version
        return cls(
            new=good is None,
            undo=UNDO in record.checkpoints,
            version=version,
            moves_data=version or RESTORE_FROM in record.checkpoints,
            code=good is not None and changes_code(good, spec),
            dags=good is not None and may_break_dags(good, spec),
            script=spec.startup_script is not None,
            layer=layer_of(spec) is not None,
            bucket=good is not None and good.source_bucket_arn != spec.source_bucket_arn,
            tried=record.rolling_back,
        )


def _bring_up(change: _Change) -> tuple[tuple[Step, bool], ...]:
    """Return every step towards a running environment and whether it is due.

    Whatever can be refused is refused before anything that runs is touched: up to
    `CHECK_DAGS` for a change within a version. Another version's DAGs can only be imported
    on its own database, which is why that check comes later there, with a copy to go back to.
    """
    untried = not change.tried
    return (
        (Step.INSTALL_RUNTIME, True),
        (Step.BUILD_LAYER, change.layer),
        (Step.CREATE_DATABASE, change.new),
        # An undone change may have given it another bucket.
        (Step.CREATE_ACCOUNT, change.new or change.bucket or change.tried),
        (Step.PREPARE, True),
        (Step.CHECK_STARTUP_SCRIPT, change.script and untried and (change.new or change.code)),
        (Step.CHECK_DAGS, change.dags and untried and not change.moves_data and not change.undo),
        (Step.LOOK_AT_DAGS, change.version and untried and not change.undo),
        (Step.STOP_COMPONENTS, not change.new and (change.moves_data or change.undo)),
        (Step.RESTORE_DATABASE, change.undo),
        (Step.COPY_DATABASE, not change.new and change.moves_data),
        (Step.MIGRATE_DATABASE, change.new or change.moves_data),
        (Step.CHECK_DAGS, change.version and untried),
        (Step.START, True),
        (Step.VERIFY, True),
        (Step.DRAIN, not change.new),
        # A copy whose maker died before it wrote its checkpoint is dropped by the undoing.
        (Step.DROP_COPIES, change.moves_data or change.undo or change.tried),
    )
