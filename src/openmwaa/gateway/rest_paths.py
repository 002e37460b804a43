"""Which `Path` InvokeRestApi accepts. Pure."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote, unquote

from openmwaa.environments.errors import InvalidRequestError
from openmwaa.gateway.paths import PathRule, classify

_FORBIDDEN: Final = frozenset({"auth", "execution", "ui", "security"})
"""First segments: sessions, the API of running tasks, the UI's private API."""

_LITERAL: Final = "/%:@!$&'()*,;=+~-._"
"""Characters that stay as they are; percent-escapes of the caller stay escapes."""


def to_rest_path(path: str, prefix: str) -> str:
    """Return the path at the web server.

    Args:
        path: Relative to Airflow's stable REST API, e.g. `/dags/etl/dagRuns`. Longer than the 64
            characters of the model is accepted, as MWAA does (mwaa.md 13.4).

        prefix: Where the REST API begins, e.g. `/api/v2`.

    Raises:
        InvalidRequestError: It is not such a path; the text says why.
    """
    if not path.startswith("/") or path.startswith("//"):
        raise InvalidRequestError("Path must begin with a single '/' and be relative to Airflow's REST API.")
    if "?" in path or "#" in path:
        raise InvalidRequestError("Path must not contain '?' or '#'. Use QueryParameters for a query.")
    decoded = unquote(unquote(path))
    if "//" in decoded or "://" in decoded:
        raise InvalidRequestError("Path must not contain empty segments.")
    full = prefix + path
    first = decoded.strip("/").partition("/")[0]
    rule = classify(full)
    if rule is PathRule.MALFORMED:
        raise InvalidRequestError(
            "Path must not contain '.' or '..' segments, backslashes or control characters."
        )
    if rule is not PathRule.PASS or first in _FORBIDDEN:
        raise InvalidRequestError(f"Path must not begin with '/{first}'.")
    return quote(full, safe=_LITERAL)
