"""Ending asyncio tasks for sure."""

from __future__ import annotations

import asyncio
from typing import Any, Final

_AGAIN_AFTER_S: Final = 1.0


async def end(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks until they have ended, and forget how.

    What a task waits for may lose a cancellation: in Python 3.11 `wait_for` does, if it comes together
    with the result. Who then only waits for the task waits for ever.
    """
    while left := [task for task in tasks if not task.done()]:
        for task in left:
            task.cancel()
        await asyncio.wait(left, timeout=_AGAIN_AFTER_S)
    await asyncio.gather(*tasks, return_exceptions=True)
