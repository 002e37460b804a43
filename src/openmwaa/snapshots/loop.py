"""The loop that makes and removes snapshots, keeps schedules and lets old ones go.

Any number of control planes may run it against one store. It may be killed at any moment:
the next one takes over what the row says, and starts an unfinished snapshot anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog

from openmwaa.environments.snapshots import SnapshotNotFoundError, SnapshotRecord, SnapshotState, surplus
from openmwaa.kit.backoff import backoff_s
from openmwaa.kit.errors import GiveUp, Retry
from openmwaa.kit.tasks import end
from openmwaa.snapshots.writer import SnapshotWriter
from openmwaa.store import Store, StoreUnavailableError
from openmwaa.store.leases import LeaseLostError
from openmwaa.store.snapshots import SnapshotLease

_log = structlog.get_logger()

_LEASE_TTL: Final = timedelta(seconds=15)
_RENEW_EVERY_S: Final = 2.0
_SWEEP_EVERY_S: Final = 0.5
_SCHEDULES_EVERY_S: Final = 5.0
_MOST_AT_ONCE: Final = 2
_MOST_ATTEMPTS: Final = 8


class SnapshotLoop:
    """Works on every snapshot that is due, a few at a time."""

    def __init__(self, store: Store, writer: SnapshotWriter, *, holder: str) -> None:
        """Remember the parts.

        Args:
            store: Rows.

            writer: Does the work.

            holder: Name of this control plane, the same after a restart.
        """
        self._store = store
        self._writer = writer
        self._holder = holder
        self._wake = asyncio.Event()
        self._busy: dict[str, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Work until cancelled. What is being made is then given up, to be made anew by the next loop."""
        schedules_at = 0.0
        try:
            while True:
                try:
                    if time.monotonic() >= schedules_at:
                        await self._keep_schedules()
                        schedules_at = time.monotonic() + _SCHEDULES_EVERY_S
                    await self._sweep()
                except StoreUnavailableError:
                    _log.warning("store_unavailable")
                except Exception:  # noqa: BLE001 - a bug in one sweep must not end all of them
                    _log.exception("snapshot_sweep_crashed")
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_SWEEP_EVERY_S):
                        await self._wake.wait()
                self._wake.clear()
        finally:
            for task in self._busy.values():
                task.cancel()
            await asyncio.gather(*self._busy.values(), return_exceptions=True)

    async def _keep_schedules(self) -> None:
        while (await self._store.schedules.fire())[0]:
            pass
        for schedule in await self._store.schedules.list():
            if schedule.keep is None and schedule.max_age is None:
                continue
            snapshots = await self._store.snapshots.list(environment_id=schedule.environment_id)
            for one in surplus(
                snapshots, keep=schedule.keep, max_age=schedule.max_age, now=datetime.now(UTC)
            ):
                with contextlib.suppress(SnapshotNotFoundError):
                    await self._store.snapshots.let_go(one.id)

    async def _sweep(self) -> None:
        while len(self._busy) < _MOST_AT_ONCE:
            taken = await self._store.snapshots.take_due(self._holder, _LEASE_TTL, busy=tuple(self._busy))
            if taken is None:
                return
            lease, snapshot = taken
            task = asyncio.create_task(self._work(lease, snapshot))
            self._busy[snapshot.id] = task
            task.add_done_callback(functools.partial(self._finished, snapshot.id))

    def _finished(self, snapshot_id: str, _task: asyncio.Task[None]) -> None:
        self._busy.pop(snapshot_id, None)
        self._wake.set()

    async def _work(self, lease: SnapshotLease, snapshot: SnapshotRecord) -> None:
        stored = [0]
        making = snapshot.state is SnapshotState.CREATING
        with structlog.contextvars.bound_contextvars(
            snapshot=snapshot.id, environment=snapshot.environment_name
        ):
            do = self._make if making else self._remove
            work = asyncio.create_task(self._outcome(do, lease, snapshot, stored))
            renewal = asyncio.create_task(self._renew(lease, stored))
            try:
                await asyncio.wait((work, renewal), return_when=asyncio.FIRST_COMPLETED)
                if work.done():
                    write_down = work.result()
                    await write_down()
                else:
                    await self._abandon(work, lease, snapshot)
            except LeaseLostError:
                await self._abandon(work, lease, snapshot)
            except StoreUnavailableError:
                _log.warning("outcome_not_written")  # the lease expires and the work is done again
            finally:
                await end(work, renewal)

    async def _outcome(
        self,
        do: Callable[[SnapshotLease, SnapshotRecord, list[int]], Awaitable[Callable[[], Awaitable[None]]]],
        lease: SnapshotLease,
        snapshot: SnapshotRecord,
        stored: list[int],
    ) -> Callable[[], Awaitable[None]]:
        """Do the work and return how to write down what came of it; an error is an outcome too."""
        rows, making = self._store.snapshots, snapshot.state is SnapshotState.CREATING
        try:
            return await do(lease, snapshot, stored)
        except GiveUp as error:
            if making:
                return functools.partial(self._give_up, lease, snapshot, error)
            reason, after_s = error.reason, 30.0
        except Retry as error:
            reason, after_s = error.reason, error.after_s
        except Exception as error:  # noqa: BLE001 - a bug in one snapshot must not stop the loop
            _log.exception("snapshot_crashed")
            reason, after_s = f"internal error ({type(error).__name__})", 1.0
        if making and snapshot.attempts >= _MOST_ATTEMPTS:
            return functools.partial(self._give_up, lease, snapshot, GiveUp(reason, code="TOO_MANY_ATTEMPTS"))
        wait_s = max(after_s, backoff_s(snapshot.attempts, base_s=1, cap_s=60))
        _log.info("snapshot_attempt_failed", reason=reason, attempts=snapshot.attempts)
        return functools.partial(rows.retry, lease, reason, timedelta(seconds=wait_s))

    async def _make(
        self, lease: SnapshotLease, snapshot: SnapshotRecord, stored: list[int]
    ) -> Callable[[], Awaitable[None]]:
        if snapshot.attempts > _MOST_ATTEMPTS:
            raise GiveUp("it was cut off too often", code="TOO_MANY_ATTEMPTS")

        def progress(count: int) -> None:
            stored[0] = count

        done = await self._writer.write(snapshot, lease.token, progress)
        return functools.partial(
            self._store.snapshots.available,
            lease,
            prefix=done.prefix,
            parts=done.parts,
            size_bytes=done.size_bytes,
        )

    async def _remove(
        self, lease: SnapshotLease, snapshot: SnapshotRecord, _stored: list[int]
    ) -> Callable[[], Awaitable[None]]:
        await self._writer.remove(snapshot)
        return functools.partial(self._store.snapshots.gone, lease)

    async def _give_up(self, lease: SnapshotLease, snapshot: SnapshotRecord, error: GiveUp) -> None:
        """Leave nothing of this attempt but the reason."""
        try:
            await self._writer.remove(snapshot, lease.token)
        except (Retry, GiveUp) as failure:
            # What is left goes when the snapshot is deleted.
            _log.warning("snapshot_leftovers", reason=failure.reason)
        reason = f"{error.reason}: {error.evidence}" if error.evidence else error.reason
        data = {
            "code": error.code,
            "component": error.component,
            "evidence": error.evidence,
            "fix": error.fix,
        }
        await self._store.snapshots.failed(lease, reason, data)

    async def _abandon(
        self,
        work: asyncio.Task[Callable[[], Awaitable[None]]],
        lease: SnapshotLease,
        snapshot: SnapshotRecord,
    ) -> None:
        """Stop work on what another holder has now or a caller deleted, and take back what this attempt stored."""
        _log.warning("snapshot_lease_lost")
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        if snapshot.state is not SnapshotState.CREATING:
            return
        with contextlib.suppress(Retry, GiveUp):
            await self._writer.remove(snapshot, lease.token)
        with contextlib.suppress(StoreUnavailableError):
            await self._store.snapshots.release(lease)

    async def _renew(self, lease: SnapshotLease, stored: list[int]) -> None:
        """Keep the lease until it is lost."""
        while True:
            await asyncio.sleep(_RENEW_EVERY_S)
            try:
                size = stored[0] if lease.state is SnapshotState.CREATING else None
                await self._store.snapshots.renew(lease, _LEASE_TTL, size_bytes=size)
            except StoreUnavailableError:
                continue  # the fencing number protects us if another takes over meanwhile
            except LeaseLostError:
                return
