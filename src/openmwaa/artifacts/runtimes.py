"""Airflow runtimes: virtual environments made from a lock file, once per host.

A runtime is never changed: its id is the version and the hash of the lock it was made
from. A virtual environment cannot be moved, so it is built in place under a lock and
counts only once its marker file is there. Whatever a killed builder left is removed by
the next one.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import structlog
import uv

from openmwaa.artifacts.build_lock import build_lock
from openmwaa.artifacts.lock_files import LockFiles
from openmwaa.artifacts.programs import plain_environment, run_program
from openmwaa.artifacts.trees import open_to_everyone, remove_tree
from openmwaa.kit.errors import GiveUp, Retry
from openmwaa.kit.files import write_atomically
from openmwaa.settings import Settings

_log = structlog.get_logger()

_MARKER: Final = "runtime.json"
_COUNT_EVERY_S: Final = 0.3
_SPACE_BYTES: Final = 2 * 1024**3
"""A runtime takes 0.5 to 0.6 GiB; uv's cache of downloads as much again, and unpacking is not free."""

_OUR_PYTHON: Final = sys.version.split()[0]
"""Runtimes are made with the Python that runs us."""

NETWORK_TROUBLE: Final = re.compile(
    r"failed to (fetch|download)|error sending request|timed out|dns error|connection (refused|reset|closed)",
    re.IGNORECASE,
)


class Stage(StrEnum):
    """What a build is doing."""

    WAITING = "waiting for another build"
    DOWNLOADING = "downloading"
    INSTALLING = "installing"
    COMPILING = "compiling"
    VERIFYING = "verifying"
    DONE = "done"


@dataclass(frozen=True)
class RuntimeProgress:
    """How far a build is.

    Attributes:
        done: Packages finished in this stage; files while compiling.

        total: Of how many; 0 where that is not known.

        detail: The last thing uv said worth showing, e.g. the name of a large download.
    """

    version: str
    stage: Stage
    done: int = 0
    total: int = 0
    detail: str = ""


@dataclass(frozen=True)
class Runtime:
    """An installed Airflow: `path` is its virtual environment."""

    id: str
    version: str
    path: Path


@dataclass(frozen=True)
class RuntimeListing:
    """One line of `RuntimeStore.list`.

    Attributes:
        current: Made from the lock that this release has; an older one may still be in use.

        size_bytes: Disk space of an installed one, byte code included; 0 if not installed.

        python: Version of its Python; of one that is not installed, what it would get.
    """

    id: str
    version: str
    installed: bool
    current: bool
    size_bytes: int
    python: str


Progress = Callable[[RuntimeProgress], None]


