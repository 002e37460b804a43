"""Memory of five idle environments, beside five set-ups by hand.

Two measures: how much less memory the machine has available, which counts everything that was started on a
side (PostgreSQL's sessions too), and the proportional set size of its processes. In both, ours includes
the preloaded process and the brokers; by hand includes its brokers. The service itself is counted apart.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Final

import psutil

from benchmarks.bench import Bench, an_environment, install, own_service, progress
from benchmarks.create import MICRO_SLOTS
from benchmarks.hand import by_hand
from openmwaa.supervise.identity import running
from tests.support.service import Service

COUNT: Final = 5
IDLE_S: Final = 30.0
"""Between the last one's start and the look: what is only needed to start is given back by then."""

_MEGABYTE: Final = 1e6


@dataclass
class Used:
    """Memory in MB.

    Attributes:
        available: By how much less MemAvailable is.

        pss: Of what was started.

        service: PSS of control plane, node agent, PostgreSQL, S3 and proxy at the same time.
    """

    available: float = 0.0
    pss: float = 0.0
    service: float = 0.0


def memory(bench: Bench) -> None:
    """Measure both sides in turns, each on a service that was just started."""
    version = bench.newest
    idle = bench.figure("memory service idle", "The service without environments, PSS", "MB")
    busy = bench.figure("memory service", f"The service with {COUNT} environments, PSS, counted apart", "MB")
    available = bench.figure(
        "memory MemAvailable",
        f"{version}: {COUNT} idle environments, change of MemAvailable",
        "MB",
        better="share",
    )
    pss = bench.figure("memory PSS", f"{version}: {COUNT} idle environments, PSS", "MB", better="share")
    for turn in range(bench.repeat):
        progress(f"memory: turn {turn + 1} of {bench.repeat}")
        with own_service() as service:
            install(service, version)
            with _measured(service) as used, ExitStack() as running_ones:
                idle.ours.append(used.service)
                for number in range(COUNT):
                    running_ones.enter_context(an_environment(service, f"bench-memory-{number}", version))
                _look(used, service, _of_environments(service))
            available.ours.append(used.available)
            pss.ours.append(used.pss)
            busy.ours.append(used.service)
        with own_service() as service:
            install(service, version)
            with _measured(service) as used, ExitStack() as running_ones:
                pids: list[int] = []
                for number in range(COUNT):
                    hand = running_ones.enter_context(
                        by_hand(service, version, number=number, slots=MICRO_SLOTS)
                    )
                    progress(f"  by hand {number + 1}: healthy after {hand.seconds:.1f} s")
                    pids.extend(hand.pids)
                _look(used, service, _with_children(pids))
            available.theirs.append(used.available)
            pss.theirs.append(used.pss)


@contextmanager
def _measured(service: Service) -> Iterator[Used]:
    """Give the memory that is used before; `_look` replaces it by what is used more."""
    time.sleep(IDLE_S)
    yield Used(available=_available(), service=_pss(_of_service(service)))


def _look(used: Used, service: Service, processes: Iterable[psutil.Process]) -> None:
    """Wait until it is idle, and see by how much more memory is used."""
    time.sleep(IDLE_S)
    used.available -= _available()
    used.pss = _pss(processes)
    used.service = _pss(_of_service(service))
    progress(
        f"  MemAvailable fell by {used.available:.0f} MB, PSS is {used.pss:.0f} MB;"
        f" the service's own is {used.service:.0f} MB"
    )


def _available() -> float:
    return float(psutil.virtual_memory().available) / _MEGABYTE


def _of_environments(service: Service) -> Iterator[psutil.Process]:
    """Yield the processes of all environments, their brokers and the preloaded process."""
    return _marked(service, grouped=True)


def _of_service(service: Service) -> Iterator[psutil.Process]:
    """Yield the control plane, the node agent and the embedded services."""
    up = {one["pid"] for one in service.json("status")["processes"] if one["name"] == "up"}
    for pid in up - {None}:
        with suppress(psutil.Error):
            yield psutil.Process(pid)
    yield from _marked(service, grouped=False)


def _marked(service: Service, *, grouped: bool) -> Iterator[psutil.Process]:
    """Yield what the service started: with `grouped` what belongs to environments, without what does not.

    A marker is `<folder of the table>:<name>:<…>`; names of processes of environments have a slash.
    """
    for one in running():
        folder, _, rest = one.marker.partition(":")
        if folder.startswith(f"{service.home}/") and ("/" in rest.partition(":")[0]) == grouped:
            with suppress(psutil.Error):
                yield psutil.Process(one.identity.pid)


def _with_children(pids: Iterable[int]) -> list[psutil.Process]:
    """Return processes and all that descends from them, each once."""
    roots = [psutil.Process(pid) for pid in pids]
    return list({one.pid: one for root in roots for one in (root, *root.children(recursive=True))}.values())


def _pss(processes: Iterable[psutil.Process]) -> float:
    """Return the proportional set size of processes, in MB."""
    total = 0
    for process in processes:
        with suppress(psutil.Error):  # it has ended
            total += process.memory_full_info().pss
    return total / _MEGABYTE
