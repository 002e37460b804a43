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
from openmwaa.supervise.forking import Command, ForkedChild, Forker
from openmwaa.supervise.orphans import inherited_exit
from openmwaa.supervise.process import kill_marked, variables_of, wait_for_end
from openmwaa.supervise.table import ProcessTable

_MOST_OUTPUT: Final = 6 * 1024 * 1024
_TIMED_OUT: Final = 124
_NOT_TOLD: Final = -9
"""What a command counts as whose preloaded process died, so that nobody knows how it ended."""

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
    forker: Forker | None = None,
) -> CommandResult:
    """Run one command in the environment's sandbox and wait for it.

    What it started ends with it. Output beyond 6 MiB per stream is cut off.

    Args:
        environment: Where it runs.

        table: Its folder is part of the marker.

        manifest: Gives variables and runtime.

        argv: The command; a bare program name is one of the runtime's.

        timeout_s: Longest time.

        stdin: Its standard input.

        forker: Forks it if it can; None: it is started as a program.

    Returns:
        The result; exit code 124 if it was killed at the time limit.

    Raises:
        GiveUp: There is no such program.
    """
    marker = f"{table.marker_prefix(environment.id)}/{_PREFIX}{secrets.token_hex(6)}"
    running = await _start(environment, manifest, argv, marker, forker)
    stdout, stderr = bytearray(), bytearray()
    readers = [
        asyncio.create_task(_read(running.stdout, stdout)),
        asyncio.create_task(_read(running.stderr, stderr)),
    ]
    feed = asyncio.create_task(_feed(running.stdin, stdin))
    timed_out = False
    try:
        async with asyncio.timeout(timeout_s):
            await running.end()
    except TimeoutError:
        timed_out = True
    finally:
        # Also when the caller went away: nobody waits for the command any more.
        feed.cancel()
        await kill_marked(marker)
    code = await running.code()
    await asyncio.wait((feed, *readers), timeout=_LAST_OUTPUT_S)
    for task in readers:
        task.cancel()
    running.close()
    if timed_out:
        stderr += f"\nThe command was stopped after {timeout_s:.0f} seconds.\n".encode()
        return CommandResult(_TIMED_OUT, bytes(stdout), bytes(stderr))
    return CommandResult(code, bytes(stdout), bytes(stderr))


async def kill_leftover_commands(table: ProcessTable, environment_id: str) -> None:
    """Kill commands that an agent which died was waiting for."""
    await kill_marked(f"{table.marker_prefix(environment_id)}/{_PREFIX}")


async def _start(
    environment: LocalEnvironment,
    manifest: Manifest,
    argv: Sequence[str],
    marker: str,
    forker: Forker | None,
) -> _Started | _Forked:
    specs = environment.specs
    program, *arguments = argv
    command = Command(
        argv=(resolve(program, specs.runtime(manifest)), *arguments),
        env=variables_of(specs.variables(manifest), marker),
        cwd=specs.working_folder,
        marker=marker,
        sandbox=specs.sandbox(manifest),
    )
    if forker is not None and (forked := await _Forked.start(forker, command)):
        return forked
    try:
        return await _Started.start(command)
    except FileNotFoundError as error:
        raise GiveUp(f"{program} cannot be run: {error.strerror}", code="NO_SUCH_PROGRAM") from error


class _Started:
    """A command as a program of its own."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self.stdin, self.stdout, self.stderr = process.stdin, process.stdout, process.stderr

    @classmethod
    async def start(cls, command: Command) -> _Started:
        sandbox, folder = command.sandbox, command.cwd
        process = await asyncio.create_subprocess_exec(
            *(sandbox.command(command.argv, folder) if sandbox else command.argv),
            env=command.env,
            cwd=None if sandbox else folder,
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            start_new_session=True,
        )
        return cls(process)

    async def end(self) -> None:
        """Wait for the main process alone. `wait` waits for the pipes too, which a child may hold open."""
        try:
            pidfd = os.pidfd_open(self._process.pid)
        except ProcessLookupError:
            return
        try:
            await wait_for_end(pidfd)
        finally:
            os.close(pidfd)

    async def code(self) -> int:
        """Return how it ended."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_OUTPUT_S):
                await self._process.wait()
        return self._process.returncode or 0

    def close(self) -> None:
        """Nothing is left to close."""


class _Forked:
    """A command forked from a preloaded process."""

    def __init__(
        self,
        child: ForkedChild,
        stdin: asyncio.StreamWriter,
        stdout: asyncio.StreamReader,
        stderr: asyncio.StreamReader,
        transports: Sequence[asyncio.BaseTransport],
    ) -> None:
        self._child = child
        self._transports = transports
        self.stdin, self.stdout, self.stderr = stdin, stdout, stderr

    @classmethod
    async def start(cls, forker: Forker, command: Command) -> _Forked | None:
        pipes = [os.pipe() for _ in range(3)]
        (stdin, feed), (read_stdout, stdout), (read_stderr, stderr) = pipes
        child = forker.fork("", command, (stdin, stdout, stderr))
        for descriptor in (stdin, stdout, stderr):
            os.close(descriptor)
        if child is None:
            for descriptor in (feed, read_stdout, read_stderr):
                os.close(descriptor)
            return None
        writer, written = await _writer(feed)
        out, out_transport = await _reader(read_stdout)
        err, err_transport = await _reader(read_stderr)
        return cls(child, writer, out, err, (written, out_transport, err_transport))

    async def end(self) -> None:
        """Wait for the main process alone."""
        await wait_for_end(self._child.pidfd)

    async def code(self) -> int:
        """Return how it ended."""
        code = await asyncio.to_thread(self._child.wait, _LAST_OUTPUT_S)
        if code is None:
            code = inherited_exit(self._child.pidfd)
        return _NOT_TOLD if code is None else code

    def close(self) -> None:
        """Close what is ours."""
        for transport in self._transports:
            transport.close()
        self._child.close()
        os.close(self._child.pidfd)


async def _reader(descriptor: int) -> tuple[asyncio.StreamReader, asyncio.BaseTransport]:
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(descriptor, "rb")
    )
    return reader, transport


async def _writer(descriptor: int) -> tuple[asyncio.StreamWriter, asyncio.BaseTransport]:
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.connect_write_pipe(
        asyncio.streams.FlowControlMixin, os.fdopen(descriptor, "wb")
    )
    return asyncio.StreamWriter(transport, protocol, None, loop), transport


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
