"""Whom the builds of layers run as, and what they see.

Strangers' code runs while a source distribution is built and while a layer is tried out. As root
there are two kinds of users, without names and made for nothing else:

* The *fetcher* runs uv, which only reads wheels and writes files: no code of packages. uv's cache
  is its own, shared by all layers of the home.
* A *builder* runs code of packages. It sees neither the cache nor any other layer, so that one
  environment's packages cannot alter another's. Each build under way has a builder of its own.

Both see the host's programs, the runtime, and their own build; the home and the world-writable
folders are covered. Where the host allows no mounts, only permissions keep them away; where not
even separate users are possible, builds run as the service's user. The facts of a layer say which.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import uv

from openmwaa.artifacts.build_lock import lock_if_free
from openmwaa.artifacts.programs import Ended, run_program
from openmwaa.artifacts.trees import remove_tree
from openmwaa.settings import Settings
from openmwaa.supervise import Cover, Mounts, Sandbox
from openmwaa.supervise.identity import MARKER_VARIABLE
from openmwaa.supervise.process import kill_marked, kill_user
from openmwaa.supervise.sandbox import can_mount

KEEPER: Final = Path(__file__).with_name("keeper.py")

_FETCHER: Final = 260
_FIRST_BUILDER: Final = 261
_BUILDERS: Final = 16
"""Users are counted from the home's first number; 1 to 250 are the environments'."""
_EXCLUSIVE_UIDS: Final = 700_000_000
"""Numbers from here on are derived from the port base, so no other home has them."""

_POLL_S: Final = 0.2
_SHARED_FOLDERS: Final = ("/tmp", "/var/tmp", "/dev/shm", "/dev/mqueue", "/run/lock")  # noqa: S108
_HANDED_ON: Final = (
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
    *("UV_DEFAULT_INDEX", "UV_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS", "UV_NO_INDEX"),
    *("UV_INSECURE_HOST", "UV_NATIVE_TLS", "UV_SYSTEM_CERTS", "UV_OFFLINE", "UV_REQUEST_TIMEOUT"),
)
"""What the operator tells uv about indexes. Nothing that would make it run code of packages as the fetcher."""
_HANDED_ON_PREFIXES: Final = ("UV_INDEX_", "UV_HTTP_", "UV_CONCURRENT_")


class Isolation:
    """What this host allows for the builds of a home."""

    def __init__(self, settings: Settings, first_uid: int | None) -> None:
        """Take the numbers of the home's users.

        Args:
            settings: Of the home.

            first_uid: The service's own; the next 299 belong to the home. None: only the user
                that we are.
        """
        self._settings = settings
        self.first_uid = first_uid

    @cached_property
    def mounts(self) -> bool:
        """Whether builds run in mounts of their own."""
        return self.first_uid is not None and self._settings.isolation == "auto" and can_mount()

    @cached_property
    def separate_users(self) -> bool:
        """Whether builds run as users of their own.

        Without mounts of their own they must be able to reach Python and uv where these are.
        """
        if self.first_uid is None:
            return False
        needed = (_base_python(), Path(uv.find_uv_bin()), self._settings.layout.layer_builds / "x")
        return self.mounts or not _closed_folders(needed)

    @property
    def name(self) -> str:
        """For the facts of a layer."""
        return "user+mounts" if self.mounts else "user" if self.separate_users else "none"

    @property
    def exclusive(self) -> bool:
        """Whether no other home has our users."""
        return self.separate_users and (self.first_uid or 0) >= _EXCLUSIVE_UIDS

    @asynccontextmanager
    async def builder(self) -> AsyncIterator[tuple[int, tuple[int, ...]]]:
        """Hold a builder; yields its uid, 0 where there is none, and the descriptor of its lock."""
        if not self.separate_users or self.first_uid is None:
            yield 0, ()
            return
        folder = self._settings.layout.layer_builds
        with ExitStack() as stack:
            while True:
                for number in range(_BUILDERS):
                    descriptor = stack.enter_context(lock_if_free(folder / f".builder-{number}"))
                    if descriptor is not None:
                        uid = self.first_uid + _FIRST_BUILDER + number
                        if self.exclusive:
                            await kill_user(uid)  # what a killed keeper left
                        yield uid, (descriptor,)
                        return
                await asyncio.sleep(_POLL_S)

    @property
    def fetcher(self) -> int:
        """The fetcher's uid; 0 where there is none."""
        return (self.first_uid or 0) + _FETCHER if self.separate_users else 0


