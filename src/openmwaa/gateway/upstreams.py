"""Which web servers of an environment can take a request now.

The answer is remembered for a moment, because each asset of a page asks for it. While the
backend cannot answer, the last answer stays in use: web servers outlive the node agent.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import structlog

from openmwaa.backends.base import Observed
from openmwaa.environments.manifest import Kind
from openmwaa.environments.record import EnvironmentRecord
from openmwaa.kit.errors import Retry

_log = structlog.get_logger(__name__)

_FRESH_S = 1.0
_USABLE_S = 600.0


@dataclass
class _Seen:
    at: float
    upstreams: tuple[str, ...]


class ReadyUpstreams:
    """`address:port` of the ready web servers, through the backend's observation."""

    def __init__(
        self,
        observe: Callable[[str], Awaitable[Observed]],
        address_of: Callable[[EnvironmentRecord], str],
        *,
        fresh_s: float = _FRESH_S,
        usable_s: float = _USABLE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Remember how to ask.

        Args:
            observe: `Backend.observe`.

            address_of: Where the web servers of an environment listen.

            fresh_s: How long an answer is used without asking again.

            usable_s: How long an old answer is used while the backend cannot answer.

            clock: Monotonic seconds.
        """
        self._observe = observe
        self._address_of = address_of
        self._fresh_s = fresh_s
        self._usable_s = usable_s
        self._clock = clock
        self._seen: dict[str, _Seen] = {}
        self._asking: dict[str, asyncio.Task[tuple[str, ...]]] = {}

    async def __call__(self, record: EnvironmentRecord) -> Sequence[str]:
        """Return the upstreams, sorted; empty when no web server is ready or none can be known."""
        seen = self._seen.get(record.id)
        if seen and self._clock() - seen.at < self._fresh_s:
            return seen.upstreams
        task = self._asking.get(record.id)
        if task is None:
            # One question for all who wait; a caller that goes away does not cancel it.
            task = asyncio.create_task(self._ask(record))
            self._asking[record.id] = task
            task.add_done_callback(lambda _: self._asking.pop(record.id, None))
        return await asyncio.shield(task)

    async def _ask(self, record: EnvironmentRecord) -> tuple[str, ...]:
        try:
            observed = await self._observe(record.id)
        except Retry as error:
            seen = self._seen.get(record.id)
            usable = seen is not None and self._clock() - seen.at < self._usable_s
            _log.warning("upstreams-unknown", environment=record.name, reason=error.reason, remembered=usable)
            return seen.upstreams if seen and usable else ()
        address = self._address_of(record)
        upstreams = tuple(
            sorted(
                f"{address}:{replica.port}"
                for replica in observed.replicas
                if replica.kind is Kind.WEBSERVER and replica.ready and replica.port is not None
            )
        )
        if upstreams:
            self._seen[record.id] = _Seen(self._clock(), upstreams)
        else:
            self._seen.pop(record.id, None)
        return upstreams


def choose(upstreams: Sequence[str], key: str) -> str:
    """Return one upstream: for the same key the same one, as long as it is there.

    Highest of the hashes (rendezvous): when a web server goes, only its own callers move.
    """
    return max(upstreams, key=lambda upstream: hashlib.sha256(f"{key} {upstream}".encode()).digest())