class RuntimeStore:
    """Installs runtimes on first use and finds them afterwards.

    Any number of callers and processes may use one folder at the same time.
    """

    def __init__(self, settings: Settings, locks: Mapping[str, Path]) -> None:
        """Take the folders from the settings.

        Args:
            settings: Only `layout.runtimes` and `layout.locks` are used.

            locks: Lock file of each supported version in this release.
        """
        self._folder = settings.layout.runtimes
        self.locks = LockFiles(settings.layout.locks, locks)

    def locate(self, version: str) -> Runtime:
        """Return where the newest runtime of a version is, or will be. Reads at most a lock file.

        Raises:
            GiveUp: The version is not supported.
        """
        return self._at(self.locks.current(version))

    def is_installed(self, version: str) -> bool:
        """Return whether `ensure` would have nothing to do."""
        return self.has(self.locate(version).id)

    def has(self, runtime_id: str) -> bool:
        """Return whether a runtime is installed, also one made from an earlier lock."""
        return (self._folder / runtime_id / _MARKER).exists()

    async def ensure(self, version: str, on_progress: Progress | None = None) -> Runtime:
        """Return the newest runtime of a version, installing it first if need be; see `ensure_id`.

        Raises:
            GiveUp: Also: the version is not supported.
        """
        return await self.ensure_id(self.locate(version).id, on_progress)

    async def ensure_id(self, runtime_id: str, on_progress: Progress | None = None) -> Runtime:
        """Return a runtime by its id, installing it first if need be.

        Safe to repeat, to call at once from many tasks and processes, and to abandon at any
        await: the build is then stopped and the next call starts afresh.

        Args:
            runtime_id: As `locate` gave it, now or before a newer patch came.

            on_progress: Called from the event loop, often; must return at once.

        Raises:
            Retry: The package index cannot be reached.

            GiveUp: It is neither installed nor made from a lock that is known here; no space; or the
                packages do not install or work.
        """
        runtime = self._at(runtime_id)
        if self.has(runtime_id):
            return runtime
        source = self.locks.lock_of(runtime_id)
        if source is None:
            raise GiveUp(
                f"The runtime {runtime_id} is no longer installed and its lock is not known",
                code="RUNTIME_GONE",
                component="runtime",
                fix="Update the environment: it then moves to the newest runtime of its version.",
            )
        report = _Report(runtime.version, on_progress)
        self._folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        lock = self._folder / f".{runtime.id}.lock"
        async with build_lock(lock, lambda: report(Stage.WAITING)) as lock_fd:
            if not self.has(runtime_id):
                self._require_space()
                # Kept beyond this release: an environment may have to go back to this runtime.
                self.locks.keep(runtime.version, source.read_text())
                await self._build(runtime, source, report, lock_fd)
        report(Stage.DONE)
        return runtime

    def _at(self, runtime_id: str) -> Runtime:
        return Runtime(runtime_id, runtime_id.rpartition("-")[0], self._folder / runtime_id)

    def list(self) -> list[RuntimeListing]:
        """Return every supported version, installed or not, and older runtimes still on disk."""
        listings = []
        for version in self.locks:
            runtime = self.locate(version)
            facts = _read_marker(runtime.path)
            size = facts["size_bytes"] if facts else 0
            python = facts["python"] if facts else _OUR_PYTHON
            listings.append(RuntimeListing(runtime.id, version, facts is not None, True, size, python))
        current = {listing.id for listing in listings}
        for marker in sorted(self._folder.glob(f"*/{_MARKER}")):
            facts = _read_marker(marker.parent)
            if facts and marker.parent.name not in current:
                known = facts["version"], True, False, facts["size_bytes"], facts["python"]
                listings.append(RuntimeListing(marker.parent.name, *known))
        return listings

    def _require_space(self) -> None:
        free = shutil.disk_usage(self._folder).free
        if free < _SPACE_BYTES:
            raise GiveUp(
                f"Installing an Airflow runtime needs {_SPACE_BYTES / 1024**3:.1f} GiB of free space",
                code="DISK_FULL",
                component="runtime",
                evidence=f"{free / 1024**3:.1f} GiB free at {self._folder}",
                fix="Free space there, or choose another home directory.",
            )

    async def _build(self, runtime: Runtime, lock: Path, report: _Report, lock_fd: int) -> None:
        started = time.monotonic()
        await asyncio.to_thread(remove_tree, runtime.path)
        await _uv(
            ("venv", "--no-project", "--python", sys.executable, str(runtime.path)),
            cwd=self._folder,
            lock_fd=lock_fd,
        )
        install = asyncio.create_task(
            _uv(
                (
                    *("pip", "install", "--python", str(runtime.path / "bin" / "python")),
                    *("--no-deps", "--require-hashes", "--compile-bytecode", "-r", str(lock)),
                ),
                cwd=self._folder,
                lock_fd=lock_fd,
                on_line=_UvOutput(report, total=_count_packages(lock)),
            )
        )
        try:
            while not install.done():
                await asyncio.wait((install,), timeout=_COUNT_EVERY_S)
                report.count_installed(runtime.path, total=_count_packages(lock))
        finally:
            install.cancel()
            with suppress(asyncio.CancelledError):
                await install
        report(Stage.VERIFYING)
        await _verify(runtime)
        (runtime.path / ".lock").unlink(missing_ok=True)  # uv leaves it writable for everybody
        size = await asyncio.to_thread(open_to_everyone, runtime.path)
        facts = {
            "version": runtime.version,
            "python": _OUR_PYTHON,
            "size_bytes": size,
            "seconds": round(time.monotonic() - started, 1),
        }
        write_atomically(runtime.path / _MARKER, json.dumps(facts), mode=0o644)
        _log.info("runtime_installed", runtime=runtime.id, **facts)


