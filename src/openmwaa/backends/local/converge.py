"""The steps from what runs to what should run, for one environment.

Level-triggered: each round compares the two and takes the steps that are due. Replicas of one
kind are replaced one after the other, and workers last.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Final

import structlog

from openmwaa.backends.local.folders import EnvironmentFolders
from openmwaa.backends.local.host import Host
from openmwaa.backends.local.replicas import Replica, drain_s, kind_and_index, replicas_of
from openmwaa.backends.local.specs import Specs
from openmwaa.environments.manifest import Kind, Manifest
from openmwaa.supervise import ProcessSeen

_log = structlog.get_logger()

_READY_POLL_S: Final = 0.2


class Convergence:
    """Starts, replaces and removes the replicas of one environment."""

    def __init__(
        self,
        host: Host,
        environment_id: str,
        folders: EnvironmentFolders,
        *,
        on_change: Callable[[], None],
    ) -> None:
        """Start with nothing under way.

        Args:
            host: This host.

            environment_id: Which environment.

            folders: Its folders.

            on_change: Called when another round would find something to do.
        """
        self.specs = Specs(host, environment_id, folders)
        self._host = host
        self._id = environment_id
        self._folders = folders
        self._on_change = on_change
        self._drains: dict[str, tuple[float | None, asyncio.Task[None]]] = {}

    def seen(self) -> dict[str, ProcessSeen]:
        """Return every process of the environment by its name within it.

        Also those that an earlier agent started and this one does not keep yet, or no longer.
        """
        prefix = f"{self._id}/"
        found = {
            record.name: ProcessSeen(
                name=record.name,
                pid=record.identity.pid if record.identity and record.identity.is_alive else None,
                spec_hash=record.spec_hash,
                since=record.started_at,
                restarts=record.restarts,
                last_exit=record.last_exit,
            )
            for record in self._host.supervisor.table.list(self._id)
        }
        kept = self._host.supervisor.observe()
        found |= {name: one for name, one in kept.items() if name.startswith(prefix)}
        return {name.removeprefix(prefix): one for name, one in found.items()}

    async def round(self, manifest: Manifest, is_current: Callable[[], bool]) -> None:
        """Take the steps that are due.

        Args:
            manifest: What should run.

            is_current: Whether that is still so; waiting ends when it is not.

        Raises:
            OSError: A process cannot be recorded.
        """
        await self._host.zygotes.want(manifest)  # also for what has to be started again later
        wanted = {replica.name: replica for replica in replicas_of(manifest)}
        seen = self.seen()
        surplus = [name for name in seen if name not in wanted and kind_and_index(name)]
        for name in sorted(surplus, key=_by_index, reverse=True):
            kind, _ = kind_and_index(name) or (None, 0)
            self._drain(name, grace_s=drain_s(manifest, kind) if kind else None)
        for name, replica in wanted.items():
            if name in self._drains:
                continue  # wanted again while it leaves; the next round starts it
            known = seen.get(name)
            if known is None or known.spec_hash == replica.hash:
                await self._ensure(manifest, replica)
        await self._replace(manifest, wanted, is_current)

    async def let_go(self) -> None:
        """Stop waiting for replicas that leave; they are found again by the next round."""
        drains = [task for _, task in self._drains.values()]
        for task in drains:
            task.cancel()
        await asyncio.gather(*drains, return_exceptions=True)

    async def is_ready(self, manifest: Manifest, replica: Replica, seen: ProcessSeen | None) -> bool:
        """Return whether a replica runs, from whatever hash, and answers its probe."""
        if seen is None or seen.pid is None:
            return False
        return await self._host.prober.is_ready(
            replica.component.probe,
            index=replica.index,
            home=self._folders.airflow_home,
            address=self.specs.address(manifest),
            port=replica.port,
            since=seen.since,
        )

    async def _ensure(self, manifest: Manifest, replica: Replica) -> None:
        if self._host.supervisor.keeps(f"{self._id}/{replica.name}", replica.hash):
            return
        known, zygotes = self.seen().get(replica.name), self._host.zygotes
        runs = known is not None and known.pid is not None and known.spec_hash == replica.hash
        # What is to be adopted waits for nobody.
        is_worker = replica.component.kind is Kind.WORKER
        if runs:
            forker = zygotes.forker(manifest, for_worker=is_worker)
        else:
            forker = await zygotes.prepare(manifest, for_worker=is_worker)
        spec = self.specs.replica(manifest, replica, forker)
        await self._host.supervisor.ensure(spec, patient=True)

    async def _replace(
        self, manifest: Manifest, wanted: dict[str, Replica], is_current: Callable[[], bool]
    ) -> None:
        """Replace what runs from another hash: all other kinds of component side by side, then workers.

        A component takes about as long to start whether others start or not, so most need not
        wait for one another. Workers have running tasks: they are not touched before everything
        else was seen to work with what is new.
        """
        others = [one for one in wanted.values() if one.component.kind is not Kind.WORKER]
        workers = [one for one in wanted.values() if one.component.kind is Kind.WORKER]
        by_kind = [list(group) for _, group in groupby(others, key=lambda one: one.component.kind)]
        replacing = (self._in_turn(manifest, group, is_current, after=()) for group in by_kind)
        for result in await asyncio.gather(*replacing, return_exceptions=True):
            if isinstance(result, BaseException):
                raise result
        await self._in_turn(manifest, workers, is_current, after=others)

    async def _in_turn(
        self,
        manifest: Manifest,
        replicas: list[Replica],
        is_current: Callable[[], bool],
        *,
        after: Sequence[Replica],
    ) -> None:
        """Replace one after the other what of some replicas runs from another hash.

        Nothing more is replaced while one before it, or of `after`, is not ready: what is left
        goes on as it is.
        """
        done = list(after)
        for replica in replicas:
            if self._host.supervisor.keeps(f"{self._id}/{replica.name}", replica.hash):
                done.append(replica)  # without reading what is known of it, every second
                continue
            known = self.seen().get(replica.name)
            if known is not None and known.spec_hash != replica.hash and replica.name not in self._drains:
                for earlier in done:
                    if not await self._until_ready(manifest, earlier, is_current):
                        return
                await self._ensure(manifest, replica)
            done.append(replica)

    async def _until_ready(
        self, manifest: Manifest, replica: Replica, is_current: Callable[[], bool]
    ) -> bool:
        """Wait before the next one is replaced; false when it must not be."""
        deadline = time.monotonic() + replica.component.start_timeout_s
        while is_current():
            seen = self._host.supervisor.observe().get(f"{self._id}/{replica.name}")
            if await self.is_ready(manifest, replica, seen):
                return True
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(_READY_POLL_S)
        return False

    def _drain(self, name: str, *, grace_s: float | None) -> None:
        """Let a replica end in its own time, without holding up the others; in less, if less is wanted now."""
        known = self._drains.get(name)
        if known is not None:
            former_s, former = known
            if grace_s is None or (former_s is not None and former_s <= grace_s):
                return
            former.cancel()

        def ended(task: asyncio.Task[None]) -> None:
            if self._drains.get(name, (None, None))[1] is task:
                del self._drains[name]
            if not task.cancelled():
                if error := task.exception():
                    _log.error("not_drained", environment_id=self._id, name=name, reason=repr(error))
                self._on_change()

        task = asyncio.create_task(self._host.supervisor.remove(f"{self._id}/{name}", grace_s=grace_s))
        self._drains[name] = (grace_s, task)
        task.add_done_callback(ended)


def _by_index(name: str) -> tuple[str, int]:
    kind, _, index = name.rpartition("-")
    return kind, int(index)
