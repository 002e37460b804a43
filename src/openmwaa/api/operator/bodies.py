"""Reading the bodies of the operator's requests."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request

from openmwaa.api.errors import ServiceError


async def read_body(request: Request) -> dict[str, Any]:
    """Return the JSON object in a body; a body without anything is an empty one.

    Raises:
        ServiceError: It is something else.
    """
    try:
        body = await request.json() if await request.body() else {}
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise ServiceError("SerializationException", "The body must be a JSON object.")
    return body
