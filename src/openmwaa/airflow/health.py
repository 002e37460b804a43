"""Is an environment healthy? Airflow itself is asked, through its web server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import httpx

from openmwaa.airflow.versions import airflow_version

_TIMEOUT_S: Final = 5.0
_WEB: Final = "webserver"
_BEATS: Final[Mapping[str, str]] = {
    "metadatabase": "",
    "scheduler": "latest_scheduler_heartbeat",
    "triggerer": "latest_triggerer_heartbeat",
    "dag_processor": "latest_dag_processor_heartbeat",
}
"""Part -> the member of its answer that says when it was last seen."""


@dataclass(frozen=True)
class PartHealth:
    """One part of an environment; `evidence` says for people what was seen."""

    healthy: bool
    evidence: str


@dataclass(frozen=True)
class HealthReport:
    """Health by part: `webserver`, `metadatabase`, `scheduler`, `triggerer`, `dag_processor`."""

    parts: Mapping[str, PartHealth]

    @property
    def healthy(self) -> bool:
        """Whether every part is."""
        return all(part.healthy for part in self.parts.values())

    @property
    def evidence(self) -> str:
        """What is wrong, in one line; empty if nothing is."""
        return "; ".join(f"{name}: {part.evidence}" for name, part in self.parts.items() if not part.healthy)


async def check_health(version: str, base_url: str, *, triggerer: bool = True) -> HealthReport:
    """Ask one web server how the environment is.

    Never raises for what is wrong with the environment: that is in the report.

    Args:
        version: Airflow version.

        base_url: `http://<address>:<port>` of a web server.

        triggerer: The environment has one; without it Airflow knows no health of it.
    """
    url = base_url.rstrip("/") + airflow_version(version).health_path
    try:
        async with httpx.AsyncClient(timeout=_TIMEOUT_S, trust_env=False) as client:
            answer = await client.get(url)
    except httpx.HTTPError as error:
        return HealthReport({_WEB: PartHealth(False, f"no answer ({type(error).__name__})")})
    if answer.status_code != 200:
        return HealthReport({_WEB: PartHealth(False, f"answered {answer.status_code}")})
    try:
        said: Any = answer.json()
    except ValueError:
        said = None
    if not isinstance(said, dict):
        return HealthReport({_WEB: PartHealth(False, "answered no JSON object")})
    parts = {_WEB: PartHealth(True, "answers")}
    for name, beat in _BEATS.items():
        if name != "triggerer" or triggerer:
            parts[name] = _part(said.get(name), beat)
    return HealthReport(parts)


def _part(said: Any, beat: str) -> PartHealth:
    if not isinstance(said, dict) or said.get("status") is None:
        return PartHealth(False, "not seen yet")
    seen = said.get(beat) if beat else None
    when = f", last heartbeat {seen}" if seen else ""
    return PartHealth(said["status"] == "healthy", f"{said['status']}{when}")
