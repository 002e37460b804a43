"""CreateEnvironment until AVAILABLE, beside the same Airflow started by hand."""

from __future__ import annotations

from benchmarks.bench import Bench, an_environment, install, own_service, progress, restarted
from benchmarks.hand import by_hand
from tests.support.service import Service

MICRO_SLOTS = 3
ON_MWAA = "20 to 30 min"


def create(bench: Bench) -> None:
    """Measure creating on a warm runtime against by hand in turns, and the first after a restart apart."""
    with own_service() as service:
        for version in bench.versions:
            with bench.attempt(f"create {version}"):
                _one_version(bench, service, version)


def _one_version(bench: Bench, service: Service, version: str) -> None:
    install(service, version)
    warm = bench.figure(f"create {version}", f"{version}: CreateEnvironment to AVAILABLE", mwaa=ON_MWAA)
    first = bench.figure(
        f"create first {version}", f"{version}: first environment of a version since the service started"
    )
    # Not measured: makes the database that later ones are copied from, and reads Airflow's files once,
    # from which by hand profits too.
    with an_environment(service, "bench-once", version):
        pass
    for turn in range(bench.repeat):
        progress(f"create {version}: turn {turn + 1} of {bench.repeat}")
        service = restarted(service)
        with an_environment(service, f"bench-first-{turn}", version) as seconds:
            first.ours.append(seconds)
        with an_environment(service, f"bench-warm-{turn}", version) as seconds:
            warm.ours.append(seconds)
        with by_hand(service, version, slots=MICRO_SLOTS) as hand:
            progress(f"  by hand: healthy after {hand.seconds:.2f} s")
            warm.theirs.append(hand.seconds)