class _Report:
    """Passes progress on, without repeating itself or going back a stage."""

    def __init__(self, version: str, listener: Progress | None) -> None:
        self._version = version
        self._listener = listener
        self._last: RuntimeProgress | None = None

    def __call__(self, stage: Stage, done: int = 0, total: int = 0, detail: str = "") -> None:
        progress = RuntimeProgress(self._version, stage, done, total, detail)
        if self._listener is None or progress == self._last:
            return
        order = list(Stage)
        if self._last is not None and order.index(stage) < order.index(self._last.stage):
            return
        self._last = progress
        self._listener(progress)

    def count_installed(self, path: Path, *, total: int) -> None:
        """Measure installing from outside: uv says nothing until all is done."""
        done = sum(1 for _ in path.glob("lib/python*/site-packages/*.dist-info"))
        if done:
            self(Stage.INSTALLING if done < total else Stage.COMPILING, done, total)


class _UvOutput:
    """Turns uv's lines into progress: `Downloading x (9.9MiB)`, ` Downloaded x`, `Prepared n packages …`."""

    def __init__(self, report: _Report, *, total: int) -> None:
        self._report = report
        self._total = total
        report(Stage.DOWNLOADING, 0, total)

    def __call__(self, line: str) -> None:
        text = line.strip()
        if text.startswith(("Downloading ", "Downloaded ", "Building ", "Built ")):
            self._report(Stage.DOWNLOADING, 0, self._total, text)
        elif text.startswith("Prepared "):
            self._report(Stage.INSTALLING, 0, self._total)
        elif text.startswith("Installed "):
            self._report(Stage.COMPILING, 0, 0)


async def _uv(
    arguments: tuple[str, ...], *, cwd: Path, lock_fd: int, on_line: Callable[[str], None] | None = None
) -> None:
    """Run uv to its end; it is killed if the caller goes away."""
    environment = plain_environment()
    environment.setdefault("UV_CACHE_DIR", str(_uv_cache(cwd)))
    environment["UV_NO_PROGRESS"] = "1"
    ended = await run_program(
        (uv.find_uv_bin(), *arguments), cwd=cwd, env=environment, pass_fds=(lock_fd,), on_line=on_line
    )
    if ended.code != 0:
        _raise_for(ended.lines)


def _uv_cache(folder: Path) -> Path:
    """Return uv's own default cache, or one beside the runtimes for a user without a home."""
    if "XDG_CACHE_HOME" in os.environ:
        return Path(os.environ["XDG_CACHE_HOME"]) / "uv"
    home = os.environ.get("HOME")
    if home and os.access(home, os.W_OK):
        return Path(home) / ".cache" / "uv"
    return folder / ".uv-cache"


def _raise_for(lines: Sequence[str]) -> None:
    """Say why uv failed, in its own words."""
    said = [line.strip() for line in lines if line.strip()]
    first = next((number for number, line in enumerate(said) if line.startswith("error")), -3)
    evidence = " ".join(said[first:])[:500]
    if NETWORK_TROUBLE.search(evidence) and "Hash mismatch" not in evidence:
        raise Retry(f"the package index did not answer: {evidence}", after_s=5.0)
    raise GiveUp(
        "The packages of the Airflow runtime could not be installed",
        code="RUNTIME_INSTALL_FAILED",
        component="runtime",
        evidence=evidence,
        fix="Check the package index that uv is configured to use.",
    )


async def _verify(runtime: Runtime) -> None:
    """Import Airflow in the new runtime and compare the version: installed is not yet working."""
    with tempfile.TemporaryDirectory() as home:  # importing Airflow writes there
        process = await asyncio.create_subprocess_exec(
            str(runtime.path / "bin" / "python"),
            *("-I", "-c", "import airflow.version as v; print(v.version)"),
            env={"PATH": "/usr/bin:/bin", "AIRFLOW_HOME": home, "LANG": "C.UTF-8"},
            cwd=home,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        stdout, stderr = await process.communicate()
    if process.returncode != 0 or stdout.decode().split()[-1:] != [runtime.version]:
        said = stderr.decode(errors="replace").strip().splitlines() or [
            stdout.decode(errors="replace").strip()
        ]
        raise GiveUp(
            f"The runtime of Airflow {runtime.version} does not start",
            code="RUNTIME_BROKEN",
            component="runtime",
            evidence=said[-1][:500],
        )


def _count_packages(lock: Path) -> int:
    return sum(1 for line in lock.read_text().splitlines() if re.match(r"[a-z0-9].*==", line))


def _read_marker(path: Path) -> dict[str, Any] | None:
    try:
        facts: dict[str, Any] = json.loads((path / _MARKER).read_text())
    except FileNotFoundError:
        return None
    return facts