@dataclass(frozen=True)
class Build:
    """One build under way: where it may write and how its programs run.

    Attributes:
        scratch: Its folder below `layer_builds`; ours, with `tmp`, `cache` and `work` in it.

        layer: The folder it fills, which stays in place; None for a resolution.

        runtime: The runtime's virtual environment.

        builder: Uid for code of packages; 0: ours.

        lock_fds: Held by the keepers of its programs.
    """

    isolation: Isolation
    settings: Settings
    scratch: Path
    layer: Path | None
    runtime: Path
    builder: int
    lock_fds: tuple[int, ...]
    marker: str

    @property
    def shared_cache(self) -> Path:
        """Uv's cache of wheels for all layers; only the fetcher sees it."""
        return self.settings.layout.layer_builds / "cache"

    @property
    def work(self) -> Path:
        """Files that programs of the build read: ours, and for nobody else. They may hold passwords."""
        return self.scratch / "work"

    @property
    def _configuration(self) -> Path:
        return self.work / "uv.toml"

    def prepare(self) -> None:
        """Make the folders of the build. Blocking."""
        cache = self.shared_cache
        self.scratch.mkdir(mode=0o711, parents=True, exist_ok=True)
        self.scratch.chmod(0o711)
        self.work.mkdir(mode=0o700, exist_ok=True)
        configuration = _operators_configuration()
        if configuration is not None:  # builds have homes of their own, and may not read ours
            shutil.copyfile(configuration, self._configuration)
        if cache.exists() and self.isolation.fetcher not in (0, cache.stat().st_uid):
            remove_tree(cache)  # the home was used with another port base
        for path, uid in (
            (cache, self.isolation.fetcher),
            (self.scratch / "fetching", self.isolation.fetcher),
            (self.scratch / "building", self.builder),
            (self.scratch / "cache", self.builder),
        ):
            path.mkdir(mode=0o700, exist_ok=True)
            if uid:
                os.chown(path, uid, uid)
        for name in ("fetching", "building"):
            uid = (self.scratch / name).stat().st_uid
            (self.scratch / name / "tmp").mkdir(mode=0o700, exist_ok=True)
            os.chown(self.scratch / name / "tmp", uid, uid if self.builder else -1)

    async def fetch(self, *argv: str, on_line: Callable[[str], None] | None = None) -> Ended:
        """Run a program that runs no code of packages, with the shared cache."""
        home = self.scratch / "fetching"
        return await self._run(argv, home, self.shared_cache, self.isolation.fetcher, on_line)

    async def build(self, *argv: str, on_line: Callable[[str], None] | None = None) -> Ended:
        """Run a program that may run code of packages, with a cache of its own."""
        home = self.scratch / "building"
        return await self._run(argv, home, self.scratch / "cache", self.builder, on_line)

    async def clear(self) -> None:
        """End what an earlier build of the same layer left, if its keeper was killed too."""
        await kill_marked(f"{self.marker}:")

    async def _run(
        self,
        argv: tuple[str, ...],
        home: Path,
        cache: Path,
        uid: int,
        on_line: Callable[[str], None] | None,
    ) -> Ended:
        variables = {
            **_operators_variables(),
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "HOME": str(home),
            "USER": "airflow",
            "LOGNAME": "airflow",
            "TMPDIR": "/tmp" if self.isolation.mounts else str(home / "tmp"),  # noqa: S108 - covered by our own
            "UV_CACHE_DIR": str(cache),
            "UV_NO_PROGRESS": "1",
            "UV_LINK_MODE": "copy",  # a link into the cache could be written through
            "UV_PYTHON_DOWNLOADS": "never",
            MARKER_VARIABLE: f"{self.marker}:",
        }
        if self._configuration.exists():
            variables["UV_CONFIG_FILE"] = str(self._configuration)
        if uid:
            os.chown(self.work, -1, uid)
            self.work.chmod(0o750)
            argv = self._sandbox(home, cache, uid, variables).command(argv, home)
        exclusive = uid if uid and uid != self.isolation.fetcher and self.isolation.exclusive else 0
        return await run_program(
            (sys.executable, "-I", "-S", str(KEEPER), str(os.getpid()), str(exclusive), *argv),
            cwd=home,
            env=variables,
            pass_fds=self.lock_fds,
            on_line=on_line,
            stop_signal=signal.SIGTERM,
        )

    def _sandbox(self, home: Path, cache: Path, uid: int, variables: Mapping[str, str]) -> Sandbox:
        if not self.isolation.mounts:
            return Sandbox(uid, uid)
        needed = [
            _base_python(),
            Path(uv.find_uv_bin()),
            *(path for path in map(Path, variables.values()) if path.is_absolute() and path.exists()),
            *(Path(__file__).with_name(name) for name in ("layer_finish.py", "layer_probe.py")),
            self.runtime,
            self.work,
            home,
            cache,
            *((self.layer,) if self.layer else ()),
        ]
        covers = [Cover("/tmp", str(home / "tmp"))]  # noqa: S108
        covers += [
            Cover(folder)
            for folder in _SHARED_FOLDERS[1:]
            if Path(folder).is_dir() and folder != "/tmp"  # noqa: S108
        ]
        covers += [Cover(str(folder)) for folder in _closed_folders(needed)]
        covers.append(Cover(str(self.settings.home)))
        keep = dict.fromkeys(str(path) for path in needed if str(path) != "/tmp")  # noqa: S108
        return Sandbox(uid, uid, Mounts(tuple(covers), tuple(keep)))


def _base_python() -> Path:
    return Path(sys.base_prefix).resolve()


def _operators_variables() -> dict[str, str]:
    """Return what the operator told uv about indexes, proxies and certificates; nothing else of ours."""
    return {
        key: value
        for key, value in os.environ.items()
        if key.upper() in _HANDED_ON or key.startswith(_HANDED_ON_PREFIXES)
    }


def _operators_configuration() -> Path | None:
    """Return uv's configuration file of the user that we are, if there is one."""
    if "UV_CONFIG_FILE" in os.environ:
        return Path(os.environ["UV_CONFIG_FILE"])
    home = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    file = Path(home) / "uv" / "uv.toml"
    return file if file.is_file() else None


def _closed_folders(paths: Iterable[Path]) -> list[Path]:
    """Return the topmost folders above these paths that other users cannot enter."""
    closed = set()
    for path in paths:
        for folder in reversed(path.parents):
            if not folder.stat().st_mode & 0o001 and folder != Path(tempfile.gettempdir()):
                closed.add(folder)
                break
    return sorted(closed)
