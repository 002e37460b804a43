"""Tasks per second and the scheduler's pause between tasks, beside Airflow's defaults by hand.

Both sides have 16 slots on one worker: Airflow's default by hand, the option `celery.worker_autoscale` on
ours, where the class would give fewer. All else is each side's default.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import httpx

from benchmarks.bench import Bench, an_environment, install, own_service, progress
from benchmarks.dag_files import chains, wide
from benchmarks.figures import Figure, percentile
from benchmarks.hand import by_hand
from benchmarks.metadata import Metadata, TaskRun, metadata_of
from tests.support.service import Service

SLOTS: Final = 16
WIDE: Final = 100
RUNS: Final = 20
LENGTH: Final = 10
DAGS: Final = {
    "warm.py": wide("warm", SLOTS),
    "wide.py": wide("wide", WIDE),
    "chains.py": chains("chains", RUNS, LENGTH),
}
_API_WITHIN_S: Final = 60.0
_PAUSE_S: Final = 5.0
"""Between shapes, for what the last one left to be done."""


@dataclass(frozen=True)
class Measured:
    """One side's turn: tasks per second of each shape, and the pauses in the chains in seconds."""

    wide: float
    chains: float
    both: float
    gaps: list[float]


def throughput(bench: Bench) -> None:
    """Measure every version, both sides in turns."""
    with own_service() as service:
        for version in bench.versions:
            with bench.attempt(f"throughput {version}"):
                _one_version(bench, service, version)


def _one_version(bench: Bench, service: Service, version: str) -> None:
    install(service, version)

    def rate(key: str, name: str) -> Figure:
        return bench.figure(f"throughput {key} {version}", f"{version}: {name}", "/s", better="more")

    of_wide = rate("wide", f"{WIDE} parallel tasks, {SLOTS} slots on both sides")
    of_chains = rate("chains", f"{RUNS} runs of {LENGTH} chained tasks, {SLOTS} slots on both sides")
    both = rate("both", "both shapes together")
    gap = bench.figure(f"throughput gap {version}", f"{version}: end of a task to start of the next, medians")
    p95 = bench.figure(f"throughput gap p95 {version}", f"{version}: the same, 95th percentiles")
    for turn in range(bench.repeat):
        for ours in (True, False) if turn % 2 == 0 else (False, True):
            progress(
                f"throughput {version}: turn {turn + 1} of {bench.repeat}, {'ours' if ours else 'by hand'}"
            )
            with _ours(service, version, turn) if ours else _theirs(service, version) as metadata:
                measured = _measure(metadata)
            for figure, value in (
                (of_wide, measured.wide),
                (of_chains, measured.chains),
                (both, measured.both),
                (gap, statistics.median(measured.gaps)),
                (p95, percentile(measured.gaps, 95)),
            ):
                (figure.ours if ours else figure.theirs).append(value)


@contextmanager
def _ours(service: Service, version: str, turn: int) -> Iterator[Metadata]:
    bucket = service.bucket(dict(DAGS))
    options = {"celery.worker_autoscale": f"{SLOTS},{SLOTS}"}
    name = f"bench-throughput-{turn}"
    with (
        an_environment(service, name, version, bucket=bucket, AirflowConfigurationOptions=options),
        metadata_of(service, name) as metadata,
    ):
        yield metadata


@contextmanager
def _theirs(service: Service, version: str) -> Iterator[Metadata]:
    with by_hand(service, version, slots=None, dags=DAGS) as hand:
        if not version.startswith("2."):
            # The API that tasks speak is built by its first request, which takes longer than tasks of 3.0 wait.
            # Whatever the answer is, it is there then.
            httpx.get(f"{hand.url}/execution/health", timeout=_API_WITHIN_S)
        yield hand.metadata


def _measure(metadata: Metadata) -> Measured:
    """Run every shape, one after the other, on a worker whose processes have all run a task before."""
    metadata.wait_for_dags(["warm", "wide", "chains"])
    _run(metadata, "warm", SLOTS)
    wide_s, _ = _run(metadata, "wide", WIDE)
    chains_s, tasks = _run(metadata, "chains", RUNS * LENGTH)
    total = WIDE + RUNS * LENGTH
    return Measured(WIDE / wide_s, RUNS * LENGTH / chains_s, total / (wide_s + chains_s), gaps(tasks))


def _run(metadata: Metadata, dag_id: str, count: int) -> tuple[float, list[TaskRun]]:
    """Return the seconds from the unpausing of a DAG until its last task ended, and its tasks."""
    time.sleep(_PAUSE_S)
    began = metadata.unpause(dag_id)
    tasks = metadata.wait_for_tasks(dag_id, count)
    seconds = max(task.end for task in tasks).timestamp() - began
    progress(f"  {dag_id}: {count} tasks in {seconds:.1f} s, {count / seconds:.2f}/s")
    return seconds, tasks


def gaps(tasks: list[TaskRun]) -> list[float]:
    """Return the seconds between the end of a task and the start of the next of its run."""
    ordered = sorted(tasks, key=lambda task: (task.run_id, task.task_id))
    return [
        (later.start - earlier.end).total_seconds()
        for earlier, later in pairwise(ordered)
        if earlier.run_id == later.run_id
    ]
