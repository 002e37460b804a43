"""The only place where implementations are chosen and connected."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from starlette.types import ASGIApp

from openmwaa.airflow.components import Surroundings
from openmwaa.airflow.version_changes import allowed_change
from openmwaa.airflow.versions import VERSIONS
from openmwaa.api import ApiContext, create_api
from openmwaa.api.operator import LogFolders, OperatorContext, create_operator
from openmwaa.artifacts.dag_mirror import DagMirror
from openmwaa.artifacts.environment_layers import EnvironmentLayers
from openmwaa.artifacts.installer import RuntimeInstaller
from openmwaa.artifacts.layers import LayerStore
from openmwaa.artifacts.runtimes import RuntimeStore
from openmwaa.artifacts.snapshot_bucket import ObjectStreams
from openmwaa.artifacts.source_bucket import S3Access, SourceBucket
from openmwaa.backends.base import CommandResult, DagsSeen
from openmwaa.backends.local.agent import NodeAgent
from openmwaa.backends.local.backend import LocalBackend
from openmwaa.backends.local.environment import Host, LocalEnvironment
from openmwaa.backends.local.folders import EnvironmentFolders
from openmwaa.backends.local.isolation import Isolation
from openmwaa.backends.local.probes import Prober
from openmwaa.backends.local.zygotes import Zygotes
from openmwaa.environments.manifest import Manifest
from openmwaa.environments.record import EnvironmentRecord
from openmwaa.environments.requests import Limits
from openmwaa.gateway import (
    EnvironmentDirectory,
    GatewayContext,
    GatewayRestInvoker,
    GatewayTokenIssuer,
    ReadyUpstreams,
    Tokens,
    create_gateway,
    load_gateway_key,
)
from openmwaa.identity.principals import ensure_administrator
from openmwaa.kit.keyring import LocalKeyring
from openmwaa.kit.secret import Secret
from openmwaa.reconcile.act import Actor
from openmwaa.reconcile.housekeeping import Housekeeping
from openmwaa.reconcile.loop import Reconciler
from openmwaa.reconcile.parts import Parts
from openmwaa.reconcile.preflight import Preflight
from openmwaa.reconcile.preview import Previewer
from openmwaa.services.endpoints import ServiceEndpoints, load_endpoints
from openmwaa.services.postgres_tools import PostgresTools
from openmwaa.services.s3_accounts import S3Accounts
from openmwaa.services.users import service_user
from openmwaa.settings import Settings
from openmwaa.snapshots.desk import SnapshotDesk
from openmwaa.snapshots.loop import SnapshotLoop
from openmwaa.snapshots.reader import SnapshotReader
from openmwaa.snapshots.restorer import GenerationRestorer, SnapshotSource
from openmwaa.snapshots.writer import SnapshotWriter
from openmwaa.store import Store
from openmwaa.store.database_server import DatabaseServer
from openmwaa.supervise import ProcessTable, Supervisor


@dataclass(frozen=True)
class ControlPlane:
    """What `openmwaa control` runs: three applications and three loops."""

    api: ASGIApp
    gateway: ASGIApp
    operator: ASGIApp
    reconciler: Reconciler
    housekeeping: Housekeeping
    snapshots: SnapshotLoop


@asynccontextmanager
async def control_plane(settings: Settings) -> AsyncIterator[ControlPlane]:
    """Build the control plane; close what it opened at the end.

    Raises:
        StoreUnavailableError: PostgreSQL did not answer in time.
    """
    endpoints = load_endpoints(settings)
    keyring = LocalKeyring(settings.layout.master_key)
    store = await Store.open(endpoints.postgres_url, keyring)
    backend = LocalBackend(settings)
    try:
        await ensure_administrator(store, settings)
        key = await load_gateway_key(store.keys)
        tokens = Tokens(key)
        issuer = GatewayTokenIssuer(settings, tokens)
        runtimes = RuntimeInstaller(RuntimeStore(settings, _locks()))
        source = SourceBucket(_s3_access(endpoints))
        limits = Limits(
            tuple(VERSIONS),
            max_workers=settings.max_workers,
            runtime_of=lambda version: runtimes.locate(version).id,
            change_refused=allowed_change,
        )
        user = service_user(settings)
        inputs = settings.layout.run / "inputs"
        shutil.rmtree(inputs, ignore_errors=True)  # of a control plane that was killed while it built
        layer_store = LayerStore(settings, first_uid=user.uid if user.switch else None)
        layers = EnvironmentLayers(
            layer_store,
            runtimes,
            source,
            scratch=inputs,
            dags_of=lambda record: _dags(settings, record),
        )

        streams, tools = ObjectStreams(_s3_access(endpoints)), PostgresTools()
        reader = SnapshotReader(store=store, keyring=keyring, streams=streams, tools=tools)
        writer = SnapshotWriter(
            store=store,
            keyring=keyring,
            streams=streams,
            tools=tools,
            dag_folder=lambda record: _dags(settings, record),
            runtime_id=lambda spec: spec.runtime_id,
        )

        def surroundings(record: EnvironmentRecord) -> Surroundings:
            return Surroundings(
                web_url=f"https://{issuer.hostname(record)}",
                gateway_public_key=key.public_pem,
                s3_endpoint_url=endpoints.s3_url,
                region=settings.region,
                account_id=settings.account_id,
            )

        parts = Parts(
            store=store,
            keyring=keyring,
            backend=backend,
            runtimes=runtimes,
            layers=layers,
            accounts=S3Accounts(endpoints),
            snapshots=SnapshotSource(reader),
            surroundings=surroundings,
            shared_broker=(Secret(settings.redis_url.get_secret_value()) if settings.redis_url else None),
        )
        actor = Actor(parts)
        preflight = Preflight(settings, parts, source, DatabaseServer(store.database))
        desk = SnapshotDesk(
            store=store,
            reader=reader,
            restorer=GenerationRestorer(settings, store, keyring, limits.runtime_of, preflight.host),
            versions=tuple(VERSIONS),
        )

        async def run_airflow(
            record: EnvironmentRecord, argv: Sequence[str], timeout_s: float
        ) -> CommandResult:
            return await actor.run_airflow(record, argv, timeout_s=timeout_s)

        upstreams = ReadyUpstreams(
            backend.observe, lambda record: str(settings.ports.address(record.ordinal))
        )
        rest = GatewayRestInvoker(tokens, upstreams)
        try:
            yield ControlPlane(
                api=create_api(
                    ApiContext(
                        settings=settings,
                        store=store,
                        keyring=keyring,
                        preflight=preflight,
                        tokens=issuer,
                        rest=rest,
                        web_host=issuer.hostname,
                        limits=limits,
                        manifest=parts.manifest,
                    )
                ),
                gateway=create_gateway(
                    GatewayContext(
                        settings=settings,
                        directory=EnvironmentDirectory(settings, store.environments),
                        tokens=tokens,
                        upstreams=upstreams,
                        run_airflow=run_airflow,
                    )
                ),
                operator=create_operator(
                    OperatorContext(
                        store=store,
                        runtimes=runtimes,
                        limits=limits,
                        preflight=preflight,
                        preview=Previewer(parts).preview,
                        web_host=issuer.hostname,
                        observe=actor.observe,
                        manifest=parts.manifest,
                        run_airflow=run_airflow,
                        log_folders=lambda record: _log_folders(settings, record),
                        snapshots=desk,
                    )
                ),
                reconciler=Reconciler(store, actor, holder=_holder(settings)),
                snapshots=SnapshotLoop(store, writer, holder=_holder(settings)),
                housekeeping=Housekeeping(
                    parts, layer_store, keep_layers=timedelta(days=settings.keep_layers_days)
                ),
            )
        finally:
            await rest.close()
    finally:
        await backend.close()
        await store.close()


@asynccontextmanager
async def node_agent(settings: Settings) -> AsyncIterator[NodeAgent]:
    """Build the node agent; at the end it lets go of what runs, and that goes on."""
    source = SourceBucket(_s3_access(load_endpoints(settings)))
    isolation = Isolation(settings)
    supervisor = Supervisor(ProcessTable(settings.layout.node_processes))
    host = Host(
        settings=settings,
        keyring=LocalKeyring(settings.layout.master_key),
        supervisor=supervisor,
        isolation=isolation,
        prober=Prober(),
        zygotes=Zygotes(settings, supervisor, isolation),
        variables=dict(os.environ),
    )

    def mirror_of(manifest: Manifest, environment: LocalEnvironment) -> _Mirror:
        group = isolation.user(manifest.ordinal)[1] if isolation.separate_users else None
        dags = manifest.dags
        return _Mirror(DagMirror(source, dags.bucket, dags.prefix, environment.folders.mirror, group=group))

    agent = NodeAgent(host, mirror_of)
    try:
        yield agent
    finally:
        await agent.close()


class _Mirror:
    """A DAG mirror as the local backend sees it."""

    def __init__(self, mirror: DagMirror) -> None:
        self._mirror = mirror

    async def sync_once(self) -> DagsSeen:
        state = await self._mirror.sync()
        return DagsSeen(state.snapshot, state.files, state.synced_at, state.error)


def _dags(settings: Settings, record: EnvironmentRecord) -> Path | None:
    """Return the latest copy of an environment's DAG folder on this host; None: there is none yet."""
    folder = EnvironmentFolders.of(settings.layout, record.id).mirror / "dags"
    return folder.resolve() if folder.exists() else None


def _locks() -> dict[str, Path]:
    return {name: version.lock for name, version in VERSIONS.items()}


def _s3_access(endpoints: ServiceEndpoints) -> S3Access:
    return S3Access(
        url=endpoints.s3_url,
        access_key_id=endpoints.s3_access_key_id,
        secret_access_key=endpoints.s3_secret_access_key,
        region=endpoints.region,
    )


def _log_folders(settings: Settings, record: EnvironmentRecord) -> LogFolders:
    folders = EnvironmentFolders.of(settings.layout, record.id)
    return LogFolders(components=folders.logs, tasks=folders.airflow_home / "logs")


def _holder(settings: Settings) -> str:
    """Return the name under which this host's control plane holds leases, also after a restart."""
    return f"{socket.gethostname()}:{settings.home}"
