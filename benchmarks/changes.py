"""How long changes of a running environment take, beside what AWS publishes for MWAA.

There is nothing to do by hand on the other side; the figures of MWAA are its documentation's.
"""

from __future__ import annotations

import io
import time

import psycopg

from benchmarks.bench import Bench, install, own_service, progress
from benchmarks.metadata import server_url
from tests.support.dags import numbered
from tests.support.runs import wait_for_dag
from tests.support.service import Service

VERSION = "3.3.1"
NEXT_VERSION = "3.2.1"
UPDATE_ON_MWAA = "10 to 30 min"
VERSION_ON_MWAA = "up to 2 h"
PACKAGES = "pyfiglet==1.0.2\ncowsay==6.1\n"
MEGABYTE = 1_000_000


def changes(bench: Bench) -> None:
    """Measure scaling, an option, a requirement, another version, a snapshot and its restore."""
    with own_service() as service:
        for version in (VERSION, NEXT_VERSION):
            install(service, version)
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
        _updates(bench, service, name, bucket)
        _snapshots(bench, service, name)


def _updates(bench: Bench, service: Service, name: str, bucket: str) -> None:
    scale = bench.figure("changes scale", "Another worker, or one fewer", mwaa=UPDATE_ON_MWAA)
    option = bench.figure("changes option", "An Airflow option", mwaa=UPDATE_ON_MWAA)
    requirement = bench.figure(
        "changes requirement", "Two packages, wheels in the cache", mwaa=UPDATE_ON_MWAA
    )
    moved = bench.figure("changes version", f"{VERSION} to {NEXT_VERSION} or back", mwaa=VERSION_ON_MWAA)
    for turn in range(bench.repeat):
        progress(f"changes: turn {turn + 1} of {bench.repeat}")
        scale.ours += [update(service, name, MinWorkers=2), update(service, name, MinWorkers=1)]
        chosen = {"core.default_task_retries": str(turn + 1)}
        option.ours.append(update(service, name, AirflowConfigurationOptions=chosen))
        pinned = service.client("s3").put_object(
            Bucket=bucket, Key="requirements.txt", Body=f"# turn {turn}\n{PACKAGES}".encode()
        )
        requirement.ours.append(
            update(
                service,
                name,
                RequirementsS3Path="requirements.txt",
                RequirementsS3ObjectVersion=pinned["VersionId"],
            )
        )
        update(service, name, RequirementsS3Path="")
        for version in (NEXT_VERSION, VERSION):
            moved.ours.append(update(service, name, AirflowVersion=version))


def update(service: Service, name: str, **members: object) -> float:
    """Return the seconds from the call until the environment is AVAILABLE again."""
    started = time.monotonic()
    service.client("mwaa").update_environment(Name=name, **members)
    service.available(name, within_s=900)
    return time.monotonic() - started


def _snapshots(bench: Bench, service: Service, name: str) -> None:
    """Measure a snapshot and a restore of a filled database, per 100 MB."""
    progress("changes: snapshot and restore")
    none = "no such feature"
    snapshot = bench.figure("changes snapshot", "Snapshot, per 100 MB of database", mwaa=none)
    restore = bench.figure("changes restore", "Restore in place, per 100 MB of database", mwaa=none)
    per_100 = 100 / fill(service, service.json("env", "show", name)["id"])
    started = time.monotonic()
    service.run("snapshot", "create", name, timeout_s=600)
    snapshot.ours.append((time.monotonic() - started) * per_100)
    newest = service.json("snapshot", "list", name)[-1]["id"]
    started = time.monotonic()
    service.run("snapshot", "restore", newest, "--in-place", "--no-snapshot", "--yes", timeout_s=900)
    restore.ours.append((time.monotonic() - started) * per_100)


def fill(service: Service, environment_id: str, *, megabytes: int = 200) -> float:
    """Add rows of log to an environment's database; return its size in MB."""
    url = f"{server_url(service)}/env_{environment_id}"
    row = "event\t" + "x" * 900 + "\n"
    with psycopg.connect(url, autocommit=True) as connection:
        with connection.cursor() as cursor, cursor.copy("COPY log (event, extra) FROM STDIN") as copy:
            for _ in range(megabytes):
                copy.write(io.StringIO(row * (MEGABYTE // len(row))).read())
        found = connection.execute("SELECT pg_database_size(current_database())").fetchone()
    assert found is not None
    return float(found[0]) / MEGABYTE
