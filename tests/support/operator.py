"""The operator's API on its real socket, over a real store."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import structlog
from click.testing import CliRunner, Result

from openmwaa.airflow.versions import VERSIONS
from openmwaa.api.operator import LogFolders, OperatorContext, create_operator
from openmwaa.artifacts.installer import RuntimeInstaller
from openmwaa.artifacts.runtimes import RuntimeStore
from openmwaa.backends.base import CommandResult, DagsSeen, Observed, ReplicaSeen
from openmwaa.cli.main import main
from openmwaa.cli.operator import Operator
from openmwaa.environments.ids import new_environment_id
from openmwaa.environments.manifest import Kind
from openmwaa.environments.record import EnvironmentRecord
from openmwaa.environments.requests import Limits
from openmwaa.environments.spec import EnvironmentSpec
from openmwaa.kit.errors import Retry
from openmwaa.kit.keyring import LocalKeyring
from openmwaa.kit.secret import Secret
from openmwaa.kit.unix_server import serve_unix
from openmwaa.settings import Settings
from openmwaa.store import Store
from openmwaa.store.leases import Outcome
from tests.support.api import OneBucket, a_manifest
from tests.support.eventually import eventually
from tests.support.specs import an_arn

T = TypeVar("T")
SINCE = datetime(2026, 11, 23, 3, 10, tzinfo=UTC)


@dataclass
class OperatorServer:
    """A served operator's API and what stands in for a host behind it."""

    settings: Settings
    store: Store
    loop: asyncio.AbstractEventLoop
    commands: list[tuple[str, ...]] = field(default_factory=list)
    backend_away: bool = False

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run something in the server's loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(timeout=30)

    def cli(self, *arguments: str) -> Result:
        """Run `openmwaa --home … arguments`."""
        return CliRunner().invoke(
            main, ["--home", str(self.settings.home), *arguments], catch_exceptions=False
        )

    def create(self, spec: EnvironmentSpec) -> EnvironmentRecord:
        """Add an environment that is AVAILABLE."""

        async def work() -> EnvironmentRecord:
            await self.store.environments.create(
                new_environment_id(), spec, arn=an_arn(spec.name), tags={"team": "data"}, secrets={}, quota=50
            )
            await self.finish(spec.name, Outcome(next_in=timedelta(hours=1), observed=True))
            return await self.store.environments.get(spec.name)

        return self.run(work())

    async def finish(self, name: str, outcome: Outcome) -> None:
        """Be the reconciler of one environment."""
        while (taken := await self.store.leases.take_due("test", timedelta(minutes=1))) is not None:
            lease, record = taken
            await self.store.leases.finish(lease, record, outcome)
            if record.name == name:
                return
        raise AssertionError(f"{name} was not due")

    def log_folders(self, record: EnvironmentRecord) -> LogFolders:
        """Return where this server looks for logs."""
        root = self.settings.layout.environments / record.id
        return LogFolders(components=root / "logs", tasks=root / "airflow" / "logs")

    async def observe(self, _: EnvironmentRecord) -> Observed:
        """Show one worker and a mirror, unless the backend is away."""
        if self.backend_away:
            raise Retry("the node agent does not answer")
        worker = ReplicaSeen(
            kind=Kind.WORKER,
            index=0,
            hash="h",
            running=True,
            ready=True,
            since=SINCE,
            restarts=2,
            pid=4711,
            rss_bytes=120_000_000,
            last_exit="signal 9",
        )
        return Observed(
            exists=True,
            converged=True,
            replicas=(worker,),
            dags=DagsSeen("s1", 3, SINCE),
            isolation="user+mounts",
            missing_isolation=("Memory limits are not enforced.",),
        )

    async def run_airflow(
        self, _: EnvironmentRecord, arguments: Sequence[str], timeout_s: float
    ) -> CommandResult:
        """Remember a command and fail it."""
        self.commands.append(tuple(arguments))
        return CommandResult(3, b"out\n", b"err\n")


@contextmanager
def an_operator(database: Secret, home: Path) -> Iterator[OperatorServer]:
    """Serve in a thread until the end of the block."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="operator")
    thread.start()
    # Not the tests' shared folder: what another test installed meanwhile is not this home's.
    settings = Settings(home=home).model_copy(update={"runtimes_folder": home / "runtimes"})
    settings.layout.run.mkdir(parents=True)
    # The command under test runs in this process: its standard output must be its own.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))

    def run(work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, loop).result(timeout=60)

    store = run(Store.open(database, LocalKeyring(settings.layout.master_key)))
    stop = asyncio.Event()
    serving: Any = None
    try:
        server = OperatorServer(settings, store, loop)
        locks = {version: entry.lock for version, entry in VERSIONS.items()}
        context = OperatorContext(
            store=store,
            limits=Limits(list(VERSIONS)),
            web_host=lambda record: f"127.34.46.{record.ordinal}:8750",
            observe=server.observe,
            manifest=a_manifest,
            run_airflow=server.run_airflow,
            runtimes=RuntimeInstaller(RuntimeStore(settings, locks)),
            preflight=OneBucket(),
            log_folders=server.log_folders,
        )
        app = create_operator(context)
        serving = asyncio.run_coroutine_threadsafe(
            serve_unix({settings.layout.operator_socket: app}, stop), loop
        )
        eventually(Operator(settings).answers, within_s=10, what="the operator's socket answers")
        yield server
    finally:
        loop.call_soon_threadsafe(stop.set)
        if serving is not None:
            serving.result(timeout=30)
        run(store.close())
        loop.call_soon_threadsafe(loop.stop)
        thread.join(timeout=30)
        loop.close()
        structlog.reset_defaults()
