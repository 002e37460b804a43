"""One environment on this host: what is wanted of it, what runs, and the loop between the two.

It needs nobody else for that; the control plane may be away.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import time
from pathlib import Path
from typing import Final, Protocol

import structlog

from openmwaa.backends.base import DagsSeen, Observed, ReplicaSeen
from openmwaa.backends.local import broker
from openmwaa.backends.local.converge import Convergence
from openmwaa.backends.local.folders import EnvironmentFolders
from openmwaa.backends.local.host import Host
from openmwaa.backends.local.plug_in import publish_plug_in
from openmwaa.backends.local.replicas import Replica, kind_and_index, replicas_of
from openmwaa.backends.local.specs import Specs
from openmwaa.environments.manifest import Kind, Manifest
from openmwaa.kit.errors import GiveUp, Retry
from openmwaa.kit.files import write_atomically
from openmwaa.supervise import ProcessSeen
from openmwaa.supervise.identity import marked, was_forked
from openmwaa.supervise.process import StillAliveError, kill_marked, kill_user

__all__ = ["Host", "LocalEnvironment", "Mirror"]

_log = structlog.get_logger()

_ROUND_S: Final = 1.0
_BROKER_START_S: Final = 15.0
_TAIL_LINES: Final = 15
_TAIL_BYTES: Final = 16_384
_DESTROY_GRACE_S: Final = 5.0
_SYNC_ENDS_S: Final = 60.0


class Mirror(Protocol):
    """Keeps the DAG folder equal to the source bucket."""

    async def sync_once(self) -> DagsSeen:
        """Look once and return the state; errors are in it, not raised."""
        ...


class LocalEnvironment:
    """Converges one environment. All methods may be called again at any time."""

    def __init__(self, host: Host, environment_id: str) -> None:
        self.id = environment_id
        self.folders = EnvironmentFolders.of(host.settings.layout, environment_id)
        self._host = host
        self._manifest: Manifest | None = None
        self._wake = asyncio.Event()
        self._convergence = Convergence(host, environment_id, self.folders, on_change=self._wake.set)
        self._preparing = asyncio.Lock()
        self._syncing = asyncio.Lock()
        self._loop: asyncio.Task[None] | None = None
        self._dags: DagsSeen | None = None
        self._trouble = ""
        self._ended = False

    @property
    def manifest(self) -> Manifest | None:
        """The manifest that is wanted."""
        return self._manifest

    @property
    def specs(self) -> Specs:
        """How this environment's processes are run."""
        return self._convergence.specs

    def load(self) -> None:
        """Read the manifest that was wanted when the agent last ran, and go on with it."""
        try:
            text = self.folders.manifest.read_text()
        except FileNotFoundError:
            return
        self._want(Manifest.from_json(json.loads(text)))

    def ensure(self, manifest: Manifest) -> None:
        """Want a manifest, durably, and converge in the background."""
        if manifest == self._manifest and self._loop is not None:
            return
        self.folders.root.mkdir(mode=0o711, parents=True, exist_ok=True)
        write_atomically(self.folders.manifest, json.dumps(manifest.to_json(), indent=1))
        self._want(manifest)

    async def prepare(self, manifest: Manifest) -> None:
        """Make folders and start the broker, so that commands can run.

        Raises:
            GiveUp: The home's path is too long for the broker's socket.

            Retry: The broker does not answer yet.
        """
        self._ended = False
        async with self._preparing:
            isolation, folders = self._host.isolation, self.folders
            uid, gid = isolation.user(manifest.ordinal)
            await asyncio.to_thread(publish_plug_in, self._host.settings.layout)
            folders.make(uid=uid, gid=gid, dags_target=str(isolation.dags_target(folders)))
            isolation.write_host_files(folders, manifest.ordinal)
            if self._host.settings.redis_url is None:
                await self._start_broker(manifest)

    async def sync_dags(self, mirror: Mirror) -> DagsSeen:
        """Bring the DAG folder up to date once."""
        async with self._syncing:
            if self._ended:
                raise Retry("the environment is being removed")
            self._dags = await mirror.sync_once()
            return self._dags

    async def observe(self) -> Observed:
        """Return what runs now; probes are asked now."""
        isolation, manifest = self._host.isolation, self._manifest
        seen = self._convergence.seen()
        if not self.folders.root.exists() and not seen and not await asyncio.to_thread(self._has_leftovers):
            return Observed(exists=False)
        wanted = {replica.name: replica for replica in replicas_of(manifest)} if manifest else {}
        memory = await asyncio.to_thread(
            self._host.memory.of_instances, self._host.supervisor.table.marker_prefix(f"{self.id}/")
        )
        ready: dict[str, bool] = {}
        if manifest is not None:
            answers = (
                self._convergence.is_ready(manifest, replica, seen.get(name))
                for name, replica in wanted.items()
            )
            ready = dict(zip(wanted, await asyncio.gather(*answers), strict=True))
        right = all(ready[name] and seen[name].spec_hash == replica.hash for name, replica in wanted.items())
        replicas = [
            self._replica_seen(
                name, seen[name], wanted.get(name), ready.get(name, False), memory.get(name, 0)
            )
            for name in seen
            if kind_and_index(name)
        ]
        return Observed(
            exists=True,
            ready=manifest is not None and right,
            converged=manifest is not None and right and len(replicas) == len(wanted),
            replicas=tuple(sorted(replicas, key=lambda one: (one.kind, one.index))),
            dags=self._dags,
            isolation=isolation.name,
            missing_isolation=isolation.missing,
            not_forked=self._not_forked(manifest, replicas),
        )

    async def stop(self, *, grace_s: float | None = None) -> None:
        """Stop every process; the wanted manifest stays for the next start.

        Args:
            grace_s: Longest patience with one component; None: what each is due.

        Raises:
            Retry: Something cannot be killed.
        """
        await self.let_go()
        supervisor = self._host.supervisor
        names = {record.name for record in supervisor.table.list(self.id)}
        components = {name for name in names if kind_and_index(name.partition("/")[2])}
        try:
            await asyncio.gather(*(supervisor.remove(name, grace_s=grace_s) for name in components))
            for name in names - components:
                # The broker last: a worker that ends gives its tasks back through it.
                await supervisor.remove(name)
            await kill_marked(supervisor.table.marker_prefix(f"{self.id}/"))
        except StillAliveError as error:
            raise Retry(str(error)) from error

    async def destroy(self) -> None:
        """Stop everything and remove everything; returns when nothing is left.

        Raises:
            Retry: Something cannot be killed or removed now.
        """
        self._ended = True
        self._manifest = None
        self.folders.manifest.unlink(missing_ok=True)  # an agent that is started now must not start it again
        _log.info("destroying", environment_id=self.id)
        await self.stop(grace_s=_DESTROY_GRACE_S)
        _log.info("all_processes_stopped", environment_id=self.id)
        uid = self._host.isolation.owner(self.folders)
        if uid is not None:
            try:
                await kill_user(uid)  # also what threw its marker away
            except StillAliveError as error:
                raise Retry(str(error)) from error
        self._host.supervisor.table.forget_group(self.id)
        try:
            # A sync that is under way would make its folders again.
            async with asyncio.timeout(_SYNC_ENDS_S):
                await self._syncing.acquire()
        except TimeoutError as error:
            raise Retry("the DAG folder is still being synchronised") from error
        try:
            await asyncio.to_thread(shutil.rmtree, self.folders.root, ignore_errors=True)
        finally:
            self._syncing.release()
        if self.folders.root.exists():
            raise Retry(f"{self.folders.root} cannot be removed")

    async def let_go(self) -> None:
        """Stop converging; processes run on."""
        loop, self._loop = self._loop, None
        while loop is not None and not loop.done():
            loop.cancel()  # again, should what it waits for have lost the first
            await asyncio.wait((loop,), timeout=_ROUND_S)
        await self._convergence.let_go()

    def _want(self, manifest: Manifest) -> None:
        self._ended = False
        self._manifest = manifest
        self._wake.set()
        if self._loop is None or self._loop.done():
            self._loop = asyncio.create_task(self._converge_for_ever())

    async def _converge_for_ever(self) -> None:
        while True:
            self._wake.clear()
            manifest = self._manifest
            try:
                if manifest is not None:
                    await self.prepare(manifest)
                    await self._convergence.round(manifest, lambda: self._manifest is manifest)  # noqa: B023
                self._trouble = ""
            except (Retry, GiveUp, OSError, StillAliveError) as error:
                self._say(str(error))
            except Exception:  # noqa: BLE001 - a bug; the next round tries again
                _log.exception("round_failed", environment_id=self.id)
            with contextlib.suppress(TimeoutError):
                # Not `wait_for`: in Python 3.11 it loses a cancellation that comes with the event.
                async with asyncio.timeout(_ROUND_S):
                    await self._wake.wait()

    def _say(self, trouble: str) -> None:
        """Log what keeps a round from its end, once."""
        if trouble != self._trouble:
            _log.warning("not_converged", environment_id=self.id, reason=trouble)
            self._trouble = trouble

    async def _start_broker(self, manifest: Manifest) -> None:
        if not broker.socket_fits(self.folders):
            raise GiveUp(
                f"{self.folders.broker_socket} is longer than a socket's path may be",
                code="HOME_PATH_TOO_LONG",
                fix="choose a --home with a shorter path",
            )
        await self._host.supervisor.ensure(self.specs.broker(manifest), patient=True)
        deadline = time.monotonic() + _BROKER_START_S
        while not await broker.answers(self.folders):
            if time.monotonic() > deadline:
                raise Retry("the environment's broker does not answer")
            await asyncio.sleep(0.02)

    def _not_forked(self, manifest: Manifest | None, replicas: list[ReplicaSeen]) -> str:
        """Return why not every replica is forked; the first reason that is known."""
        if manifest is None or not replicas:
            return ""
        zygotes = self._host.zygotes
        if why := zygotes.why_not(manifest):
            return why
        started = [f"{one.kind}-{one.index}" for one in replicas if one.running and not one.forked]
        reasons = {name: zygotes.cold(f"{self.id}/{name}") for name in started}
        known = next((why for why in reasons.values() if why), "")
        return known or ("they were started before it was ready" if started else "")

    def _has_leftovers(self) -> bool:
        return any(marked(self._host.supervisor.table.marker_prefix(f"{self.id}/")))

    def _replica_seen(
        self, name: str, process: ProcessSeen, replica: Replica | None, ready: bool, memory: int
    ) -> ReplicaSeen:
        kind, index = kind_and_index(name) or (Kind.WORKER, 0)
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
            rss_bytes=memory,
            last_exit=process.last_exit,
            log_tail=() if ready or not process.restarts else _tail(self.folders.logs / f"{name}.log"),
            forked=process.pid is not None and was_forked(process.pid),
        )


def _tail(path: Path) -> tuple[str, ...]:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return ()
    return tuple(text.splitlines()[-_TAIL_LINES:])
