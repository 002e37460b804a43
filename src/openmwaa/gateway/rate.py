"""A limit on calls per second, per key."""

from __future__ import annotations

import time
from collections.abc import Callable


class RateLimiter:
    """Token buckets: `per_s` calls a second, and as many at once. Counts within one process."""

    def __init__(self, per_s: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_s = per_s
        self._clock = clock
        self._buckets: dict[str, tuple[float, float]] = {}  # key -> (tokens, at)

    def admit(self, key: str) -> bool:
        """Count one call; return False, without counting it, if it is over the limit."""
        now = self._clock()
        tokens, at = self._buckets.get(key, (float(self._per_s), now))
        tokens = min(float(self._per_s), tokens + (now - at) * self._per_s)
        admitted = tokens >= 1
        self._buckets[key] = (tokens - 1 if admitted else tokens, now)
        return admitted
