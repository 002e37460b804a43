"""Whether this host can carry out a request: checked before it is accepted.

Only what is clearly impossible is refused. All checks together take well under a second;
the database gets at most `DATABASE_TIMEOUT_S`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Protocol

from openmwaa.environments.errors import InvalidRequestError
from openmwaa.environments.manifest import Kind
from openmwaa.kit.errors import Retry
from openmwaa.services.host_facts import GIB, MIB, available_memory, free_disk
from openmwaa.services.ports import Listener, why_unusable
from openmwaa.settings import Settings
from openmwaa.settings.layout import LAST_ORDINAL

RUNTIME_DISK_BYTES: Final = 2 * GIB
"""One Airflow with its packages, and uv's cache of them while it is installed."""

ENVIRONMENT_DISK_BYTES: Final = 64 * MIB
"""An empty metadata database, its write-ahead log, logs of the first minutes."""

DATABASE_TIMEOUT_S: Final = 2.0

IDLE_BYTES: Final[Mapping[Kind, int]] = MappingProxyType(
    {
        Kind.SCHEDULER: 130 * MIB,
        Kind.DAG_PROCESSOR: 130 * MIB,
        Kind.TRIGGERER: 140 * MIB,
        Kind.WEBSERVER: 250 * MIB,
        Kind.WORKER: 250 * MIB,
    }
)
"""Memory of one idle replica, a little less than measured: 140, 144, 160, 273 and 275 MiB on 3.3.1 in
class mw1.micro, pages counted in proportion to who shares them. Tasks need more."""


class DatabaseServer(Protocol):
    """The PostgreSQL server that holds the environments' databases."""

    async def why_no_new_database(self) -> str | None:
        """Return why no role and database can be made there; None if they can.

        Raises:
            Retry: The server does not answer.
        """
        ...


@dataclass(frozen=True)
class HostNeed:
    """What a request needs beyond what runs already.

    Attributes:
        installs_runtime: Its Airflow version is not installed yet.

        layer_bytes: Disk space of a layer that must be built; 0 if there is one already.

        database_bytes: Size of a database that will be copied; 0 if none is.

        replicas: Kind -> how many replicas are added (`environments.preflight.added_replicas`). Replaced
            ones do not count: they stop first.

        ports: What added replicas will listen on at the environment's address.

        new_database: A role and a database must be made.

        ordinal: The environment's; None for a new one, whose address is not known yet.
    """

    installs_runtime: bool = False
    layer_bytes: int = 0
    database_bytes: int = 0
    replicas: Mapping[Kind, int] = field(default_factory=dict)
    ports: Sequence[int] = ()
    new_database: bool = False
    ordinal: int | None = None


@dataclass(frozen=True)
class Problem:
    """Why the host cannot do it.

    Attributes:
        subject: `disk`, `memory`, `ports` or `database`.

        message: One sentence: what is needed and what is there.

        fix: One sentence: what helps.
    """

    subject: str
    message: str
    fix: str


async def check_host(settings: Settings, need: HostNeed, database: DatabaseServer) -> list[Problem]:
    """Return everything that makes a request impossible on this host, in a fixed order.

    Args:
        settings: Of the home whose disk and addresses are looked at.

        need: What the request needs.

        database: Where databases are made.

    Raises:
        Retry: The database server does not answer: that is no fault of the request.
    """
    problems = await asyncio.to_thread(_check_here, settings, need)
    return problems + await _check_database(need, database)


def refuse(problems: list[Problem]) -> None:
    """Refuse a request because of its problems.

    Raises:
        InvalidRequestError: There is one at least; all are named, in at most 1,024 characters.
    """
    if problems:
        text = " ".join(f"{problem.message} {problem.fix}" for problem in problems)
        raise InvalidRequestError(f"This host cannot carry out the request. {text}"[:1024])


def _check_here(settings: Settings, need: HostNeed) -> list[Problem]:
    return [
        *_check_disk(settings, need),
        *_check_memory(need),
        *check_ports(settings, need.ports, need.ordinal),
    ]


def _check_disk(settings: Settings, need: HostNeed) -> Iterator[Problem]:
    parts = {
        "an Airflow runtime": RUNTIME_DISK_BYTES if need.installs_runtime else 0,
        "the layer": need.layer_bytes,
        # The copy itself, and as much again for what the migration rewrites.
        "a copy of the database": 0 if settings.postgres_url else 2 * need.database_bytes,
        "the environment": ENVIRONMENT_DISK_BYTES if need.new_database else 0,
    }
    wanted = sum(parts.values())
    free, folder = free_disk(settings.home)
    if wanted > free:
        what = ", ".join(f"{amount(size)} for {name}" for name, size in parts.items() if size)
        yield Problem(
            "disk",
            f"Disk space: {amount(wanted)} are needed ({what}), {amount(free)} are free at {folder}.",
            "Free space there.",
        )


def _check_memory(need: HostNeed) -> Iterator[Problem]:
    added = {kind: count for kind, count in need.replicas.items() if count > 0}
    wanted = sum(IDLE_BYTES[kind] * count for kind, count in added.items())
    free = available_memory()
    if wanted > free:
        what = ", ".join(
            f"{count} x {kind} at {amount(IDLE_BYTES[kind])}" for kind, count in sorted(added.items())
        )
        yield Problem(
            "memory",
            f"Memory: {amount(wanted)} are needed when idle ({what}), {amount(free)} are available.",
            "Choose lower counts or EnvironmentClass mw1.micro, or stop another environment.",
        )


def check_ports(settings: Settings, ports: Sequence[int], ordinal: int | None = None) -> list[Problem]:
    """Look for programs that listen on every address: they take the environments' addresses too.

    Args:
        settings: Give the addresses.

        ports: Which ports must be free.

        ordinal: Of the environment; None for the address that is given away last.
    """
    address = str(settings.ports.address(ordinal or LAST_ORDINAL))
    reasons = {port: why_unusable(Listener("environment", address, port)) for port in ports}
    return [
        Problem(
            "ports",
            f"Ports: an environment's component needs port {port}, but {reason.partition(';')[0]}.",
            f"Stop what listens on port {port}.",
        )
        for port, reason in reasons.items()
        if reason
    ]


async def _check_database(need: HostNeed, database: DatabaseServer) -> list[Problem]:
    if not need.new_database:
        return []
    try:
        async with asyncio.timeout(DATABASE_TIMEOUT_S):
            reason = await database.why_no_new_database()
    except TimeoutError as error:
        raise Retry(f"the database server did not answer within {DATABASE_TIMEOUT_S:.0f} s") from error
    if reason is None:
        return []
    return [
        Problem("database", f"Database: {reason}.", "Change it at the PostgreSQL server of the settings.")
    ]


def amount(size: int) -> str:
    """Return a size for people: `1.5 GiB` or `300 MiB`."""
    return f"{size / GIB:.1f} GiB" if size >= GIB else f"{size / MIB:.0f} MiB"
