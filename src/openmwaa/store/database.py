"""The connection pool, the migrations, and what a lost connection means.

Every method of the store either commits or changes nothing. A connection that breaks
becomes `StoreUnavailableError`, a `Retry`: callers answer 503 or try again later.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import resources
from typing import Any, Self
from urllib.parse import urlsplit

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from openmwaa.kit.errors import Retry
from openmwaa.kit.secret import Secret

_MIGRATION_LOCK = 0x0_4D574141  # any constant of ours: "MWAA"


class StoreUnavailableError(Retry):
    """PostgreSQL cannot answer now."""

    def __init__(self) -> None:
        super().__init__("the store cannot be reached", after_s=1.0)


class Database:
    """A pool of connections to one PostgreSQL database."""

    def __init__(self, pool: AsyncConnectionPool[AsyncConnection[DictRow]], url: Secret) -> None:
        self._pool = pool
        self.url = url

    @classmethod
    async def open(cls, url: Secret, *, max_size: int = 10, timeout_s: float = 30.0) -> Self:
        """Connect, waiting up to `timeout_s` for the server, and bring the schema up to date.

        Raises:
            StoreUnavailableError: No connection within the time.
        """
        pool: AsyncConnectionPool[AsyncConnection[DictRow]] = AsyncConnectionPool(
            url.reveal(),
            min_size=1,
            max_size=max_size,
            timeout=10.0,
            open=False,
            # A killed server leaves dead connections in the pool: test each before it is used.
            check=AsyncConnectionPool.check_connection,
            kwargs={"row_factory": dict_row, "autocommit": True, "application_name": "openmwaa"},
        )
        try:
            await pool.open(wait=True, timeout=timeout_s)
        except (psycopg.OperationalError, PoolTimeout) as error:
            await pool.close()
            raise StoreUnavailableError from error
        database = cls(pool, url)
        await database._migrate()
        return database

    def url_of(self, database: str) -> Secret:
        """Return our URL of another database of the same server."""
        return Secret(urlsplit(self.url.reveal())._replace(path=f"/{database}").geturl())

    async def close(self) -> None:
        """Close every connection."""
        await self._pool.close()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection[DictRow]]:
        """Give a connection inside a transaction: committed at the end, rolled back on an error."""
        async with self.connection() as connection, connection.transaction():
            yield connection

    async def all(self, query: str, parameters: Any = None) -> list[dict[str, Any]]:
        """Run one statement and return its rows."""
        async with self.connection() as connection:
            cursor = await connection.execute(query.encode(), parameters)
            return await cursor.fetchall() if cursor.description else []

    async def one(self, query: str, parameters: Any = None) -> dict[str, Any] | None:
        """Run one statement and return its first row."""
        rows = await self.all(query, parameters)
        return rows[0] if rows else None

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[AsyncConnection[DictRow]]:
        """Give a connection in autocommit mode, for statements that allow no transaction."""
        try:
            async with self._pool.connection() as connection:
                yield connection
        except (psycopg.OperationalError, psycopg.InterfaceError, PoolTimeout) as error:
            raise StoreUnavailableError from error

    @asynccontextmanager
    async def exclusively(self, what: str) -> AsyncIterator[AsyncConnection[DictRow]]:
        """Give a connection in autocommit mode to one holder of a name at a time, over all processes.

        A lease says who may work on an environment, but cannot stop a statement of a holder that
        stood still meanwhile: it would come between those of its successor. The lock goes with the
        connection, so a killed holder leaves none behind.
        """
        async with self.connection() as connection:
            key = int.from_bytes(hashlib.sha256(what.encode()).digest()[:8], signed=True)
            await connection.execute("SELECT pg_advisory_lock(%s)", (key,))
            try:
                yield connection
            finally:
                await connection.execute("SELECT pg_advisory_unlock(%s)", (key,))

    async def _migrate(self) -> None:
        """Apply the numbered SQL files that are missing, each in a transaction with its own record.

        A library would keep a lock row, which a killed process leaves behind; an advisory
        lock goes with its connection.
        """
        async with self.transaction() as connection:
            await connection.execute("SELECT pg_advisory_xact_lock(%s)", (_MIGRATION_LOCK,))
            await connection.execute(
                "CREATE TABLE IF NOT EXISTS schema_migrations ("
                "name text PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now())"
            )
            cursor = await connection.execute("SELECT name FROM schema_migrations")
            applied = {row["name"] for row in await cursor.fetchall()}
            for name, statements in _migrations():
                if name not in applied:
                    await connection.execute(statements.encode())
                    await connection.execute("INSERT INTO schema_migrations (name) VALUES (%s)", (name,))


def _migrations() -> list[tuple[str, str]]:
    folder = resources.files("openmwaa.store") / "migrations"
    files = sorted((entry for entry in folder.iterdir() if entry.name.endswith(".sql")), key=lambda e: e.name)
    return [(entry.name, entry.read_text()) for entry in files]
