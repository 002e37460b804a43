"""The loop: take what is due, work on it under a lease, write down what came of it.

Level-triggered: a notification only wakes the sweep up earlier. Any number of control
planes may run this loop against one store.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from datetime import timedelta

import structlog

from openmwaa.environments.record import EnvironmentRecord
from openmwaa.kit.backoff import backoff_s
from openmwaa.kit.errors import GiveUp, Retry, Waiting
from openmwaa.kit.tasks import end
from openmwaa.reconcile.act import Actor
from openmwaa.reconcile.cycle import Cycle
from openmwaa.store import Store, StoreUnavailableError
from openmwaa.store.leases import Lease, LeaseLostError, Outcome

_log = structlog.get_logger()

_LEASE_TTL = timedelta(seconds=15)
_RENEW_EVERY_S = 5.0
_SWEEP_EVERY_S = 1.0
_MOST_AT_ONCE = 8


class Reconciler:
    """Works on every environment that is due, one task each."""

    def __init__(self, store: Store, actor: Actor, *, holder: str) -> None:
        self._store = store
        self._actor = actor
        self._holder = holder
        self._wake = asyncio.Event()
        self._busy: dict[str, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Work until cancelled. Work in progress is then abandoned; its checkpoints stay."""
        hints = asyncio.create_task(self._listen())
        try:
            while True:
                await self._sweep()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_SWEEP_EVERY_S):
                        await self._wake.wait()
                self._wake.clear()
        finally:
            for task in (hints, *self._busy.values()):
                task.cancel()
            await asyncio.gather(hints, *self._busy.values(), return_exceptions=True)

    async def _sweep(self) -> None:
        try:
            while len(self._busy) < _MOST_AT_ONCE:
                taken = await self._store.leases.take_due(self._holder, _LEASE_TTL, busy=tuple(self._busy))
                if taken is None:
                    return
                lease, record = taken
                task = asyncio.create_task(self._work(lease, record))
                self._busy[record.id] = task
                task.add_done_callback(functools.partial(self._finished, record.id))
        except StoreUnavailableError:
            _log.warning("store_unavailable")

    def _finished(self, environment_id: str, _task: asyncio.Task[None]) -> None:
        self._busy.pop(environment_id, None)
        self._wake.set()

    async def _work(self, lease: Lease, record: EnvironmentRecord) -> None:
        with structlog.contextvars.bound_contextvars(
            environment=record.name, environment_id=record.id, generation=record.generation
        ):
            cycle = Cycle(self._store, self._actor, lease, record)
            work = asyncio.create_task(self._outcome(cycle))
            renewal = asyncio.create_task(self._renew(lease))
            try:
                await asyncio.wait((work, renewal), return_when=asyncio.FIRST_COMPLETED)
                if work.done():
                    await self._store.leases.finish(lease, cycle.record, work.result())
            except LeaseLostError:
                _log.warning("lease_lost")
            except StoreUnavailableError:
                _log.warning("outcome_not_written")  # the lease expires and the work is done again
            finally:
                await end(work, renewal)

    async def _outcome(self, cycle: Cycle) -> Outcome:
        """Run the cycle; an error becomes an outcome too."""
        try:
            return await cycle.run()
        except Waiting as error:
            wait = timedelta(seconds=error.after_s)
            return cycle.failed_attempt(error.reason, wait, patient=True)
        except Retry as error:
            wait_s = max(error.after_s, backoff_s(cycle.record.attempts + 1, base_s=0.5, cap_s=30))
            return cycle.failed_attempt(error.reason, timedelta(seconds=wait_s))
        except GiveUp as error:
            _log.info("gave_up", code=error.code, component=error.component, reason=error.reason)
            return cycle.given_up(error)
        except LeaseLostError:
            raise
        except Exception as error:  # noqa: BLE001 - a bug in one step must not stop the loop
            _log.exception("step_crashed")
            wait_s = backoff_s(cycle.record.attempts + 1, base_s=1, cap_s=60)
            return cycle.failed_attempt(f"internal error ({type(error).__name__})", timedelta(seconds=wait_s))

    async def _renew(self, lease: Lease) -> None:
        """Keep the lease until it is lost."""
        while True:
            await asyncio.sleep(_RENEW_EVERY_S)
            try:
                await self._store.leases.renew(lease, _LEASE_TTL)
            except StoreUnavailableError:
                continue  # the fencing number protects us if another takes over meanwhile
            except LeaseLostError:
                _log.warning("lease_lost")
                return

    async def _listen(self) -> None:
        """Wake the sweep when a caller changed something."""
        while True:
            try:
                async for _environment_id in self._store.leases.hints():
                    self._wake.set()
            except StoreUnavailableError:
                await asyncio.sleep(1)
