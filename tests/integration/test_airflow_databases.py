"""Copies of an environment's metadata database on the real embedded PostgreSQL."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence

import psycopg
import pytest
from psycopg import sql

from openmwaa.kit.errors import GiveUp
from openmwaa.kit.secret import Secret
from openmwaa.store.airflow_databases import AirflowDatabases, Statement, copying, restoring
from openmwaa.store.database import Database
from tests.support.postgres import a_database, a_postgres

pytestmark = pytest.mark.timeout(180)

ID, OTHER = "abcdefghijkl", "mnopqrstuvwx"
PASSWORD = Secret("only-in-tests")

_FILL = """
CREATE TABLE dag_run (id serial PRIMARY KEY, run_id text UNIQUE, conf bytea);
CREATE TABLE task_instance (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), run_id text REFERENCES dag_run (run_id));
CREATE TYPE mood AS ENUM ('good', 'bad');
CREATE TABLE variable (key text, val text, mood mood DEFAULT 'good');
CREATE VIEW runs AS SELECT run_id FROM dag_run;
INSERT INTO dag_run (run_id, conf) SELECT 'run-' || n, decode(md5(n::text), 'hex') FROM generate_series(1, 500) n;
INSERT INTO task_instance (run_id) SELECT run_id FROM dag_run;
INSERT INTO variable VALUES ('k', 'välue');
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Secret]:
    with a_postgres() as url:
        yield url


@pytest.fixture
async def databases(server: Secret) -> AsyncIterator[AirflowDatabases]:
    """One environment with rows in it, another beside it."""
    with a_database(server, "openmwaa") as url:
        database = await Database.open(url)
        made = AirflowDatabases(database)
        for environment_id in (ID, OTHER):
            await made.ensure(environment_id, PASSWORD)
        with psycopg.connect(made.url(ID, PASSWORD).reveal()) as connection:
            connection.execute(_FILL.encode())
        yield made
        for environment_id in (ID, OTHER):
            await made.drop(environment_id)
        await database.close()


def rows(databases: AirflowDatabases) -> dict[str, str]:
    """Return the hash of all rows of each table, as the environment's own role sees them."""
    with psycopg.connect(databases.url(ID, PASSWORD).reveal()) as connection:
        names = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        hashes = {}
        for (name,) in names:
            query = sql.SQL("SELECT md5(string_agg(t::text, E'\\n' ORDER BY t::text)) FROM {} t")
            found = connection.execute(query.format(sql.Identifier(name))).fetchone()
            assert found is not None
            hashes[name] = found[0]
        return hashes


def change(databases: AirflowDatabases) -> None:
    """Do what a migration may do: other rows, other tables."""
    with psycopg.connect(databases.url(ID, PASSWORD).reveal()) as connection:
        connection.execute("DELETE FROM task_instance")
        connection.execute("DROP VIEW runs")
        connection.execute("ALTER TABLE dag_run DROP COLUMN conf")
        connection.execute("CREATE TABLE added (id int)")


def run(server: Secret, statements: Sequence[Statement]) -> None:
    with psycopg.connect(server.reveal(), autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)


async def test_to_log_in_costs_one_iteration_and_needs_the_password(
    server: Secret, databases: AirflowDatabases
) -> None:
    with psycopg.connect(server.reveal()) as connection:
        found = connection.execute(
            "SELECT rolpassword FROM pg_authid WHERE rolname = %s", (f"env_{ID}",)
        ).fetchone()
        assert found
        assert found[0].startswith("SCRAM-SHA-256$1:")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(databases.url(ID, Secret("another")).reveal())


async def test_a_restored_database_equals_the_copied_one(databases: AirflowDatabases) -> None:
    """Rows, owners and rights; twice; new rows get new ids."""
    before = rows(databases)
    assert len(before) == 3
    await databases.copy(ID, "update-7")
    assert rows(databases) == before
    for _ in range(2):
        change(databases)
        assert rows(databases) != before
        await databases.restore(ID, "update-7")
        assert rows(databases) == before
    with psycopg.connect(databases.url(ID, PASSWORD).reveal()) as connection:
        connection.execute("INSERT INTO dag_run (run_id) VALUES ('new')")
        connection.execute("ALTER TABLE variable ADD COLUMN more text")  # a migration needs ownership
        connection.execute("CREATE TABLE public.made_later (id int)")


