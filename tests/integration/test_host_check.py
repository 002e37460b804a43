"""What makes a request impossible on this host, with the real disk, memory, ports and server."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import psycopg
import pytest
import pytest_asyncio

from openmwaa.environments.errors import InvalidRequestError
from openmwaa.environments.manifest import Kind
from openmwaa.kit.errors import Retry
from openmwaa.kit.secret import Secret
from openmwaa.services.host_check import DATABASE_TIMEOUT_S, HostNeed, Problem, check_host, refuse
from openmwaa.services.host_facts import GIB, available_memory, free_disk
from openmwaa.settings import Settings, load_settings
from openmwaa.settings.layout import LAST_ORDINAL
from openmwaa.store.database import Database
from openmwaa.store.database_server import DatabaseServer
from tests.support.postgres import a_postgres

PORT_BASE = 34780
A_NEW_ENVIRONMENT = dict.fromkeys(Kind, 1)


class Willing:
    """A database server on which everything can be made."""

    async def why_no_new_database(self) -> str | None:
        return None


class Silent:
    """A database server that takes the question and never answers."""

    async def why_no_new_database(self) -> str | None:
        await asyncio.Event().wait()
        return None


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(home=tmp_path / "home", port_base=PORT_BASE)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def database() -> AsyncIterator[Database]:
    with a_postgres() as url:
        opened = await Database.open(url)
        try:
            yield opened
        finally:
            await opened.close()


async def test_a_usual_request_has_no_problem_and_takes_no_time(
    settings: Settings, database: Database
) -> None:
    need = HostNeed(
        installs_runtime=True, replicas=A_NEW_ENVIRONMENT, ports=(8080,), new_database=True, ordinal=7
    )
    started = time.monotonic()
    problems = await check_host(settings, need, DatabaseServer(database))
    assert time.monotonic() - started < 2
    assert problems == []
    refuse(problems)


async def test_disk_that_is_not_there_is_named_with_its_parts(settings: Settings) -> None:
    need = HostNeed(installs_runtime=True, layer_bytes=10**15, database_bytes=10**9)
    [problem] = await check_host(settings, need, Willing())
    assert problem.subject == "disk"
    for part in ("2.0 GiB for an Airflow runtime", "931322.6 GiB for the layer", "1.9 GiB for a copy"):
        assert part in problem.message
    assert f"are free at {settings.home.parent}" in problem.message


async def test_a_database_on_another_server_needs_no_disk_here(settings: Settings) -> None:
    need = HostNeed(database_bytes=10**15)
    assert [problem.subject for problem in await check_host(settings, need, Willing())] == ["disk"]
    elsewhere = settings.model_copy(update={"postgres_url": "postgresql://u@db/x"})
    assert await check_host(elsewhere, need, Willing()) == []


async def test_memory_is_refused_only_if_idle_processes_alone_do_not_fit(settings: Settings) -> None:
    [problem] = await check_host(settings, HostNeed(replicas={Kind.WORKER: 10_000}), Willing())
    assert problem.subject == "memory"
    assert "10000 x worker at " in problem.message
    assert "are available" in problem.message
    assert await check_host(settings, HostNeed(replicas={Kind.WORKER: 1}), Willing()) == []


async def test_a_taken_port_of_the_environment_is_named(settings: Settings) -> None:
    with socket.socket() as foreign:
        foreign.bind((str(settings.ports.address(3)), 8081))
        foreign.listen()
        [problem] = await check_host(settings, HostNeed(ports=(8080, 8081), ordinal=3), Willing())
        assert problem.message == (
            f"Ports: an environment's component needs port 8081, but {settings.ports.address(3)}:8081 is used"
            " by another program."
        )
        assert await check_host(settings, HostNeed(ports=(8081,), ordinal=4), Willing()) == []


async def test_a_program_on_all_addresses_is_in_the_way_of_a_new_environment(settings: Settings) -> None:
    with socket.socket() as foreign:
        foreign.bind(("0.0.0.0", 0))
        foreign.listen()
        port = foreign.getsockname()[1]
        [problem] = await check_host(settings, HostNeed(ports=(port,)), Willing())
        assert f"{settings.ports.address(LAST_ORDINAL)}:{port}" in problem.message


async def test_a_role_that_may_not_create_is_named(settings: Settings, database: Database) -> None:
    await database.all("CREATE ROLE weak LOGIN PASSWORD 'pw'")
    await database.all("GRANT ALL ON SCHEMA public TO weak")
    await database.all("GRANT ALL ON ALL TABLES IN SCHEMA public TO weak")
    parts = urlsplit(database.url.reveal())
    url = f"postgresql://weak:pw@{parts.hostname}:{parts.port}{parts.path}"
    weak = await Database.open(Secret(url))
    try:
        [problem] = await check_host(settings, HostNeed(new_database=True), DatabaseServer(weak))
        await database.all("ALTER ROLE weak CREATEROLE CREATEDB")
        assert await check_host(settings, HostNeed(new_database=True), DatabaseServer(weak)) == []
    finally:
        await weak.close()
    assert problem.subject == "database"
    assert "role weak may not create roles and databases" in problem.message


async def test_connections_that_are_used_up_are_named(settings: Settings, database: Database) -> None:
    others = [psycopg.connect(database.url.reveal()) for _ in range(51)]
    try:
        [problem] = await check_host(settings, HostNeed(new_database=True), DatabaseServer(database))
    finally:
        for other in others:
            other.close()
    assert "of max_connections = 60 are in use" in problem.message


async def test_the_size_of_a_database_is_that_on_disk(database: Database) -> None:
    await database.all("CREATE DATABASE env_abc")
    server = DatabaseServer(database)
    assert await server.size_bytes("abc") > 5_000_000
    assert await server.size_bytes("none") == 0


async def test_a_server_that_does_not_answer_is_no_fault_of_the_request(settings: Settings) -> None:
    started = time.monotonic()
    with pytest.raises(Retry, match="did not answer within 2 s"):
        await check_host(settings, HostNeed(new_database=True), Silent())
    assert time.monotonic() - started < DATABASE_TIMEOUT_S + 1
    assert await check_host(settings, HostNeed(), Silent()) == []  # it is not asked for nothing


def test_a_refusal_names_everything_within_the_limit() -> None:
    problems = [
        Problem("disk", "Disk space: a.", "Free it."),
        Problem("memory", "Memory: b.", "Choose less."),
    ]
    with pytest.raises(InvalidRequestError) as caught:
        refuse(problems)
    assert str(caught.value) == (
        "This host cannot carry out the request. Disk space: a. Free it. Memory: b. Choose less."
    )
    with pytest.raises(InvalidRequestError) as caught:
        refuse([Problem("disk", "x" * 2000, "y")])
    assert len(str(caught.value)) == 1024


def test_the_facts_are_those_of_the_system(tmp_path: Path) -> None:
    free, folder = free_disk(tmp_path / "not" / "there")
    assert folder == tmp_path
    assert free == pytest.approx(psutil.disk_usage(str(tmp_path)).free, rel=0.01)
    assert 0 < available_memory() <= psutil.virtual_memory().available + GIB
