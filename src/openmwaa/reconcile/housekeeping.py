"""What nobody asks for: maintenance windows, and layers that no environment uses any more.

Every control plane may run it. Moving an environment is an ordinary change, accepted under
the row's lock; of two that try, one is refused.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

import structlog

from openmwaa.environments.changes import GRACEFUL, with_strategy
from openmwaa.environments.errors import DomainError, InvalidRequestError
from openmwaa.environments.layer import layer_of
from openmwaa.environments.maintenance import is_due
from openmwaa.environments.record import MAINTENANCE, EnvironmentRecord
from openmwaa.environments.spec import EnvironmentSpec
from openmwaa.kit.errors import GiveUp, Retry
from openmwaa.reconcile.parts import Parts

_log = structlog.get_logger()

_EVERY_S: Final = 30.0
_COLLECT_EVERY: Final = timedelta(hours=1)
_PAGE: Final = 100


class LayerGarbage(Protocol):
    """Removes layers."""

    async def collect_garbage(self, in_use: set[str], *, unused_for_s: float) -> list[str]: ...


class Housekeeping:
    """Looks after what time brings."""

    def __init__(self, parts: Parts, layers: LayerGarbage, *, keep_layers: timedelta) -> None:
        """Take the parts.

        Args:
            parts: As for steps.

            layers: Removes those that are not used.

            keep_layers: How long a layer stays that no environment uses.
        """
        self._parts = parts
        self._layers = layers
        self._keep_layers = keep_layers
        self._collected_at = datetime.min.replace(tzinfo=UTC)

    async def run(self) -> None:
        """Look every half minute, until cancelled."""
        while True:
            try:
                await self.look(datetime.now(UTC))
            except Retry as error:
                _log.info("housekeeping_put_off", reason=error.reason)
            except Exception:  # noqa: BLE001 - the next round tries again
                _log.exception("housekeeping_failed")
            await asyncio.sleep(_EVERY_S)

    async def look(self, now: datetime) -> None:
        """Do what is due now."""
        records = await self._all()
        for record in records:
            try:
                await self._maintain(record, now)
            except GiveUp as error:  # e.g. a version that this release has no more; the others go on
                _log.info("maintenance_put_off", environment=record.name, reason=error.reason)
        if now - self._collected_at >= _COLLECT_EVERY:
            self._collected_at = now
            used = {layer for record in records for layer in _layers_of(record)}
            await self._layers.collect_garbage(used, unused_for_s=self._keep_layers.total_seconds())

    async def _maintain(self, record: EnvironmentRecord, now: datetime) -> None:
        newest = self._parts.runtimes.locate(record.spec.airflow_version).id
        if not is_due(record, newest, now):
            return

        def move(current: EnvironmentRecord) -> EnvironmentSpec:
            if not is_due(current, newest, now):
                raise InvalidRequestError("somebody else was first")
            after = current.spec.with_runtime(newest)
            build = self._parts.manifest
            return with_strategy(current.spec, after, GRACEFUL, lambda spec: build(current, spec))

        try:
            await self._parts.store.environments.change(
                record.name, move, source=MAINTENANCE, strategy=GRACEFUL
            )
        except DomainError as error:  # somebody else was first, or it is gone
            _log.info("maintenance_put_off", environment=record.name, reason=str(error))
        else:
            _log.info("maintenance_started", environment=record.name, runtime=newest)

    async def _all(self) -> list[EnvironmentRecord]:
        found: list[EnvironmentRecord] = []
        while True:
            page = await self._parts.store.environments.list(
                after=found[-1].name if found else None, limit=_PAGE
            )
            found += page
            if len(page) < _PAGE:
                return found


def _layers_of(record: EnvironmentRecord) -> list[str]:
    specs = (record.spec, record.good_spec)
    return [layer for spec in specs if spec is not None and (layer := layer_of(spec))]
