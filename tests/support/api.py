"""The API on a loopback port, over a real store, with the gateway's real token issuer and REST client."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, TypeVar

import boto3
import uvicorn
from botocore.config import Config
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from openmwaa.airflow.components import Surroundings, build_manifest
from openmwaa.airflow.versions import VERSIONS
from openmwaa.api import ApiContext, create_api
from openmwaa.environments.errors import InvalidRequestError
from openmwaa.environments.layer import layer_of
from openmwaa.environments.manifest import Manifest, Placement
from openmwaa.environments.record import EnvironmentRecord, LastUpdate, UpdateError
from openmwaa.environments.requests import Limits
from openmwaa.environments.spec import EnvironmentSpec, S3File
from openmwaa.gateway import GatewayRestInvoker, GatewayTokenIssuer, Tokens, load_gateway_key
from openmwaa.identity.principals import ensure_administrator, new_access_key
from openmwaa.kit.keyring import LocalKeyring
from openmwaa.kit.secret import Secret
from openmwaa.settings import Settings
from openmwaa.store import Store
from openmwaa.store.keys import AccessKey
from openmwaa.store.leases import Outcome
from tests.support.eventually import eventually
from tests.support.ports import free_port

T = TypeVar("T")
PLACEMENT = Placement(
    address=IPv4Address("127.0.0.5"),
    airflow_home=Path("/h"),
    dags_folder=Path("/d"),
    broker_url="redis+socket:///b",
    runtime_path=Path("/r"),
    plug_in_path=Path("/p"),
    plugins_folder=Path("/h/plugins"),
    startup_script=Path("/h/startup/startup.sh"),
)
BUCKET = "airflow-tests"
REQUEST: Mapping[str, Any] = {
    "ExecutionRoleArn": "arn:aws:iam::000000000000:role/airflow-execution",
    "SourceBucketArn": f"arn:aws:s3:::{BUCKET}",
    "DagS3Path": "dags",
    "NetworkConfiguration": {
        "SubnetIds": ["subnet-0000000000000000a", "subnet-0000000000000000b"],
        "SecurityGroupIds": ["sg-0000000000000000a"],
    },
}
"""CreateEnvironment's required members, except Name."""


class OneBucket:
    """A preflight that knows one good bucket and one without versioning."""

    async def check(self, bucket: str, prefix: str) -> None:
        if bucket == "airflow-unversioned":
            raise InvalidRequestError(
                f"Invalid request provided: Versioning is not enabled for s3 bucket {bucket}"
            )
        if bucket != BUCKET:
            raise InvalidRequestError(
                "Invalid request provided: Provided role does not have sufficient permissions for s3 location"
                f" {bucket}/{prefix}"
            )

    async def pin(self, bucket: str, path: str, version: str | None, *, max_bytes: int) -> S3File:
        if version == "gone":
            raise InvalidRequestError(f"Unable to access version {version} of {bucket}/{path}")
        return S3File(path, version or "newest", hashlib.sha256(path.encode()).hexdigest(), 10)

    async def host(self, record: EnvironmentRecord | None, wanted: EnvironmentSpec) -> None:
        pass


def a_manifest(record: EnvironmentRecord, spec: EnvironmentSpec) -> Manifest:
    """Return what would run, on a host that is not there."""
    return build_manifest(
        spec,
        environment_id=record.id,
        ordinal=record.ordinal,
        runtime=spec.runtime_id or spec.airflow_version,
        layer=layer_of(spec),
        placement=PLACEMENT,
        secrets={},
        surroundings=Surroundings(
            "https://127.0.0.5", "PEM", "http://127.0.0.1:1", "us-east-1", "000000000000"
        ),
    )


@dataclass
class Clock:
    """The time as the API sees it."""

    offset: timedelta = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.offset


