"""Request bodies are read before anything is answered, up to a limit.

A server that answers while the proxy still sends the body may close the connection under
it: the client then gets 502 in place of, say, 403. Every body here is small.
"""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from openmwaa.gateway.pages import problem

LARGEST_BODY = 100 * 1024
"""In bytes. A CLI command becomes arguments, of which Linux takes none of 128 KiB or more."""

_LARGEST_READ = 100 * LARGEST_BODY
"""More than this is not even read to its end."""


class BodiesFirst:
    """Middleware: reads the whole body, then calls the application; answers 413 itself."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body, length, more = bytearray(), 0, True
        while more and length <= _LARGEST_READ:
            message = await receive()
            if message["type"] != "http.request":
                return  # the client went away
            chunk = message.get("body", b"")
            length += len(chunk)
            if length <= LARGEST_BODY:
                body += chunk
            more = message.get("more_body", False)
        if length > LARGEST_BODY:
            response = problem(413, "Content Too Large", f"The body is longer than {LARGEST_BODY} bytes.")
            await response(scope, receive, send)
            return
        first: list[Message] = [{"type": "http.request", "body": bytes(body), "more_body": False}]

        async def receive_again() -> Message:
            return first.pop() if first else await receive()

        await self._app(scope, receive_again, send)
