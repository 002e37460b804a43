"""The gateway's application. Only the proxy connects to it.

The proxy sends `/aws_mwaa/*`, `/pluginsv2/aws_mwaa/*` and `/_openmwaa/*` here as they are,
and asks `/route` about every other request. Clients cannot reach `/route` themselves.
"""

from __future__ import annotations

import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from openmwaa.gateway import pages
from openmwaa.gateway.bodies import BodiesFirst
from openmwaa.gateway.cli import CliEndpoint
from openmwaa.gateway.context import GatewayContext
from openmwaa.gateway.forward_auth import ForwardAuth
from openmwaa.gateway.sign_on import SignOn
from openmwaa.kit.errors import Retry

_log = structlog.get_logger(__name__)


def create_gateway(context: GatewayContext) -> Starlette:
    """Build the application."""
    sign_on = SignOn(context)
    cli = CliEndpoint(context)
    forward_auth = ForwardAuth(context)

    async def route(request: Request) -> Response:
        return await forward_auth(request)

    async def run_cli(request: Request) -> Response:
        return await cli(request)

    async def health(_request: Request) -> Response:
        return PlainTextResponse("ok\n")

    routes = [
        Route("/route", route, methods=["GET"]),
        Route("/_openmwaa/health", health, methods=["GET"]),
    ]
    for prefix in ("/aws_mwaa", "/pluginsv2/aws_mwaa"):
        routes += [
            Route(f"{prefix}/aws-console-sso", sign_on.page, methods=["GET"]),
            Route(f"{prefix}/login", sign_on.login, methods=["POST"]),
            Route(f"{prefix}/logout", sign_on.logout, methods=["GET"]),
            Route(f"{prefix}/cli", run_cli, methods=["POST"]),
        ]
    app = Starlette(
        routes=routes,
        middleware=[Middleware(BodiesFirst)],
        exception_handlers={HTTPException: _on_http, Retry: _on_retry, Exception: _on_bug},
    )
    app.router.redirect_slashes = False
    return app


async def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for this class
    detail = (
        "There is nothing at this address."
        if error.status_code == 404
        else "This address does not take requests of this kind."
    )
    response = pages.error(request, request.url.path, error.status_code, error.detail, detail)
    response.headers.update(error.headers or {})
    return response


async def _on_retry(request: Request, error: Exception) -> Response:
    assert isinstance(error, Retry)  # noqa: S101 - registered for this class
    _log.warning("gateway-cannot-answer", path=request.url.path, reason=error.reason)
    response = pages.error(
        request,
        _client_path(request),
        503,
        "Service Unavailable",
        "The service cannot answer at the moment. Try again.",
    )
    response.headers["Retry-After"] = "2"
    return response


async def _on_bug(request: Request, _error: Exception) -> Response:
    # The server logs the exception itself, once.
    return pages.error(
        request,
        _client_path(request),
        500,
        "Internal Server Error",
        "The request failed. The reason is in the service's log.",
    )


def _client_path(request: Request) -> str:
    """Return the path that the client asked for, also when the proxy asks about it."""
    return request.headers.get("x-forwarded-uri", request.url.path).partition("?")[0]