@dataclass
class ApiServer:
    """A running API and its store."""

    port: int
    settings: Settings
    admin: AccessKey
    clock: Clock
    store: Store
    loop: asyncio.AbstractEventLoop
    server_url: Secret
    upstream_requests: list[dict[str, Any]] = field(default_factory=list)
    clients: dict[Any, Any] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the server's event loop, where the store lives."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(timeout=30)

    def client(self, service: str = "mwaa", key: AccessKey | None = None, **config: Any) -> Any:
        """Return a boto3 client. It neither retries nor, as `aws-env` arranges, adds host prefixes."""
        key = key or self.admin
        config.setdefault("region_name", self.settings.region)
        wanted = (service, key.id, key.secret, *sorted(config.items()))
        if wanted not in self.clients:  # making one takes longer than using it
            self.clients[wanted] = boto3.Session(
                aws_access_key_id=key.id, aws_secret_access_key=key.secret.reveal()
            ).client(
                service,
                endpoint_url=self.url,
                config=Config(inject_host_prefix=False, retries={"total_max_attempts": 1}, **config),
            )
        return self.clients[wanted]

    def principal(self, policy: Mapping[str, Any], arn: str | None = None) -> AccessKey:
        """Store a key of a principal with this policy."""
        key = new_access_key(arn or f"arn:aws:iam::{self.settings.account_id}:user/someone", policy)
        self.run(self.store.access_keys.put(key))
        return key

    def create(self, name: str, **members: Any) -> str:
        """Create an environment; returns its ARN."""
        return str(self.client().create_environment(Name=name, **{**REQUEST, **members})["Arn"])

    def environment(self, name: str) -> dict[str, Any]:
        answer: dict[str, Any] = self.client().get_environment(Name=name)["Environment"]
        return answer

    def names(self) -> list[str]:
        return [record.name for record in self.run(self.store.environments.list(limit=1000))]

    def reconciled(self, name: str, *, failed: bool = False, deleted: bool = False) -> None:
        """Write what the reconciler writes when the work on an environment has ended."""

        async def finish() -> None:
            record = await self.store.environments.get(name)
            while leased := await self.store.leases.take_due("test", timedelta(seconds=5)):
                lease, found = leased
                if found.name != name:
                    await self.store.leases.finish(lease, found, Outcome(next_in=timedelta(seconds=1)))
                    continue
                error = UpdateError("INCORRECT_CONFIGURATION", "Something is wrong.") if failed else None
                update = LastUpdate(
                    "FAILED" if failed else "SUCCESS",
                    record.last_update.created_at,
                    record.last_update.source,
                    error,
                    record.last_update.worker_replacement_strategy,
                )
                outcome = Outcome(
                    next_in=timedelta(hours=1),
                    observed=not failed and not deleted,
                    failed=failed,
                    deleted=deleted,
                    last_update=update,
                )
                await self.store.leases.finish(lease, found, outcome)
                return
            raise AssertionError(f"{name} was not due")

        self.run(finish())

    def available(self, name: str, **members: Any) -> None:
        """Create an environment and let it become AVAILABLE."""
        self.create(name, **members)
        self.reconciled(name)

    def clear(self) -> None:
        """Forget all environments and what the clock was moved by."""
        self.clock.offset = timedelta()
        self.upstream_requests.clear()
        self.run(self.store.database.all("TRUNCATE environments, events"))


@contextmanager
def an_api(database: Secret, home: Path) -> Iterator[ApiServer]:
    """Serve the API in a thread until the end of the block."""
    port, upstream_port = free_port(), free_port()
    server_url = Secret(database.reveal().rpartition("/")[0] + "/postgres")
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="api")
    thread.start()

    def run(work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, loop).result(timeout=60)

    settings = Settings(home=home, port_base=24000)
    (home / "keys").mkdir(parents=True)
    keyring = LocalKeyring(settings.layout.master_key)
    servers: list[tuple[uvicorn.Server, Any]] = []
    store = run(Store.open(database, keyring))
    tokens = Tokens(run(load_gateway_key(store.keys)))

    async def upstreams(_: EnvironmentRecord) -> list[str]:
        return [f"127.0.0.1:{upstream_port}"]

    rest = GatewayRestInvoker(tokens, upstreams)
    try:
        admin = run(ensure_administrator(store, settings))
        issuer = GatewayTokenIssuer(settings, tokens)
        server = ApiServer(port, settings, admin, Clock(), store, loop, server_url)
        context = ApiContext(
            settings=settings,
            store=store,
            keyring=keyring,
            preflight=OneBucket(),
            tokens=issuer,
            rest=rest,
            web_host=issuer.hostname,
            limits=Limits(list(VERSIONS)),
            manifest=a_manifest,
            clock=server.clock,
        )
        for app, at in ((create_api(context), port), (_airflow(server.upstream_requests), upstream_port)):
            config = uvicorn.Config(app, port=at, log_config=None, access_log=False, lifespan="off")
            uv = uvicorn.Server(config)
            servers.append((uv, asyncio.run_coroutine_threadsafe(uv.serve(), loop)))
        eventually(lambda: all(uv.started for uv, _ in servers), within_s=10, what="servers listen")
        yield server
    finally:
        for uv, serving in servers:
            uv.should_exit = True
            serving.result(timeout=30)
        run(rest.close())
        run(store.close())
        loop.call_soon_threadsafe(loop.stop)
        thread.join(timeout=30)
        loop.close()


def _airflow(seen: list[dict[str, Any]]) -> Starlette:
    """Return a small REST API at Airflow's paths that answers in every way Airflow does."""

    async def answer(request: Request) -> Response:
        body = await request.body()
        seen.append(
            {
                "method": request.method,
                "path": request.url.path,
                "query": request.query_params.multi_items(),
                "body": body.decode(),
                "identity": request.headers.get("x-openmwaa-identity"),
            }
        )
        _, _, rest = request.url.path.partition("/dags")
        answers: dict[str, Callable[[], Awaitable[Response]]] = {
            "/missing": lambda: _json({"detail": "not found", "status": 404}, 404),
            "/broken": lambda: _json({"detail": "broken"}, 500),
            "/gone": _nothing,
        }
        return await answers.get(rest, lambda: _json({"dags": [], "total_entries": 0}, 200))()

    async def _json(body: Any, status: int) -> Response:
        return JSONResponse(body, status)

    async def _nothing() -> Response:
        return Response(status_code=204)

    methods = ["GET", "POST", "PUT", "PATCH", "DELETE"]
    return Starlette(routes=[Route("/{path:path}", answer, methods=methods)])


def changed(key: AccessKey, **changes: Any) -> AccessKey:
    """Return a key with other values."""
    return dataclasses.replace(key, **changes)
