"""The steps that every environment goes through: from nothing, or from what runs, to healthy.

Each is idempotent: run again after a crash at any line, it ends the same.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

from openmwaa.airflow.health import check_health
from openmwaa.airflow.secrets import BROKER_URL, DATABASE_PASSWORD, database_variables
from openmwaa.airflow.startup_rules import LONGEST_S
from openmwaa.backends.base import Observed, ReplicaSeen
from openmwaa.environments.arns import bucket_of
from openmwaa.environments.manifest import Kind, Manifest
from openmwaa.environments.record import EnvironmentRecord
from openmwaa.kit.errors import GiveUp, Waiting
from openmwaa.kit.secret import Secret
from openmwaa.reconcile.parts import Parts, StepResult

S3_KEY_ID: Final = "AWS_ACCESS_KEY_ID"
S3_SECRET: Final = "AWS_SECRET_ACCESS_KEY"  # noqa: S105 - a name

_POLL_S: Final = 0.25
_START_DEADLINE_S: Final = 300.0
_CRASHES_TO_GIVE_UP: Final = 4
_REFUSED_TO_START: Final = "exit code 78"
"""How a component ends whose start-up script failed: trying again would run the script again."""


async def install_runtime(parts: Parts, record: EnvironmentRecord) -> StepResult:
    """Install Airflow, unless it is there."""
    runtime_id = parts.runtime_id(record.spec)
    known = parts.runtimes.has(runtime_id)
    runtime = await parts.runtimes.ensure_id(runtime_id)
    return StepResult(runtime.id, "" if known else f"Airflow {record.spec.airflow_version} was installed.")


async def build_layer(parts: Parts, record: EnvironmentRecord) -> StepResult:
    """Build what requirements, plugins and start-up script make; nothing that runs sees it yet."""
    layer = await parts.layers.ensure(record, record.spec)
    if layer is None:
        return StepResult()
    facts = layer.facts
    notes = " ".join(layer.warnings)
    return StepResult(
        layer.id,
        f"Requirements, plugins and start-up script are ready: {len(facts['added'])} packages added,"
        f" {len(facts['changed'])} changed{'. ' + notes if notes else ''}",
    )


async def create_database(parts: Parts, record: EnvironmentRecord) -> StepResult:
    """Make the metadata database and its role."""
    password = parts.open(record, DATABASE_PASSWORD)
    databases = parts.store.airflow_databases
    await databases.ensure(record.id, password)
    # Sealed once: another sealing of the same text would look like a change to every component.
    wanted = dict(database_variables(databases.url(record.id, password)))
    if parts.shared_broker is not None:
        wanted[BROKER_URL] = parts.shared_broker
    missing = {name: secret for name, secret in wanted.items() if name not in record.secrets}
    return StepResult(secrets=parts.seal(record, missing))


async def create_account(parts: Parts, record: EnvironmentRecord) -> StepResult:
    """Give the environment an account for its source bucket and nothing else.

    While it goes from one bucket to another, both: tasks that run still use the former.
    """
    bucket = bucket_of(record.spec.source_bucket_arn)
    if S3_SECRET in record.secrets:
        good = record.good_spec or record.spec
        await parts.accounts.grant(record.id, *{bucket: None, bucket_of(good.source_bucket_arn): None})
        return StepResult()
    account = await parts.accounts.ensure_user(record.id, bucket)
    if account is None:
        return StepResult()
    key_id, secret = account
    return StepResult(secrets=parts.seal(record, {S3_KEY_ID: Secret(key_id), S3_SECRET: secret}))


async def prepare(parts: Parts, record: EnvironmentRecord) -> StepResult:
    """Make folders, user, broker and the first copy of the DAG folder."""
    await parts.backend.prepare(parts.manifest(record))
    return StepResult()


async def start(parts: Parts, record: EnvironmentRecord) -> StepResult:
    """Hand the wanted manifest to the backend."""
    await parts.backend.ensure(parts.manifest(record))
    return StepResult()


async def verify(parts: Parts, record: EnvironmentRecord) -> StepResult:
    """Wait until every component runs as wanted and Airflow itself says that it is healthy."""
    manifest = parts.manifest(record)
    wanted = {one.kind: manifest.component_hash(one) for one in manifest.components}
    limit_s = _START_DEADLINE_S + (LONGEST_S if record.spec.startup_script else 0)
    deadline = time.monotonic() + limit_s
    health = "no component has been seen yet"
    while time.monotonic() < deadline:
        seen = await parts.backend.observe(record.id)
        # What still runs of the former manifest, and failed with it, says nothing about this one.
        mine = (replica for replica in seen.replicas if replica.hash == wanted.get(replica.kind))
        broken = next((replica for replica in mine if _keeps_failing(replica)), None)
        if broken is not None:
            raise _component_failed(broken)
        if seen.ready:
            report = await check_health(
                record.spec.airflow_version,
                _web_url(parts, record, manifest, seen),
                triggerer=any(one.kind is Kind.TRIGGERER for one in manifest.components),
            )
            if report.healthy:
                return StepResult(message="All components run and Airflow reports itself healthy")
            health = report.evidence
        else:
            waiting = [f"{one.kind}-{one.index}" for one in seen.replicas if not one.ready]
            health = f"waiting for {', '.join(waiting) or 'components to start'}"
        await asyncio.sleep(_POLL_S)
    raise GiveUp(
        f"not healthy within {limit_s:.0f} s: {health}",
        code="NOT_HEALTHY",
        fix=f"read `openmwaa logs {record.name}`",
    )


async def drain(parts: Parts, record: EnvironmentRecord) -> StepResult:
    """Wait until what is no longer wanted has finished its work.

    Raises:
        Waiting: Something still works.
    """
    seen = await parts.backend.observe(record.id)
    if seen.converged:
        if S3_SECRET in record.secrets:
            await parts.accounts.grant(record.id, bucket_of(record.spec.source_bucket_arn))
        return StepResult()
    manifest = parts.manifest(record)
    wanted = {
        (one.kind, one.first_index + offset) for one in manifest.components for offset in range(one.replicas)
    }
    busy = [
        f"{one.kind}-{one.index}"
        for one in seen.replicas
        if (one.kind, one.index) not in wanted and one.running
    ]
    raise Waiting(f"{', '.join(busy) or 'a component'} finishes its work")


def _web_url(parts: Parts, record: EnvironmentRecord, manifest: Manifest, seen: Observed) -> str:
    address = parts.backend.place(record.id, record.ordinal, manifest.runtime, manifest.layer).address
    port = next(one.port for one in seen.replicas if one.kind is Kind.WEBSERVER)
    return f"http://{address}:{port}"


def _keeps_failing(replica: ReplicaSeen) -> bool:
    if replica.ready:
        return False
    return replica.restarts >= _CRASHES_TO_GIVE_UP or replica.last_exit == _REFUSED_TO_START


def _component_failed(replica: ReplicaSeen) -> GiveUp:
    component = f"{replica.kind}-{replica.index}"
    lines = [line.strip() for line in replica.log_tail if line.strip()]
    if replica.last_exit == _REFUSED_TO_START:
        return GiveUp(
            "The start-up script failed",
            code="STARTUP_SCRIPT_FAILED",
            component=component,
            evidence=" | ".join(lines[-5:]),
        )
    return GiveUp(
        f"ended {replica.restarts} times while starting ({replica.last_exit})",
        code="COMPONENT_FAILED",
        component=component,
        evidence=lines[-1] if lines else "",
    )
