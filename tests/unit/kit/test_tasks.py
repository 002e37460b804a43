"""Tasks end even if they lose a cancellation."""

from __future__ import annotations

import asyncio
import contextlib

from openmwaa.kit.tasks import end


async def test_a_lost_cancellation_is_said_again() -> None:
    async def loses_the_first() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        await asyncio.Event().wait()

    task = asyncio.create_task(loses_the_first())
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await end(task)
    assert task.cancelled()


async def test_results_and_errors_are_forgotten() -> None:
    async def fails() -> None:
        raise ValueError

    async def ends() -> int:
        return 1

    await end(asyncio.create_task(fails()), asyncio.create_task(ends()))
    await end()
