"""What a change would bring: packages, DAG imports, running tasks, time. Changes nothing that runs.

Runtime and layer are built on the side; the update then finds them ready.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any, Final

from openmwaa.artifacts.layer_resolution import difference
from openmwaa.environments.changes import Action, ChangePlan, may_break_dags
from openmwaa.environments.record import EnvironmentRecord
from openmwaa.environments.spec import EnvironmentSpec
from openmwaa.reconcile.checks import imports_of
from openmwaa.reconcile.parts import Parts

_REPLACEMENT_S: Final = 3.0
"""Guess for one replica that is stopped and forked again, until this host has measured updates."""

_START_S: Final = 2.0
_MIGRATION_S: Final = 15.0
_RECENT: Final = 5


class Previewer:
    """Looks ahead."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def preview(
        self,
        record: EnvironmentRecord,
        wanted: EnvironmentSpec,
        plan: ChangePlan,
        contents: Mapping[str, bytes] | None,
    ) -> dict[str, Any]:
        """Return more about a planned change.

        Args:
            record: The environment as it is.

            wanted: The spec that the change leads to.

            plan: Its effects on components.

            contents: Files that are not in the bucket yet; None: without building and importing.

        Raises:
            GiveUp: What is wanted can never work; nothing was changed.

            Retry: Something that is needed does not answer now.
        """
        before = record.good_spec or record.spec
        version = before.airflow_version != wanted.airflow_version
        found: dict[str, Any] = {
            "stops_everything": version,
            "running_tasks": await self._parts.store.airflow_state.running_tasks(record.id),
            "seconds": await self._seconds(plan, migrates=version),
        }
        if contents is None:
            return found
        await self._parts.runtimes.ensure_id(self._parts.runtime_id(wanted))
        found["packages"] = await self._packages(record, before, wanted, contents)
        if record.good_spec is not None and may_break_dags(before, wanted):
            await self._parts.layers.ensure(record, wanted, contents)
            found["dags"] = await self._dags(record, wanted)
        return found

    async def _packages(
        self,
        record: EnvironmentRecord,
        before: EnvironmentSpec,
        wanted: EnvironmentSpec,
        contents: Mapping[str, bytes],
    ) -> dict[str, Any]:
        """Return the difference between all that is installed before and after."""
        layers = self._parts.layers
        old = await layers.installed(record, before)
        new = await layers.installed(record, wanted, contents)
        diff = difference(old, new)
        return {
            "added": sorted(diff.added.items()),
            "removed": sorted(diff.removed.items()),
            "changed": sorted((name, *versions) for name, versions in diff.changed.items()),
        }

    async def _dags(self, record: EnvironmentRecord, wanted: EnvironmentSpec) -> dict[str, Any]:
        now = await imports_of(self._parts, self._parts.running_manifest(record))
        then = await imports_of(self._parts, self._parts.manifest(record, wanted))
        return {
            "imported": len(then.dags),
            "new_errors": {path: error for path, error in then.errors.items() if path not in now.errors},
            "fixed": sorted(path for path in now.errors if path not in then.errors),
            "still_broken": sorted(path for path in then.errors if path in now.errors),
        }

    async def _seconds(self, plan: ChangePlan, *, migrates: bool) -> dict[str, Any]:
        """Return how long it takes: as updates of the same fields took here, or a guess."""
        fields = [change.field for change in plan.fields]
        measured = await self._parts.store.events.seconds_of_updates(fields, limit=_RECENT)
        if measured:
            return {"total": statistics.median(measured), "measured": True}
        replaced = sum(effect.after for effect in plan.effects if effect.action is Action.REPLACE)
        started = sum(effect.after for effect in plan.effects if effect.action is Action.ADD)
        guess = replaced * _REPLACEMENT_S + (started + 1) * _START_S + (_MIGRATION_S if migrates else 0)
        return {"total": guess, "measured": False}
