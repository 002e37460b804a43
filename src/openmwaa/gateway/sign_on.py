"""Signing in: the page that a sign-in link opens, and the exchange of a web token for a session.

Paths and answers are MWAA's (mwaa.md 8.2). The page exists at the old path on every version;
the exchange at one path per generation, and the other generation's is 404.
"""

from __future__ import annotations

from urllib.parse import parse_qs

import structlog
from starlette.requests import Request
from starlette.responses import Response

from openmwaa.airflow.versions import airflow_version
from openmwaa.environments.errors import EnvironmentNotFoundError
from openmwaa.environments.record import EnvironmentRecord
from openmwaa.environments.status import USABLE
from openmwaa.gateway import pages
from openmwaa.gateway.context import GatewayContext
from openmwaa.gateway.sessions import clear_session, find_session, is_cross_site, is_navigation, set_session
from openmwaa.gateway.tokens import TokenKind, TokenRefusedError

_log = structlog.get_logger(__name__)

LOGIN_PATH = {2: "/aws_mwaa/login", 3: "/pluginsv2/aws_mwaa/login"}
HOME_PATH = {2: "/home", 3: "/"}


class SignOn:
    """Answers the sign-in page and the exchange."""

    def __init__(self, context: GatewayContext) -> None:
        self._context = context

    async def page(self, request: Request) -> Response:
        """Answer `GET …/aws-console-sso`."""
        record = await self._find(request)
        path = request.url.path
        if record is None or (_generation(record) == 2 and path.startswith("/pluginsv2/")):
            return pages.error(request, path, 404, "Not Found", "There is nothing at this address.")
        if record.status not in USABLE:
            return pages.not_ready(request, path, record)
        generation = _generation(record)
        session = find_session(request, self._context.tokens, record.id)
        return pages.sign_in_page(
            record,
            host=request.headers.get("host", ""),
            login=LOGIN_PATH[generation],
            home=HOME_PATH[generation],
            user=session.claims.subject if session else None,
        )

    async def login(self, request: Request) -> Response:
        """Answer `POST …/login`, form field `token`: 200 with the session's cookies, 403, or 404."""
        record = await self._find(request)
        path = request.url.path
        if record is None or path != LOGIN_PATH[_generation(record)]:
            return pages.error(request, path, 404, "Not Found", "There is nothing at this address.")
        if is_cross_site(request):
            # Otherwise another site could sign a visitor in as somebody else.
            return pages.error(
                request, path, 403, "Forbidden", "The sign-in was sent by a page of another site."
            )
        try:
            token = _single_field(await request.body(), "token")
            claims = self._context.tokens.verify(token, TokenKind.WEB, record.id)
        except TokenRefusedError as refused:
            _log.info("sign-in-refused", environment=record.name, expired=refused.expired)
            return pages.error(
                request,
                path,
                403,
                "You are not signed in",
                "The token has expired: tokens are valid for 60 seconds. Ask for a new one."
                if refused.expired
                else "The token is not valid for this environment.",
            )
        session = self._context.tokens.mint(
            TokenKind.SESSION, record.id, subject=claims.subject, roles=claims.roles
        )
        _log.info("signed-in", environment=record.name, user=claims.subject, roles=claims.roles)
        response = pages.signed_in_page(HOME_PATH[_generation(record)])
        set_session(response, session, _generation(record))
        return response

    async def logout(self, request: Request) -> Response:
        """End the session. An image or frame on another site does not: only a link that a person follows."""
        followed = request.headers.get("sec-fetch-dest", "document") == "document" and is_navigation(request)
        response = pages.signed_out_page()
        if followed or not is_cross_site(request):
            clear_session(response)
        return response

    async def _find(self, request: Request) -> EnvironmentRecord | None:
        try:
            return await self._context.directory.find(request.headers.get("host", ""))
        except EnvironmentNotFoundError:
            return None


def _generation(record: EnvironmentRecord) -> int:
    return airflow_version(record.spec.airflow_version).generation


def _single_field(form: bytes, name: str) -> str:
    """Return a field of a URL-encoded form.

    Raises:
        TokenRefusedError: It is missing, repeated, or the form is not one.
    """
    try:
        values = parse_qs(form.decode("ascii"), max_num_fields=10).get(name, [])
    except ValueError as error:
        raise TokenRefusedError from error
    if len(values) != 1:
        raise TokenRefusedError
    return values[0]
