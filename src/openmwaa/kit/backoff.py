"""Exponential back-off with full jitter, as a pure function."""

from __future__ import annotations

import random


def backoff_s(attempt: int, *, base_s: float = 0.5, cap_s: float = 30.0) -> float:
    """Return how long to wait before try number `attempt + 1`.

    Args:
        attempt: Failures so far, >= 1. Larger numbers wait longer, up to `cap_s`.

        base_s: Upper end of the first wait, in seconds.

        cap_s: Longest wait, in seconds.

    Returns:
        Seconds, between half and all of the exponential value, so that many
        waiters spread out but none retries at once.
    """
    ceiling: float = min(cap_s, base_s * 2.0 ** min(attempt - 1, 30))
    return random.uniform(ceiling / 2, ceiling)  # noqa: S311 - jitter, not a secret
