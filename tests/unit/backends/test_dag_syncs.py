"""When DAG folders are looked at: by hints, by a timer, and how far the hints are trusted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from openmwaa.backends.base import DagsSeen
from openmwaa.backends.local.dag_syncs import DagSyncs
from openmwaa.environments.manifest import DagSource
from openmwaa.kit.errors import Retry

POLL_S = 0.5
SLOW_S = 30.0
SOON_S = 0.4


@dataclass
class Folder:
    """An environment whose bucket holds a number, and how often that was listed."""

    id: str
    dags: DagSource
    content: int = 0
    looks: list[float] = field(default_factory=list)
    failure: Exception | None = None
    takes_s: float = 0.0

    @property
    def manifest(self) -> Any:
        return SimpleNamespace(dags=self.dags)

    async def look(self) -> DagsSeen:
        self.looks.append(time.monotonic())
        await asyncio.sleep(self.takes_s)
        if self.failure:
            raise self.failure
        return DagsSeen(str(self.content), 1, None)

    async def looked(self, count: int, *, within_s: float = 3.0) -> None:
        async with asyncio.timeout(within_s):
            while len(self.looks) < count:
                await asyncio.sleep(0.005)


@asynccontextmanager
async def following(*folders: Folder, present: list[Folder] | None = None) -> AsyncIterator[DagSyncs]:
    here = list(folders) if present is None else present
    syncs = DagSyncs(lambda: here, lambda one: one.look(), poll_s=POLL_S, poll_with_feed_s=SLOW_S)
    run = asyncio.create_task(syncs.run())
    try:
        for folder in folders:
            await folder.looked(1)
        await asyncio.sleep(0.25)  # the least gap between two looks is over
        yield syncs
    finally:
        run.cancel()
        await asyncio.gather(run, return_exceptions=True)
        others = asyncio.all_tasks() - {asyncio.current_task()}
        assert not [task for task in others if "_follow" in repr(task)]


def folder(name: str = "one", prefix: str = "dags/") -> Folder:
    return Folder(name, DagSource("bucket", prefix))


async def test_a_hint_is_followed_at_once_and_only_by_whom_it_concerns() -> None:
    mine, other = folder(), folder("two", "other/")
    mine.content = other.content = 1
    async with following(mine, other) as syncs:
        for _ in range(2):  # makes both trust the feed, so that no timer interferes
            syncs.announce("bucket", "dags/a.py")
            syncs.announce("bucket", "other/a.py")
            await asyncio.sleep(SOON_S)
        before = len(mine.looks), len(other.looks)
        syncs.announce("bucket", "dags/a.py.versions/v_1")
        syncs.announce("elsewhere", "other/a.py")
        await mine.looked(before[0] + 1, within_s=SOON_S)
        assert len(other.looks) == before[1]


async def test_many_hints_are_one_look() -> None:
    mine = folder()
    async with following(mine) as syncs:
        syncs.announce("bucket", "dags/a.py")
        await asyncio.sleep(SOON_S)
        before = len(mine.looks)
        for _ in range(4):
            syncs.announce("bucket", "dags/a.py")
        await asyncio.sleep(SOON_S)
        assert len(mine.looks) == before + 1


async def test_a_hint_that_comes_while_looking_is_not_lost() -> None:
    mine = folder()
    async with following(mine) as syncs:
        syncs.announce("bucket", "dags/a.py")
        await asyncio.sleep(SOON_S)
        mine.takes_s, before = 0.2, len(mine.looks)
        syncs.announce("bucket", "dags/a.py")
        await mine.looked(before + 1)
        syncs.announce("bucket", "dags/a.py")
        await mine.looked(before + 2)


async def test_looking_takes_half_of_the_time_at_most_however_many_hints_come() -> None:
    mine = folder()
    async with following(mine) as syncs:
        mine.takes_s = 0.3
        end = time.monotonic() + 2.0
        before = len(mine.looks)
        while time.monotonic() < end:
            syncs.announce("bucket", "dags/a.py")
            await asyncio.sleep(0.01)
        assert 2 <= len(mine.looks) - before <= 4


async def test_without_hints_the_timer_is_fast() -> None:
    mine = folder()
    async with following(mine):
        await mine.looked(4, within_s=5 * POLL_S)


async def test_the_timer_is_slow_after_a_hint_until_a_change_comes_without_one() -> None:
    mine = folder()
    here = [mine]
    syncs = DagSyncs(lambda: here, lambda one: one.look(), poll_s=0.3, poll_with_feed_s=1.2)
    run = asyncio.create_task(syncs.run())
    await mine.looked(1)
    await asyncio.sleep(0.25)
    mine.content += 1
    syncs.announce("bucket", "dags/a.py")
    await mine.looked(2, within_s=SOON_S)
    await mine.looked(3)
    assert mine.looks[2] - mine.looks[1] > 1.0
    mine.content += 1  # silently: it is found by the timer, and the feed is no longer trusted
    await mine.looked(6)
    assert mine.looks[5] - mine.looks[4] < 0.6
    run.cancel()
    await asyncio.gather(run, return_exceptions=True)


@pytest.mark.parametrize("failure", [Retry("S3 is away"), OSError("disk"), KeyError("a bug")])
async def test_a_failure_is_tried_again_soon(failure: Exception) -> None:
    mine = folder()
    async with following(mine) as syncs:
        syncs.announce("bucket", "dags/a.py")
        await asyncio.sleep(SOON_S)
        mine.failure, before = failure, len(mine.looks)
        syncs.announce("bucket", "dags/a.py")
        await mine.looked(before + 3, within_s=10 * POLL_S)


async def test_environments_come_go_and_come_again() -> None:
    first, again, present = folder(), folder(), list[Folder]()
    async with following(present=present) as syncs:
        syncs.announce("bucket", "dags/a.py")  # for nobody
        syncs.look("one")
        present.append(first)
        await first.looked(1)
        present[:] = [again]
        await again.looked(2)
        before = len(first.looks)
        await again.looked(5)
        assert len(first.looks) == before
