"""Carries out steps, runs commands beside an environment, and watches those that need nothing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from openmwaa.backends.base import CommandResult, Observed
from openmwaa.environments.manifest import Kind, Manifest
from openmwaa.environments.record import EnvironmentRecord
from openmwaa.environments.spec import EnvironmentSpec
from openmwaa.kit.errors import Retry
from openmwaa.reconcile import bring_up, checks, move_data, take_down
from openmwaa.reconcile.parts import Parts, StepResult
from openmwaa.reconcile.plan import Step

Note = tuple[str, str, dict[str, Any]]

_STEPS: Final[Mapping[Step, Callable[[Parts, EnvironmentRecord], Awaitable[StepResult]]]] = {
    Step.INSTALL_RUNTIME: bring_up.install_runtime,
    Step.BUILD_LAYER: bring_up.build_layer,
    Step.CREATE_DATABASE: bring_up.create_database,
    Step.CREATE_ACCOUNT: bring_up.create_account,
    Step.PREPARE: bring_up.prepare,
    Step.CHECK_STARTUP_SCRIPT: checks.check_startup_script,
    Step.LOOK_AT_DAGS: checks.look_at_dags,
    Step.CHECK_DAGS: checks.check_dags,
    Step.STOP_COMPONENTS: move_data.stop_components,
    Step.RESTORE_DATABASE: move_data.restore_database,
    Step.COPY_DATABASE: move_data.copy_database,
    Step.MIGRATE_DATABASE: move_data.migrate_database,
    Step.START: bring_up.start,
    Step.VERIFY: bring_up.verify,
    Step.DRAIN: bring_up.drain,
    Step.DROP_COPIES: move_data.drop_copies,
    Step.STOP: take_down.stop,
    Step.DROP_DATABASE: take_down.drop_database,
    Step.DROP_ACCOUNT: take_down.drop_account,
}


class Actor:
    """All that is done for environments."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._restarts: dict[str, dict[tuple[Kind, int], int]] = {}

    async def act(self, step: Step, record: EnvironmentRecord) -> StepResult:
        """Carry out one step.

        Raises:
            Retry: Not now.

            GiveUp: What is wanted can never be reached.
        """
        if step is Step.STOP:
            self._restarts.pop(record.id, None)
        return await _STEPS[step](self._parts, record)

    def manifest(self, record: EnvironmentRecord, spec: EnvironmentSpec | None = None) -> Manifest:
        """Return what should run; see `Parts.manifest`."""
        return self._parts.manifest(record, spec)

    async def run_airflow(
        self, record: EnvironmentRecord, argv: Sequence[str], *, timeout_s: float
    ) -> CommandResult:
        """Run one `airflow` command in an environment as it runs now; `argv` is without the word `airflow`.

        Raises:
            Retry: Nothing that is written now would last.
        """
        if record.database_is_replaced:
            # What a command wrote now would be lost, although it said that it was done.
            raise Retry("the metadata database is being replaced", after_s=5.0)
        manifest = self._parts.running_manifest(record)
        return await self._parts.backend.run(manifest, ("airflow", *argv), timeout_s=timeout_s)

    async def observe(self, record: EnvironmentRecord) -> Observed:
        """Return what runs now."""
        return await self._parts.backend.observe(record.id)

    async def watch(self, record: EnvironmentRecord) -> list[Note]:
        """Look at an environment that needs nothing and return what a reader should know.

        The backend keeps components running by itself. Should it have lost the whole
        environment (its folder was removed, say), it is put back.
        """
        if record.observed_generation != record.generation:
            return []  # a failed creation: nothing should run
        seen = await self._parts.backend.observe(record.id)
        notes: list[Note] = []
        if not seen.exists:
            await self._parts.backend.prepare(self.manifest(record))
            await self._parts.backend.ensure(self.manifest(record))
            notes.append(("restored", "The host had lost the environment; it was started again.", {}))
        before = self._restarts.get(record.id, {})
        self._restarts[record.id] = {(one.kind, one.index): one.restarts for one in seen.replicas}
        for replica in seen.replicas:
            known = before.get((replica.kind, replica.index))
            if known is not None and replica.restarts > known:
                notes.append(
                    (
                        "component-restarted",
                        f"{replica.kind}-{replica.index} ended ({replica.last_exit}) and was started again.",
                        {"component": replica.kind, "index": replica.index, "restarts": replica.restarts},
                    )
                )
        return notes
