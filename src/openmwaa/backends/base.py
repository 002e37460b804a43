"""The contract between the reconciler and whatever runs environments.

One contract suite (`tests/contract/test_backend.py`) runs against every implementation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from openmwaa.environments.manifest import Kind, Manifest, Placement


@dataclass(frozen=True)
class ReplicaSeen:
    """One replica as it runs now.

    Attributes:
        hash: `Manifest.component_hash` that it was started with.

        running: The main process is alive.

        ready: The probe answered within its limits; without a probe, it is running.

        restarts: Unexpected ends since the replica was first started with this hash.

        port: Where it listens, if it does.

        rss_bytes: Memory of all its processes; 0 if not measured.

        last_exit: How it last ended unexpectedly, for people, e.g. `signal 9`.

        log_tail: Last lines of its output if it keeps failing to start, else empty.

        forked: It was forked from a process that had loaded Airflow, not started as a program.
    """

    kind: Kind
    index: int
    hash: str
    running: bool
    ready: bool
    since: datetime
    restarts: int
    port: int | None = None
    pid: int | None = None
    rss_bytes: int = 0
    last_exit: str | None = None
    log_tail: tuple[str, ...] = ()
    forked: bool = False


@dataclass(frozen=True)
class DagsSeen:
    """State of the DAG mirror."""

    snapshot: str | None
    files: int
    synced_at: datetime | None
    error: str | None = None


@dataclass(frozen=True)
class Observed:
    """What runs now for one environment.

    Attributes:
        exists: Anything at all is left: a process, a folder, a record.

        ready: Every replica of the manifest last given to `ensure` runs with the right hash and is
            ready.

        converged: The same, and nothing else runs: what is no longer wanted has ended.

        isolation: Which isolation is in force, e.g. `user+mounts`, and what is missing.

        not_forked: Why not every replica is forked; empty if all are.
    """

    exists: bool
    ready: bool = False
    converged: bool = False
    replicas: tuple[ReplicaSeen, ...] = ()
    dags: DagsSeen | None = None
    isolation: str = ""
    missing_isolation: tuple[str, ...] = ()
    not_forked: str = ""


@dataclass(frozen=True)
class CommandResult:
    """How a one-shot command ended. `exit_code` is negative for a signal, 124 for a time-out."""

    exit_code: int
    stdout: bytes
    stderr: bytes


class Backend(Protocol):
    """Runs environments. All methods are idempotent and may be abandoned at any await.

    Raises (all methods):
        Retry: The platform cannot answer now.
        GiveUp: What is wanted can never run here.
    """

    def place(self, environment_id: str, ordinal: int, runtime: str, layer: str | None = None) -> Placement:
        """Return where this environment lives. Pure: the same arguments give the same answer."""
        ...

    async def observe(self, environment_id: str) -> Observed:
        """Return what runs now."""
        ...

    async def prepare(self, manifest: Manifest) -> None:
        """Make folders, user, broker and the first DAG snapshot, so that `run` works. Starts no component."""
        ...

    async def ensure(self, manifest: Manifest) -> None:
        """Accept the manifest as wanted, durably, and converge in the background.

        Returns at once; `observe` tells when it is done. Replicas of one kind whose hash
        changed are replaced one after the other; workers are replaced last, once everything
        else is ready. The backend keeps the components running from then on, also while the
        control plane is away.
        """
        ...

    async def run(
        self,
        manifest: Manifest,
        argv: Sequence[str],
        *,
        timeout_s: float,
        stdin: bytes = b"",
    ) -> CommandResult:
        """Run one command with the environment's variables, beside its components, and wait for it.

        `argv[0]` is looked up in the runtime, e.g. `airflow`. Arguments never reach a shell.
        """
        ...

    async def destroy(self, environment_id: str) -> None:
        """Stop and remove everything of the environment. Returns when `observe` shows nothing left."""
        ...
