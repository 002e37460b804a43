"""A small real web server that stands where Airflow's would: it says what reached it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Echo(ThreadingHTTPServer):
    """Answers each request with its method, path, headers and body as JSON, and counts requests.

    Paths that do more: `/stream` sends three lines 0.3 s apart; `…/plain` answers text,
    `…/nothing` 204, `…/teapot` 418, `…/slow` after 3 s, `…/large` 7 MB; an upgrade to websocket
    is accepted and what the client sends comes back.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self, address: str, port: int) -> None:
        super().__init__((address, port), _Handler)
        self.seen: list[dict[str, Any]] = []

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients may hang up early, which some tests want."""

    @property
    def upstream(self) -> str:
        address, port = self.server_address[:2]
        return f"{address!s}:{port}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Echo

    def _answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        seen = {
            "method": self.command,
            "path": self.path,
            "headers": [[name.lower(), value] for name, value in self.headers.items()],
            "body": self.rfile.read(length).decode("latin-1"),
            "upstream": self.server.upstream,
        }
        self.server.seen.append(seen)
        path = self.path.partition("?")[0]
        if self.headers.get("Upgrade", "").lower() == "websocket":
            self._upgrade()
        elif path == "/stream":
            self._stream()
        elif path.endswith("/plain"):
            self._send(200, b"plain text", "text/plain")
        elif path.endswith("/nothing"):
            self._send(204, b"", "")
        elif path.endswith("/large"):
            self._send(200, b"[" + b"1," * 3_500_000 + b"1]", "application/json")
        else:
            if path.endswith("/slow"):
                time.sleep(3)
            self._send(
                418 if path.endswith("/teapot") else 200, json.dumps(seen).encode(), "application/json"
            )

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _answer  # noqa: N815 - the base class asks for these names

    def _send(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        if status != 204:
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/x-ndjson")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for number in range(3):
            line = f'{{"line": {number}}}\n'.encode()
            self.wfile.write(f"{len(line):x}\r\n".encode() + line + b"\r\n")
            self.wfile.flush()
            time.sleep(0.3)
        self.wfile.write(b"0\r\n\r\n")

    def _upgrade(self) -> None:
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.end_headers()
        self.wfile.flush()
        self.wfile.write(self.rfile.readline())  # not one `recv`: the proxy may pass a line on in parts
        self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Say nothing."""


@contextmanager
def echo_server(address: str, port: int) -> Iterator[Echo]:
    """Run a server until the block ends."""
    server = Echo(address, port)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
