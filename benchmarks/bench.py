"""One run: what is measured, what came of it, and the service that it is measured on."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from benchmarks.figures import Better, Figure
from tests.support.dags import numbered
from tests.support.service import SETTLED, Service, a_home, a_service, start

PORT_BASE = 29750
_POLL_S = 0.2


@dataclass
class Bench:
    """One run.

    Attributes:
        versions: Of Airflow.

        repeat: How often each thing is measured.

        figures: In the order in which they were begun.

        failures: What could not be measured -> why, in one line.
    """

    versions: tuple[str, ...]
    repeat: int
    figures: list[Figure] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)

    def figure(
        self, key: str, name: str, unit: str = "s", *, better: Better = "less", mwaa: str = ""
    ) -> Figure:
        """Begin a figure; it is reported with the values that it has got by the end."""
        one = Figure(key, name, unit, better, mwaa)
        self.figures.append(one)
        return one

    @contextmanager
    def attempt(self, what: str) -> Iterator[None]:
        """Let a failure of the block be noted, and the rest be measured."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - whatever it is, the other figures stay
            traceback.print_exc()
            reason = str(error).strip().splitlines()
            self.failures[what] = f"{type(error).__name__}: {reason[0] if reason else ''}"[:900]

    @property
    def newest(self) -> str:
        """The newest of the versions: what is measured on one version only is measured on this."""
        return max(self.versions, key=lambda version: tuple(map(int, version.split("."))))


@contextmanager
def own_service() -> Iterator[Service]:
    """Give a service of its own on an empty home, so that no group depends on what another left."""
    with a_home() as home, a_service(home, PORT_BASE) as service:
        yield service


def restarted(service: Service) -> Service:
    """Stop a service with all that it runs, preloaded processes too, and start it again."""
    service.run("down", timeout_s=180)
    return start(service.home, PORT_BASE)


@contextmanager
def an_environment(
    service: Service, name: str, version: str, *, bucket: str | None = None, **members: Any
) -> Iterator[float]:
    """Create an environment, give the seconds from the call until it is AVAILABLE, and delete it.

    Args:
        service: Runs, and has the runtime.

        name: Of the environment.

        version: Of Airflow.

        bucket: Its source bucket; None: one with a single DAG.

        members: Further ones of CreateEnvironment; the class is mw1.micro unless given.
    """
    bucket = bucket or service.bucket({"first.py": numbered("first")})
    mwaa = service.client("mwaa")  # making one takes a tenth of a second
    started = time.monotonic()
    try:
        service.create(
            name, bucket, **{"EnvironmentClass": "mw1.micro", "AirflowVersion": version, **members}
        )
        status = settled(mwaa, name)
        taken = time.monotonic() - started
        if status != "AVAILABLE":
            raise RuntimeError(
                f"{name} is {status}: {mwaa.get_environment(Name=name)['Environment']['LastUpdate']}"
            )
        progress(f"  {name}: AVAILABLE after {taken:.2f} s ({timeline(service, name)})")
        yield taken
    finally:
        with suppress(Exception):  # it may never have come to be; what the block raised is of more interest
            service.delete(name)


def settled(mwaa: Any, name: str, *, within_s: float = 600) -> str:
    """Return an environment's status when no operation runs on it any more.

    Looks five times a second: more often would take a part of the machine that is measured.
    """
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        status = str(mwaa.get_environment(Name=name)["Environment"]["Status"])
        if status in SETTLED:
            return status
        time.sleep(_POLL_S)
    raise TimeoutError(f"{name} did not settle within {within_s:.0f} s")


def install(service: Service, version: str) -> None:
    """Install a runtime, unless it is there."""
    service.run("runtimes", "install", version, timeout_s=900)


def events(service: Service, name: str) -> list[dict[str, Any]]:
    """Return what `openmwaa events NAME --json` prints, oldest first."""
    found: list[dict[str, Any]] = service.json("events", name)
    return found


def timeline(service: Service, name: str) -> str:
    """Return how long the steps of the last change took that say so, as text."""
    taken = [
        f"{one['kind'].removeprefix('step-')} {one['data']['seconds']:.1f}"
        for one in events(service, name)
        if "seconds" in one["data"]
    ]
    return ", ".join(taken)


def progress(text: str) -> None:
    """Say what is going on."""
    print(f"{time.strftime('%H:%M:%S')}  {text}", file=sys.stderr, flush=True)
