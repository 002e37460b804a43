"""The gateway behind a real Caddy, on a real store, in front of a small real web server.

Everything is as in the service but Airflow itself.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import ssl
import subprocess
import sys
import sysconfig
import tempfile
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from psycopg.types.json import Jsonb

from openmwaa.backends.base import CommandResult
from openmwaa.environments.ids import new_environment_id
from openmwaa.environments.record import EnvironmentRecord
from openmwaa.gateway import (
    EnvironmentDirectory,
    GatewayContext,
    GatewayKey,
    GatewayRestInvoker,
    GatewayTokenIssuer,
    Tokens,
    create_gateway,
    load_gateway_key,
)
from openmwaa.gateway.hosts import hostname_of
from openmwaa.identity.principals import Principal
from openmwaa.kit.keyring import LocalKeyring
from openmwaa.kit.secret import Secret
from openmwaa.kit.unix_server import serve_unix
from openmwaa.services.caddy_config import build_config, root_certificate
from openmwaa.settings import Settings
from openmwaa.store import Store
from tests.support.echo_server import Echo, echo_server
from tests.support.eventually import eventually
from tests.support.postgres import a_postgres
from tests.support.specs import a_spec, an_arn

ALICE = Principal(arn="arn:aws:iam::000000000000:user/alice", policy={}, access_key_id="AKIAALICE")
_WEB_PORT = 18080

_COMMAND = """
import json, os, pathlib, sys, time
if sys.argv[1:3] == ["variables", "get"]:
    pathlib.Path(sys.argv[3] + ".started").touch()
    while not pathlib.Path(sys.argv[3]).exists():
        time.sleep(0.02)
print(json.dumps(sys.argv[1:]))
print("to stderr", file=sys.stderr)
sys.exit(3 if sys.argv[1:3] == ["variables", "delete"] else 0)
"""


@dataclass
class GatewayStack:
    """What tests use."""

    settings: Settings
    store: Store
    key: GatewayKey
    tokens: Tokens
    issuer: GatewayTokenIssuer
    rest: GatewayRestInvoker
    loop: asyncio.AbstractEventLoop
    webs: dict[str, list[Echo]] = field(default_factory=dict)
    records: dict[str, EnvironmentRecord] = field(default_factory=dict)

    def wait(self, coroutine: Coroutine[Any, Any, Any], timeout_s: float = 30) -> Any:
        """Run a coroutine in the gateway's own loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(timeout_s)

    def url(self, name: str, path: str = "") -> str:
        return f"https://{self.host(name)}{path}"

    def host(self, name: str) -> str:
        return hostname_of(self.settings, self.records[name])

    def client(self, **options: Any) -> httpx.Client:
        """A client that trusts the stack's authority. It keeps cookies only if told to."""
        context = ssl.create_default_context(cafile=root_certificate(self.settings))
        return httpx.Client(verify=context, trust_env=False, timeout=20, **options)

    def web_token(self, name: str, role: str = "Admin") -> str:
        token, host = self.wait(self.issuer.web_token(self.records[name], ALICE, role))
        assert host == self.host(name)
        return str(token)

    def cli_token(self, name: str) -> str:
        token, host = self.wait(self.issuer.cli_token(self.records[name], ALICE))
        assert host == self.host(name)
        return str(token)

    def seen(self, name: str) -> list[dict[str, Any]]:
        """Requests that reached the web servers of an environment."""
        return [request for web in self.webs[name] for request in web.seen]

    def add(self, name: str, version: str, *, available: bool = True, webs: int = 1) -> EnvironmentRecord:
        """Accept an environment, mark it as seen healthy and start its web servers."""

        async def create() -> EnvironmentRecord:
            spec = a_spec(name, airflow_version=version)
            record = await self.store.environments.create(
                new_environment_id(), spec, arn=an_arn(name), tags={}, secrets={}, quota=50
            )
            if available:
                await self.store.database.all(
                    "UPDATE environments SET observed_generation = 1, good_spec = %s WHERE id = %s",
                    (Jsonb(spec.to_json()), record.id),
                )
            return await self.store.environments.get(name)

        record: EnvironmentRecord = self.wait(create())
        self.records[name] = record
        return record


