"""How many processes a spec asks for, and how many more than another. Pure."""

from __future__ import annotations

from typing import Final

from openmwaa.environments.manifest import Kind
from openmwaa.environments.spec import EnvironmentSpec

_TRIGGERER_SWITCH: Final = "mwaa.triggerer_enabled"


def wanted_replicas(spec: EnvironmentSpec) -> dict[Kind, int]:
    """Return the replicas that an environment starts with, before any scaling."""
    switch = spec.airflow_configuration_options.get(_TRIGGERER_SWITCH, "true")
    return {
        Kind.SCHEDULER: spec.schedulers,
        Kind.DAG_PROCESSOR: 1,
        Kind.TRIGGERER: 0 if switch.lower() == "false" else 1,
        Kind.WEBSERVER: spec.min_webservers,
        Kind.WORKER: spec.min_workers,
    }


def added_replicas(before: EnvironmentSpec | None, after: EnvironmentSpec) -> dict[Kind, int]:
    """Return how many replicas of each kind a change starts without stopping one; no zeros.

    Args:
        before: What runs; None for a new environment.

        after: What is wanted.
    """
    running = wanted_replicas(before) if before else {}
    added = {kind: count - running.get(kind, 0) for kind, count in wanted_replicas(after).items()}
    return {kind: count for kind, count in added.items() if count > 0}
