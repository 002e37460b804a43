"""The CLI endpoint: `POST /aws_mwaa/cli` with a CLI token runs one Airflow command.

The answer is JSON with `stdout` and `stderr` in Base64 (mwaa.md 8.3). A command that runs
and fails is answered 200 like one that succeeds; a command that is refused is answered 400
in the same form, so that clients show the reason.
"""

from __future__ import annotations

import base64
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import structlog
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from openmwaa.airflow.versions import airflow_version
from openmwaa.environments.errors import EnvironmentNotFoundError
from openmwaa.environments.record import EnvironmentRecord
from openmwaa.gateway import pages
from openmwaa.gateway.cli_arguments import CommandRefusedError, to_arguments
from openmwaa.gateway.context import GatewayContext
from openmwaa.gateway.tokens import Claims, TokenKind, TokenRefusedError
from openmwaa.kit.errors import GiveUp

_log = structlog.get_logger(__name__)

_TIMED_OUT = 124


class _BusyError(Exception):
    """As many commands as allowed run already."""


class CliEndpoint:
    """Answers CLI requests. Counts the running commands of this process per environment."""

    def __init__(self, context: GatewayContext) -> None:
        self._context = context
        self._running: Counter[str] = Counter()

    async def __call__(self, request: Request) -> Response:
        """Answer one request."""
        try:
            record = await self._context.directory.find(request.headers.get("host", ""))
        except EnvironmentNotFoundError:
            return pages.problem(404, "Not Found", "No environment has this address.")
        version = airflow_version(record.spec.airflow_version)
        if version.generation == 2 and request.url.path.startswith("/pluginsv2/"):
            return pages.problem(404, "Not Found", "There is nothing at this address.")
        try:
            claims = self._authenticate(request, record)
        except TokenRefusedError as refused:
            detail = "The CLI token has expired." if refused.expired else "A valid CLI token is required."
            return pages.problem(403, "Forbidden", detail)
        return await self._command(request, record, claims)

    async def _command(self, request: Request, record: EnvironmentRecord, claims: Claims) -> Response:
        version = airflow_version(record.spec.airflow_version)
        try:
            text = (await request.body()).decode()
            arguments = to_arguments(text, generation=version.generation, numbers=version.numbers)
            with self._slot(record):
                return await self._run(record, claims, arguments)
        except UnicodeDecodeError:
            return _answer(400, stderr="The command is not UTF-8 text.\n")
        except CommandRefusedError as refused_command:
            return _answer(400, stderr=f"{refused_command}\n")
        except _BusyError:
            response = pages.problem(
                503,
                "Service Unavailable",
                f"{self._context.cli_concurrency} commands run already. Try again.",
            )
            response.headers["Retry-After"] = "2"
            return response

    def _authenticate(self, request: Request, record: EnvironmentRecord) -> Claims:
        headers = request.headers.getlist("authorization")
        scheme, _, token = headers[0].partition(" ") if len(headers) == 1 else ("", "", "")
        if scheme.lower() != "bearer":
            raise TokenRefusedError
        return self._context.tokens.verify(token.strip(), TokenKind.CLI, record.id)

    @contextmanager
    def _slot(self, record: EnvironmentRecord) -> Iterator[None]:
        if self._running[record.id] >= self._context.cli_concurrency:
            raise _BusyError
        self._running[record.id] += 1
        try:
            yield
        finally:
            self._running[record.id] -= 1
            if not self._running[record.id]:
                del self._running[record.id]

    async def _run(self, record: EnvironmentRecord, claims: Claims, arguments: tuple[str, ...]) -> Response:
        # The command's name only: its arguments may hold secrets, as in `connections add`.
        log = _log.bind(environment=record.name, user=claims.subject, command=" ".join(arguments[:2]))
        started = time.monotonic()
        timeout_s = self._context.cli_timeout_s
        try:
            result = await self._context.run_airflow(record, arguments, timeout_s)
        except GiveUp as given_up:
            log.warning("cli-command-impossible", reason=given_up.reason)
            return _answer(400, stderr=f"{given_up.reason}\n")
        log.info("cli-command", exit_code=result.exit_code, took_s=round(time.monotonic() - started, 2))
        stderr = result.stderr
        if result.exit_code == _TIMED_OUT:
            stderr += f"\nThe command was stopped after {timeout_s:.0f} seconds.\n".encode()
        return _answer(200, stdout=result.stdout, stderr=stderr)


def _answer(status: int, *, stdout: bytes = b"", stderr: bytes | str = b"") -> Response:
    errors = stderr.encode() if isinstance(stderr, str) else stderr
    return JSONResponse(
        {"stdout": base64.b64encode(stdout).decode(), "stderr": base64.b64encode(errors).decode()},
        status,
        headers={"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"},
    )
