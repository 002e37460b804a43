"""A host with a node agent and an object store, nothing else: what the local backend needs."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest

from openmwaa.backends.base import Observed
from openmwaa.backends.local.backend import LocalBackend
from openmwaa.backends.local.stop import stop_all_environments
from openmwaa.environments.ids import new_environment_id
from openmwaa.environments.manifest import Component, DagSource, FileProbe, HttpProbe, Kind, Manifest
from openmwaa.kit.errors import Retry
from openmwaa.kit.keyring import LocalKeyring
from openmwaa.kit.secret import Secret
from openmwaa.services.endpoints import load_endpoints
from openmwaa.settings import Settings, load_settings
from openmwaa.supervise.identity import marked
from openmwaa.supervise.process import kill_marked
from tests.support.embedded import running_services
from tests.support.service import RUNTIMES_FOLDER, a_home, clean_environment

RUNTIME = "test"
SECRET_TEXT = "the sealed text"


@dataclass
class NodeHost:
    """One home, its agent as a real process, and a client."""

    settings: Settings
    bucket: str
    s3: Any
    agent: subprocess.Popen[bytes] | None = None
    ordinals: list[int] = field(default_factory=lambda: list(range(1, 200)))

    def __post_init__(self) -> None:
        self.backend = LocalBackend(self.settings)
        self.keyring = LocalKeyring(self.settings.layout.master_key)

    @property
    def table(self) -> str:
        """What the markers of all processes of environments begin with."""
        return f"{self.settings.layout.node_processes}:"

    async def start(self, program: tuple[str, ...] = ("-m", "openmwaa")) -> None:
        """Start the agent and wait until it answers."""
        self.launch(program)
        await self.answers()

    def launch(self, program: tuple[str, ...] = ("-m", "openmwaa")) -> None:
        log = self.settings.layout.logs / "node.log"
        with log.open("ab") as output:
            self.agent = subprocess.Popen(
                [sys.executable, "-P", *program, "--home", str(self.settings.home), "node"],
                env={
                    **clean_environment(),
                    "OPENMWAA_ISOLATION": self.settings.isolation,
                    "PARENTS_SECRET": "not for environments",
                },
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    async def answers(self) -> None:
        async def asked() -> bool:
            assert self.agent is not None
            assert self.agent.poll() is None, self.log_tail()
            with contextlib.suppress(Retry):
                await self.backend.observe("nobody")
                return True
            return False

        await eventually(asked, within_s=30, what="the agent answers")

    def kill(self) -> None:
        """Kill -9 the agent."""
        assert self.agent is not None
        self.agent.kill()
        self.agent.wait()

    def terminate(self) -> None:
        """Stop the agent in order."""
        assert self.agent is not None
        self.agent.terminate()
        assert self.agent.wait(timeout=30) == 0, self.log_tail()

    def log_tail(self) -> str:
        return (self.settings.layout.logs / "node.log").read_text()[-4000:]

    def pids(self, environment_id: str) -> set[int]:
        """Return every process of an environment, found by its marker."""
        return set(marked(f"{self.table}{environment_id}/"))

    def folder(self, environment_id: str) -> Path:
        return self.settings.layout.environments / environment_id

    def diary(self, environment_id: str) -> list[str]:
        """Return what the components wrote down."""
        path = self.folder(environment_id) / "airflow" / "diary"
        return path.read_text().splitlines() if path.exists() else []

    def put_dag(self, manifest: Manifest, name: str, text: str) -> None:
        self.s3.put_object(Bucket=self.bucket, Key=f"{manifest.dags.prefix}{name}", Body=text.encode())

    def manifest(
        self, *kinds: Kind, workers: int = 1, variables: Mapping[str, str] | None = None
    ) -> Manifest:
        """Return the manifest of a new environment with these components; default: one of each kind."""
        environment_id = new_environment_id()
        ordinal = self.ordinals.pop(0)
        place = self.backend.place(environment_id, ordinal, RUNTIME)
        script = str(place.runtime_path / "components.py")
        python = ("python", "-P", script)
        known = [
            Component(Kind.SCHEDULER, 1, (*python, "idle", "scheduler"), stop_grace_s=10),
            Component(
                Kind.WEBSERVER,
                1,
                (*python, "web", "{address}", "{port}"),
                probe=HttpProbe("/health"),
                port=8080,
                stop_grace_s=10,
            ),
            Component(
                Kind.WORKER,
                workers,
                (*python, "worker", "{index}"),
                probe=FileProbe("run/worker-{index}.ready", 5.0),
                stop_grace_s=30,
                variables={"ONLY_WORKERS": "yes"},
                secrets={"WORKER_SECRET": self.seal(environment_id, "WORKER_SECRET", "for workers")},
            ),
        ]
        prefix = f"{environment_id}/dags/"
        self.s3.put_object(Bucket=self.bucket, Key=f"{prefix}first.py", Body=b"# first\n")
        return Manifest(
            environment_id=environment_id,
            ordinal=ordinal,
            runtime=RUNTIME,
            variables={
                "AIRFLOW_HOME": str(place.airflow_home),
                "HOME": str(place.airflow_home),
                "PATH": f"{place.runtime_path}/bin:/usr/bin:/bin",
                "PYTHONPATH": str(place.plug_in_path),
                "PLAIN": "plain text",
                **(variables or {}),
            },
            secrets={"SEALED": self.seal(environment_id, "SEALED", SECRET_TEXT)},
            components=tuple(one for one in known if not kinds or one.kind in kinds),
            dags=DagSource(self.bucket, prefix),
        )

    def seal(self, environment_id: str, name: str, text: str) -> str:
        return self.keyring.seal(Secret(text), context=f"environment/{environment_id}/{name}")

    async def converged(self, manifest: Manifest, *, within_s: float = 30) -> Observed:
        """Wait until an environment runs as wanted."""
        last: list[Observed] = []

        async def asked() -> bool:
            last[:] = [await self.backend.observe(manifest.environment_id)]
            return last[0].converged

        try:
            await eventually(asked, within_s=within_s, what="converged")
        except AssertionError as error:
            raise AssertionError(f"{error}; {last}; {self.log_tail()}") from error
        return last[0]

    async def running(self, manifest: Manifest) -> Observed:
        """Start an environment and wait until it runs as wanted."""
        await self.backend.prepare(manifest)
        await self.backend.ensure(manifest)
        return await self.converged(manifest)


def pids_by_name(seen: Observed) -> dict[str, int]:
    """Return the pid of each replica that runs."""
    return {f"{one.kind}-{one.index}": one.pid for one in seen.replicas if one.pid}


def changed(manifest: Manifest, **variables: str) -> Manifest:
    """Return the manifest with other variables: every replica must be replaced."""
    return dataclasses.replace(manifest, variables={**manifest.variables, **variables})


def scaled(manifest: Manifest, workers: int) -> Manifest:
    """Return the manifest with another number of workers."""
    parts = (
        dataclasses.replace(one, replicas=workers) if one.kind is Kind.WORKER else one
        for one in manifest.components
    )
    return dataclasses.replace(manifest, components=tuple(parts))


async def eventually(condition: Callable[[], Any], *, within_s: float, what: str) -> None:
    """Wait for a condition, also an asynchronous one."""
    deadline = time.monotonic() + within_s
    while True:
        value = condition()
        if asyncio.iscoroutine(value):
            value = await value
        if value:
            return
        assert time.monotonic() < deadline, f"{what}: not within {within_s:.0f} s"
        await asyncio.sleep(0.05)


@asynccontextmanager
async def a_node_host(port_base: int, *, isolation: str = "auto") -> AsyncIterator[NodeHost]:
    """Start a host; at the end nothing of it is left."""
    with pytest.MonkeyPatch.context() as patch, a_home() as home:
        patch.delenv(RUNTIMES_FOLDER, raising=False)  # what stands in for Airflow is nobody else's
        (home / "openmwaa.toml").write_text(f'isolation = "{isolation}"\n')
        async with running_services(home, port_base, ["seaweedfs"]):
            layout = load_settings(home=home).layout
            layout.port_base_file.write_text(str(port_base))
            settings = load_settings(home=home)
            _make_runtime(layout.runtimes / RUNTIME)
            endpoints = load_endpoints(settings)
            s3 = boto3.client(
                "s3",
                endpoint_url=endpoints.s3_url,
                aws_access_key_id=endpoints.s3_access_key_id,
                aws_secret_access_key=endpoints.s3_secret_access_key.reveal(),
                region_name=endpoints.region,
            )
            bucket = f"airflow-{secrets.token_hex(4)}"
            s3.create_bucket(Bucket=bucket)
            s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
            host = NodeHost(settings, bucket, s3)
            try:
                await host.start()
                yield host
            finally:
                if host.agent is not None and host.agent.poll() is None:
                    host.agent.terminate()
                    try:
                        host.agent.wait(timeout=20)
                    except subprocess.TimeoutExpired:
                        host.kill()
                await stop_all_environments(settings, grace_s=0.5)
                await kill_marked(host.table)
                await host.backend.close()
                s3.close()


def _make_runtime(folder: Path) -> None:
    """Make what stands in for an Airflow runtime: a Python, and the script of the components."""
    (folder / "bin").mkdir(parents=True)
    for parent in (folder.parent, folder, folder / "bin"):
        parent.chmod(0o755)
    (folder / "bin" / "python").symlink_to(os.path.realpath(sys.executable))
    script = folder / "components.py"
    shutil.copyfile(Path(__file__).with_name("components.py"), script)
    script.chmod(0o644)
