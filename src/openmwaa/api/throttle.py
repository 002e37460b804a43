"""A limit on how often something is done, per key."""

from __future__ import annotations

import time
from collections.abc import Callable


class Throttle:
    """Token buckets: `per_second` on average, bursts of as many.

    Counted in this process: with several replicas of the API each allows as many.
    """

    def __init__(self, per_second: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = per_second
        self._clock = clock
        self._buckets: dict[str, tuple[float, float]] = {}

    def allow(self, key: str) -> bool:
        """Count one use of `key`; return whether it is within the limit."""
        now = self._clock()
        left, seen_at = self._buckets.get(key, (self._rate, now))
        left = min(self._rate, left + (now - seen_at) * self._rate)
        if left < 1:
            self._buckets[key] = (left, now)
            return False
        self._buckets[key] = (left - 1, now)
        self._forget_full(now)
        return True

    def _forget_full(self, now: float) -> None:
        """Drop the buckets that are full again: they say nothing."""
        full = [
            key for key, (left, at) in self._buckets.items() if left + (now - at) * self._rate >= self._rate
        ]
        for key in full:
            del self._buckets[key]
