"""Dumps and loads with a server of the user's own, whose administrator is no superuser."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
import pytest_asyncio

from openmwaa.kit.errors import GiveUp, Retry
from openmwaa.kit.keyring import LocalKeyring
from openmwaa.kit.secret import Secret
from openmwaa.services.postgres_tools import PostgresTools
from openmwaa.store import Store
from tests.support.postgres import a_database, a_postgres

PASSWORD = "p%40ss%2Fword"  # "p@ss/word" in a URL
SOURCE, TARGET = "aaaaaaaaaaaa", "bbbbbbbbbbbb"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def store(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Store]:
    with a_postgres() as server, a_database(server, "openmwaa") as database:
        with psycopg.connect(server.reveal(), autocommit=True) as connection:
            connection.execute("CREATE ROLE manager LOGIN CREATEDB CREATEROLE PASSWORD 'p@ss/word'")
            connection.execute("ALTER DATABASE openmwaa OWNER TO manager")
        url = Secret(database.reveal().replace("postgres:test-only", f"manager:{PASSWORD}"))
        store = await Store.open(url, LocalKeyring(tmp_path_factory.mktemp("keys") / "master.key"))
        try:
            for environment in (SOURCE, TARGET):
                await store.airflow_databases.ensure(environment, Secret("tenant"))
            with psycopg.connect(
                store.airflow_databases.url(SOURCE, Secret("tenant")).reveal()
            ) as connection:
                connection.execute("CREATE TABLE t (id serial PRIMARY KEY, content bytea)")
                connection.execute(
                    "INSERT INTO t (content) SELECT sha256(n::text::bytea) FROM generate_series(1, 100000) n"
                )
            yield store
        finally:
            for environment in (SOURCE, TARGET):
                await store.airflow_databases.drop(environment)
            await store.close()


def url_of(store: Store, environment: str) -> Secret:
    return store.metadata_dumps.url(store.metadata_dumps.name(environment))


async def test_a_role_that_may_make_roles_and_databases_is_enough(store: Store) -> None:
    dumps, tools = store.metadata_dumps, PostgresTools()
    async with dumps.export(SOURCE) as moment:
        with psycopg.connect(store.airflow_databases.url(SOURCE, Secret("tenant")).reveal()) as connection:
            connection.execute("INSERT INTO t (content) VALUES ('later')")
        dump = await asyncio.to_thread(lambda: list(tools.dump(url_of(store, SOURCE), snapshot=moment.id)))
    assert moment.rows == {"public.t": 100_000}
    for _ in range(2):
        draft = await dumps.make_draft(TARGET)
        await asyncio.to_thread(tools.load, dumps.url(draft), role=dumps.name(TARGET), content=dump)
        assert await dumps.count_rows(draft) == moment.rows
        # Somebody is still connected to what is replaced.
        with psycopg.connect(store.airflow_databases.url(TARGET, Secret("tenant")).reveal()):
            await dumps.swap_in(TARGET)
    assert await dumps.count_rows(dumps.name(TARGET)) == moment.rows
    with psycopg.connect(store.airflow_databases.url(TARGET, Secret("tenant")).reveal()) as connection:
        connection.execute("INSERT INTO t (content) VALUES ('mine'); ALTER TABLE t ADD COLUMN owned int")


async def test_a_password_is_in_no_argument(store: Store) -> None:
    dump = PostgresTools().dump(url_of(store, SOURCE))
    next(dump)
    (tool,) = _dumping()  # other children are other tests', and may be ending
    assert not any("p@ss/word" in word for word in tool.cmdline())
    dump.close()
    assert not _dumping()


def _dumping() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if "pg_dump" in child.name()]


async def test_a_content_that_breaks_off_loads_nothing(store: Store) -> None:
    dumps, tools = store.metadata_dumps, PostgresTools()
    dump = b"".join(tools.dump(url_of(store, SOURCE)))

    def broken() -> Iterator[bytes]:
        yield dump[: len(dump) // 2]
        raise LookupError

    for content, error in (
        (broken(), LookupError),
        ([dump[: len(dump) // 2]], GiveUp),
        ([b"nonsense"], GiveUp),
    ):
        draft = await dumps.make_draft(TARGET)
        with pytest.raises(error):
            tools.load(dumps.url(draft), role=dumps.name(TARGET), content=content)
        assert await dumps.count_rows(draft) == {}
    await dumps.drop_draft(TARGET)


async def test_a_server_that_is_away_is_tried_again_and_one_that_is_not_ours_is_explained(
    store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tools = PostgresTools()
    with pytest.raises(Retry):
        list(tools.dump(Secret("postgresql://u:p@127.0.0.1:1/d")))
    with pytest.raises(GiveUp, match="exist"):
        async with store.metadata_dumps.export("cccccccccccc"):
            pass
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(GiveUp, match="demands TLS"):
        list(tools.dump(Secret("postgresql://u:p@127.0.0.1:1/d?sslmode=require")))
