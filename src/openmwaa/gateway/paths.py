"""Which paths of an environment reach Airflow. Pure.

Airflow's own ways to start a session or mint a token never do: identities come from the
gateway alone. The tables were read off the route maps of Airflow 2.10.3, 2.11.2, 3.0.6, 3.2.1 and 3.3.1;
they are the same for every version, because a path that one of them lacks costs nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from urllib.parse import unquote

SIGN_IN_PAGE: Final = "/aws_mwaa/aws-console-sso"
SIGN_OUT_PAGE: Final = "/aws_mwaa/logout"


class PathRule(StrEnum):
    """What happens to a request."""

    PASS = "pass"  # noqa: S105 - not a password
    """Goes to Airflow with the caller's identity."""

    SIGN_IN = "sign-in"
    """Airflow's log-in page: answered with ours."""

    SIGN_OUT = "sign-out"
    """Ends the session."""

    REFUSE = "refuse"
    """Never reaches Airflow, signed in or not."""

    MALFORMED = "malformed"
    """Servers may read the path in different ways; no client of Airflow sends it."""


@dataclass(frozen=True)
class Target:
    """Path and query of a request as the client sent them."""

    path: str
    query: str

    @classmethod
    def parse(cls, uri: str) -> Target:
        """Split `X-Forwarded-Uri`."""
        path, _, query = uri.partition("?")
        return cls(path, query)


_SIGN_OUT: Final = (("logout",), ("auth", "logout"), ("api", "v2", "auth", "logout"))
_SIGN_IN: Final = (("login",), ("auth", "login"), ("api", "v2", "auth", "login"))
_REFUSE: Final = (
    ("auth", "token"),  # 3.x: name and password for a token
    ("ui", "auth", "token"),  # 3.2 and later: a token that outlives the session
    ("api", "v2", "auth"),  # 3.x: whatever a later version adds beside login and logout
    ("api", "v1", "security"),  # 2.x: Flask-AppBuilder's log-in and refresh
    ("auth", "api", "v1", "security"),  # 3.x: the same below the auth manager
    (
        "oauth-authorized",
    ),  # Flask-AppBuilder's other ways to log in, if a user's webserver_config turns them on
    ("auth", "oauth-authorized"),
    ("saml",),
    ("auth", "saml"),
    ("register",),
    ("auth", "register"),
    ("execution",),  # 3.x: the API of running tasks; they reach it without the gateway
    ("internal_api",),  # 2.10 and later: the same idea
    ("aws_mwaa",),  # ours: the proxy sends it here directly
    ("pluginsv2", "aws_mwaa"),
    ("_openmwaa",),
)

_API: Final = (
    ("api",),
    ("ui",),
    ("auth", "fab"),
    ("health",),
    ("execution",),
    ("object",),
    ("openapi.json",),
)


def classify(path: str) -> PathRule:
    """Return what happens to a request with this raw path.

    The path is judged as sent, and decoded once and twice, so that no level of
    percent-encoding, doubled slash or trailing slash hides a refused path.
    """
    if not path.startswith("/"):
        return PathRule.MALFORMED
    readings = [path, unquote(path), unquote(unquote(path))]
    if any(_is_malformed(reading) for reading in readings):
        return PathRule.MALFORMED
    rules = [_rule(_segments(reading)) for reading in readings]
    return next((rule for rule in rules if rule is not PathRule.PASS), PathRule.PASS)


def is_api(path: str) -> bool:
    """Return whether scripts, not people, request this path: they get JSON and no redirects."""
    return _starts_with_any(_segments(unquote(path)), _API)


def _rule(segments: tuple[str, ...]) -> PathRule:
    if segments in _SIGN_OUT:
        return PathRule.SIGN_OUT
    if _starts_with_any(segments, _SIGN_IN):
        return PathRule.SIGN_IN
    if _starts_with_any(segments, _REFUSE):
        return PathRule.REFUSE
    return PathRule.PASS


def _is_malformed(path: str) -> bool:
    return (
        "\\" in path
        or any(ord(character) < 0x20 or ord(character) == 0x7F for character in path)
        or any(segment in {".", ".."} for segment in path.split("/"))
    )


def _segments(path: str) -> tuple[str, ...]:
    return tuple(segment for segment in path.split("/") if segment)


def _starts_with_any(segments: tuple[str, ...], prefixes: tuple[tuple[str, ...], ...]) -> bool:
    return any(segments[: len(prefix)] == prefix for prefix in prefixes)
