"""The first environment of a runtime that is not installed: how long, of what, and what is shown meanwhile.

Downloads Airflow's packages, unless the package installer's cache on this machine has them.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Final

from benchmarks.bench import Bench, events, own_service, progress
from benchmarks.create import ON_MWAA
from tests.support.service import OPENMWAA, RUNTIMES_FOLDER, Service, clean_environment

PARTS: Final = {
    "step-install-runtime": "Airflow installed",
    "step-migrate-database": "metadata database made while Airflow is loaded",
    "step-verify": "loading ended, components started and healthy",
}
"""Kinds of events that say how long a part took. What is left over is folders, accounts and the like."""

FEWEST_STAGES: Final = 3
"""Of the installation that must be shown; each is shown once where output is no terminal."""


def first(bench: Bench) -> None:
    """Measure each version once: a repetition would find its packages in the cache."""
    for version in bench.versions:
        with bench.attempt(f"first {version}"), _runtimes_of_its_own(), own_service() as service:
            _one_version(bench, service, version)


def _one_version(bench: Bench, service: Service, version: str) -> None:
    whole = bench.figure(
        f"first {version}", f"{version}: first environment, runtime not installed", mwaa=ON_MWAA
    )
    silence = bench.figure(f"first silence {version}", f"{version}: longest time without a line of progress")
    began = time.monotonic()
    lines = list(_create(service, "bench-first", version))
    whole.ours.append(time.monotonic() - began)
    times = [began, *(at for at, _ in lines)]
    silence.ours.append(max(later - earlier for earlier, later in pairwise(times)))
    seconds = {one["kind"]: one["data"].get("seconds") for one in events(service, "bench-first")}
    for kind, name in PARTS.items():
        part = bench.figure(f"first {kind.removeprefix('step-')} {version}", f"{version}: of that, {name}")
        if seconds.get(kind) is None:
            raise RuntimeError(f"no event says how long {kind} took: {seconds}")
        part.ours.append(seconds[kind])
    stages = [line for _, line in lines if f"Airflow {version}: " in line]
    if len(stages) < FEWEST_STAGES:
        raise RuntimeError(f"the installation showed {len(stages)} stages: {stages}")


def _create(service: Service, name: str, version: str) -> Iterator[tuple[float, str]]:
    """Run `openmwaa env create`; yield each line, and when it was printed on the monotonic clock."""
    argv = [OPENMWAA, "--home", str(service.home), "env", "create", name, "--version", version]
    variables = {**clean_environment(), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        argv, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as command:
        assert command.stdout is not None
        for line in command.stdout:
            progress(f"  {line.rstrip()}")
            yield time.monotonic(), line
    if command.returncode:
        raise RuntimeError(f"env create ended with exit code {command.returncode}")


@contextmanager
def _runtimes_of_its_own() -> Iterator[None]:
    """Let services that are started meanwhile install runtimes below their home, where none are."""
    shared = os.environ.pop(RUNTIMES_FOLDER, None)
    try:
        yield
    finally:
        if shared is not None:
            os.environ[RUNTIMES_FOLDER] = shared