@contextmanager
def gateway_stack(
    port_base: int, environments: Mapping[str, tuple[str, bool, int]], *, domain: str | None = None
) -> Iterator[GatewayStack]:
    """Run everything.

    Args:
        port_base: First port.

        environments: Airflow version, whether it is AVAILABLE, number of web servers, by name.

        domain: Serve environments at host names below it as well.
    """
    home = Path(tempfile.mkdtemp(prefix="openmwaa-gw-"))
    settings = Settings().model_copy(update={"home": home, "port_base": port_base, "domain": domain})
    settings.layout.run.mkdir()
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, home, ignore_errors=True)
        url = stack.enter_context(a_postgres())
        running = stack.enter_context(_gateway(settings, url))
        for name, (version, available, webs) in environments.items():
            record = running.add(name, version, available=available)
            address = str(settings.ports.address(record.ordinal))
            running.webs[record.name] = [
                stack.enter_context(echo_server(address, _WEB_PORT + index)) for index in range(webs)
            ]
        stack.enter_context(_caddy(settings))
        yield running


@contextmanager
def _gateway(settings: Settings, url: Secret) -> Iterator[GatewayStack]:
    """Serve the gateway in a loop of its own thread."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    def wait(coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result(60)

    stop = asyncio.Event()
    store: Store = wait(Store.open(url, LocalKeyring(settings.layout.master_key)))
    key: GatewayKey = wait(load_gateway_key(store.keys))
    tokens = Tokens(key)
    webs: dict[str, list[Echo]] = {}

    async def upstreams(record: EnvironmentRecord) -> Sequence[str]:
        return [web.upstream for web in webs.get(record.name, [])]

    async def build() -> GatewayRestInvoker:
        return GatewayRestInvoker(tokens, upstreams, timeout_s=1.5)

    rest = wait(build())
    context = GatewayContext(
        settings=settings,
        directory=EnvironmentDirectory(settings, store.environments),
        tokens=tokens,
        upstreams=upstreams,
        run_airflow=_run_command,
        cli_timeout_s=20,
    )
    serving = asyncio.run_coroutine_threadsafe(
        serve_unix({settings.layout.gateway_socket: create_gateway(context)}, stop), loop
    )
    try:
        yield GatewayStack(
            settings, store, key, tokens, GatewayTokenIssuer(settings, tokens), rest, loop, webs
        )
    finally:
        loop.call_soon_threadsafe(stop.set)
        serving.result(20)
        wait(rest.close())
        wait(store.close())
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


async def _run_command(
    record: EnvironmentRecord, arguments: Sequence[str], timeout_s: float
) -> CommandResult:
    """Run a real process in place of `airflow`."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        _COMMAND,
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        stdout, stderr = await asyncio.wait_for(process.communicate(), timeout_s)
    except TimeoutError:
        process.kill()
        await process.wait()
        return CommandResult(124, b"", b"")
    return CommandResult(process.returncode or 0, stdout, stderr)


@contextmanager
def _caddy(settings: Settings) -> Iterator[None]:
    folder = settings.layout.services / "caddy"
    folder.mkdir(parents=True)
    config = folder / "caddy.json"
    config.write_text(json.dumps(build_config(settings)))
    caddy = Path(sysconfig.get_path("scripts")) / "caddy"
    with (folder / "caddy.log").open("wb") as log:
        process = subprocess.Popen(
            [caddy, "run", "--config", str(config)],
            cwd=folder,
            env={"PATH": "/usr/bin:/bin", "HOME": str(folder)},
            stdout=log,
            stderr=log,
        )
    try:
        try:
            eventually(_answers(settings), within_s=60, what="Caddy", errors=(OSError, httpx.HTTPError))
        except AssertionError as error:
            error.add_note((folder / "caddy.log").read_text()[-2000:])
            raise
        yield
    finally:
        process.terminate()
        process.wait(10)


def _answers(settings: Settings) -> Callable[[], bool]:
    """Ask at an address and, if there is a domain, at a name: certificates are made one after the other."""
    hosts = [(str(settings.ports.address(1)), None)]
    if settings.domain:
        hosts.append(("127.0.0.1", f"anything.{settings.domain}"))

    def probe() -> bool:
        context = ssl.create_default_context(cafile=root_certificate(settings))
        with httpx.Client(verify=context, trust_env=False) as client:
            return all(
                client.get(
                    f"https://{address}:{settings.ports.https}/_openmwaa/health",
                    headers={"Host": name or address},
                    extensions={"sni_hostname": name or address},
                ).is_success
                for address, name in hosts
            )

    return probe
