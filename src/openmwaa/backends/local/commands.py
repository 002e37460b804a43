"""One-shot commands beside an environment's components: migrations, the CLI, checks."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
from asyncio.subprocess import PIPE, Process
from collections.abc import Sequence
from typing import Final

from openmwaa.backends.base import CommandResult
from openmwaa.backends.local.environment import LocalEnvironment
from openmwaa.backends.local.replicas import resolve
from openmwaa.environments.manifest import Manifest
from openmwaa.kit.errors import GiveUp
from openmwaa.supervise.identity import MARKER_VARIABLE
from openmwaa.supervise.process import kill_marked, wait_for_end
from openmwaa.supervise.table import ProcessTable

_MOST_OUTPUT: Final = 6 * 1024 * 1024
_TIMED_OUT: Final = 124
_PREFIX: Final = "run-"
_LAST_OUTPUT_S: Final = 5.0
"""How long output may still come after the command and all that it started have ended."""


async def run_command(
    environment: LocalEnvironment,
    table: ProcessTable,
    manifest: Manifest,
    argv: Sequence[str],
    *,
    timeout_s: float,
    stdin: bytes = b"",
) -> CommandResult:
    """Run one command in the environment's sandbox and wait for it.

    What it started ends with it. Output beyond 6 MiB per stream is cut off.

    Returns:
        The result; exit code 124 if it was killed at the time limit.

    Raises:
        GiveUp: There is no such program.
    """
    marker = f"{table.marker_prefix(environment.id)}/{_PREFIX}{secrets.token_hex(6)}"
    process = await _start(environment, manifest, argv, marker)
    stdout, stderr = bytearray(), bytearray()
    readers = [
        asyncio.create_task(_read(process.stdout, stdout)),
        asyncio.create_task(_read(process.stderr, stderr)),
    ]
    feed = asyncio.create_task(_feed(process.stdin, stdin))
    timed_out = False
    try:
        async with asyncio.timeout(timeout_s):
            await _end_of(process)
    except TimeoutError:
        timed_out = True
    finally:
        # Also when the caller went away: nobody waits for the command any more.
        feed.cancel()
        await kill_marked(marker)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_LAST_OUTPUT_S):
            await process.wait()
    await asyncio.wait((feed, *readers), timeout=_LAST_OUTPUT_S)
    for task in readers:
        task.cancel()
    if timed_out:
        stderr += f"\nThe command was stopped after {timeout_s:.0f} seconds.\n".encode()
        return CommandResult(_TIMED_OUT, bytes(stdout), bytes(stderr))
    return CommandResult(process.returncode or 0, bytes(stdout), bytes(stderr))


async def kill_leftover_commands(table: ProcessTable, environment_id: str) -> None:
    """Kill commands that an agent which died was waiting for."""
    await kill_marked(f"{table.marker_prefix(environment_id)}/{_PREFIX}")


async def _start(
    environment: LocalEnvironment, manifest: Manifest, argv: Sequence[str], marker: str
) -> Process:
    specs = environment.specs
    program, *arguments = argv
    command = (resolve(program, specs.runtime(manifest)), *arguments)
    sandbox = specs.sandbox(manifest)
    folder = specs.working_folder
    try:
        return await asyncio.create_subprocess_exec(
            *(sandbox.command(command, folder) if sandbox else command),
            env={"SPT_NOENV": "1", **specs.variables(manifest), MARKER_VARIABLE: marker},
            cwd=None if sandbox else folder,
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            start_new_session=True,
        )
    except FileNotFoundError as error:
        raise GiveUp(f"{program} cannot be run: {error.strerror}", code="NO_SUCH_PROGRAM") from error


async def _end_of(process: Process) -> None:
    """Wait for the main process alone. `process.wait` waits for the pipes too, which a child may hold open."""
    try:
        pidfd = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return
    try:
        await wait_for_end(pidfd)
    finally:
        os.close(pidfd)


async def _feed(stream: asyncio.StreamWriter | None, data: bytes) -> None:
    assert stream is not None  # noqa: S101 - it is a pipe
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        stream.write(data)
        await stream.drain()
    stream.close()


async def _read(stream: asyncio.StreamReader | None, kept: bytearray) -> None:
    """Read to the end and keep the beginning."""
    assert stream is not None  # noqa: S101 - it is a pipe
    while chunk := await stream.read(65_536):
        kept += chunk[: max(0, _MOST_OUTPUT - len(kept))]
