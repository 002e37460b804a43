"""When each environment's DAG folder is compared with its bucket.

The object store's feed says when to look, a listing says what is there, and a timer looks
anyway. The timer is slow only while the feed proves itself: a change that was found without
having been announced makes it fast again. A store without a feed is always polled fast.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

import structlog

from openmwaa.backends.base import DagsSeen
from openmwaa.backends.local.environment import LocalEnvironment
from openmwaa.kit.errors import Retry

_log = structlog.get_logger()

POLL_S: Final = 2.0
"""How often to look while nothing is known of a feed; also how soon a new environment is noticed."""

POLL_WITH_FEED_S: Final = 10.0
"""How often to look while the feed announces changes: what it loses is found that late."""

_QUIET_S: Final = 0.05
"""An upload is announced up to 11 ms before it can be listed, by three or four messages within 20 ms."""

_LONGEST_WAIT_S: Final = 0.5
"""For uploads in a row to come to an end: half of them may be DAGs without the modules they import."""

_LEAST_GAP_S: Final = 0.2
"""Between two looks; longer if looking takes longer, so that uploads in a row cost half the time at most."""


@dataclass
class _Watch:
    environment: LocalEnvironment
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    announced: bool = False
    trusted: bool = False
    snapshot: str | None = None
    task: asyncio.Task[None] | None = None


class DagSyncs:
    """Follows the folders of all environments of a host, each in a task of its own."""

    def __init__(
        self,
        environments: Callable[[], Iterable[LocalEnvironment]],
        sync: Callable[[LocalEnvironment], Awaitable[DagsSeen | None]],
        *,
        poll_s: float = POLL_S,
        poll_with_feed_s: float = POLL_WITH_FEED_S,
    ) -> None:
        """Remember what to follow. No I/O.

        Args:
            environments: Those of the moment.

            sync: Brings one up to date; None: it wants no DAGs yet.

            poll_s: How often to look while nothing is known of a feed.

            poll_with_feed_s: How often to look while it announces changes.
        """
        self._poll_s = poll_s
        self._poll_with_feed_s = poll_with_feed_s
        self._environments = environments
        self._sync = sync
        self._watches: dict[str, _Watch] = {}

    async def run(self) -> None:
        """Follow until cancelled. A slow or broken folder does not hold up the others."""
        try:
            while True:
                self._match()
                await asyncio.sleep(self._poll_s)
        finally:
            tasks = [self._end(watch) for watch in self._watches.values()]
            self._watches.clear()
            await asyncio.gather(*tasks, return_exceptions=True)

    def announce(self, bucket: str, path: str) -> None:
        """Take a hint: something changed at a path that begins like the key of an object.

        Repeated hints cost nothing; one for nobody's folder is ignored.
        """
        for watch in self._watches.values():
            manifest = watch.environment.manifest
            if manifest and manifest.dags.bucket == bucket and path.startswith(manifest.dags.prefix):
                watch.announced = True
                watch.wake.set()

    def look(self, environment_id: str) -> None:
        """Look soon: something else is wanted of this environment."""
        if watch := self._watches.get(environment_id):
            watch.wake.set()

    def _match(self) -> None:
        """Have one watch for each environment that exists."""
        present = {one.id: one for one in self._environments()}
        for environment_id, watch in list(self._watches.items()):
            if present.get(environment_id) is not watch.environment:
                self._end(self._watches.pop(environment_id))
        for environment_id, environment in present.items():
            watch = self._watches.setdefault(environment_id, _Watch(environment))
            if watch.task is None or watch.task.done():
                watch.task = asyncio.create_task(self._follow(watch))

    def _end(self, watch: _Watch) -> asyncio.Task[None]:
        assert watch.task is not None  # noqa: S101 - `_match` starts one for each
        watch.task.cancel()
        return watch.task

    async def _follow(self, watch: _Watch) -> None:
        while True:
            began = time.monotonic()
            seen = await self._look(watch)
            took_s = time.monotonic() - began
            calm = watch.trusted and seen is not None and seen.error is None
            try:
                # Not `wait_for`: in Python 3.11 it loses a cancellation that comes with the event.
                async with asyncio.timeout(self._poll_with_feed_s if calm else self._poll_s):
                    await asyncio.sleep(max(_LEAST_GAP_S, took_s))
                    await watch.wake.wait()
                    await _until_quiet(watch.wake)
            except TimeoutError:
                continue

    async def _look(self, watch: _Watch) -> DagsSeen | None:
        watch.wake.clear()
        try:
            seen = await self._sync(watch.environment)
        except (Retry, OSError) as error:
            _log.warning("dags_not_synced", environment_id=watch.environment.id, reason=str(error))
            return None
        except Exception:  # noqa: BLE001 - a bug; the next round tries again
            _log.exception("sync_failed", environment_id=watch.environment.id)
            return None
        if seen is not None:
            changed = watch.snapshot is not None and seen.snapshot != watch.snapshot
            watch.snapshot = seen.snapshot
            if watch.announced or changed:
                # A message may come while its change is being listed: it counts as well.
                watch.trusted, watch.announced = watch.announced, False
        return seen


async def _until_quiet(wake: asyncio.Event) -> None:
    deadline = time.monotonic() + _LONGEST_WAIT_S
    while time.monotonic() < deadline:
        wake.clear()
        try:
            async with asyncio.timeout(_QUIET_S):
                await wake.wait()
        except TimeoutError:
            return
