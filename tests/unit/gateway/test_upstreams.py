"""Which web servers are used, and what happens while nobody can tell."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from openmwaa.backends.base import Observed, ReplicaSeen
from openmwaa.environments.manifest import Kind
from openmwaa.gateway.rate import RateLimiter
from openmwaa.gateway.upstreams import ReadyUpstreams, choose
from openmwaa.kit.errors import Retry
from tests.support.specs import a_record


def replica(index: int, *, kind: Kind = Kind.WEBSERVER, ready: bool = True) -> ReplicaSeen:
    return ReplicaSeen(
        kind=kind,
        index=index,
        hash="h",
        running=True,
        ready=ready,
        since=datetime.now(UTC),
        restarts=0,
        port=8080 + index if kind is Kind.WEBSERVER else None,
    )


class Backend:
    """Answers what it is told to, and counts."""

    def __init__(self) -> None:
        self.replicas: tuple[ReplicaSeen, ...] = (replica(0), replica(1))
        self.away = False
        self.asked = 0
        self.now = 0.0

    async def observe(self, _environment_id: str) -> Observed:
        self.asked += 1
        await asyncio.sleep(0)
        if self.away:
            raise Retry("the node agent is away")
        return Observed(exists=True, replicas=self.replicas)


def ready(backend: Backend) -> ReadyUpstreams:
    return ReadyUpstreams(backend.observe, lambda _: "127.0.0.9", clock=lambda: backend.now)


async def test_only_ready_web_servers_count() -> None:
    backend = Backend()
    backend.replicas = (replica(1), replica(0), replica(2, ready=False), replica(0, kind=Kind.SCHEDULER))
    assert await ready(backend)(a_record()) == ("127.0.0.9:8080", "127.0.0.9:8081")


async def test_many_requests_ask_once() -> None:
    backend = Backend()
    upstreams = ready(backend)
    answers = await asyncio.gather(*(upstreams(a_record()) for _ in range(20)))
    assert len(set(map(tuple, answers))) == 1
    await upstreams(a_record())
    assert backend.asked == 1
    backend.now = 1.5
    await upstreams(a_record())
    assert backend.asked == 2


async def test_a_request_that_goes_away_does_not_spoil_the_answer_of_others() -> None:
    upstreams = ready(Backend())
    first = asyncio.create_task(upstreams(a_record()))
    second = asyncio.create_task(upstreams(a_record()))
    await asyncio.sleep(0)
    first.cancel()
    assert await second


async def test_the_last_answer_is_used_while_the_node_agent_is_away() -> None:
    backend = Backend()
    upstreams = ready(backend)
    before = await upstreams(a_record())
    backend.away = True
    backend.now = 300
    assert await upstreams(a_record()) == before
    backend.now = 1000
    assert await upstreams(a_record()) == ()


async def test_web_servers_that_are_seen_to_be_gone_are_not_used() -> None:
    backend = Backend()
    upstreams = ready(backend)
    await upstreams(a_record())
    backend.now, backend.replicas = 2, ()
    assert await upstreams(a_record()) == ()
    backend.now, backend.away = 4, True
    assert await upstreams(a_record()) == ()


servers = st.lists(st.integers(1, 60_000).map("127.0.0.1:{}".format), min_size=1, max_size=5, unique=True)


@given(upstreams=servers, key=st.text(max_size=20))
def test_the_choice_is_stable_and_moves_only_who_must_move(upstreams: list[str], key: str) -> None:
    chosen = choose(upstreams, key)
    assert choose(list(reversed(upstreams)), key) == chosen
    for gone in upstreams:
        rest = [upstream for upstream in upstreams if upstream != gone]
        if rest and gone != chosen:
            assert choose(rest, key) == chosen


def test_callers_are_spread() -> None:
    upstreams = [f"127.0.0.1:{port}" for port in range(5)]
    counts = Counter(choose(upstreams, str(number)) for number in range(1000))
    assert min(counts.values()) > 120


def test_ten_calls_a_second() -> None:
    now = [0.0]
    limiter = RateLimiter(10, clock=lambda: now[0])
    assert [limiter.admit("a") for _ in range(12)] == [True] * 10 + [False] * 2
    assert limiter.admit("b")
    now[0] = 0.35
    assert [limiter.admit("a") for _ in range(4)] == [True] * 3 + [False]
    now[0] = 60
    assert [limiter.admit("a") for _ in range(11)] == [True] * 10 + [False]
