"""Ten environments created at once."""

from __future__ import annotations

import time
from contextlib import suppress

from benchmarks.bench import Bench, an_environment, install, own_service, progress
from tests.support.dags import numbered
from tests.support.service import SETTLED, Service

COUNT = 10
_WITHIN_S = 900.0


def ten(bench: Bench) -> None:
    """Measure how long all take together and each, on the newest version and a warm runtime."""
    version = bench.newest
    with own_service() as service:
        install(service, version)
        with an_environment(service, "bench-once", version):
            pass  # the preloaded process has loaded after this
        together = bench.figure(
            f"ten all {version}", f"{version}: ten environments at once, until all are AVAILABLE"
        )
        each = bench.figure(f"ten each {version}", f"{version}: each of the ten")
        for turn in range(bench.repeat):
            progress(f"ten: turn {turn + 1} of {bench.repeat}")
            taken, failed = _at_once(service, version, turn)
            each.ours.extend(taken)
            if failed:
                raise RuntimeError(f"{len(failed)} of {COUNT} failed: {'; '.join(failed)}")
            together.ours.append(max(taken))


def _at_once(service: Service, version: str, turn: int) -> tuple[list[float], list[str]]:
    """Create ten; return the seconds from the first call until each is AVAILABLE, and what failed. Deletes them."""
    names = [f"bench-ten-{turn}-{number}" for number in range(COUNT)]
    bucket = service.bucket({"first.py": numbered("first")})
    mwaa = service.client("mwaa")
    taken: dict[str, float] = {}
    failed: list[str] = []
    try:
        started = time.monotonic()
        for name in names:
            service.create(name, bucket, AirflowVersion=version, EnvironmentClass="mw1.micro")
        left = set(names)
        while left and time.monotonic() - started < _WITHIN_S:
            for name in sorted(left):
                environment = mwaa.get_environment(Name=name)["Environment"]
                if environment["Status"] == "AVAILABLE":
                    taken[name] = time.monotonic() - started
                elif environment["Status"] in SETTLED:
                    failed.append(f"{name} is {environment['Status']}: {environment['LastUpdate']}")
                else:
                    continue
                left.remove(name)
                progress(f"  {name}: {environment['Status']} after {time.monotonic() - started:.1f} s")
            time.sleep(0.2)
        failed.extend(f"{name} did not settle within {_WITHIN_S:.0f} s" for name in sorted(left))
    finally:
        for name in names:
            with suppress(mwaa.exceptions.ClientError):
                mwaa.delete_environment(Name=name)
        _wait_until_gone(service, names)
    return list(taken.values()), failed


def _wait_until_gone(service: Service, names: list[str]) -> None:
    mwaa = service.client("mwaa")
    deadline = time.monotonic() + 300
    while set(names) & set(mwaa.list_environments(MaxResults=25)["Environments"]):
        if time.monotonic() > deadline:
            raise TimeoutError("the ten environments were not deleted within 300 s")
        time.sleep(0.5)
