"""One build of a runtime per version and process, however many wait for it.

The reconciler installs what an environment needs; a person at a terminal wants to see the
same build go on. Both ask here and share it.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from openmwaa.artifacts.runtime_check import check_runtime
from openmwaa.artifacts.runtimes import (
    Progress,
    Runtime,
    RuntimeListing,
    RuntimeProgress,
    RuntimeStore,
    Stage,
)
from openmwaa.kit.errors import GiveUp


@dataclass(eq=False)
class _Build:
    """A build under way and who waits for it."""

    listeners: list[Progress] = field(default_factory=list)
    waiting: int = 0
    last: RuntimeProgress | None = None

    def report(self, progress: RuntimeProgress) -> None:
        self.last = progress
        for listener in self.listeners:
            listener(progress)


class RuntimeInstaller:
    """A `RuntimeStore` whose builds are shared. Used within one event loop."""

    def __init__(self, runtimes: RuntimeStore) -> None:
        self._runtimes = runtimes
        self._builds: dict[str, tuple[_Build, asyncio.Task[Runtime]]] = {}

    def locate(self, version: str) -> Runtime:
        """Return where the runtime of a version is, or will be; see `RuntimeStore.locate`."""
        return self._runtimes.locate(version)

    def is_installed(self, version: str) -> bool:
        """Return whether `ensure` would have nothing to do."""
        return self._runtimes.is_installed(version)

    def has(self, runtime_id: str) -> bool:
        """Return whether a runtime is installed, also one made from an earlier lock."""
        return self._runtimes.has(runtime_id)

    def list(self) -> list[RuntimeListing]:
        """Return supported and installed runtimes; see `RuntimeStore.list`."""
        return self._runtimes.list()

    async def ensure(self, version: str, on_progress: Progress | None = None) -> Runtime:
        """Return the newest runtime of a version; see `ensure_id`."""
        return await self.ensure_id(self.locate(version).id, on_progress)

    async def ensure_id(self, runtime_id: str, on_progress: Progress | None = None) -> Runtime:
        """Return a runtime by its id, installing it first if need be.

        Joins a build that is under way; a late listener is told at once how far it is. The
        build ends when the last one who waits for it goes away.

        Raises:
            Retry: The package index cannot be reached.

            GiveUp: Its lock is not known, no space, or the packages do not install or work.
        """
        if runtime_id not in self._builds:
            build = _Build()
            self._builds[runtime_id] = (
                build,
                asyncio.create_task(self._runtimes.ensure_id(runtime_id, build.report)),
            )
        build, task = self._builds[runtime_id]
        build.waiting += 1
        if on_progress is not None:
            build.listeners.append(on_progress)
            if build.last is not None:
                on_progress(build.last)
        try:
            return await asyncio.shield(task)
        finally:
            build.waiting -= 1
            if on_progress is not None:
                build.listeners.remove(on_progress)
            if task.done() or build.waiting == 0:
                task.cancel()
                if self._builds.get(runtime_id, (None, None))[0] is build:
                    del self._builds[runtime_id]

    async def adopt(self, version: str, lock: str, on_progress: Progress | None = None) -> Runtime:
        """Make a lock the newest of its version, once its runtime was installed and seen to work.

        Environments stay on what they run until their next update or maintenance window.

        Args:
            version: What the lock installs.

            lock: Its text: every package pinned, with hashes.

            on_progress: As for `ensure_id`.

        Raises:
            Retry: The package index cannot be reached.

            GiveUp: The lock does not install, is of another version, or what it makes does not work.
        """
        locks = self._runtimes.locks
        if f"apache-airflow=={version}" not in lock.split():
            raise GiveUp(
                f"The lock does not pin apache-airflow=={version}", code="WRONG_LOCK", component="runtime"
            )
        runtime = await self.ensure_id(locks.keep(version, lock), on_progress)
        if on_progress is not None:
            on_progress(RuntimeProgress(version, Stage.VERIFYING))
        await check_runtime(runtime)
        locks.choose(version, runtime.id)
        return runtime

    def go_back(self, version: str) -> Runtime:
        """Install a version from this release's own lock again from now on."""
        locks = self._runtimes.locks
        locks.choose(version, locks.shipped(version))
        return self.locate(version)
