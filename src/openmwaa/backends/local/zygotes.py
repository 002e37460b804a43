"""The preloaded processes of this host, which components and commands are forked from: "zygotes".

One for each runtime, or rather for each `Manifest.preload`, and beside it a smaller one for workers.
They are an optimisation: whatever is wrong with one, components are started as programs. What was forked does not
need it any more.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import structlog

from openmwaa.backends.local.isolation import Isolation
from openmwaa.backends.local.replicas import base_variables, interpreter_folder, resolve
from openmwaa.environments.manifest import Manifest, Preload
from openmwaa.kit.errors import Retry
from openmwaa.settings import Settings
from openmwaa.supervise import ProcessSpec, Supervisor
from openmwaa.supervise.forking import CannotForkError, Command, ForkedChild, fork
from openmwaa.supervise.identity import boot_id
from openmwaa.supervise.process import StillAliveError
from openmwaa.supervise.sandbox import LAUNCHER

_log = structlog.get_logger()

GROUP: Final = "_zygotes"
"""First part of the names of their processes; no environment's id begins so."""

_READY_WITHIN_S: Final = 30.0
"""Longest time that a component waits for a preloaded process that was just started; it takes 5 to 15 s."""

_TRIES: Final = 3
"""A runtime that cannot be preloaded is not tried again until the agent is restarted."""

_POLL_S: Final = 0.1
_UNUSED_S: Final = 1200.0
_OLDEST_S: Final = 24 * 3600.0
"""All children of one share its seed of hashes and its addresses in memory: not for ever."""

_SWEEP_EVERY_S: Final = 60.0
_LONGEST_SOCKET: Final = 107
_OF_WORKERS: Final = ".work"
"""Suffix of the socket of the smaller one; `openmwaa_airflow.zygote.__main__` makes it."""


