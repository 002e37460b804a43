"""Client of the operator's socket: what AWS has no call for."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import httpx

from openmwaa.cli.errors import CommandFailed, ServiceDown
from openmwaa.settings import Settings

_TIMEOUT = httpx.Timeout(30, read=660)  # Airflow commands may take ten minutes


class Operator:
    """Asks the control plane of one home."""

    def __init__(self, settings: Settings) -> None:
        self._socket = settings.layout.operator_socket
        # A connection costs nothing here, and one kept open would outlive a restart of the control plane.
        limits = httpx.Limits(max_keepalive_connections=0)
        transport = httpx.HTTPTransport(uds=str(self._socket), limits=limits)
        self._http = httpx.Client(transport=transport, base_url="http://operator", timeout=_TIMEOUT)

    def answers(self) -> bool:
        """Return whether the control plane runs."""
        try:
            return self._http.get("/runtimes").is_success
        except httpx.HTTPError:
            return False

    def get(self, path: str, **query: Any) -> Any:
        """Ask for something.

        Raises:
            CommandFailed: The answer is an error.
        """
        return self._send("GET", path, params=query)

    def post(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Have something done; errors as in `get`."""
        return self._send("POST", path, json=dict(body or {}))

    def stream(self, path: str, body: Mapping[str, Any] | None = None) -> Iterator[dict[str, Any]]:
        """Have something done and yield each line of the answer as it comes; errors as in `get`."""
        try:
            with self._http.stream("POST", path, json=dict(body or {})) as answer:
                if not answer.is_success:
                    answer.read()
                    raise _failure(answer)
                for line in answer.iter_lines():
                    value = json.loads(line)
                    if "code" in value:
                        raise CommandFailed(f"{value['code']}: {value['message']}")
                    yield value
        except httpx.TimeoutException:
            raise
        except httpx.TransportError as error:
            raise ServiceDown(str(self._socket)) from error

    def _send(self, method: str, path: str, **arguments: Any) -> Any:
        try:
            answer = self._http.request(method, path, **arguments)
        except httpx.TimeoutException:
            raise
        except httpx.TransportError as error:
            raise ServiceDown(str(self._socket)) from error
        if not answer.is_success:
            raise _failure(answer)
        return answer.json()


def _failure(answer: httpx.Response) -> CommandFailed:
    try:
        error = answer.json()
        return CommandFailed(f"{error['code']}: {error['message']}")
    except (ValueError, KeyError, TypeError):
        return CommandFailed(f"The service answered {answer.status_code}.")
