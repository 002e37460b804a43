"""ASGI applications on unix sockets that only the service's own user can open."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

_DRAIN_S = 5


class _Server(uvicorn.Server):
    """A server that leaves signals to the process: several run in one."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve_unix(
    apps: Mapping[Path, ASGIApp], stop: asyncio.Event, *, mode: int = 0o600, group: int | None = None
) -> None:
    """Serve each application on its socket until `stop` is set, then finish open requests.

    Args:
        apps: Application by path of its socket. A socket left by a killed process is replaced.

        stop: Ends the servers.

        mode: Permission bits of the sockets.

        group: Numeric group of the sockets, which `mode` can let in; default: our own.
    """
    servers: list[_Server] = []
    runs: list[asyncio.Task[None]] = []
    for path, app in apps.items():
        server = _Server(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                lifespan="off",
                proxy_headers=False,
                server_header=False,
                timeout_graceful_shutdown=_DRAIN_S,
            )
        )
        servers.append(server)
        runs.append(asyncio.create_task(server.serve(sockets=[_listen(path, mode, group)])))
    ended = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait((ended, *runs), return_when=asyncio.FIRST_COMPLETED)
    finally:
        ended.cancel()
        for server in servers:
            server.should_exit = True
        results = await asyncio.gather(*runs, return_exceptions=True)
        for path in apps:
            path.unlink(missing_ok=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result


def _listen(path: Path, mode: int, group: int | None) -> socket.socket:
    """Bind beside the path and rename into place: nobody connects before the mode is set."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(draft))
    if group is not None:
        os.chown(draft, -1, group)
    draft.chmod(mode)
    listener.listen(256)
    draft.replace(path)
    return listener
