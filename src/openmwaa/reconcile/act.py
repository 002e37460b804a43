"""The steps themselves. Each is idempotent: run again after a crash at any line, it ends the same.

This is where Airflow knowledge (`airflow/`), artifacts, the database server and a backend
meet; none of them knows another.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import structlog

from openmwaa.airflow.components import Surroundings, build_manifest, migrate_commands
from openmwaa.airflow.health import check_health
from openmwaa.airflow.secrets import DATABASE_PASSWORD, database_variables
from openmwaa.backends.base import Backend, CommandResult, Observed, ReplicaSeen
from openmwaa.environments.arns import bucket_of
from openmwaa.environments.manifest import Kind, Manifest
from openmwaa.environments.record import EnvironmentRecord
from openmwaa.environments.spec import EnvironmentSpec
from openmwaa.kit.errors import GiveUp, Retry
from openmwaa.kit.keyring import Keyring
from openmwaa.kit.secret import Secret
from openmwaa.reconcile.plan import Step
from openmwaa.store import Store

_log = structlog.get_logger()

S3_KEY_ID: Final = "AWS_ACCESS_KEY_ID"
S3_SECRET: Final = "AWS_SECRET_ACCESS_KEY"  # noqa: S105 - a name

_ROLL: Final = "OPENMWAA_ROLL"
_POLL_S: Final = 0.25
_START_DEADLINE_S: Final = 300.0
_CRASHES_TO_GIVE_UP: Final = 4
_MIGRATE_TIMEOUT_S: Final = 600.0


@dataclass(frozen=True)
class StepResult:
    """What a step leaves behind.

    Attributes:
        checkpoint: JSON value, small.

        message: One sentence for the environment's history; empty: not worth a line.

        secrets: Sealed texts to keep, by variable name.
    """

    checkpoint: Any = True
    message: str = ""
    secrets: Mapping[str, str] = field(default_factory=dict)


class Accounts(Protocol):
    """S3 accounts of environments."""

    async def ensure_user(self, environment_id: str, bucket: str) -> tuple[str, Secret] | None: ...

    async def remove_user(self, environment_id: str) -> None: ...


class Runtime(Protocol):
    """An installed Airflow."""

    @property
    def id(self) -> str: ...


class Runtimes(Protocol):
    """Installs Airflow versions."""

    async def ensure(self, version: str) -> Runtime: ...

    def is_installed(self, version: str) -> bool: ...

    def locate(self, version: str) -> Runtime: ...


Note = tuple[str, str, dict[str, Any]]


class Actor:
    """Carries out steps and watches environments that need none."""

    def __init__(
        self,
        *,
        store: Store,
        keyring: Keyring,
        backend: Backend,
        runtimes: Runtimes,
        accounts: Accounts,
        surroundings: Callable[[EnvironmentRecord], Surroundings],
    ) -> None:
        self._store = store
        self._keyring = keyring
        self._backend = backend
        self._runtimes = runtimes
        self._accounts = accounts
        self._surroundings = surroundings
        self._restarts: dict[str, dict[tuple[Kind, int], int]] = {}
        self._steps: Mapping[Step, Callable[[EnvironmentRecord], Awaitable[StepResult]]] = {
            Step.INSTALL_RUNTIME: self._install_runtime,
            Step.CREATE_DATABASE: self._create_database,
            Step.CREATE_ACCOUNT: self._create_account,
            Step.PREPARE: self._prepare,
            Step.MIGRATE_DATABASE: self._migrate_database,
            Step.START: self._start,
            Step.VERIFY: self._verify,
            Step.STOP: self._stop,
            Step.DROP_DATABASE: self._drop_database,
            Step.DROP_ACCOUNT: self._drop_account,
        }

    async def act(self, step: Step, record: EnvironmentRecord) -> StepResult:
        """Carry out one step.

        Raises:
            Retry: Not now.

            GiveUp: What is wanted can never be reached.
        """
        return await self._steps[step](record)

    def manifest(self, record: EnvironmentRecord, spec: EnvironmentSpec | None = None) -> Manifest:
        """Return what should run for `spec`, by default for the one that is wanted.

        The same row gives the same manifest, so nothing is replaced by building it again.
        """
        spec = spec or record.spec
        runtime = self._runtimes.locate(spec.airflow_version)
        manifest = build_manifest(
            spec,
            environment_id=record.id,
            ordinal=record.ordinal,
            runtime=runtime.id,
            placement=self._backend.place(record.id, record.ordinal, runtime.id),
            secrets=record.secrets,
            surroundings=self._surroundings(record),
        )
        # An update without a changed field replaces every component all the same (mwaa.md 1.6).
        return dataclasses.replace(manifest, variables={**manifest.variables, _ROLL: str(record.roll)})

    async def run_airflow(
        self, record: EnvironmentRecord, argv: Sequence[str], *, timeout_s: float
    ) -> CommandResult:
        """Run one `airflow` command in an environment as it runs now; `argv` is without the word `airflow`."""
        manifest = self.manifest(record, record.good_spec)
        return await self._backend.run(manifest, ("airflow", *argv), timeout_s=timeout_s)

    async def observe(self, record: EnvironmentRecord) -> Observed:
        """Return what runs now."""
        return await self._backend.observe(record.id)

    async def watch(self, record: EnvironmentRecord) -> list[Note]:
        """Look at an environment that needs nothing and return what a reader should know.

        The backend keeps components running by itself. Should it have lost the whole
        environment (its folder was removed, say), it is put back.
        """
        if record.observed_generation != record.generation:
            return []  # a failed creation: nothing should run
        seen = await self._backend.observe(record.id)
        notes: list[Note] = []
        if not seen.exists:
            await self._backend.prepare(self.manifest(record))
            await self._backend.ensure(self.manifest(record))
            notes.append(("restored", "The host had lost the environment; it was started again.", {}))
        before = self._restarts.get(record.id, {})
        self._restarts[record.id] = {(seen.kind, seen.index): seen.restarts for seen in seen.replicas}
        for replica in seen.replicas:
            known = before.get((replica.kind, replica.index))
            if known is not None and replica.restarts > known:
                notes.append(
                    (
                        "component-restarted",
                        f"{replica.kind}-{replica.index} ended ({replica.last_exit}) and was started again.",
                        {"component": replica.kind, "index": replica.index, "restarts": replica.restarts},
                    )
                )
        return notes

    async def _install_runtime(self, record: EnvironmentRecord) -> StepResult:
        version = record.spec.airflow_version
        known = self._runtimes.is_installed(version)
        runtime = await self._runtimes.ensure(version)
        return StepResult(runtime.id, "" if known else f"Airflow {version} was installed.")

    async def _create_database(self, record: EnvironmentRecord) -> StepResult:
        password = self._open(record, DATABASE_PASSWORD)
        await self._store.airflow_databases.ensure(record.id, password)
        url = self._store.airflow_databases.url(record.id, password)
        # Sealed once: another sealing of the same text would look like a change to every component.
        secrets = {
            name: self._keyring.seal(secret, context=record.secret_context(name))
            for name, secret in database_variables(url).items()
            if name not in record.secrets
        }
        return StepResult(secrets=secrets)

    async def _create_account(self, record: EnvironmentRecord) -> StepResult:
        if S3_SECRET in record.secrets:
            return StepResult()
        account = await self._accounts.ensure_user(record.id, bucket_of(record.spec.source_bucket_arn))
        if account is None:
            return StepResult()
        key_id, secret = account
        sealed = {
            name: self._keyring.seal(text, context=record.secret_context(name))
            for name, text in ((S3_KEY_ID, Secret(key_id)), (S3_SECRET, secret))
        }
        return StepResult(secrets=sealed)

    async def _prepare(self, record: EnvironmentRecord) -> StepResult:
        await self._backend.prepare(self.manifest(record))
        return StepResult()

    async def _migrate_database(self, record: EnvironmentRecord) -> StepResult:
        manifest = self.manifest(record)
        for argv in migrate_commands(record.spec.airflow_version):
            result = await self._backend.run(manifest, argv, timeout_s=_MIGRATE_TIMEOUT_S)
            if result.exit_code != 0:
                lines = result.stderr.decode(errors="replace").strip().splitlines()
                raise GiveUp(
                    f"`{' '.join(argv)}` ended with {result.exit_code}",
                    code="MIGRATION_FAILED",
                    component="migrate-db",
                    evidence=lines[-1] if lines else "",
                )
        return StepResult(message="The metadata database was prepared")

    async def _start(self, record: EnvironmentRecord) -> StepResult:
        await self._backend.ensure(self.manifest(record))
        return StepResult({"restarts": 0})

    async def _verify(self, record: EnvironmentRecord) -> StepResult:
        """Wait until every component runs as wanted and Airflow itself says that it is healthy."""
        manifest = self.manifest(record)
        wanted = {one.kind: manifest.component_hash(one) for one in manifest.components}
        deadline = time.monotonic() + _START_DEADLINE_S
        health = "no component has been seen yet"
        while time.monotonic() < deadline:
            seen = await self._backend.observe(record.id)
            # What still runs of the former manifest, and failed with it, says nothing about this one.
            mine = (replica for replica in seen.replicas if replica.hash == wanted.get(replica.kind))
            broken = next((replica for replica in mine if self._keeps_failing(replica)), None)
            if broken is not None:
                raise _component_failed(broken)
            if seen.converged:
                report = await check_health(
                    record.spec.airflow_version,
                    self._web_url(record, seen),
                    triggerer=any(one.kind is Kind.TRIGGERER for one in seen.replicas),
                )
                if report.healthy:
                    return StepResult(message="All components run and Airflow reports itself healthy")
                health = report.evidence
            else:
                waiting = [f"{one.kind}-{one.index}" for one in seen.replicas if not one.ready]
                health = f"waiting for {', '.join(waiting) or 'components to start'}"
            await asyncio.sleep(_POLL_S)
        raise GiveUp(
            f"not healthy within {_START_DEADLINE_S:.0f} s: {health}",
            code="NOT_HEALTHY",
            fix=f"read `openmwaa logs {record.name}`",
        )

    async def _stop(self, record: EnvironmentRecord) -> StepResult:
        await self._backend.destroy(record.id)
        if (await self._backend.observe(record.id)).exists:
            raise Retry("the backend still shows something of the environment")
        self._restarts.pop(record.id, None)
        return StepResult()

    async def _drop_database(self, record: EnvironmentRecord) -> StepResult:
        await self._store.airflow_databases.drop(record.id)
        if await self._store.airflow_databases.exists(record.id):
            raise Retry("the database still exists")
        return StepResult()

    async def _drop_account(self, record: EnvironmentRecord) -> StepResult:
        await self._accounts.remove_user(record.id)
        return StepResult()

    def _open(self, record: EnvironmentRecord, name: str) -> Secret:
        return self._keyring.open(record.secrets[name], context=record.secret_context(name))

    def _web_url(self, record: EnvironmentRecord, seen: Observed) -> str:
        manifest = self.manifest(record)
        address = self._backend.place(record.id, record.ordinal, manifest.runtime).address
        port = next(one.port for one in seen.replicas if one.kind is Kind.WEBSERVER)
        return f"http://{address}:{port}"

    @staticmethod
    def _keeps_failing(replica: ReplicaSeen) -> bool:
        return not replica.ready and replica.restarts >= _CRASHES_TO_GIVE_UP


def _component_failed(replica: ReplicaSeen) -> GiveUp:
    evidence = next((line for line in reversed(replica.log_tail) if line.strip()), "")
    return GiveUp(
        f"ended {replica.restarts} times while starting ({replica.last_exit})",
        code="COMPONENT_FAILED",
        component=f"{replica.kind}-{replica.index}",
        evidence=evidence.strip(),
    )
