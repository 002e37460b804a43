"""A newer patch of a version: environments move to it in their weekly window, and only then."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from openmwaa.airflow.versions import VERSIONS
from tests.support.dags import SLOW
from tests.support.eventually import eventually
from tests.support.moves import Statuses, Traveller, settled
from tests.support.runs import state_of, task_instances, trigger, wait_for_dag, wait_for_run
from tests.support.service import Service

pytestmark = [pytest.mark.timeout(1800), pytest.mark.thorough]

VERSION = "3.3.1"
LEAF = "adbc-driver-sqlite"
"""A package that nothing needs: a lock without it makes another runtime that works."""

NEEDED = "apache-airflow-providers-celery"
_ROUND_S = 35
"""Longer than the service takes from one look at the windows to the next."""


def window(offset: timedelta) -> str:
    """Return the maintenance window of the half hour that lies so far from now."""
    at = datetime.now(UTC) + offset
    return at.strftime("%a:%H:").upper() + ("30" if at.minute >= 30 else "00")


def without(package: str) -> str:
    """Return the shipped lock without one package."""
    lines = VERSIONS[VERSION].lock.read_text().splitlines(keepends=True)
    kept, skipping = [], False
    for line in lines:
        if not line.startswith(" "):
            skipping = line.startswith(f"{package}==")
        if not skipping:
            kept.append(line)
    assert len(kept) < len(lines)
    return "".join(kept)


@pytest.fixture(scope="module")
def traveller(service: Service) -> Iterator[Traveller]:
    """An environment whose window is days away; at the end the version is what the release ships."""
    made = Traveller.start(
        service, "maintained", VERSION, WeeklyMaintenanceWindowStart=window(timedelta(days=3))
    )
    service.client("s3").put_object(Bucket=made.bucket, Key="dags/slow.py", Body=SLOW.encode())
    yield made
    service.run("runtimes", "update", VERSION, "--back", timeout_s=600)
    settled(service, made.name)
    service.delete(made.name)


def runtime_of(traveller: Traveller) -> str:
    """Return what it is wanted to run."""
    return str(traveller.service.json("env", "show", traveller.name)["spec"]["runtime_id"])


def current(service: Service) -> str:
    """Return the runtime that new environments get."""
    listed: list[dict[str, Any]] = service.json("runtimes", "list")
    return str(next(one["id"] for one in listed if one["version"] == VERSION and one["current"]))


def stays(traveller: Traveller) -> None:
    """Assert that nothing moves it while the service looks at the windows at least once."""
    before = traveller.service.json("events", traveller.name)
    until = time.monotonic() + _ROUND_S
    eventually(lambda: time.monotonic() > until, within_s=_ROUND_S + 5, every_s=1)
    assert traveller.service.json("events", traveller.name) == before
    assert traveller.service.environment(traveller.name)["Status"] in {"AVAILABLE", "UPDATE_FAILED"}


def test_a_broken_lock_is_refused_and_changes_nothing(
    service: Service, traveller: Traveller, tmp_path: Path
) -> None:
    """What does not work, is of another version, or is not what was locked does not become current."""
    before = current(service)
    text = VERSIONS[VERSION].lock.read_text()
    first, others, rest = text.partition("\nadbc-driver-manager")
    wrong_hash = re.sub("sha256:[0-9a-f]{64}", f"sha256:{'0' * 64}", first) + others + rest
    broken = {
        "celery": without(NEEDED),
        f"apache-airflow=={VERSION}": VERSIONS["2.11.2"].lock.read_text(),
        "a2wsgi": wrong_hash,
        "": "not a lock at all",
    }
    for names, lock in broken.items():
        path = tmp_path / "broken.txt"
        path.write_text(lock)
        refused = service.run("runtimes", "update", VERSION, "--lock", str(path), check=False, timeout_s=600)
        assert refused.returncode == 1, refused.stdout
        assert names in refused.stderr, refused.stderr
        assert current(service) == before
    assert runtime_of(traveller) == before


def test_it_moves_in_its_window_and_only_then(service: Service, traveller: Traveller, tmp_path: Path) -> None:
    """MAINTENANCE, GRACEFUL, recorded; a task that runs across it succeeds at its first try; and back again."""
    shipped = current(service)
    assert runtime_of(traveller) == shipped
    path = tmp_path / "newer.txt"
    path.write_text(without(LEAF))
    service.run("runtimes", "update", VERSION, "--lock", str(path), timeout_s=600)
    newer = current(service)
    assert newer != shipped
    stays(traveller)
    assert runtime_of(traveller) == shipped

    wait_for_dag(service, traveller.name, "slow")
    run_id = trigger(service, traveller.name, "slow")
    eventually(lambda: state_of(service, traveller.name, "slow", run_id) == "running", within_s=30)
    moved_to(service, traveller, newer)
    assert wait_for_run(service, traveller.name, "slow", run_id, within_s=180) == "success"
    tries = [one["try_number"] for one in task_instances(service, traveller.name, "slow", run_id)]
    assert tries == [1]
    assert f"/{newer}/" in _commands(traveller)

    service.client("mwaa").update_environment(
        Name=traveller.name, WeeklyMaintenanceWindowStart=window(timedelta(days=3))
    )
    service.available(traveller.name)
    service.run("runtimes", "update", VERSION, "--back", timeout_s=600)
    assert current(service) == shipped
    stays(traveller)
    assert runtime_of(traveller) == newer
    moved_to(service, traveller, shipped)
    traveller.works()
    traveller.is_tidy()


def moved_to(service: Service, traveller: Traveller, runtime: str) -> None:
    """Open the window and assert that it is moved as maintenance is."""
    service.client("mwaa").update_environment(
        Name=traveller.name, WeeklyMaintenanceWindowStart=window(timedelta())
    )
    with Statuses(service, traveller.name) as statuses:
        eventually(lambda: runtime_of(traveller) == runtime, within_s=_ROUND_S + 60, what="moved")
        seen = settled(service, traveller.name)
    assert seen["Status"] == "AVAILABLE", seen["LastUpdate"]
    assert "MAINTENANCE" in statuses.seen
    statuses.were_only("UPDATING", "AVAILABLE", "MAINTENANCE", "AVAILABLE")
    assert seen["LastUpdate"]["Source"] == "MAINTENANCE"
    assert seen["LastUpdate"]["Status"] == "SUCCESS"
    assert seen["LastUpdate"]["WorkerReplacementStrategy"] == "GRACEFUL"
    asked, done = _newest(service, traveller)
    assert "runtime_id" in asked["data"]["fields"]
    assert done["kind"] == "available"


def _newest(service: Service, traveller: Traveller) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the newest request and the newest event that ended one."""
    events = service.json("events", traveller.name)
    asked = next(one for one in reversed(events) if one["kind"] == "update-requested")
    done = next(one for one in reversed(events) if one["kind"] in {"available", "rolled-back"})
    assert done["id"] > asked["id"]
    return asked, done


def _commands(traveller: Traveller) -> str:
    """Return the command lines of its processes."""
    shown = traveller.service.json("env", "show", traveller.name)
    return " ".join(
        Path(f"/proc/{one['pid']}/maps").read_text() for one in shown["replicas"] if one["running"]
    )
