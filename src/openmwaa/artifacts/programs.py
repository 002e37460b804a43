"""Running a program of a build to its end, and ending it when nobody waits any more."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_KEPT_LINES: Final = 400
_LONGEST_LINE: Final = 2000
_PATIENCE_S: Final = 15.0
"""For a program that was asked to end: the keeper ends others first."""


@dataclass(frozen=True)
class Ended:
    """How a program ended, and the last lines it wrote."""

    code: int
    lines: tuple[str, ...]


async def run_program(
    argv: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    pass_fds: tuple[int, ...] = (),
    on_line: Callable[[str], None] | None = None,
    stop_signal: int = signal.SIGKILL,
) -> Ended:
    """Run a program; it is ended if the caller is cancelled.

    Args:
        argv: Program and arguments.

        cwd: Its working folder.

        env: Its complete environment.

        pass_fds: Descriptors that it inherits.

        on_line: Called with each line of its output, without the line's end.

        stop_signal: Asks it to end when we are cancelled; killed if it does not.

    Returns:
        Exit code and the last lines of standard output and error together.
    """
    process = await asyncio.create_subprocess_exec(
        *argv,
        cwd=cwd,
        env=dict(env),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        pass_fds=pass_fds,
        umask=0o022,
    )
    lines: deque[str] = deque(maxlen=_KEPT_LINES)
    try:
        if process.stdout is None:
            raise AssertionError("stdout is a pipe")
        async for line in _lines(process.stdout):
            lines.append(line)
            if on_line is not None:
                on_line(line)
        code = await process.wait()
    finally:
        if process.returncode is None:
            await _end(process, stop_signal)
    return Ended(code, tuple(lines))


def plain_environment() -> dict[str, str]:
    """Return our environment without what would lead Python or uv to another environment."""
    return {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV"))}


async def _lines(stream: asyncio.StreamReader) -> AsyncIterator[str]:
    """Yield lines however long they are: a builder may print anything."""
    rest = b""
    while chunk := await stream.read(65536):
        *whole, rest = (rest + chunk).split(b"\n")
        for raw in whole:
            yield raw[:_LONGEST_LINE].decode(errors="replace").rstrip()
        rest = rest[:_LONGEST_LINE]
    if rest:
        yield rest.decode(errors="replace").rstrip()


async def _end(process: asyncio.subprocess.Process, stop_signal: int) -> None:
    for number in (stop_signal, signal.SIGKILL):
        with suppress(ProcessLookupError):
            process.send_signal(number)
        with suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE_S):
                await process.wait()
                return
