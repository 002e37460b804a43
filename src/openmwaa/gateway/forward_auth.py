"""The proxy's question about each request: may it pass, as whom, and where to?

Answer 200 carries the identity and the upstream in headers, with which the proxy replaces
the request's own. Any other answer goes to the client as it is; so no page of ours is
answered here with a status of 200.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from openmwaa.airflow.versions import airflow_version
from openmwaa.environments.errors import EnvironmentNotFoundError
from openmwaa.environments.record import EnvironmentRecord
from openmwaa.environments.status import USABLE, Status
from openmwaa.gateway import pages
from openmwaa.gateway.context import GatewayContext
from openmwaa.gateway.paths import SIGN_IN_PAGE, SIGN_OUT_PAGE, PathRule, Target, classify
from openmwaa.gateway.sessions import (
    Session,
    find_session,
    foreign_cookies,
    has_foreign_origin,
    is_cross_site,
    is_navigation,
)
from openmwaa.gateway.tokens import TokenKind
from openmwaa.gateway.upstreams import choose

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


class ForwardAuth:
    """Answers `GET /route`.

    The request's own headers are the client's, except `X-Forwarded-Method` and
    `X-Forwarded-Uri`, which the proxy sets.
    """

    def __init__(self, context: GatewayContext) -> None:
        self._context = context

    async def __call__(self, request: Request) -> Response:
        """Decide about one request."""
        methods = request.headers.getlist("x-forwarded-method")
        uris = request.headers.getlist("x-forwarded-uri")
        if len(methods) != 1 or len(uris) != 1:
            return pages.problem(400, "Bad Request", "Not asked by the proxy.")
        method, target = methods[0].upper(), Target.parse(uris[0])
        try:
            record = await self._context.directory.find(request.headers.get("host", ""))
        except EnvironmentNotFoundError:
            return pages.error(
                request, target.path, 404, "No environment here", "No environment has this address."
            )
        if classify(target.path) is PathRule.MALFORMED:
            return pages.error(request, target.path, 400, "Bad Request", "The path is malformed.")
        return await self._decide(request, method, target, record)

    async def _decide(
        self, request: Request, method: str, target: Target, record: EnvironmentRecord
    ) -> Response:
        rule = classify(target.path)
        if rule is PathRule.SIGN_OUT:
            return _redirect(SIGN_OUT_PAGE)
        session = find_session(request, self._context.tokens, record.id)
        if session is None:
            return _anonymous(request, target, method, record)
        if rule is PathRule.SIGN_IN and method in _SAFE_METHODS:
            return _redirect(SIGN_IN_PAGE)
        if rule is not PathRule.PASS:
            return pages.error(
                request, target.path, 404, "Not Found", "Airflow's own sign-in is off: sign in with a token."
            )
        if session.by_cookie and _is_forged(request, method):
            return pages.error(
                request, target.path, 403, "Forbidden", "The request was sent by a page of another site."
            )
        return await self._pass(request, target, record, session)

    async def _pass(
        self, request: Request, target: Target, record: EnvironmentRecord, session: Session
    ) -> Response:
        upstreams = [] if record.status is Status.DELETING else await self._context.upstreams(record)
        if not upstreams:
            return pages.not_ready(request, target.path, record)
        claims = session.claims
        identity = self._context.tokens.mint(
            TokenKind.IDENTITY, record.id, subject=claims.subject, roles=claims.roles
        )
        generation = airflow_version(record.spec.airflow_version).generation
        return Response(
            headers={
                "X-Openmwaa-Upstream": choose(upstreams, claims.token_id),
                "X-Openmwaa-Identity": identity,
                "Authorization": f"Bearer {identity}" if generation >= 3 else "",
                "Cookie": foreign_cookies(request, self._context.tokens),
                "Cache-Control": "no-store",
            }
        )


def _anonymous(request: Request, target: Target, method: str, record: EnvironmentRecord) -> Response:
    if method in {"GET", "HEAD"} and is_navigation(request) and not pages.wants_json(request, target.path):
        if record.status not in USABLE:
            return pages.not_ready(request, target.path, record)  # nobody can sign in yet
        return _redirect(SIGN_IN_PAGE)
    if classify(target.path) is PathRule.SIGN_IN and method == "GET" and is_navigation(request):
        return _redirect(SIGN_IN_PAGE)  # Airflow 3 sends browsers to a log-in path below /api
    response = pages.problem(401, "Unauthorized", "Sign in with a token from CreateWebLoginToken.")
    response.headers["WWW-Authenticate"] = "Bearer"
    return response


def _is_forged(request: Request, method: str) -> bool:
    """Return whether another site uses the visitor's cookie for more than a link or an image."""
    return has_foreign_origin(request) or (method not in _SAFE_METHODS and is_cross_site(request))


def _redirect(path: str) -> Response:
    return RedirectResponse(path, 302, headers={"Cache-Control": "no-store"})
