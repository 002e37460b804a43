"""Layers: requirements.txt, plugins.zip and the start-up script of a user on top of a runtime.

A layer is never changed: its id is made of the runtime and the contents of the three files
(`environments.layer`), so environments with the same files share it. It is built in place under a
lock and counts only once its marker file is there; whatever a killed builder left is removed by
the next one.

Below `layers/<id>/`: `venv/` is a small virtual environment in front of the runtime's, `plugins/`
the unpacked zip file, `startup/startup.sh`, `requirements/requirements.txt`, `inputs/` the three
files as they came, `layer.json` the marker with the facts.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets
import shutil
import time
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import structlog

from openmwaa.artifacts.build_lock import build_lock, lock_if_free
from openmwaa.artifacts.build_sandbox import Build, Isolation
from openmwaa.artifacts.layer import Layer, LayerInputs, LayerProgress, LayerStage, Progress
from openmwaa.artifacts.layer_build import LayerFiles, UvLines, fill_layer, in_thread, visible_dags
from openmwaa.artifacts.layer_resolution import Resolution, resolve
from openmwaa.artifacts.plugins_zip import unpack_plugins
from openmwaa.artifacts.requirements_text import PLUGINS, Folders, parse_requirements
from openmwaa.artifacts.runtimes import Runtime
from openmwaa.artifacts.text_encoding import decode
from openmwaa.artifacts.trees import remove_tree
from openmwaa.kit.errors import GiveUp
from openmwaa.kit.files import write_atomically
from openmwaa.settings import Settings

__all__ = ["Layer", "LayerInputs", "LayerProgress", "LayerStage", "LayerStore", "Progress"]

_log = structlog.get_logger()

_MARKER: Final = "layer.json"
_SPACE_BYTES: Final = 1024**3


class _Report:
    """Passes progress on, without repeating itself, and remembers the last."""

    def __init__(self, layer: str, listener: Progress | None) -> None:
        self._listener = listener
        self.last = LayerProgress(layer, LayerStage.WAITING)

    def __call__(self, stage: LayerStage, detail: str = "") -> None:
        progress = LayerProgress(self.last.layer, stage, detail)
        if self._listener is not None and progress != self.last:
            self._listener(progress)
        self.last = progress


class LayerStore:
    """Builds layers on first use, finds them afterwards, removes those that nobody uses.

    Any number of callers and processes may use one folder at the same time.
    """

    def __init__(
        self, settings: Settings, *, first_uid: int | None = None, limit_s: float | None = None
    ) -> None:
        """Take the folders from the settings.

        Args:
            settings: Of the home.

            first_uid: Number of the services' own user, if they have one (`services.users`); the
                builders' numbers follow. None: builds run as the user that we are.

            limit_s: Longest time of a whole build, in seconds; waiting for another is not counted.
                None: as the settings say (mwaa.md 5.3).
        """
        self._settings = settings
        self._folder = settings.layout.layers
        self._builds = settings.layout.layer_builds
        self._isolation = Isolation(settings, first_uid)
        self._limit_s = settings.layer_build_timeout_s if limit_s is None else limit_s

    def locate(self, layer_id: str) -> Path:
        """Return where a layer is, or will be. No I/O."""
        return self._folder / layer_id

    def is_built(self, layer_id: str) -> bool:
        """Return whether `ensure` would have nothing to do."""
        return (self.locate(layer_id) / _MARKER).exists()

    async def use(self, layer_id: str) -> Layer | None:
        """Return a layer by its id and note that it is used; None if it is not built.

        For who knows the digests and need not fetch the files.
        """
        if not self.is_built(layer_id):
            return None
        async with build_lock(self._lock(layer_id), lambda: None):
            return self._used(layer_id)

    async def resolve(
        self,
        runtime: Runtime,
        requirements: bytes,
        plugins: Path | None = None,
        *,
        dags: Path | None = None,
        on_progress: Progress | None = None,
    ) -> Resolution:
        """Return what a requirements file adds and changes; installs nothing.

        Building from source may be needed to learn what a package requires.

        Args:
            runtime: An installed one.

            requirements: The file.

            plugins: The zip file, for lines that name files in it.

            dags: See `LayerInputs.dags`.

            on_progress: Called from the event loop; must return at once.

        Raises:
            GiveUp: As `ensure`.

            Retry: An index does not answer.
        """
        name = f"resolve-{secrets.token_hex(6)}"
        report = _Report(name, on_progress)
        self._make_folders()
        async with build_lock(self._lock(name), lambda: None) as lock_fd:
            try:
                async with self._build(name, None, runtime, lock_fd, report) as build:
                    folder = None
                    if plugins is not None:
                        folder = build.work / "plugins"
                        folder.mkdir(mode=0o755)
                        if PLUGINS in decode(requirements):
                            await in_thread(unpack_plugins, plugins, folder)
                    seen = await visible_dags(build, requirements, dags)
                    file = parse_requirements(requirements, Folders(folder, seen))
                    report(LayerStage.RESOLVING)
                    return await resolve(build, runtime, file, UvLines(report, LayerStage.RESOLVING))
            finally:
                self._lock(name).unlink(missing_ok=True)

    async def ensure(self, inputs: LayerInputs, on_progress: Progress | None = None) -> Layer:
        """Return the layer of these files, building it first if need be.

        Safe to repeat, to call at once from many tasks and processes, and to abandon at any
        await: the build is then stopped and the next call starts afresh. A failed build leaves
        nothing.

        Args:
            inputs: The runtime, installed, and the files.

            on_progress: Called from the event loop; must return at once.

        Raises:
            GiveUp: One of the files cannot be used. Codes: `REQUIREMENTS_SYNTAX`, `_UNSUPPORTED`,
                `_CONFLICT`, `_NOT_FOUND`, `_BUILD_FAILED`, `_TIMEOUT`, `LAYER_IMPORT_FAILED`,
                `LAYER_BROKEN`, `PLUGINS_INVALID`, `DISK_FULL`.

            Retry: An index does not answer.
        """
        name = await asyncio.to_thread(lambda: inputs.id)
        report = _Report(name, on_progress)
        self._make_folders()
        async with build_lock(self._lock(name), lambda: report(LayerStage.WAITING)) as lock_fd:
            if not self.is_built(name):
                await self._fill(name, inputs, report, lock_fd)
            layer = self._used(name)
        if layer is None:
            raise AssertionError(f"{name} was removed under its lock")
        report(LayerStage.DONE)
        return layer

    async def collect_garbage(self, in_use: Collection[str], *, unused_for_s: float) -> list[str]:
        """Remove layers that nobody has used for a time, and what killed builds left.

        Args:
            in_use: Ids of layers that environments have, or are getting; never removed.

            unused_for_s: Seconds since the last `ensure` or `use`.

        Returns:
            Ids of the removed layers.
        """
        self._make_folders()
        return await in_thread(self._collect, frozenset(in_use), unused_for_s)

    def _collect(self, in_use: frozenset[str], unused_for_s: float) -> list[str]:
        removed = []
        scratch = {path.name for path in self._builds.iterdir() if path.is_dir() and path.name != "cache"}
        layers = {path.name for path in self._folder.iterdir() if path.is_dir()}
        for name in sorted(scratch | layers):
            with lock_if_free(self._lock(name)) as descriptor:
                if descriptor is None:
                    continue
                remove_tree(self._builds / name)
                if name in layers and name not in in_use and self._unused_s(name) >= unused_for_s:
                    (self._folder / name / _MARKER).unlink(missing_ok=True)  # first: half a layer is none
                    remove_tree(self._folder / name)
                    self._stamp(name).unlink(missing_ok=True)
                    removed.append(name)
                if not (self._folder / name).exists():
                    self._lock(name).unlink(missing_ok=True)
        if removed:
            _log.info("layers_removed", layers=removed)
        return removed

    async def _fill(self, name: str, inputs: LayerInputs, report: _Report, lock_fd: int) -> None:
        self._require_space()
        started = time.monotonic()
        path = self.locate(name)
        await in_thread(remove_tree, path)
        path.mkdir(mode=0o755)
        path.chmod(0o755)
        files = LayerFiles(inputs.requirements, inputs.plugins, inputs.startup_script)
        try:
            async with self._build(name, path, inputs.runtime, lock_fd, report) as build:
                facts = await fill_layer(build, inputs.runtime, files, inputs.dags, report)
        except BaseException:
            await in_thread(remove_tree, path)
            raise
        facts |= {
            "id": name,
            "runtime": inputs.runtime.id,
            "airflow": inputs.runtime.version,
            "seconds": round(time.monotonic() - started, 1),
        }
        write_atomically(path / _MARKER, json.dumps(facts, indent=1), mode=0o644)
        _log.info("layer_built", layer=name, seconds=facts["seconds"], size_bytes=facts["size_bytes"])

    @asynccontextmanager
    async def _build(
        self,
        name: str,
        layer: Path | None,
        runtime: Runtime,
        lock_fd: int,
        report: _Report,
    ) -> AsyncIterator[Build]:
        """Give a build its users and folders; end and remove everything of it afterwards."""
        home = hashlib.sha256(str(self._settings.home).encode()).hexdigest()[:8]
        scratch = self._builds / name
        async with self._isolation.builder() as (uid, lock_fds):
            build = Build(
                isolation=self._isolation,
                settings=self._settings,
                scratch=scratch,
                layer=layer,
                runtime=runtime.path,
                builder=uid,
                lock_fds=(lock_fd, *lock_fds),
                marker=f"layer/{home}/{name}",
            )
            await build.clear()
            await in_thread(remove_tree, scratch)
            await in_thread(build.prepare)
            try:
                async with asyncio.timeout(self._limit_s) as limit:
                    yield build
            except TimeoutError as error:
                if not limit.expired():
                    raise
                raise GiveUp(
                    f"The layer is not ready after {self._limit_s:.0f} s and was given up while {report.last.stage}",
                    code="REQUIREMENTS_TIMEOUT",
                    component="requirements.txt",
                    evidence=report.last.detail,
                    fix="Pin exact versions, and use packages that have wheels.",
                ) from error
            finally:
                await in_thread(remove_tree, scratch)

    def _used(self, name: str) -> Layer | None:
        """Note that a layer is used. Under its lock."""
        path = self.locate(name)
        try:
            facts = json.loads((path / _MARKER).read_text())
        except FileNotFoundError:
            return None
        self._stamp(name).touch(mode=0o600)
        return Layer(name, path, facts)

    def _unused_s(self, name: str) -> float:
        for path in (self._stamp(name), self._folder / name / _MARKER, self._folder / name):
            try:
                return time.time() - path.stat().st_mtime
            except FileNotFoundError:
                continue
        return 0.0

    def _lock(self, name: str) -> Path:
        return self._builds / f".{name}.lock"

    def _stamp(self, name: str) -> Path:
        return self._builds / f".{name}.used"

    def _make_folders(self) -> None:
        for path, mode in ((self._folder, 0o711), (self._builds, 0o711)):
            path.mkdir(mode=mode, parents=True, exist_ok=True)
            path.chmod(mode)

    def _require_space(self) -> None:
        free = shutil.disk_usage(self._folder).free
        if free < _SPACE_BYTES:
            raise GiveUp(
                f"Building a layer needs {_SPACE_BYTES / 1024**3:.1f} GiB of free space",
                code="DISK_FULL",
                component="layer",
                evidence=f"{free / 1024**3:.1f} GiB free at {self._folder}",
                fix="Free space there, or choose another home directory.",
            )
