"""What dumping and loading an environment's metadata database needs of the server besides the tools.

A dump sees one moment: its transaction's snapshot is exported, the rows are counted in it, and
the tool reads in it. A load goes into a draft database that takes the real one's name only
when it is complete: whatever is wrong with a snapshot, what was there before stays.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import psycopg
from psycopg import AsyncConnection, sql
from psycopg.rows import DictRow, dict_row

from openmwaa.kit.errors import GiveUp, Retry
from openmwaa.kit.secret import Secret
from openmwaa.store.airflow_databases import database_name
from openmwaa.store.database import Database

_TABLES = (
    "SELECT schemaname, tablename FROM pg_tables"
    " WHERE schemaname NOT IN ('pg_catalog', 'information_schema') ORDER BY 1, 2"
)


@dataclass(frozen=True)
class ExportedSnapshot:
    """One moment of a database, as long as the block that made it runs.

    Attributes:
        id: For `pg_dump --snapshot`.

        rows: Number of rows by `schema.table`.
    """

    id: str
    rows: dict[str, int]


class MetadataDumps:
    """Databases of environments, seen by the administrator."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def name(self, environment_id: str) -> str:
        """Return the name of an environment's database, which is its owner's too."""
        return database_name(environment_id)

    def url(self, name: str) -> Secret:
        """Return the administrator's URL of a database of the same server."""
        return self._database.url_of(name)

    @asynccontextmanager
    async def export(self, environment_id: str) -> AsyncIterator[ExportedSnapshot]:
        """Hold one moment of an environment's database while the block runs.

        Raises:
            GiveUp: There is no such database.

            Retry: The server cannot answer now.
        """
        async with (
            self._connect(self.name(environment_id)) as connection,
            connection.transaction(),
        ):
            await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            # This session does nothing while the dump reads; a server of the user's own may have limits.
            await connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
            await connection.execute("SET LOCAL statement_timeout = 0")
            cursor = await connection.execute("SELECT pg_export_snapshot() AS id")
            row = await cursor.fetchone()
            assert row is not None  # noqa: S101 - a function call returns one row
            rows = await _count(connection)
            yield ExportedSnapshot(row["id"], rows)

    async def count_rows(self, name: str) -> dict[str, int]:
        """Return the number of rows by `schema.table`."""
        async with self._connect(name) as connection:
            return await _count(connection)

    async def make_draft(self, environment_id: str) -> str:
        """Make an empty database beside the environment's, owned by its role; return its name. Safe to repeat.

        Raises:
            GiveUp: The environment has no role yet (`AirflowDatabases.ensure` makes it).
        """
        owner = self.name(environment_id)
        draft = f"{owner}_load"
        name = sql.Identifier(draft)
        async with self._database.exclusively(self.name(environment_id)) as connection:
            cursor = await connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (owner,))
            if not await cursor.fetchone():
                raise GiveUp(
                    f"the role {owner} does not exist", code="DATABASE_MISSING", component="database"
                )
            await connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(name))
            await connection.execute(
                sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE template0").format(name, sql.Identifier(owner))
            )
            await connection.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(name))
        return draft

    async def swap_in(self, environment_id: str) -> None:
        """Put the draft in the place of the environment's database, ending the sessions of both.

        A crash in between leaves the draft alone: load again.
        """
        owner = self.name(environment_id)
        name, draft = sql.Identifier(owner), sql.Identifier(f"{owner}_load")
        async with self._database.exclusively(self.name(environment_id)) as connection:
            await connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(name))
            await connection.execute(sql.SQL("ALTER DATABASE {} RENAME TO {}").format(draft, name))

    async def drop_draft(self, environment_id: str) -> None:
        """Remove what a load that failed left. Does nothing if there is nothing."""
        draft = sql.Identifier(f"{self.name(environment_id)}_load")
        async with self._database.exclusively(self.name(environment_id)) as connection:
            await connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(draft))

    @asynccontextmanager
    async def _connect(self, name: str) -> AsyncIterator[AsyncConnection[DictRow]]:
        try:
            async with await AsyncConnection.connect(
                self.url(name).reveal(),
                autocommit=True,
                row_factory=dict_row,
                application_name="openmwaa-snapshot",
                connect_timeout=10,
            ) as connection:
                yield connection
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            if f'database "{name}" does not exist' in str(error):
                raise GiveUp(
                    f"the database {name} does not exist", code="DATABASE_MISSING", component="database"
                ) from error
            raise Retry("the metadata database cannot be reached", after_s=2.0) from error


async def _count(connection: AsyncConnection[DictRow]) -> dict[str, int]:
    rows: dict[str, int] = {}
    for table in await (await connection.execute(_TABLES.encode())).fetchall():
        schema, name = table["schemaname"], table["tablename"]
        cursor = await connection.execute(
            sql.SQL("SELECT count(*) AS rows FROM {}").format(sql.Identifier(schema, name))
        )
        counted = await cursor.fetchone()
        rows[f"{schema}.{name}"] = counted["rows"] if counted else 0
    return rows
