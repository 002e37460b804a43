"""The shapes of the operator's answers. Pure."""

from __future__ import annotations

import dataclasses
from datetime import datetime
from typing import Any

from openmwaa.airflow.versions import PROVIDER_PREFIX, VERSIONS, providers_of
from openmwaa.artifacts.runtimes import RuntimeListing, RuntimeProgress
from openmwaa.backends.base import Observed
from openmwaa.environments.record import EnvironmentRecord, Event


def summary_view(
    record: EnvironmentRecord, seen: Observed | None, host: str, now: datetime
) -> dict[str, Any]:
    """Return one line of the list of environments.

    Args:
        record: The environment.

        seen: What runs now; None if the backend cannot answer.

        host: Of its web server.

        now: Decides the age.
    """
    replicas = seen.replicas if seen else ()
    return {
        "name": record.name,
        "status": record.status,
        "airflow_version": record.spec.airflow_version,
        "environment_class": record.spec.environment_class,
        "webserver_url": f"https://{host}",
        "created_at": record.created_at.isoformat(),
        "age_s": round((now - record.created_at).total_seconds()),
        "replicas": len(replicas),
        "replicas_ready": sum(replica.ready for replica in replicas),
        "observed": seen is not None,
    }


def environment_view(
    record: EnvironmentRecord, seen: Observed | None, host: str, now: datetime, unseen: str = ""
) -> dict[str, Any]:
    """Return everything that is known of an environment, secrets excepted.

    Args:
        record: The environment.

        seen: What runs now; None if the backend cannot answer.

        host: Of its web server.

        now: Decides the age.

        unseen: Why the backend cannot answer.
    """
    update = record.last_update
    return {
        **summary_view(record, seen, host, now),
        "id": record.id,
        "arn": str(record.arn),
        "spec": record.spec.to_json(),
        "tags": dict(record.tags),
        "generation": record.generation,
        "observed_generation": record.observed_generation,
        "last_update": {
            "status": update.status,
            "created_at": update.created_at.isoformat(),
            "source": update.source,
            "error": dataclasses.asdict(update.error) if update.error else None,
        },
        "last_error": record.last_error,
        "attempts": record.attempts,
        "steps_done": list(record.checkpoints),
        "replicas": [_plain(dataclasses.asdict(replica)) for replica in seen.replicas] if seen else [],
        "dags": _plain(dataclasses.asdict(seen.dags)) if seen and seen.dags else None,
        "isolation": seen.isolation if seen else "",
        "missing_isolation": list(seen.missing_isolation) if seen else [],
        "not_forked": seen.not_forked if seen else "",
        "unseen": unseen,
    }


def event_view(event: Event) -> dict[str, Any]:
    """Return one line of an environment's history."""
    return _plain(dataclasses.asdict(event))


def runtime_view(listing: RuntimeListing) -> dict[str, Any]:
    """Return one runtime: what is installed, and what is known of its version.

    `providers` has the Airflow providers of this release's lock by their short names, e.g.
    `amazon`; it is empty for an older build, whose lock is gone. Dates are null while nobody
    has published one.
    """
    row = VERSIONS.get(listing.version)
    pins = providers_of(row.lock.read_text()) if row and listing.current else {}
    ends = row.end_of_support if row else None
    return {
        **dataclasses.asdict(listing),
        "mwaa_python": row.mwaa_python if row else None,
        "released": row.released.isoformat() if row else None,
        "end_of_support": ends.isoformat() if ends else None,
        "providers": {name.removeprefix(PROVIDER_PREFIX): pin for name, pin in pins.items()},
    }


def progress_view(progress: RuntimeProgress) -> dict[str, Any]:
    """Return one line of a build's progress."""
    return dataclasses.asdict(progress)


def _plain(members: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value.isoformat() if isinstance(value, datetime) else value for name, value in members.items()
    }
