"""Where a snapshot's objects are, and work on them in threads. One bucket for all snapshots of an account."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final, ParamSpec, TypeVar

from openmwaa.artifacts.snapshot_bucket import Abandon

P = ParamSpec("P")
R = TypeVar("R")

MANIFEST: Final = "manifest"

# Streams occupy a thread for long: they have threads of their own and leave the others to short calls.
_THREADS: Final = ThreadPoolExecutor(max_workers=8, thread_name_prefix="snapshot")


def bucket_name(account: str) -> str:
    """Return the name of the bucket that holds the snapshots of an account."""
    return f"openmwaa-snapshots-{account}"


def prefix_of(snapshot_id: str, attempt: int | None = None) -> str:
    """Return the prefix of a snapshot's objects, or of those of one attempt to make it.

    Two attempts never write the same object: a holder who lost its lease and does not know it
    yet cannot spoil what the next one stores.
    """
    return f"{snapshot_id}/" if attempt is None else f"{snapshot_id}/{attempt}/"


async def in_thread(function: Callable[P, R], *arguments: P.args, **keywords: P.kwargs) -> R:
    """Run something that blocks; a cancellation waits for its end."""
    future = asyncio.get_running_loop().run_in_executor(_THREADS, partial(function, *arguments, **keywords))
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        await asyncio.wait([future])
        raise


async def streaming(function: Callable[[Abandon], R]) -> R:
    """Run work on a stream in a thread; a cancellation stops it at the next piece."""
    abandon = Abandon()
    future = asyncio.get_running_loop().run_in_executor(_THREADS, function, abandon)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        abandon.now()
        await asyncio.wait([future])
        future.exception()  # it was asked to fail
        raise
