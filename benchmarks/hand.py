"""A set-up by hand with what it needs around it: a database of its own on the service's PostgreSQL server."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from benchmarks.by_hand import ByHand
from benchmarks.metadata import Metadata, connected, server_url
from openmwaa.backends.local.broker import valkey_binary
from tests.support.service import Service

HAND_PORT = 29990
_PORTS_EACH = 3


@dataclass(frozen=True)
class Hand:
    """A set-up by hand that runs.

    Attributes:
        seconds: From nothing until everything was healthy.

        url: Of its web server.

        pids: Of its components and its broker; their children are not among them.
    """

    seconds: float
    url: str
    pids: tuple[int, ...]
    metadata: Metadata


@contextmanager
def by_hand(
    service: Service,
    version: str,
    *,
    number: int = 0,
    slots: int | None,
    dags: Mapping[str, str] | None = None,
) -> Iterator[Hand]:
    """Start a version by hand and stop it again.

    Args:
        service: Runs, and has the runtime: both sides use the same installed Airflow.

        version: Of Airflow.

        number: Tells set-ups apart that run at once.

        slots: Tasks at once on the worker; None: Airflow's default.

        dags: Files of its DAG folder, by name.
    """
    admin = server_url(service)
    database = f"hand_{version.replace('.', '_')}_{number}"
    listed = service.json("runtimes", "list")
    runtime_id = next(one["id"] for one in listed if one["version"] == version and one["current"])
    with psycopg.connect(f"{admin}/postgres", autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(database)))
        try:
            with tempfile.TemporaryDirectory(prefix="by-hand-") as folder:
                hand = ByHand(
                    runtime=service.settings.layout.runtimes / runtime_id,
                    home=Path(folder) / "airflow",
                    database_url=f"{admin}/{database}",
                    broker=valkey_binary(),
                    port=HAND_PORT + _PORTS_EACH * number,
                    generation=int(version[0]),
                    slots=slots,
                    dags=dags or {},
                )
                with hand.running() as seconds, connected(hand.database_url) as metadata:
                    yield Hand(seconds, f"http://127.0.0.1:{hand.port}", tuple(hand.pids), metadata)
        finally:
            drop = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)")
            connection.execute(drop.format(sql.Identifier(database)))
