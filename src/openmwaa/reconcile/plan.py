"""What to do next for one environment. Pure: no clock, no I/O.

A plan is a list of steps in order. Each step is idempotent and leaves a checkpoint, so the
next step follows from the row alone, however often the work was cut off.
"""

from __future__ import annotations

from collections.abc import Collection
from enum import StrEnum
from typing import Final

from openmwaa.environments.record import EnvironmentRecord


class Step(StrEnum):
    """One idempotent piece of work; its value is the name of its checkpoint."""

    INSTALL_RUNTIME = "install-runtime"
    CREATE_DATABASE = "create-database"
    CREATE_ACCOUNT = "create-account"
    PREPARE = "prepare"
    MIGRATE_DATABASE = "migrate-database"
    START = "start"
    VERIFY = "verify"

    STOP = "stop"
    DROP_DATABASE = "drop-database"
    DROP_ACCOUNT = "drop-account"


BRING_UP: Final = (
    Step.INSTALL_RUNTIME,
    Step.CREATE_DATABASE,
    Step.CREATE_ACCOUNT,
    Step.PREPARE,
    Step.MIGRATE_DATABASE,
    Step.START,
    Step.VERIFY,
)

TAKE_DOWN: Final = (Step.STOP, Step.DROP_DATABASE, Step.DROP_ACCOUNT)


def steps_of(record: EnvironmentRecord) -> tuple[Step, ...]:
    """Return every step that leads to what is wanted, in order; empty if it was reached or given up."""
    if record.deleted_at is not None:
        return ()
    if record.deleting:
        return TAKE_DOWN
    if record.generation in (record.observed_generation, record.failed_generation):
        return ()
    good = record.good_spec
    migrated = good is not None and good.airflow_version == record.spec.airflow_version
    return tuple(step for step in BRING_UP if not (migrated and step is Step.MIGRATE_DATABASE))


def next_step(record: EnvironmentRecord, done: Collection[str]) -> Step | None:
    """Return the first step without a checkpoint; None if nothing is left to do."""
    return next((step for step in steps_of(record) if step not in done), None)
