"""The steps that remove an environment. "Gone" is what observation shows, never what was asked for."""

from __future__ import annotations

from openmwaa.environments.record import EnvironmentRecord
from openmwaa.kit.errors import Retry
from openmwaa.reconcile.parts import Parts, StepResult


async def stop(parts: Parts, record: EnvironmentRecord) -> StepResult:
    """Stop and remove everything that the backend has."""
    await parts.backend.destroy(record.id)
    if (await parts.backend.observe(record.id)).exists:
        raise Retry("the backend still shows something of the environment")
    return StepResult()


async def drop_database(parts: Parts, record: EnvironmentRecord) -> StepResult:
    """Drop the metadata database, its copies and its role."""
    await parts.store.airflow_databases.drop(record.id)
    if await parts.store.airflow_databases.exists(record.id):
        raise Retry("the database still exists")
    return StepResult()


async def drop_account(parts: Parts, record: EnvironmentRecord) -> StepResult:
    """Remove the account in the object store."""
    await parts.accounts.remove_user(record.id)
    return StepResult()
