"""Where the object store says what changed: plain HTTP on loopback, by token.

Everyone on this host can reach the port. All that a message can do is to have a bucket listed
earlier, and that only with the token.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import socket
from collections.abc import Callable, Iterator
from typing import Final

import structlog
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from uvicorn.protocols.http.h11_impl import H11Protocol

from openmwaa.kit.secret import Secret
from openmwaa.services.feed import FEED_PATH, changed_object

_log = structlog.get_logger()

_MAX_BYTES: Final = 1024 * 1024
_MOST_CONNECTIONS: Final = 32
_TRY_AGAIN_S: Final = 5.0


def build_feed(token: Secret, on_change: Callable[[str, str], None]) -> Starlette:
    """Return the application.

    Args:
        token: What the object store proves itself with.

        on_change: Called with bucket and path (`changed_object`) of every change.
    """
    wanted = f"Bearer {token.reveal()}".encode()

    async def receive(request: Request) -> Response:
        given = request.headers.get("authorization", "").encode("latin-1")
        if not hmac.compare_digest(given, wanted):
            return Response(status_code=401)
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > _MAX_BYTES:
                return Response(status_code=413)
        try:
            changed = changed_object(json.loads(body))
        except (ValueError, RecursionError):
            return Response(status_code=400)
        if changed is not None:
            on_change(*changed)
        return Response(status_code=204)

    return Starlette(routes=[Route(FEED_PATH, receive, methods=["POST"])])


async def serve_feed(app: Starlette, port: int) -> None:
    """Serve until cancelled. Without the port it says so once, tries again, and lets folders be polled."""
    said = False
    while True:
        try:
            listener = _listen(port)
        except OSError as error:
            if not said:
                _log.warning("feed_not_served", port=port, reason=error.strerror)
                said = True
            await asyncio.sleep(_TRY_AGAIN_S)
            continue
        said = False
        server = _Server(
            uvicorn.Config(
                app,
                http=_FewConnections,
                ws="none",
                log_config=None,
                access_log=False,
                lifespan="off",
                proxy_headers=False,
                server_header=False,
                timeout_graceful_shutdown=1,
            )
        )
        with contextlib.closing(listener):
            await server.serve(sockets=[listener])


class _FewConnections(H11Protocol):
    """Lets nobody on this host use up the agent's file descriptors; hints that are lost are polled for."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        if len(self.connections) >= _MOST_CONNECTIONS:
            transport.abort()
            return
        super().connection_made(transport)


class _Server(uvicorn.Server):
    """A server that leaves signals to the process."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _listen(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(128)
    except OSError:
        listener.close()
        raise
    return listener
