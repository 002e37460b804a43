"""InvokeRestApi: one call of Airflow's REST API as the caller's Airflow user (mwaa.md 8.4)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import httpx

from openmwaa.airflow.versions import airflow_version
from openmwaa.environments.record import EnvironmentRecord
from openmwaa.gateway.context import Upstreams
from openmwaa.gateway.rate import RateLimiter
from openmwaa.gateway.rest_paths import to_rest_path
from openmwaa.gateway.tokens import TokenKind, Tokens
from openmwaa.gateway.upstreams import choose
from openmwaa.identity.principals import Principal
from openmwaa.kit.errors import Retry

_PER_S: Final = 10
_TIMEOUT_S: Final = 10.0
_LARGEST_ANSWER: Final = 6 * 1024 * 1024


@dataclass(frozen=True)
class RestAnswer:
    """`RestApiStatusCode` and `RestApiResponse`.

    `body` is the JSON value that Airflow answered; `{}` for an empty answer; an object with the
    member `content` for text that is not JSON.
    """

    status: int
    body: Any


class GatewayRestInvoker:
    """Calls web servers directly, with an identity minted for each call."""

    def __init__(
        self,
        tokens: Tokens,
        upstreams: Upstreams,
        *,
        per_s: int = _PER_S,
        timeout_s: float = _TIMEOUT_S,
        largest_answer: int = _LARGEST_ANSWER,
    ) -> None:
        self._tokens = tokens
        self._upstreams = upstreams
        self._limiter = RateLimiter(per_s)
        self._timeout_s = timeout_s
        self._largest_answer = largest_answer
        self._client = httpx.AsyncClient(
            timeout=None,  # noqa: S113 - a deadline over the whole call replaces it
            follow_redirects=False,
            trust_env=False,  # a proxy variable must not see identities
            # No kept connections: a web server closes them first, and a POST would be lost in between.
            limits=httpx.Limits(max_connections=100, max_keepalive_connections=0),
        )

    async def close(self) -> None:
        """Close open connections."""
        await self._client.aclose()

    async def invoke(
        self,
        record: EnvironmentRecord,
        principal: Principal,
        airflow_role: str,
        *,
        path: str,
        method: str,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
    ) -> RestAnswer:
        """Make one call.

        Limits: 10 calls a second per environment (429), 10 seconds (504), answers of 6 MiB (502).

        Args:
            record: The environment.

            principal: Who calls.

            airflow_role: With which Airflow role.

            path: Relative to `/api/v1` or `/api/v2`.

            method: GET, PUT, POST, PATCH or DELETE.

            query: Lists become repeated parameters; None values are left out.

            body: JSON value; an empty one is not sent with GET and DELETE, as MWAA's own hook
                always passes an object.

        Raises:
            InvalidRequestError: The path is not one of the REST API.

            Retry: No web server is ready.
        """
        version = airflow_version(record.spec.airflow_version)
        target = to_rest_path(path, version.rest_prefix)
        if not self._limiter.admit(record.id):
            return _problem(429, "Too Many Requests", f"More than {_PER_S} calls a second.")
        upstreams = await self._upstreams(record)
        if not upstreams:
            raise Retry("no web server of the environment is ready")
        user = principal.airflow_identity
        identity = self._tokens.mint(TokenKind.IDENTITY, record.id, subject=user, roles=(airflow_role,))
        headers = {"Accept": "application/json", "X-Openmwaa-Identity": identity}
        if version.generation >= 3:
            headers["Authorization"] = f"Bearer {identity}"
        content = None
        if body or (body is not None and method in {"POST", "PUT", "PATCH"}):
            headers["Content-Type"] = "application/json"
            content = json.dumps(body).encode()
        request = self._client.build_request(
            method,
            httpx.URL(f"http://{choose(upstreams, user)}").copy_with(raw_path=_with_query(target, query)),
            headers=headers,
            content=content,
        )
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._send(request)
        except TimeoutError:
            return _problem(504, "Gateway Timeout", f"No answer within {self._timeout_s:.0f} seconds.")
        except httpx.HTTPError:
            return _problem(502, "Bad Gateway", "The web server did not answer.")

    async def _send(self, request: httpx.Request) -> RestAnswer:
        response = await self._client.send(request, stream=True)
        try:
            content = bytearray()
            async for chunk in response.aiter_bytes():
                content += chunk
                if len(content) > self._largest_answer:
                    return _problem(
                        502, "Bad Gateway", f"The answer is larger than {self._largest_answer} bytes."
                    )
        finally:
            await response.aclose()
        return RestAnswer(response.status_code, _to_value(bytes(content)))


def _with_query(path: str, query: Mapping[str, Any] | None) -> bytes:
    pairs: list[tuple[str, str | int | float | bool | None]] = []
    for name, value in (query or {}).items():
        values = value if isinstance(value, list) else [value]
        pairs += [(name, _to_text(entry)) for entry in values if entry is not None]
    encoded = str(httpx.QueryParams(pairs))
    return (f"{path}?{encoded}" if encoded else path).encode("ascii")


def _to_text(value: Any) -> str:
    """Spell a JSON value as in a URL: `true`, `3`, `text`; objects as JSON."""
    return value if isinstance(value, str) else json.dumps(value)


def _to_value(content: bytes) -> Any:
    if not content.strip():
        return {}
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return {"content": content.decode(errors="replace")}


def _problem(status: int, title: str, detail: str) -> RestAnswer:
    return RestAnswer(status, {"detail": detail, "status": status, "title": title})
