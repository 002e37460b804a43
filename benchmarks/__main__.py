"""`make bench`: the figures the README quotes, both sides interleaved in one run.

Everything runs on a service of its own in a temporary home. Prints a Markdown table, writes JSON.
Noise of a shared machine hits both sides alike because they take turns; trust the ratios.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import psutil

from benchmarks.by_hand import ByHand
from benchmarks.changes import changes
from benchmarks.figures import Figure
from tests.support.dags import numbered
from tests.support.runs import wait_for_dag
from tests.support.service import Service, a_home, a_service

VERSIONS = ("2.11.2", "3.0.6", "3.3.1")
PORT_BASE = 29750
HAND_PORT = 29990


def main() -> int:
    """Run everything and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--repeat", type=int, default=3, help="repetitions of each measurement (default 3)")
    parser.add_argument("--versions", nargs="+", default=VERSIONS, choices=VERSIONS)
    parser.add_argument("--skip-changes", action="store_true", help="only create, upload and memory")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    figures: list[Figure] = []
    with a_home() as home, a_service(home, PORT_BASE) as service:
        figures.append(Figure("Idle control plane with its services, PSS", "MB", (service_memory(service),)))
        for version in options.versions:
            figures.extend(measure(service, version, options.repeat))
        if not options.skip_changes:
            figures.extend(changes(service, options.repeat, progress))
    if options.json:
        options.json.write_text(json.dumps([asdict(figure) for figure in figures], indent=2) + "\n")
    print_table(figures)
    return 0


def measure(service: Service, version: str, repeat: int) -> Iterator[Figure]:
    """Measure one version: create against by hand in turns, upload to parsed, memory."""
    progress(f"{version}: installing the runtime")
    service.run("runtimes", "install", version, timeout_s=900)
    ours: list[float] = []
    theirs: list[float] = []
    parsed: list[float] = []
    memory: list[float] = []
    hand_memory: list[float] = []
    for turn in range(repeat):
        progress(f"{version}: turn {turn + 1} of {repeat}")
        name = f"bench-{version.replace('.', '-')}-{turn}"
        bucket = service.bucket({"first.py": numbered("first")})
        started = time.monotonic()
        service.create(name, bucket, AirflowVersion=version, EnvironmentClass="mw1.micro")
        service.available(name, within_s=300)
        ours.append(time.monotonic() - started)
        parsed.append(upload_to_parsed(service, name, bucket, f"late_{turn}"))
        memory.append(environment_memory(service, name))
        service.delete(name)
        with by_hand(service, version, turn) as (seconds, megabytes):
            theirs.append(seconds)
            hand_memory.append(megabytes)
    yield Figure(
        f"{version}: CreateEnvironment to AVAILABLE", "s", tuple(ours), tuple(theirs), mwaa="20 to 30 min"
    )
    yield Figure(f"{version}: upload of a new DAG to parsed", "s", tuple(parsed), mwaa="30 to 300 s")
    yield Figure(f"{version}: idle environment, PSS", "MB", tuple(memory), tuple(hand_memory))


@contextlib.contextmanager
def by_hand(service: Service, version: str, turn: int) -> Iterator[tuple[float, float]]:
    """Start the same version by hand on the same PostgreSQL server; give seconds and megabytes."""
    import psycopg  # noqa: PLC0415 - only the by-hand side needs its own database
    from psycopg import sql  # noqa: PLC0415

    from openmwaa.services.endpoints import load_endpoints  # noqa: PLC0415

    admin = load_endpoints(service.settings).postgres_url.reveal()
    database = f"hand_{version.replace('.', '_')}_{turn}"
    runtime = next(service.settings.layout.runtimes.glob(f"{version}-*"))
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(database)))
        try:
            with tempfile.TemporaryDirectory(prefix="by-hand-") as folder:
                hand = ByHand(
                    runtime=runtime,
                    home=Path(folder) / "airflow",
                    database_url=admin.rpartition("/")[0] + f"/{database}",
                    broker=broker_binary(),
                    port=HAND_PORT,
                    generation=int(version[0]),
                )
                with hand.running() as seconds:
                    time.sleep(5)  # both sides idle for a while before memory is read
                    yield seconds, pss_mb(with_children(hand.pids))
        finally:
            connection.execute(
                sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(database))
            )


def upload_to_parsed(service: Service, name: str, bucket: str, dag_id: str) -> float:
    """Return the seconds from PutObject's answer until the DAG is known to Airflow."""
    service.client("s3").put_object(Bucket=bucket, Key=f"dags/{dag_id}.py", Body=numbered(dag_id).encode())
    started = time.monotonic()
    wait_for_dag(service, name, dag_id, within_s=60)
    return time.monotonic() - started


def environment_memory(service: Service, name: str) -> float:
    """Return the PSS of all processes of an environment, in MB."""
    identity = service.json("env", "show", name)["id"]
    marker = f"{identity}/".encode()
    return pss_mb(process for process in psutil.process_iter() if marker in safe_environ(process.pid))


def service_memory(service: Service) -> float:
    """Return the PSS of the control plane and the embedded services, in MB."""
    return pss_mb(with_children(one["pid"] for one in service.json("status")["processes"] if one["pid"]))


def with_children(pids: Iterable[int]) -> list[psutil.Process]:
    """Return processes and all that descends from them, each once."""
    roots = [psutil.Process(pid) for pid in pids]
    return list({one.pid: one for root in roots for one in (root, *root.children(recursive=True))}.values())


def pss_mb(processes: Iterable[psutil.Process]) -> float:
    """Return the proportional set size of processes, in MB."""
    total = 0
    for process in processes:
        with contextlib.suppress(psutil.Error):
            total += process.memory_full_info().pss
    return total / 1e6


def safe_environ(pid: int) -> bytes:
    """Return a process's environment; empty if it is gone."""
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""


def broker_binary() -> Path:
    """Return the Valkey server that the service uses too."""
    from openmwaa.backends.local.broker import valkey_binary  # noqa: PLC0415

    return Path(valkey_binary())


def print_table(figures: list[Figure]) -> None:
    """Print the machine, the date and the figures."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    memory = psutil.virtual_memory().total / 2**30
    print(
        f"\n{datetime.now(UTC):%Y-%m-%d}, {psutil.cpu_count()} cores, {memory:.0f} GiB, {platform.machine()}, "
    )
    print(
        f"Python {platform.python_version()}, commit {commit.stdout.strip() or 'unknown'}; median (least to most)\n"
    )
    print("| | OpenMWAA | by hand | ratio | Amazon MWAA says |\n|---|---|---|---|---|")
    for figure in figures:
        print(figure.row())


def progress(text: str) -> None:
    """Say what is going on."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
