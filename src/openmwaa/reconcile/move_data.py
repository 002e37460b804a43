"""The steps around a change of the whole metadata database: another Airflow version, or a snapshot.

Everything is stopped, the database is copied inside the server, and only then touched. Any
failure puts the copy back: `RESTORE_DATABASE` is part of undoing. Migrations are never
continued: a step that was cut off begins again from the copy.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Sequence
from typing import Final

from openmwaa.airflow.components import migrate_commands, requeue_commands
from openmwaa.airflow.version_changes import downgrade_commands
from openmwaa.environments.manifest import Kind, Manifest
from openmwaa.environments.record import RESTORE_FROM, UNDO, EnvironmentRecord
from openmwaa.environments.spec import EnvironmentSpec
from openmwaa.kit.errors import GiveUp, Retry, in_words
from openmwaa.reconcile.parts import Parts, StepResult

_MIGRATE_TIMEOUT_S: Final = 1800.0
_STOP_WITHIN_S: Final = 150.0
_POLL_S: Final = 0.25


def copy_label(record: EnvironmentRecord) -> str:
    """Return the label of the copy that belongs to this generation's change."""
    return f"g{record.generation}"


async def stop_components(parts: Parts, record: EnvironmentRecord) -> StepResult:
    """Stop every component; the environment itself stays.

    Workers first: a task that ends in its 90 seconds still finds the web server that it reports to.
    """
    manifest = parts.running_manifest(record)
    for kinds in ({Kind.WORKER}, set(Kind)):
        await parts.backend.ensure(_without(manifest, kinds))
        await _until_gone(parts, record, kinds)
    return StepResult(message="All components were stopped")


async def copy_database(parts: Parts, record: EnvironmentRecord) -> StepResult:
    """Copy the metadata database inside the server, to go back to."""
    label = copy_label(record)
    await parts.store.airflow_databases.copy(record.id, label)
    return StepResult(label, "The metadata database was copied")


async def restore_database(parts: Parts, record: EnvironmentRecord) -> StepResult:
    """Put back the copy that the failed change left.

    Raises:
        Retry: Something else failed than the change did, e.g. the database server just restarts.
            Nothing lies behind an undoing, so it is not given up for that.
    """
    label = str(record.checkpoints[UNDO])
    await parts.store.airflow_databases.restore(record.id, label)
    try:
        for argv in requeue_commands():
            await _run(parts, _for_migration(parts, record, record.spec), argv)
    except GiveUp as error:
        raise Retry(in_words(error), after_s=2.0) from error
    return StepResult(message="The metadata database was put back as it was before the change")


async def migrate_database(parts: Parts, record: EnvironmentRecord) -> StepResult:
    """Bring the metadata database to what the wanted version needs.

    Raises:
        GiveUp: A command failed; its last line is the evidence.
    """
    spec, good = record.spec, record.good_spec
    databases = parts.store.airflow_databases
    if good is not None:
        await databases.restore(record.id, copy_label(record))  # an earlier try may have been cut off
    secrets = {}
    snapshot = record.checkpoints.get(RESTORE_FROM)
    empty = good is None and not snapshot
    templates, runtime_id = parts.store.airflow_templates, parts.runtime_id(spec)
    if empty and await templates.apply(runtime_id, record.id):
        return StepResult(message="The metadata database was made from the runtime's template")
    if snapshot:
        secrets = dict(await parts.snapshots.load(str(snapshot), record))
        before = await parts.snapshots.version_of(str(snapshot))
    else:
        before = good.airflow_version if good else spec.airflow_version
    older = good.runtime_id if good and good.airflow_version == before else None
    for argv in downgrade_commands(before, spec.airflow_version):
        newer = dataclasses.replace(
            good or spec, airflow_version=before, runtime_id=older or parts.runtimes.locate(before).id
        )
        await parts.runtimes.ensure_id(newer.runtime_id)
        await _run(parts, _for_migration(parts, record, newer), argv)
    commands = [*migrate_commands(spec.airflow_version), *(() if empty else requeue_commands())]
    for argv in commands:
        await _run(parts, _for_migration(parts, record, spec), argv)
    if empty:
        await templates.keep(runtime_id, record.id)
    verb = "prepared" if empty else "migrated"
    return StepResult(message=f"The metadata database was {verb}", secrets=secrets)


async def drop_copies(parts: Parts, record: EnvironmentRecord) -> StepResult:
    """Remove copies that nobody will go back to."""
    databases = parts.store.airflow_databases
    for label in await databases.copies(record.id):
        await databases.drop_copy(record.id, label)
    return StepResult()


def _for_migration(parts: Parts, record: EnvironmentRecord, spec: EnvironmentSpec) -> Manifest:
    """Return the manifest that migrations run with: without layer and options of the user (mwaa.md 2.6)."""
    bare = dataclasses.replace(
        spec, airflow_configuration_options={}, requirements=None, plugins=None, startup_script=None
    )
    return parts.manifest(record, bare)


async def _run(parts: Parts, manifest: Manifest, argv: Sequence[str]) -> None:
    result = await parts.backend.run(manifest, argv, timeout_s=_MIGRATE_TIMEOUT_S)
    if result.exit_code != 0:
        lines = result.stderr.decode(errors="replace").strip().splitlines()
        raise GiveUp(
            f"`{' '.join(argv)}` ended with {result.exit_code}",
            code="MIGRATION_FAILED",
            component="migrate-db",
            evidence=lines[-1] if lines else "",
        )


def _without(manifest: Manifest, kinds: set[Kind]) -> Manifest:
    parts = (
        dataclasses.replace(one, replicas=0, drain_s=one.stop_grace_s) if one.kind in kinds else one
        for one in manifest.components
    )
    return dataclasses.replace(manifest, components=tuple(parts))


async def _until_gone(parts: Parts, record: EnvironmentRecord, kinds: set[Kind]) -> None:
    deadline = time.monotonic() + _STOP_WITHIN_S
    while time.monotonic() < deadline:
        seen = await parts.backend.observe(record.id)
        if not any(replica.kind in kinds for replica in seen.replicas):
            return
        await asyncio.sleep(_POLL_S)
    raise Retry("components are still being stopped")