@dataclass
class _Zygote:
    """One that is wanted.

    Attributes:
        used_at: When an environment last asked for it, on the monotonic clock.

        started_at: When it was last started by us, likewise.

        was_ready: It has been ready at least once.
    """

    spec: ProcessSpec
    socket: Path
    used_at: float
    started_at: float
    was_ready: bool = False
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Zygotes:
    """Starts them when they are needed, stops them when they are not."""

    def __init__(self, settings: Settings, supervisor: Supervisor, isolation: Isolation) -> None:
        self._settings = settings
        self._supervisor = supervisor
        self._isolation = isolation
        self._folder = settings.layout.run / "zygotes"
        self._known: dict[str, _Zygote] = {}
        self._children: dict[str, ForkedChild | str] = {}
        self._changed: dict[str, str] = {}
        self._given_up: set[str] = set()

    def why_not(self, manifest: Manifest) -> str:
        """Return why the processes of an environment are started as programs; empty: they are forked."""
        if self._settings.zygote == "off":
            return "it is switched off in the settings"
        if manifest.preload is None:
            return "this version of Airflow is not preloaded"
        if not self._isolation.separate_users:
            return "without mounts of its own an environment's home has another path"
        return self._why_not_this_one(manifest)

    def _why_not_this_one(self, manifest: Manifest) -> str:
        if key_of(manifest) in self._given_up:
            return f"preloading failed; see {self._log_of(manifest)}"
        if len(str(self._socket(key_of(manifest)))) > _LONGEST_SOCKET:
            return "the path of the home directory is too long for a socket"
        if changed := self._changed_packages(manifest):
            return f"requirements.txt changes packages of the runtime ({changed})"
        return ""

    def cold(self, name: str) -> str:
        """Return why a process became a program although it was to be forked; empty if that is not known."""
        child = self._children.get(name)
        if isinstance(child, ForkedChild):
            child.look()
            return child.cold
        return child or ""

    def forget(self, environment_id: str) -> None:
        """Forget what is known of the processes of an environment that is gone."""
        for name in [name for name in self._children if name.startswith(f"{environment_id}/")]:
            del self._children[name]

    async def prepare(
        self, manifest: Manifest, *, for_worker: bool = False, within_s: float = _READY_WITHIN_S
    ) -> ZygoteForker | None:
        """Return what forks an environment's processes, once it can; None: they are started as programs.

        Args:
            manifest: What runs.

            for_worker: What forks its workers.

            within_s: How long to wait for a preloaded process that is not ready.
        """
        zygote = await self.want(manifest)
        if zygote is None:
            return None
        deadline = time.monotonic() + within_s
        while not zygote.socket.exists():
            if time.monotonic() > deadline or self._has_failed(zygote):
                break
            await asyncio.sleep(_POLL_S)
        return self.forker(manifest, for_worker=for_worker) if zygote.socket.exists() else None

    async def want(self, manifest: Manifest) -> _Zygote | None:
        """Have the preloaded process of an environment started, if it can have one."""
        if self.why_not(manifest):
            return None
        key = key_of(manifest)
        zygote = self._known.get(key)
        if zygote is None:
            spec = self._spec(key, manifest)
            zygote = self._known[key] = _Zygote(spec, self._socket(key), time.monotonic(), time.monotonic())
        zygote.used_at = time.monotonic()
        async with zygote.lock:
            if not self._supervisor.keeps(zygote.spec.name, zygote.spec.identity_hash):
                await self._start(key, zygote.spec)
            if await self._gives_up(key, zygote):
                return None
        return zygote

    def forker(self, manifest: Manifest, *, for_worker: bool = False) -> ZygoteForker | None:
        """Return what forks an environment's processes; None: they are started as programs."""
        if self.why_not(manifest):
            return None
        return ZygoteForker(self._socket(key_of(manifest)), self._children, for_worker=for_worker)

    async def sweep_for_ever(self) -> None:
        """Stop those that nobody uses, and make old ones anew."""
        while True:
            await asyncio.sleep(_SWEEP_EVERY_S)
            try:
                await self._sweep()
            except Exception:  # noqa: BLE001 - a bug; the next round tries again
                _log.exception("zygotes_not_swept")

    async def _start(self, key: str, spec: ProcessSpec) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._home(key).mkdir(mode=0o755, exist_ok=True)
        record = self._supervisor.table.read(spec.name)
        if record is None or record.identity is None or not record.identity.is_alive:
            self._socket(key).unlink(missing_ok=True)  # of a former one: it means "ready"
        try:
            await self._supervisor.ensure(spec, patient=True)
        except (OSError, StillAliveError) as error:
            _log.warning("zygote_not_started", name=spec.name, reason=str(error))

    async def _gives_up(self, key: str, zygote: _Zygote) -> bool:
        """Return whether it cannot be had: it has ended again and again before it was ready."""
        zygote.was_ready = zygote.was_ready or zygote.socket.exists()
        seen = self._supervisor.observe().get(zygote.spec.name)
        if zygote.was_ready or seen is None or seen.restarts < _TRIES:
            return False
        _log.error("zygote_given_up", name=zygote.spec.name, last_exit=seen.last_exit)
        self._given_up.add(key)
        await self._stop(zygote.spec.name)
        self._known.pop(key, None)
        return True

    async def _sweep(self) -> None:
        now = time.monotonic()
        for key, zygote in list(self._known.items()):
            if now - zygote.used_at > _UNUSED_S or now - zygote.started_at > _OLDEST_S:
                async with zygote.lock:
                    await self._stop(zygote.spec.name)
                    self._known.pop(key, None)
        # What an earlier agent left, made for another release or for runtimes that nobody uses.
        for record in self._supervisor.unwanted():
            if record.name.startswith(f"{GROUP}/"):
                await self._stop(record.name)

    async def _stop(self, name: str) -> None:
        key = name.partition("/")[2]
        self._socket(key).unlink(missing_ok=True)
        try:
            await self._supervisor.remove(name)
        except StillAliveError as error:
            raise Retry(str(error)) from error
        await asyncio.to_thread(shutil.rmtree, self._home(key), ignore_errors=True)
        _log.info("zygote_stopped", name=name)

    def _has_failed(self, zygote: _Zygote) -> bool:
        """Return whether it has ended since it was started: it would end again."""
        seen = self._supervisor.observe().get(zygote.spec.name)
        return seen is None or (seen.pid is None and seen.restarts > 0)

    def _changed_packages(self, manifest: Manifest) -> str:
        """Return the names of packages that a layer has in another version than the runtime."""
        layer = manifest.layer
        if layer is None:
            return ""
        if layer not in self._changed:  # a layer is never changed
            try:
                facts = json.loads((self._settings.layout.layers / layer / "layer.json").read_text())
            except (OSError, ValueError):
                return "which ones is not known"
            names = sorted(facts.get("changed", {}))
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            self._changed[layer] = ", ".join(names[:3]) + more
        return self._changed[layer]

    def _spec(self, key: str, manifest: Manifest) -> ProcessSpec:
        preload = manifest.preload
        assert preload is not None  # noqa: S101 - `why_not` has looked
        runtime = interpreter_folder(self._settings.layout, manifest.runtime, None)
        program, *arguments = preload.argv
        return ProcessSpec(
            name=f"{GROUP}/{key}",
            argv=(
                resolve(program, runtime),
                *arguments,
                str(self._socket(key)),
                str(self._home(key)),
                str(LAUNCHER),
            ),
            env={**base_variables({}), **preload.variables},
            cwd=Path("/"),
            log_path=self._log_of(manifest),
            stop_grace_s=2.0,
            fingerprint=key,
        )

    def _log_of(self, manifest: Manifest) -> Path:
        return self._settings.layout.logs / f"zygote-{manifest.runtime}.log"

    def _socket(self, key: str) -> Path:
        return self._folder / f"{key}.sock"

    def _home(self, key: str) -> Path:
        return self._folder / f"{key}.home"


class ZygoteForker:
    """Forks from one preloaded process; `Forker` of `openmwaa.supervise`."""

    def __init__(
        self, socket: Path, children: dict[str, ForkedChild | str], *, for_worker: bool = False
    ) -> None:
        """Fork through a socket.

        Args:
            socket: Of the preloaded process.

            children: Gets each child by its name, or why it was not forked.

            for_worker: From the smaller one, if it has one: one that was started by an earlier release has none.
        """
        self._socket = socket
        self._children = children
        self._for_worker = for_worker

    def fork(self, name: str, command: Command, stdio: tuple[int, int, int]) -> ForkedChild | None:
        """Fork; None if that is not possible now."""
        of_workers = self._socket.with_suffix(_OF_WORKERS)
        socket = of_workers if self._for_worker and of_workers.exists() else self._socket
        try:
            child = fork(socket, command, stdio)
        except CannotForkError as error:
            _log.warning("not_forked", name=name, reason=str(error))
            self._note(name, str(error))
            return None
        self._note(name, child)
        return child

    def _note(self, name: str, child: ForkedChild | str) -> None:
        if name:  # a command has none
            self._children[name] = child


def key_of(manifest: Manifest) -> str:
    """Return what tells preloaded processes from each other: runtime, variables, our own code, this boot."""
    preload = manifest.preload or Preload((), {})
    content = json.dumps([manifest.runtime, preload.argv, sorted(preload.variables.items()), boot_id()])
    digest = hashlib.sha256(content.encode() + LAUNCHER.read_bytes())
    return digest.hexdigest()[:12]
