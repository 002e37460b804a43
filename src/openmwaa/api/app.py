"""The ASGI application behind the AWS endpoints. TLS ends before it, at the proxy."""

from __future__ import annotations

import asyncio
import time
import uuid
from typing import Final

import structlog
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.types import Receive, Scope, Send

from openmwaa.api.chain import Chain
from openmwaa.api.context import ApiContext
from openmwaa.api.errors import ClientGoneError, ServiceError, to_service_error
from openmwaa.api.protocol.answer import Answer
from openmwaa.api.protocol.faults import Dialect, dialect_of, write_error
from openmwaa.identity.sigv4 import SignedRequest

_log = structlog.get_logger(__name__)

MAX_BODY_BYTES: Final = 6 * 1024 * 1024
_BODY_TIMEOUT_S: Final = 30.0
_REQUEST_TIMEOUT_S: Final = 30.0


def create_api(context: ApiContext) -> Starlette:
    """Return the application: `/health` without authentication, every other path an AWS API.

    Any host name is answered, so that clients with host prefixes (`api.`, `env.`, `ops.`) reach it.
    """
    return Starlette(routes=[Route("/health", _health, methods=["GET"]), Mount("/", _Edge(context))])


async def _health(_: Request) -> Response:
    return JSONResponse({"status": "ok"})


class _Edge:
    """Gives each request an id, a deadline, one log line, and an answer whatever happens."""

    def __init__(self, context: ApiContext) -> None:
        self._chain = Chain(context)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request_id = str(uuid.uuid4())
        started = time.perf_counter()
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                answer = await self._answer(scope, receive, request_id)
            except ClientGoneError:
                return
            _log.info(
                "request-answered",
                method=scope["method"],
                status=answer.status,
                error=answer.error,
                duration_ms=round((time.perf_counter() - started) * 1000, 1),
            )
            structlog.contextvars.unbind_contextvars("service", "operation", "principal")
        headers = {**answer.headers, "x-amzn-RequestId": request_id}
        await Response(answer.body, answer.status, headers)(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, request_id: str) -> Answer:
        dialect, service = Dialect.REST_JSON, ""
        try:
            request = await _read(scope, receive)
            request.check()
            dialect = dialect_of(request)
            service = self._chain.service_of(request)
            structlog.contextvars.bind_contextvars(service=service[:64])
            async with asyncio.timeout(_REQUEST_TIMEOUT_S):
                return await self._chain.handle(request, service, request_id)
        except ClientGoneError:
            raise
        except Exception as error:  # noqa: BLE001 - this is where every failure becomes an answer
            failure, expected = to_service_error(error, request_id)
            if not expected:
                _log.exception("request-failed")
            return write_error(failure, dialect, self._chain.model_of(service), request_id)


async def _read(scope: Scope, receive: Receive) -> SignedRequest:
    """Read the whole request.

    Raises:
        ServiceError: The body is too large, or does not arrive in time.

        ClientGoneError: The client gave up.
    """
    body = bytearray()
    try:
        async with asyncio.timeout(_BODY_TIMEOUT_S):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientGoneError
                body += message.get("body", b"")
                if len(body) > MAX_BODY_BYTES:
                    raise ServiceError(
                        "RequestEntityTooLargeException",
                        f"The request body must not exceed {MAX_BODY_BYTES} bytes.",
                    )
                if not message.get("more_body"):
                    break
    except TimeoutError as error:
        raise ServiceError("RequestTimeoutException", "The request body did not arrive in time.") from error
    return SignedRequest(
        method=scope["method"],
        path=scope["raw_path"].decode("latin-1"),
        query=scope["query_string"].decode("latin-1"),
        headers=[
            (name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in scope["headers"]
        ],
        body=bytes(body),
    )
