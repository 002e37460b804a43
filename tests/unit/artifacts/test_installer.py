"""Many who wait for one build."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from openmwaa.airflow.versions import VERSIONS
from openmwaa.artifacts.installer import RuntimeInstaller
from openmwaa.artifacts.runtimes import Progress, Runtime, RuntimeProgress, RuntimeStore, Stage
from openmwaa.kit.errors import GiveUp
from openmwaa.settings import Settings

VERSION = "3.3.1"


class SlowStore(RuntimeStore):
    """A store whose builds wait for the test and count themselves."""

    def __init__(self) -> None:
        super().__init__(Settings(home=Path("/nowhere")), {VERSION: VERSIONS[VERSION].lock})
        self.started = 0
        self.abandoned = 0
        self.release = asyncio.Event()
        self.report: Progress = lambda _: None
        self.failure: Exception | None = None

    async def ensure_id(self, runtime_id: str, on_progress: Progress | None = None) -> Runtime:
        assert on_progress is not None
        self.started += 1
        self.report = on_progress
        on_progress(RuntimeProgress(VERSION, Stage.DOWNLOADING))
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            self.abandoned += 1
            raise
        if self.failure:
            raise self.failure
        return Runtime(runtime_id, VERSION, Path("/nowhere"))


async def turn() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_two_who_ask_share_a_build_and_both_see_it_go_on() -> None:
    """The later one is told at once how far it is."""
    store = SlowStore()
    installer = RuntimeInstaller(store)
    seen: dict[str, list[Stage]] = {"first": [], "second": []}
    first = asyncio.create_task(installer.ensure(VERSION, lambda one: seen["first"].append(one.stage)))
    await turn()
    second = asyncio.create_task(installer.ensure(VERSION, lambda one: seen["second"].append(one.stage)))
    await turn()
    store.report(RuntimeProgress(VERSION, Stage.COMPILING))
    store.release.set()
    assert (await first).id == (await second).id == store.locate(VERSION).id
    assert store.started == 1
    assert seen == {
        "first": [Stage.DOWNLOADING, Stage.COMPILING],
        "second": [Stage.DOWNLOADING, Stage.COMPILING],
    }


async def test_one_who_goes_away_does_not_stop_the_others() -> None:
    """The reconciler's build survives a person's Ctrl-C."""
    store = SlowStore()
    installer = RuntimeInstaller(store)
    stays, leaves = (asyncio.create_task(installer.ensure(VERSION)) for _ in range(2))
    await turn()
    leaves.cancel()
    await turn()
    store.release.set()
    assert (await stays).version == VERSION
    assert store.abandoned == 0


async def test_a_build_that_nobody_waits_for_is_stopped_and_can_be_started_again() -> None:
    """Abandoning is safe: the next one starts afresh."""
    store = SlowStore()
    installer = RuntimeInstaller(store)
    only = asyncio.create_task(installer.ensure(VERSION))
    await turn()
    only.cancel()
    await asyncio.gather(only, return_exceptions=True)
    await turn()
    assert store.abandoned == 1
    store.release.set()
    assert (await installer.ensure(VERSION)).version == VERSION
    assert store.started == 2


async def test_everybody_learns_of_a_failure_and_a_retry_is_possible() -> None:
    """A failed build is not remembered."""
    store = SlowStore()
    store.failure = GiveUp("no space")
    store.release.set()
    installer = RuntimeInstaller(store)
    results = await asyncio.gather(
        installer.ensure(VERSION), installer.ensure(VERSION), return_exceptions=True
    )
    assert [type(result) for result in results] == [GiveUp, GiveUp]
    store.failure = None
    assert (await installer.ensure(VERSION)).version == VERSION
    with pytest.raises(GiveUp):
        installer.locate("1.10.12")
