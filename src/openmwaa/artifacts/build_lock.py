"""A lock file per artifact: whoever builds or removes it holds the lock."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final

_POLL_S: Final = 0.2


@asynccontextmanager
async def build_lock(path: Path, on_wait: Callable[[], None]) -> AsyncIterator[int]:
    """Hold the file lock of a build; yields its descriptor.

    The descriptor is meant to be inherited by the programs of the build: if this process is
    killed, the lock stays held until what it left behind has ended too, and nobody removes a
    tree under its hands.

    Args:
        path: The lock file; made if need be.

        on_wait: Called each time that someone else is found to hold the lock.
    """
    while (descriptor := _try(path)) is None:
        on_wait()
        await asyncio.sleep(_POLL_S)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def lock_if_free(path: Path) -> Iterator[int | None]:
    """Hold the lock, or yield None at once if someone else does."""
    descriptor = _try(path)
    try:
        yield descriptor
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _try(path: Path) -> int | None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Its holder may have removed the file while we opened it: then we hold a lock of nothing.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
    except BlockingIOError:
        pass
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None
