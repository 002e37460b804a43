"""The local backend as the control plane sees it: a client of the node agent."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from urllib.parse import urlsplit

import httpx

from openmwaa.backends.base import CommandResult, DagsSeen, Observed, ReplicaSeen
from openmwaa.backends.local.folders import EnvironmentFolders
from openmwaa.backends.local.isolation import Isolation
from openmwaa.backends.local.plug_in import plug_in_path, publish_plug_in
from openmwaa.backends.local.replicas import interpreter_folder
from openmwaa.environments.manifest import Kind, Manifest, Placement
from openmwaa.kit.errors import GiveUp, Retry
from openmwaa.settings import Settings

_TIMEOUT_S: Final = 30.0
_PREPARE_TIMEOUT_S: Final = 120.0
_DESTROY_TIMEOUT_S: Final = 180.0
_MARGIN_S: Final = 30.0


def without_password(url: str) -> str:
    """Return an address that may be shown: who has the secret one gets it sealed."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    return parts._replace(netloc=f"{host}:{parts.port}" if parts.port else host).geturl()


class LocalBackend:
    """Implements `Backend` on this host."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._isolation = Isolation(settings)
        self._client = httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(uds=str(settings.layout.node_socket)),
            base_url="http://node",
            timeout=_TIMEOUT_S,
        )

    async def close(self) -> None:
        """Close connections."""
        await self._client.aclose()

    def place(self, environment_id: str, ordinal: int, runtime: str, layer: str | None = None) -> Placement:
        """Return where this environment lives. Pure."""
        layout = self._settings.layout
        folders = EnvironmentFolders.of(layout, environment_id)
        home = self._isolation.airflow_home(folders)
        redis = self._settings.redis_url
        own_broker = f"redis+socket://{home / 'run' / 'broker.sock'}?virtual_host=0"
        return Placement(
            address=self._settings.ports.address(ordinal),
            airflow_home=home,
            dags_folder=home / "dags",
            broker_url=without_password(redis.get_secret_value()) if redis else own_broker,
            runtime_path=interpreter_folder(layout, runtime, layer),
            plug_in_path=plug_in_path(layout),
            plugins_folder=self._isolation.layer_folder(layout, folders, layer, "plugins"),
            startup_script=self._isolation.layer_folder(layout, folders, layer, "startup") / "startup.sh",
        )

    async def observe(self, environment_id: str) -> Observed:
        """Ask the agent."""
        answer = await self._call("GET", f"/environments/{environment_id}")
        return _to_observed(answer.json())

    async def prepare(self, manifest: Manifest) -> None:
        """Make folders, user, broker and the first DAG snapshot."""
        # Ours, not the agent's: after an upgrade the agent may still run the release before.
        await asyncio.to_thread(publish_plug_in, self._settings.layout)
        path = f"/environments/{manifest.environment_id}/prepare"
        await self._call("POST", path, json=manifest.to_json(), timeout_s=_PREPARE_TIMEOUT_S)

    async def ensure(self, manifest: Manifest) -> None:
        """Hand over the manifest."""
        await self._call("PUT", f"/environments/{manifest.environment_id}", json=manifest.to_json())

    async def run(
        self, manifest: Manifest, argv: Sequence[str], *, timeout_s: float, stdin: bytes = b""
    ) -> CommandResult:
        """Run one command and wait for it."""
        answer = await self._call(
            "POST",
            f"/environments/{manifest.environment_id}/run",
            json={
                "manifest": manifest.to_json(),
                "argv": list(argv),
                "timeout_s": timeout_s,
                "stdin": base64.b64encode(stdin).decode(),
            },
            timeout_s=timeout_s + _MARGIN_S,
        )
        result = answer.json()
        return CommandResult(
            result["exit_code"], base64.b64decode(result["stdout"]), base64.b64decode(result["stderr"])
        )

    async def destroy(self, environment_id: str) -> None:
        """Stop and remove everything."""
        await self._call("DELETE", f"/environments/{environment_id}", timeout_s=_DESTROY_TIMEOUT_S)

    async def _call(
        self, method: str, path: str, *, json: Any = None, timeout_s: float = _TIMEOUT_S
    ) -> httpx.Response:
        try:
            answer = await self._client.request(method, path, json=json, timeout=timeout_s)
        except httpx.HTTPError as error:
            raise Retry(f"the node agent does not answer ({type(error).__name__})") from error
        if answer.status_code == 503:
            said = answer.json()
            raise Retry(said["reason"], after_s=said["after_s"])
        if answer.status_code == 422:
            said = answer.json()
            raise GiveUp(said.pop("reason"), **said)
        if answer.is_error:
            raise Retry(f"the node agent answered {answer.status_code}")
        return answer


def _to_observed(data: Mapping[str, Any]) -> Observed:
    dags = data["dags"]
    return Observed(
        **{
            **data,
            "replicas": tuple(
                ReplicaSeen(
                    **{
                        **one,
                        "kind": Kind(one["kind"]),
                        "since": datetime.fromisoformat(one["since"]),
                        "log_tail": tuple(one["log_tail"]),
                    }
                )
                for one in data["replicas"]
            ),
            "dags": DagsSeen(**{**dags, "synced_at": _time(dags["synced_at"])}) if dags else None,
            "missing_isolation": tuple(data["missing_isolation"]),
        }
    )


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
