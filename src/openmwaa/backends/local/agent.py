"""The node agent: owner of this host's environments, asked over a unix socket.

It remembers what is wanted in its own files and goes on without the control plane. When it
is started again it adopts what runs.
"""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import re
from collections.abc import Callable
from typing import Any, Final

import structlog
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from openmwaa.backends.base import DagsSeen
from openmwaa.backends.local.commands import kill_leftover_commands, run_command
from openmwaa.backends.local.dag_syncs import DagSyncs
from openmwaa.backends.local.environment import Host, LocalEnvironment, Mirror
from openmwaa.environments.manifest import Manifest
from openmwaa.kit.errors import GiveUp, Retry

_log = structlog.get_logger()

_FORMER_ENDS_S: Final = 20.0
_ID: Final = re.compile(r"[a-z0-9][a-z0-9-]*")

MirrorOf = Callable[[Manifest, LocalEnvironment], Mirror]


class NodeAgent:
    """All environments of this host."""

    def __init__(self, host: Host, mirror_of: MirrorOf) -> None:
        self._host = host
        self._mirror_of = mirror_of
        self._environments: dict[str, LocalEnvironment] = {}
        self._mirrors: dict[str, tuple[Manifest, Mirror]] = {}
        self._syncs = DagSyncs(lambda: list(self._environments.values()), self._sync)

    async def start(self) -> None:
        """Go on with every environment that was wanted before.

        Raises:
            TableInUseError: Another agent owns this host's environments and does not end.
        """
        await self._host.supervisor.table.own(within_s=_FORMER_ENDS_S)
        folder = self._host.settings.layout.environments
        names = [entry.name for entry in folder.iterdir()] if folder.exists() else []
        for name in sorted(name for name in names if _ID.fullmatch(name)):
            await kill_leftover_commands(self._host.supervisor.table, name)
            try:
                self._get(name).load()
            except Exception:  # noqa: BLE001 - one broken file must not keep the others from running
                _log.exception("not_loaded", environment_id=name)

    async def keep_zygotes(self) -> None:
        """Have what components are forked from ready before it is needed, and stopped when it is not."""
        zygotes = self._host.zygotes
        for environment in list(self._environments.values()):
            if environment.manifest is not None:
                await zygotes.want(environment.manifest)
        await zygotes.sweep_for_ever()

    async def mirror_for_ever(self) -> None:
        """Keep every DAG folder up to date. A slow or broken one does not hold up the others."""
        await self._syncs.run()

    def on_object_changed(self, bucket: str, path: str) -> None:
        """Take a hint of the object store (`openmwaa.services.feed.changed_object`)."""
        self._syncs.announce(bucket, path)

    async def close(self) -> None:
        """Let go of everything; processes run on."""
        await asyncio.gather(*(one.let_go() for one in self._environments.values()))
        await self._host.supervisor.close()
        self._host.supervisor.table.disown()
        await self._host.prober.close()

    def app(self) -> Starlette:
        """Return the agent's API."""
        path = "/environments/{id:str}"
        return Starlette(
            routes=[
                Route("/health", self._health),
                Route(path, self._observe, methods=["GET"]),
                Route(path, self._ensure, methods=["PUT"]),
                Route(path, self._destroy, methods=["DELETE"]),
                Route(f"{path}/prepare", self._prepare, methods=["POST"]),
                Route(f"{path}/run", self._run, methods=["POST"]),
            ],
            exception_handlers={Retry: _on_retry, GiveUp: _on_give_up},
        )

    async def _health(self, _request: Request) -> Response:
        return JSONResponse({"status": "ok", "environments": len(self._environments)})

    async def _observe(self, request: Request) -> Response:
        observed = await self._get(request.path_params["id"]).observe()
        if not observed.exists:
            self._environments.pop(request.path_params["id"], None)
        return JSONResponse(_plain(dataclasses.asdict(observed)))

    async def _ensure(self, request: Request) -> Response:
        manifest = Manifest.from_json(await request.json())
        environment = self._get(manifest.environment_id)
        former = environment.manifest
        environment.ensure(manifest)
        if former is None or former.dags != manifest.dags:
            self._syncs.look(manifest.environment_id)
        return Response(status_code=204)

    async def _destroy(self, request: Request) -> Response:
        environment_id = request.path_params["id"]
        environment = self._get(environment_id)
        self._mirrors.pop(environment_id, None)
        await environment.destroy()
        self._environments.pop(environment_id, None)
        self._host.zygotes.forget(environment_id)
        return Response(status_code=204)

    async def _prepare(self, request: Request) -> Response:
        manifest = Manifest.from_json(await request.json())
        environment = self._get(manifest.environment_id)
        await self._host.zygotes.want(manifest)  # it loads while the rest is prepared
        await environment.prepare(manifest)
        if environment.manifest is not None and environment.manifest.dags != manifest.dags:
            # What runs still has its former DAGs; `ensure` brings the others.
            return Response(status_code=204)
        state = await environment.sync_dags(self._mirror(manifest, environment))
        if state.snapshot is None:
            raise Retry(f"the DAG folder cannot be read: {state.error}")
        return Response(status_code=204)

    async def _run(self, request: Request) -> Response:
        body = await request.json()
        manifest = Manifest.from_json(body["manifest"])
        result = await run_command(
            self._get(manifest.environment_id),
            self._host.supervisor.table,
            manifest,
            body["argv"],
            timeout_s=body["timeout_s"],
            stdin=base64.b64decode(body["stdin"]),
            # Without waiting: while it loads, the other processor is free for the command.
            forker=await self._host.zygotes.prepare(manifest, within_s=0),
        )
        return JSONResponse(
            {
                "exit_code": result.exit_code,
                "stdout": base64.b64encode(result.stdout).decode(),
                "stderr": base64.b64encode(result.stderr).decode(),
            }
        )

    async def _sync(self, environment: LocalEnvironment) -> DagsSeen | None:
        if environment.manifest is None:
            return None
        return await environment.sync_dags(self._mirror(environment.manifest, environment))

    def _mirror(self, manifest: Manifest, environment: LocalEnvironment) -> Mirror:
        known = self._mirrors.get(environment.id)
        if known is None or known[0].dags != manifest.dags:
            known = self._mirrors[environment.id] = (manifest, self._mirror_of(manifest, environment))
        return known[1]

    def _get(self, environment_id: str) -> LocalEnvironment:
        if not _ID.fullmatch(environment_id):  # it becomes part of paths
            raise GiveUp(f"{environment_id!r} cannot be an environment's id", code="BAD_ENVIRONMENT_ID")
        return self._environments.setdefault(environment_id, LocalEnvironment(self._host, environment_id))


async def _on_retry(_request: Request, error: Exception) -> Response:
    assert isinstance(error, Retry)  # noqa: S101 - registered for this class only
    return JSONResponse({"reason": error.reason, "after_s": error.after_s}, status_code=503)


async def _on_give_up(_request: Request, error: Exception) -> Response:
    assert isinstance(error, GiveUp)  # noqa: S101 - registered for this class only
    fields = ("reason", "code", "component", "evidence", "fix")
    return JSONResponse({name: getattr(error, name) for name in fields}, status_code=422)


def _plain(value: Any) -> Any:
    """Turn times into text, all the way down."""
    match value:
        case dict():
            return {key: _plain(entry) for key, entry in value.items()}
        case list() | tuple():
            return [_plain(entry) for entry in value]
        case _ if hasattr(value, "isoformat"):
            return value.isoformat()
        case _:
            return value
