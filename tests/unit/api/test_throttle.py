"""A burst of as many as a second allows, then the rate."""

from __future__ import annotations

from openmwaa.api.throttle import Throttle


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_bursts_and_rate() -> None:
    clock = Clock()
    throttle = Throttle(10, clock=clock)
    assert [throttle.allow("a") for _ in range(12)] == [True] * 10 + [False] * 2
    assert throttle.allow("b")
    clock.now = 0.25
    assert [throttle.allow("a") for _ in range(3)] == [True, True, False]
    clock.now = 10
    assert [throttle.allow("a") for _ in range(11)] == [True] * 10 + [False]


def test_what_is_full_again_is_forgotten() -> None:
    clock = Clock()
    throttle = Throttle(10, clock=clock)
    for number in range(1000):
        clock.now += 1
        throttle.allow(f"environment-{number}")
    assert len(throttle._buckets) <= 2
