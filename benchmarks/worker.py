"""A worker is added to an environment whose only worker is full: until it runs a task."""

from __future__ import annotations

import time
from datetime import datetime

from benchmarks.bench import Bench, an_environment, install, own_service, progress, settled
from benchmarks.dag_files import long
from benchmarks.metadata import Metadata, metadata_of
from openmwaa.environments.classes import CLASSES
from tests.support.eventually import eventually
from tests.support.service import Service

CLASS = "mw1.small"
SLOTS = CLASSES[CLASS].tasks_per_worker
ON_MWAA = "10 to 30 min"


def worker(bench: Bench) -> None:
    """Measure each version: seconds from UpdateEnvironment's call to the start of a queued task there."""
    with own_service() as service:
        for version in bench.versions:
            with bench.attempt(f"worker {version}"):
                _one_version(bench, service, version)


def _one_version(bench: Bench, service: Service, version: str) -> None:
    install(service, version)
    name = f"bench-worker-{version.replace('.', '-')}"
    figure = bench.figure(
        f"worker {version}", f"{version}: a worker added, until a queued task runs on it", mwaa=ON_MWAA
    )
    # More than all workers take, with as many again that each has fetched and cannot begin.
    bucket = service.bucket({"long.py": long("long", SLOTS * 2 * (bench.repeat + 2))})
    counts = {"Schedulers": 2, "MinWebservers": 2, "MinWorkers": 1, "MaxWorkers": bench.repeat + 1}
    with (
        an_environment(service, name, version, bucket=bucket, EnvironmentClass=CLASS, **counts),
        metadata_of(service, name) as metadata,
    ):
        mwaa = service.client("mwaa")
        metadata.wait_for_dags(["long"])
        metadata.unpause("long")
        for turn in range(bench.repeat):
            progress(f"worker {version}: turn {turn + 1} of {bench.repeat}")
            known = _full(metadata, workers=turn + 1)
            began = time.time()
            mwaa.update_environment(Name=name, MinWorkers=turn + 2)
            started = _start_elsewhere(metadata, known)
            figure.ours.append(started - began)
            progress(f"  a task ran after {started - began:.2f} s")
            if (status := settled(mwaa, name)) != "AVAILABLE":
                raise RuntimeError(f"{name} is {status}")


def _full(metadata: Metadata, *, workers: int) -> list[str]:
    """Wait until so many workers are full and tasks queue behind them; return the workers' host names."""

    def probe() -> bool:
        states = dict(metadata.rows("SELECT state, count(*) FROM task_instance GROUP BY state"))
        return bool(states.get("running", 0) >= SLOTS * workers and states.get("queued", 0) > SLOTS)

    eventually(probe, within_s=180, what=f"{workers} workers are full")
    return [
        row[0] for row in metadata.rows("SELECT DISTINCT hostname FROM task_instance WHERE state = 'running'")
    ]


def _start_elsewhere(metadata: Metadata, known: list[str]) -> float:
    """Wait until a task runs on a worker that is not known; return since when, in seconds since the epoch."""

    def probe() -> datetime | None:
        (started,) = metadata.rows(
            "SELECT min(start_date) FROM task_instance WHERE state = 'running' AND hostname <> ALL(%s)", known
        )[0]
        return started if isinstance(started, datetime) else None

    started = eventually(probe, within_s=120, what="a queued task runs on the new worker")
    assert started is not None
    return started.timestamp()
