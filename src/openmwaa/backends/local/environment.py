"""One environment on this host: from the manifest that is wanted to the processes that run.

Level-triggered: each round compares what should run with what runs and takes the next steps.
It needs nobody else for that; the control plane may be away.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import structlog

from openmwaa.backends.base import DagsSeen, Observed, ReplicaSeen
from openmwaa.backends.local import broker
from openmwaa.backends.local.folders import EnvironmentFolders
from openmwaa.backends.local.isolation import Isolation
from openmwaa.backends.local.plug_in import publish_plug_in
from openmwaa.backends.local.probes import Prober
from openmwaa.backends.local.replicas import Replica, base_variables, kind_and_index, replicas_of
from openmwaa.environments.manifest import Kind, Manifest
from openmwaa.kit.errors import GiveUp, Retry
from openmwaa.kit.files import write_atomically
from openmwaa.kit.keyring import Keyring
from openmwaa.settings import Settings
from openmwaa.supervise import ProcessSeen, ProcessSpec, Sandbox, Supervisor
from openmwaa.supervise.process import kill_marked

_log = structlog.get_logger()

_ROUND_S: Final = 1.0
_READY_POLL_S: Final = 0.2
_BROKER_START_S: Final = 15.0
_TAIL_LINES: Final = 15
_TAIL_BYTES: Final = 16_384
_WORKER_DESTROY_GRACE_S: Final = 5.0


class Mirror(Protocol):
    """Keeps the DAG folder equal to the source bucket."""

    async def sync_once(self) -> DagsSeen:
        """Look once and return the state; errors are in it, not raised."""
        ...


@dataclass(frozen=True)
class Host:
    """What all environments of this host share."""

    settings: Settings
    keyring: Keyring
    supervisor: Supervisor
    isolation: Isolation
    prober: Prober
    variables: Mapping[str, str]


class LocalEnvironment:
    """Converges one environment. All methods may be called again at any time."""

    def __init__(self, host: Host, environment_id: str) -> None:
        self.id = environment_id
        self.folders = EnvironmentFolders.of(host.settings.layout, environment_id)
        self._host = host
        self._manifest: Manifest | None = None
        self._wake = asyncio.Event()
        self._turn = asyncio.Lock()
        self._loop: asyncio.Task[None] | None = None
        self._dags: DagsSeen | None = None
        self._ready: dict[str, bool] = {}

    @property
    def manifest(self) -> Manifest | None:
        """The manifest that is wanted."""
        return self._manifest

    def load(self) -> None:
        """Read the manifest that was wanted when the agent last ran, and go on with it."""
        try:
            text = self.folders.manifest.read_text()
        except FileNotFoundError:
            return
        self._want(Manifest.from_json(json.loads(text)))

    def ensure(self, manifest: Manifest) -> None:
        """Want a manifest, durably, and converge in the background."""
        self.folders.root.mkdir(mode=0o711, parents=True, exist_ok=True)
        write_atomically(self.folders.manifest, json.dumps(manifest.to_json(), indent=1))
        self._want(manifest)

    async def prepare(self, manifest: Manifest) -> None:
        """Make folders and start the broker, so that commands can run.

        Raises:
            GiveUp: The home's path is too long for the broker's socket.

            Retry: The broker does not answer yet.
        """
        isolation, folders = self._host.isolation, self.folders
        uid, gid = isolation.user(manifest.ordinal)
        await asyncio.to_thread(publish_plug_in, self._host.settings.layout)
        folders.make(uid=uid, gid=gid, dags_target=str(isolation.dags_target(folders)))
        isolation.write_host_files(folders, manifest.ordinal)
        if self._host.settings.redis_url is not None:
            return
        if not broker.socket_fits(folders):
            raise GiveUp(
                f"{folders.broker_socket} is longer than a socket's path may be",
                code="HOME_PATH_TOO_LONG",
                fix="choose a --home with a shorter path",
            )
        await self._host.supervisor.ensure(self._broker_spec(manifest))
        deadline = time.monotonic() + _BROKER_START_S
        while not await broker.answers(folders):
            if time.monotonic() > deadline:
                raise Retry("the environment's broker does not answer")
            await asyncio.sleep(0.02)

    async def sync_dags(self, mirror: Mirror) -> DagsSeen:
        """Bring the DAG folder up to date once."""
        self._dags = await mirror.sync_once()
        return self._dags

    async def observe(self) -> Observed:
        """Return what runs now; probes are asked now."""
        isolation = self._host.isolation
        if not self.folders.root.exists() and not self._running():
            return Observed(exists=False)
        wanted = {replica.name: replica for replica in replicas_of(self._manifest)} if self._manifest else {}
        running = self._running()
        names = [name for name in running if kind_and_index(name)]
        ready = await asyncio.gather(*(self._is_ready(wanted[name]) for name in names if name in wanted))
        self._ready = dict(zip((name for name in names if name in wanted), ready, strict=True))
        seen = [self._seen(name, running[name], wanted.get(name)) for name in names]
        right = all(
            name in running and running[name].spec_hash == replica.hash and self._ready.get(name, False)
            for name, replica in wanted.items()
        )
        return Observed(
            exists=True,
            converged=self._manifest is not None and right and set(names) == set(wanted),
            replicas=tuple(sorted(seen, key=lambda one: (one.kind, one.index))),
            dags=self._dags,
            isolation=isolation.name,
            missing_isolation=isolation.missing,
        )

    def sandbox(self, manifest: Manifest) -> Sandbox | None:
        """Return the sandbox of this environment's processes."""
        layout = self._host.settings.layout
        programs = (layout.runtimes, layout.plug_in, broker.valkey_binary())
        return self._host.isolation.sandbox(self.folders, manifest.ordinal, programs=programs)

    def variables(self, manifest: Manifest, replica: Replica | None = None) -> dict[str, str]:
        """Return the complete environment of a process, secrets opened."""
        component = replica.component if replica else None
        sealed = {**manifest.secrets, **(component.secrets if component else {})}
        opened = {
            name: self._host.keyring.open(text, context=f"environment/{self.id}/{name}").reveal()
            for name, text in sealed.items()
        }
        plain = {**manifest.variables, **(component.variables if component else {})}
        return {**base_variables(self._host.variables), **plain, **opened}

    def working_folder(self) -> Path:
        """Return where processes start, as they see it."""
        return self._host.isolation.airflow_home(self.folders)

    def runtime(self, manifest: Manifest) -> Path:
        """Return the runtime's virtual environment."""
        return self._host.settings.layout.runtimes / manifest.runtime

    async def stop(self, *, grace_s: float | None = None) -> None:
        """Stop every process; the wanted manifest stays for the next start.

        Args:
            grace_s: Longest patience with one component; None: what each is due.
        """
        await self.let_go()
        names = [record.name for record in self._host.supervisor.table.list() if self._owns(record.name)]
        components = [name for name in names if kind_and_index(name.partition("/")[2])]
        await asyncio.gather(*(self._host.supervisor.remove(name, grace_s=grace_s) for name in components))
        for name in names:
            await self._host.supervisor.remove(name)
        await kill_marked(self._host.supervisor.table.marker_prefix(f"{self.id}/"))

    async def destroy(self) -> None:
        """Stop everything and remove everything; returns when nothing is left."""
        self._manifest = None
        self.folders.manifest.unlink(missing_ok=True)
        await self.stop(grace_s=_WORKER_DESTROY_GRACE_S)
        await asyncio.to_thread(shutil.rmtree, self.folders.root, ignore_errors=True)
        if self.folders.root.exists():
            raise Retry(f"{self.folders.root} cannot be removed")

    async def let_go(self) -> None:
        """Stop converging; processes run on."""
        if self._loop is not None:
            self._loop.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._loop
            self._loop = None

    def _want(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self._wake.set()
        if self._loop is None or self._loop.done():
            self._loop = asyncio.create_task(self._converge_for_ever())

    async def _converge_for_ever(self) -> None:
        while True:
            self._wake.clear()
            try:
                if self._manifest is not None:
                    await self._converge(self._manifest)
            except (Retry, GiveUp) as error:
                _log.warning("not_converged", environment_id=self.id, reason=str(error))
            except OSError as error:
                _log.warning("not_converged", environment_id=self.id, reason=str(error))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), _ROUND_S)

    async def _converge(self, manifest: Manifest) -> None:
        """Take the steps that are due; replacing stops early when another manifest is wanted."""
        await self.prepare(manifest)
        wanted = replicas_of(manifest)
        names = {replica.name for replica in wanted}
        running = self._running()
        surplus = sorted(
            (name for name in running if kind_and_index(name) and name not in names), reverse=True
        )
        await asyncio.gather(*(self._host.supervisor.remove(f"{self.id}/{name}") for name in surplus))
        # Adopting and first starts do not wait for one another.
        known = {record.name: record.spec_hash for record in self._host.supervisor.table.list()}
        for replica in wanted:
            recorded = known.get(f"{self.id}/{replica.name}")
            if recorded is None or (replica.name not in running and recorded == replica.hash):
                await self._host.supervisor.ensure(self._spec(manifest, replica))
        for replica in wanted:
            if self._manifest is not manifest:
                return
            seen = self._running().get(replica.name)
            if seen is None or seen.spec_hash != replica.hash:
                await self._host.supervisor.ensure(self._spec(manifest, replica))
                if not await self._wait_until_ready(manifest, replica):
                    return

    async def _wait_until_ready(self, manifest: Manifest, replica: Replica) -> bool:
        """Wait before the next one is replaced; false when it must not be."""
        deadline = time.monotonic() + replica.component.start_timeout_s
        while time.monotonic() < deadline and self._manifest is manifest:
            seen = self._running().get(replica.name)
            if seen is not None and seen.pid is not None and await self._is_ready(replica):
                return True
            await asyncio.sleep(_READY_POLL_S)
        return False

    async def _is_ready(self, replica: Replica) -> bool:
        seen = self._running().get(replica.name)
        if seen is None or seen.pid is None:
            return False
        assert self._manifest is not None  # noqa: S101 - there is a replica, so there is a manifest
        return await self._host.prober.is_ready(
            replica.component.probe,
            index=replica.index,
            home=self.folders.airflow_home,
            address=str(self._host.settings.ports.address(self._manifest.ordinal)),
            port=replica.port,
        )

    def _running(self) -> dict[str, ProcessSeen]:
        """Return what the supervisor keeps for this environment, by name within it."""
        return {
            name.partition("/")[2]: seen
            for name, seen in self._host.supervisor.observe().items()
            if self._owns(name)
        }

    def _owns(self, name: str) -> bool:
        return name.startswith(f"{self.id}/")

    def _spec(self, manifest: Manifest, replica: Replica) -> ProcessSpec:
        component = replica.component
        address = str(self._host.settings.ports.address(manifest.ordinal))
        return ProcessSpec(
            name=f"{self.id}/{replica.name}",
            argv=replica.argv(address=address, runtime=self.runtime(manifest)),
            env=self.variables(manifest, replica),
            cwd=self.working_folder(),
            log_path=self.folders.logs / f"{replica.name}.log",
            stop_signal=component.stop_signal,
            stop_grace_s=component.stop_grace_s,
            sandbox=self.sandbox(manifest),
            fingerprint=replica.hash,
        )

    def _broker_spec(self, manifest: Manifest) -> ProcessSpec:
        home = self.working_folder()
        return ProcessSpec(
            name=f"{self.id}/{broker.BROKER}",
            argv=broker.broker_argv(home),
            env={**base_variables(self._host.variables), "PATH": "/usr/bin:/bin", "HOME": str(home)},
            cwd=home,
            log_path=self.folders.logs / "broker.log",
            sandbox=self.sandbox(manifest),
        )

    def _seen(self, name: str, process: ProcessSeen, replica: Replica | None) -> ReplicaSeen:
        kind, index = kind_and_index(name) or (Kind.WORKER, 0)
        ready = self._ready.get(name, False)
        return ReplicaSeen(
            kind=kind,
            index=index,
            hash=process.spec_hash,
            running=process.pid is not None,
            ready=ready,
            since=process.since,
            restarts=process.restarts,
            port=replica.port if replica else None,
            pid=process.pid,
            last_exit=process.last_exit,
            log_tail=() if ready or not process.restarts else _tail(self.folders.logs / f"{name}.log"),
        )


def _tail(path: Path) -> tuple[str, ...]:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return ()
    return tuple(text.splitlines()[-_TAIL_LINES:])
