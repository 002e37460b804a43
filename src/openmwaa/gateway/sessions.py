"""Sessions: a signed token in cookies, and how it is found and taken out of a request.

A session is stateless: it ends by its lifetime, by signing out (the cookies are cleared) or
with its environment. Role and user are those of the sign-in.
"""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from openmwaa.gateway.tokens import LIFETIME_S, Claims, TokenKind, TokenRefusedError, Tokens

BROWSER_COOKIE = "_openmwaa_session"
"""For browsers: Airflow 2 overwrites the cookie `session` with Flask's own."""

COMPATIBLE_COOKIE = {2: "session", 3: "_token"}
"""Where clients of MWAA expect the session, by generation (mwaa.md 8.2)."""


@dataclass(frozen=True)
class Session:
    """A signed-in caller.

    Attributes:
        by_cookie: The browser attached it, perhaps at another site's wish; False when the
            caller put it into the Authorization header.
    """

    claims: Claims
    by_cookie: bool


def find_session(request: Request, tokens: Tokens, environment_id: str) -> Session | None:
    """Return the session of a request: an explicit bearer token first, then cookies."""
    for header in request.headers.getlist("authorization"):
        scheme, _, token = header.partition(" ")
        if scheme.lower() == "bearer":
            claims = _verify(tokens, token.strip(), environment_id)
            if claims:
                return Session(claims, by_cookie=False)
    pairs = _cookies(request)
    for wanted in (BROWSER_COOKIE, *COMPATIBLE_COOKIE.values()):
        for name, value in pairs:
            if name == wanted:
                claims = _verify(tokens, value, environment_id)
                if claims:
                    return Session(claims, by_cookie=True)
    return None


def foreign_cookies(request: Request, tokens: Tokens) -> str:
    """Return the Cookie header for Airflow: without our cookies and without tokens of ours under any name.

    Flask's own `session` stays: Airflow 2 keeps its form protection in it.
    """
    ours = {BROWSER_COOKIE, COMPATIBLE_COOKIE[3]}
    kept = [pair for pair in _cookies(request) if pair[0] not in ours and not tokens.is_ours(pair[1])]
    return "; ".join(f"{name}={value}" for name, value in kept)


def set_session(response: Response, token: str, generation: int) -> None:
    """Give the session to a client."""
    for name in (COMPATIBLE_COOKIE[generation], BROWSER_COOKIE):
        response.set_cookie(
            name,
            token,
            max_age=LIFETIME_S[TokenKind.SESSION],
            path="/",
            secure=True,
            httponly=True,
            samesite="lax",
        )


def clear_session(response: Response) -> None:
    """Take every cookie that can hold a session away, Airflow's own included."""
    for name in (BROWSER_COOKIE, *COMPATIBLE_COOKIE.values()):
        response.delete_cookie(name, path="/", secure=True, httponly=True, samesite="lax")


def is_cross_site(request: Request) -> bool:
    """Return whether a page of another origin made the browser send this request.

    A link that a person follows counts as well. Requests of programs carry neither header
    and are not cross-site.
    """
    site = request.headers.get("sec-fetch-site")
    return (site is not None and site not in {"same-origin", "none"}) or has_foreign_origin(request)


def is_navigation(request: Request) -> bool:
    """Return whether a person follows a link, as opposed to a script that fetches."""
    mode = request.headers.get("sec-fetch-mode")
    return mode == "navigate" if mode else "text/html" in request.headers.get("accept", "")


def has_foreign_origin(request: Request) -> bool:
    """Return whether the browser names another origin: it does for scripts, forms and websockets, not for links."""
    own = f"https://{request.headers.get('host', '').lower()}"
    return any(origin.lower() != own for origin in request.headers.getlist("origin"))


def _verify(tokens: Tokens, token: str, environment_id: str) -> Claims | None:
    try:
        return tokens.verify(token, TokenKind.SESSION, environment_id)
    except TokenRefusedError:
        return None


def _cookies(request: Request) -> list[tuple[str, str]]:
    """Return every cookie in order; a name may occur more than once, and each may be the right one."""
    pairs = []
    for part in "; ".join(request.headers.getlist("cookie")).split(";"):
        name, equals, value = part.strip().partition("=")
        if equals:
            pairs.append((name, value))
    return pairs
