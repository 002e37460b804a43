"""One-shot commands beside an environment's components: migrations, the CLI, checks."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Sequence
from typing import Final

from openmwaa.backends.base import CommandResult
from openmwaa.backends.local.environment import LocalEnvironment
from openmwaa.backends.local.replicas import resolve
from openmwaa.environments.manifest import Manifest
from openmwaa.supervise.identity import MARKER_VARIABLE
from openmwaa.supervise.process import kill_marked
from openmwaa.supervise.table import ProcessTable

_MOST_OUTPUT: Final = 6 * 1024 * 1024
_TIMED_OUT: Final = 124
_PREFIX: Final = "run-"


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

    What it started dies with it. Output beyond 6 MiB per stream is cut off.

    Returns:
        The result; exit code 124 if it was killed at the time limit.
    """
    program, *arguments = argv
    command = (resolve(program, environment.runtime(manifest)), *arguments)
    sandbox = environment.sandbox(manifest)
    folder = environment.working_folder()
    marker = f"{table.marker_prefix(environment.id)}/{_PREFIX}{secrets.token_hex(6)}"
    process = await asyncio.create_subprocess_exec(
        *(sandbox.command(command, folder) if sandbox else command),
        env={**environment.variables(manifest), MARKER_VARIABLE: marker},
        cwd=None if sandbox else folder,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdin and process.stdout and process.stderr  # noqa: S101, PT018 - all are pipes
    timed_out = False
    output = asyncio.gather(_read(process.stdout), _read(process.stderr))
    try:
        async with asyncio.timeout(timeout_s):
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                process.stdin.write(stdin)
                await process.stdin.drain()
                process.stdin.close()
            await process.wait()
    except TimeoutError:
        timed_out = True
    finally:
        # Also when the caller went away: nobody waits for the command any more.
        await kill_marked(marker)
        await process.wait()
    stdout, stderr = await output
    code = _TIMED_OUT if timed_out else process.returncode or 0
    if timed_out:
        stderr += f"\nThe command was stopped after {timeout_s:.0f} seconds.\n".encode()
    return CommandResult(code, stdout, stderr)


async def kill_leftover_commands(table: ProcessTable, environment_id: str) -> None:
    """Kill commands that an agent which died was waiting for."""
    await kill_marked(f"{table.marker_prefix(environment_id)}/{_PREFIX}")


async def _read(stream: asyncio.StreamReader) -> bytes:
    """Read to the end and keep the beginning."""
    kept = bytearray()
    while chunk := await stream.read(65_536):
        kept += chunk[: max(0, _MOST_OUTPUT - len(kept))]
    return bytes(kept)
