"""What the service does by itself, one environment after the other."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from openmwaa.environments.manifest import Manifest
from openmwaa.environments.record import MAINTENANCE, EnvironmentRecord
from openmwaa.environments.spec import EnvironmentSpec
from openmwaa.kit.errors import GiveUp
from openmwaa.reconcile.housekeeping import Housekeeping
from tests.support.api import a_manifest
from tests.support.specs import a_record, a_spec

IN_THE_WINDOW = datetime(2026, 11, 29, 4, 0, tzinfo=UTC)
NEW = "3.3.1-new"


@dataclass
class Newest:
    """A runtime, installed or not."""

    id: str


@dataclass
class Parts:
    """The few parts that are used: environments, runtimes and manifests."""

    records: list[EnvironmentRecord]
    changed: dict[str, tuple[EnvironmentSpec, dict[str, Any]]] = field(default_factory=dict)

    @property
    def store(self) -> Any:
        return self

    @property
    def environments(self) -> Any:
        return self

    @property
    def runtimes(self) -> Any:
        return self

    async def list(self, *, after: str | None, limit: int) -> list[EnvironmentRecord]:
        return [one for one in self.records if after is None or one.name > after][:limit]

    def locate(self, version: str) -> Newest:
        if version == "2.9.2":
            raise GiveUp("Airflow 2.9.2 is not supported")
        return Newest(NEW)

    def manifest(self, record: EnvironmentRecord, spec: EnvironmentSpec) -> Manifest:
        return a_manifest(record, spec)

    async def change(self, name: str, edit: Any, **more: Any) -> None:
        record = next(one for one in self.records if one.name == name)
        self.changed[name] = (edit(record), more)


class Layers:
    """Remembers what is in use."""

    def __init__(self) -> None:
        self.used: list[set[str]] = []

    async def collect_garbage(self, in_use: set[str], *, unused_for_s: float) -> list[str]:
        self.used.append(in_use)
        return []


def running(name: str, version: str = "3.3.1", **changes: Any) -> EnvironmentRecord:
    """Return an available environment on an older patch."""
    spec = a_spec(name, airflow_version=version, runtime_id=f"{version}-old", **changes)
    return dataclasses.replace(a_record(spec), observed_generation=1, good_spec=spec)


async def test_a_version_that_is_gone_keeps_no_other_environment_from_maintenance() -> None:
    """One that this release cannot place is passed over; the next is moved, and layers are collected."""
    parts: Any = Parts([running("a", "2.9.2"), running("b")])
    layers = Layers()
    await Housekeeping(parts, layers, keep_layers=timedelta(days=1)).look(IN_THE_WINDOW)
    assert list(parts.changed) == ["b"]
    spec, more = parts.changed["b"]
    assert spec.runtime_id == NEW
    assert spec.worker_series == 1
    assert more == {"source": MAINTENANCE, "strategy": "GRACEFUL"}
    assert layers.used == [set()]


async def test_outside_its_window_nothing_moves() -> None:
    """Each environment has a window of its own."""
    parts: Any = Parts([running("a", weekly_maintenance_window_start="MON:03:30"), running("b")])
    await Housekeeping(parts, Layers(), keep_layers=timedelta(days=1)).look(IN_THE_WINDOW)
    assert list(parts.changed) == ["b"]
