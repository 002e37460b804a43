"""How long changes of a running environment take, beside what AWS publishes for MWAA.

There is nothing to do by hand on the other side; the figures of MWAA are its documentation's.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator

import psycopg

from benchmarks.figures import Figure
from openmwaa.services.endpoints import load_endpoints
from tests.support.dags import numbered
from tests.support.runs import wait_for_dag
from tests.support.service import Service

VERSION = "3.3.1"
NEXT_VERSION = "3.2.1"
UPDATE_ON_MWAA = "10 to 30 min"
VERSION_ON_MWAA = "up to 2 h"
PACKAGES = "pyfiglet==1.0.2\ncowsay==6.1\n"
MEGABYTE = 1_000_000


def changes(service: Service, repeat: int, progress: Callable[[str], None]) -> Iterator[Figure]:
    """Measure scaling, an option, a requirement, another version, a snapshot and its restore."""
    service.run("runtimes", "install", VERSION, timeout_s=900)
    service.run("runtimes", "install", NEXT_VERSION, timeout_s=900)
    bucket = service.bucket({"first.py": numbered("first")})
    name = "bench-changes"
    service.create(
        name,
        bucket,
        AirflowVersion=VERSION,
        EnvironmentClass="mw1.small",
        Schedulers=2,
        MinWebservers=2,
        MaxWorkers=3,
    )
    service.available(name, within_s=600)
    wait_for_dag(service, name, "first", within_s=120)
    taken: dict[str, list[float]] = {"scale": [], "option": [], "requirement": [], "version": []}
    for turn in range(repeat):
        progress(f"changes: turn {turn + 1} of {repeat}")
        taken["scale"] += [update(service, name, MinWorkers=2), update(service, name, MinWorkers=1)]
        option = {"core.default_task_retries": str(turn + 1)}
        taken["option"].append(update(service, name, AirflowConfigurationOptions=option))
        pinned = service.client("s3").put_object(
            Bucket=bucket, Key="requirements.txt", Body=f"# turn {turn}\n{PACKAGES}".encode()
        )
        taken["requirement"].append(
            update(
                service,
                name,
                RequirementsS3Path="requirements.txt",
                RequirementsS3ObjectVersion=pinned["VersionId"],
            )
        )
        update(service, name, RequirementsS3Path="")
        for version in (NEXT_VERSION, VERSION):
            taken["version"].append(update(service, name, AirflowVersion=version))
    yield Figure("Another worker, or one fewer", "s", tuple(taken["scale"]), mwaa=UPDATE_ON_MWAA)
    yield Figure("An Airflow option", "s", tuple(taken["option"]), mwaa=UPDATE_ON_MWAA)
    yield Figure("Two packages, wheels in the cache", "s", tuple(taken["requirement"]), mwaa=UPDATE_ON_MWAA)
    yield Figure(f"{VERSION} to {NEXT_VERSION} or back", "s", tuple(taken["version"]), mwaa=VERSION_ON_MWAA)
    yield from snapshots(service, name, progress)
    service.delete(name)


def update(service: Service, name: str, **members: object) -> float:
    """Return the seconds from the call until the environment is AVAILABLE again."""
    started = time.monotonic()
    service.client("mwaa").update_environment(Name=name, **members)
    service.available(name, within_s=900)
    return time.monotonic() - started


def snapshots(service: Service, name: str, progress: Callable[[str], None]) -> Iterator[Figure]:
    """Measure a snapshot and a restore of a filled database, per 100 MB."""
    progress("changes: snapshot and restore")
    megabytes = fill(service, service.json("env", "show", name)["id"])
    started = time.monotonic()
    service.run("snapshot", "create", name, timeout_s=600)
    taken = time.monotonic() - started
    newest = service.json("snapshot", "list", name)[-1]["id"]
    started = time.monotonic()
    service.run("snapshot", "restore", newest, "--in-place", "--no-snapshot", "--yes", timeout_s=900)
    restored = time.monotonic() - started
    per_100 = 100 / megabytes
    yield Figure("Snapshot, per 100 MB of database", "s", (taken * per_100,), mwaa="no such feature")
    yield Figure(
        "Restore in place, per 100 MB of database", "s", (restored * per_100,), mwaa="no such feature"
    )


def fill(service: Service, environment_id: str, *, megabytes: int = 200) -> float:
    """Add rows of log to an environment's database; return its size in MB."""
    admin = load_endpoints(service.settings).postgres_url.reveal()
    url = f"{admin.rpartition('/')[0]}/env_{environment_id}"
    row = "event\t" + "x" * 900 + "\n"
    with psycopg.connect(url, autocommit=True) as connection:
        with connection.cursor() as cursor, cursor.copy("COPY log (event, extra) FROM STDIN") as copy:
            for _ in range(megabytes):
                copy.write(io.StringIO(row * (MEGABYTE // len(row))).read())
        found = connection.execute("SELECT pg_database_size(current_database())").fetchone()
    assert found is not None
    return float(found[0]) / MEGABYTE