async def test_open_sessions_do_not_hinder(databases: AirflowDatabases) -> None:
    """A component that still runs loses its session and can come back afterwards."""
    url = databases.url(ID, PASSWORD).reveal()
    for disturb in (databases.copy, databases.restore):
        with contextlib.closing(psycopg.connect(url)) as held:
            held.execute("SELECT count(*) FROM dag_run")
            await disturb(ID, "one")
            with pytest.raises(psycopg.OperationalError):
                held.execute("SELECT 1")
    with psycopg.connect(url) as again:
        again.execute("SELECT 1")


async def test_nobody_connects_to_a_copy(databases: AirflowDatabases, server: Secret) -> None:
    """Neither the environment's role, which cannot open it either, nor another's."""
    await databases.copy(ID, "one")
    name = f"env_{ID}_copy_one"
    for environment_id in (ID, OTHER):
        url = databases.url(environment_id, PASSWORD).reveal().rpartition("/")[0] + f"/{name}"
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(url)
    with (
        psycopg.connect(databases.url(ID, PASSWORD).reveal(), autocommit=True) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true".encode())


async def test_a_restored_database_is_closed_to_others(databases: AirflowDatabases) -> None:
    await databases.copy(ID, "one")
    await databases.restore(ID, "one")
    url = databases.url(OTHER, PASSWORD).reveal().rpartition("/")[0] + f"/env_{ID}"
    with pytest.raises(psycopg.OperationalError, match="permission denied"):
        psycopg.connect(url)


@pytest.mark.parametrize("done", range(len(copying(ID, "x")) + 1))
async def test_a_copy_that_was_cut_is_finished_by_the_next(
    databases: AirflowDatabases, server: Secret, done: int
) -> None:
    """After each statement: the database opens again and the copy is whole."""
    before = rows(databases)
    run(server, copying(ID, "cut")[:done])
    await databases.copy(ID, "cut")
    assert rows(databases) == before
    change(databases)
    await databases.restore(ID, "cut")
    assert rows(databases) == before


@pytest.mark.parametrize("done", range(len(restoring(ID, "x")) + 1))
async def test_a_restoration_that_was_cut_is_finished_by_the_next(
    databases: AirflowDatabases, server: Secret, done: int
) -> None:
    """After each statement, twice in a row: the same rows, and nothing is left beside them."""
    before = rows(databases)
    await databases.copy(ID, "cut")
    change(databases)
    for _ in range(2):
        run(server, restoring(ID, "cut")[:done])
    await databases.restore(ID, "cut")
    assert rows(databases) == before
    await databases.drop_copy(ID, "cut")
    assert [name for name in names(server) if name.startswith(f"env_{ID}")] == [f"env_{ID}"]


@pytest.mark.parametrize("done", range(1, len(copying(ID, "x"))))
async def test_a_change_of_mind_opens_the_database(
    databases: AirflowDatabases, server: Secret, done: int
) -> None:
    """A cut copy that nobody repeats: `ensure` opens the door."""
    before = rows(databases)
    run(server, copying(ID, "cut")[:done])
    await databases.ensure(ID, PASSWORD)
    assert rows(databases) == before


async def test_copies_are_listed_and_dropped(databases: AirflowDatabases) -> None:
    """One by one, and all with their environment; those of another stay."""
    assert await databases.copies(ID) == []
    await databases.copy(ID, "b-2")
    await databases.copy(ID, "a_1")
    await databases.copy(OTHER, "a_1")
    assert await databases.copies(ID) == ["a_1", "b-2"]
    await databases.drop_copy(ID, "a_1")
    await databases.drop_copy(ID, "a_1")
    assert not await databases.has_copy(ID, "a_1")
    assert await databases.has_copy(ID, "b-2")
    await databases.drop(ID)
    assert await databases.copies(ID) == []
    assert not await databases.exists(ID)
    assert await databases.has_copy(OTHER, "a_1")


async def test_a_copy_of_the_same_label_is_kept(databases: AirflowDatabases) -> None:
    """A repeated step must not copy what a migration already changed."""
    before = rows(databases)
    await databases.copy(ID, "one")
    change(databases)
    await databases.copy(ID, "one")
    await databases.restore(ID, "one")
    assert rows(databases) == before


async def test_without_a_copy_nothing_is_touched(databases: AirflowDatabases) -> None:
    before = rows(databases)
    with pytest.raises(GiveUp, match="no copy missing"):
        await databases.restore(ID, "missing")
    assert rows(databases) == before
    with pytest.raises(ValueError, match="label"):
        await databases.copy(ID, 'x"; DROP')


def names(server: Secret) -> list[str]:
    with psycopg.connect(server.reveal()) as connection:
        return [row[0] for row in connection.execute("SELECT datname FROM pg_database").fetchall()]
