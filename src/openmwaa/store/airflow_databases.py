"""One database and one role per environment, in the same server as the store; and copies of it.

Names are `env_<id>`. The role owns its database and can connect to no other. A copy is a
database `env_<id>_copy_<label>` that belongs to us and that nobody can connect to. It
appears whole or not at all, because the server makes it in one statement.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final
from urllib.parse import quote, urlsplit

from psycopg import AsyncConnection, sql
from psycopg.errors import DiskFull
from psycopg.rows import DictRow

from openmwaa.kit.errors import GiveUp, Retry
from openmwaa.kit.secret import Secret
from openmwaa.store.database import Database

_CONNECTION_LIMIT: Final = 80
_LABEL: Final = re.compile(r"^[a-z0-9][a-z0-9_-]{0,39}$")  # a name of PostgreSQL has at most 63 bytes

_ONE_ITERATION: Final = "SELECT set_config(name, '1', true) FROM pg_settings WHERE name = 'scram_iterations'"
"""Iterations make guesses of a password dear. Ours are random and cannot be guessed, but a task of Airflow 2 logs in
for nearly everything that it asks, and the default of 4,096 takes both sides milliseconds each time. PostgreSQL 15 and
older know no other."""

Statement = sql.SQL | sql.Composed


class AirflowDatabases:
    """Makes and removes the metadata databases of environments."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def ensure(self, environment_id: str, password: Secret) -> None:
        """Make role and database if missing and set the password. Safe to repeat after a crash at any line."""
        name = sql.Identifier(database_name(environment_id))
        async with self._database.exclusively(database_name(environment_id)) as connection:
            cursor = await connection.execute(
                "SELECT 1 FROM pg_roles WHERE rolname = %s", (database_name(environment_id),)
            )
            verb = "ALTER" if await cursor.fetchone() else "CREATE"
            async with connection.transaction():
                await connection.execute(_ONE_ITERATION)
                await connection.execute(
                    sql.SQL(verb + " ROLE {} LOGIN PASSWORD {} CONNECTION LIMIT {}").format(
                        name, sql.Literal(password.reveal()), sql.Literal(_CONNECTION_LIMIT)
                    )
                )
            # A user's own server may give us a role that is no superuser: it must be a member to hand over ownership.
            await connection.execute(sql.SQL("GRANT {} TO CURRENT_USER").format(name))
            cursor = await connection.execute(
                "SELECT 1 FROM pg_database WHERE datname = %s", (database_name(environment_id),)
            )
            if not await cursor.fetchone():
                await connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(name, name))
            await connection.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(name))
            # A killed copy leaves it shut.
            await connection.execute(connectable(database_name(environment_id), True))

    async def drop(self, environment_id: str) -> None:
        """Remove database, copies and role, ending their sessions. Does nothing if they are gone."""
        async with self._database.exclusively(database_name(environment_id)) as connection:
            # First the copies: the role owns what is in them.
            for database in [*await self._beside(connection, environment_id), database_name(environment_id)]:
                await connection.execute(dropping(database))
            name = sql.Identifier(database_name(environment_id))
            await connection.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(name))

    async def exists(self, environment_id: str) -> bool:
        """Return whether the database, a copy or the role is still there."""
        row = await self._database.one(
            "SELECT EXISTS (SELECT 1 FROM pg_database"
            " WHERE datname = %(name)s OR starts_with(datname, %(name)s || '_'))"
            " OR EXISTS (SELECT 1 FROM pg_roles WHERE rolname = %(name)s) AS there",
            {"name": database_name(environment_id)},
        )
        return bool(row and row["there"])

    async def copy(self, environment_id: str, label: str) -> None:
        """Copy the database within the server. Keeps a copy of that label that is there already.

        Ends every session of the database and lets none in meanwhile: stop the components
        first, or what they write before the copy is made is in it and nothing after. Safe to
        repeat after a crash at any line.

        Args:
            environment_id: Id of the environment.

            label: Lower-case letters, digits, `_` and `-`, at most 40; unique per change.

        Raises:
            ValueError: The label has another form.

            GiveUp: There is no room for a copy.
        """
        async with self._database.exclusively(database_name(environment_id)) as connection:
            try:
                if not await self._is_there(connection, _copy_name(environment_id, label)):
                    for statement in copying(environment_id, label):
                        await connection.execute(statement)
            except DiskFull as error:
                raise GiveUp(
                    "There is no room for a copy of the metadata database",
                    code="DISK_FULL",
                    component="metadata database",
                    evidence=str(error).splitlines()[0],
                    fix="Free some space on the disk of the database server.",
                ) from error
            finally:
                # Also when the copy failed, or a killed predecessor left the door shut.
                await connection.execute(connectable(database_name(environment_id), True))

    async def restore(self, environment_id: str, label: str) -> None:
        """Put a copy in the place of the database. The copy stays; everything since it was made is lost.

        Safe to repeat after a crash at any line, and afterwards. Until it has ended well, the
        database may be missing or closed.

        Raises:
            ValueError: The label has another form.

            GiveUp: There is no such copy.

            Retry: The disk is full. The database is gone then, to make room; the copy is there.
        """
        async with self._database.exclusively(database_name(environment_id)) as connection:
            if not await self._is_there(connection, _copy_name(environment_id, label)):
                raise GiveUp(
                    f"The metadata database cannot be restored: there is no copy {label}",
                    code="COPY_MISSING",
                    component="metadata database",
                )
            try:
                for statement in restoring(environment_id, label):
                    await connection.execute(statement)
            except DiskFull as error:
                # What is replaced is worth nothing any more, and takes as much room as is needed.
                await connection.execute(dropping(database_name(environment_id)))
                raise Retry("there is no room to put the metadata database back", after_s=2.0) from error

    async def drop_copy(self, environment_id: str, label: str) -> None:
        """Remove a copy. Does nothing if it is gone."""
        async with self._database.exclusively(database_name(environment_id)) as connection:
            await connection.execute(dropping(_copy_name(environment_id, label)))

    async def has_copy(self, environment_id: str, label: str) -> bool:
        """Return whether there is a copy of that label; it is whole then."""
        async with self._database.connection() as connection:
            return await self._is_there(connection, _copy_name(environment_id, label))

    async def copies(self, environment_id: str) -> list[str]:
        """Return the labels of the environment's copies, sorted."""
        prefix = _copy_prefix(environment_id)
        async with self._database.connection() as connection:
            found = await self._beside(connection, environment_id)
        return sorted(name.removeprefix(prefix) for name in found if name.startswith(prefix))

    def url(self, environment_id: str, password: Secret) -> Secret:
        """Return `postgresql://env_<id>:<password>@host:port/env_<id>` as the environment uses it."""
        parts = urlsplit(self._database.url.reveal())
        name = database_name(environment_id)
        host = parts.hostname or "127.0.0.1"
        return Secret(
            f"postgresql://{name}:{quote(password.reveal(), safe='')}@{host}:{parts.port or 5432}/{name}"
        )

    async def _is_there(self, connection: AsyncConnection[DictRow], database: str) -> bool:
        cursor = await connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (database,))
        return await cursor.fetchone() is not None

    async def _beside(self, connection: AsyncConnection[DictRow], environment_id: str) -> list[str]:
        """Return the names of all databases of an environment but its own: copies, half a restoration."""
        cursor = await connection.execute(
            "SELECT datname FROM pg_database WHERE starts_with(datname, %s)",
            (f"{database_name(environment_id)}_",),
        )
        return [row["datname"] for row in await cursor.fetchall()]


def copying(environment_id: str, label: str) -> Sequence[Statement]:
    """Return the statements that make a copy, in order; none of them harms if it is the last one done."""
    database, copy = database_name(environment_id), _copy_name(environment_id, label)
    return (
        *closing(database),
        # Waits up to five seconds for the ended sessions to go. We own it: its role could let itself in.
        sql.SQL("CREATE DATABASE {} TEMPLATE {} ALLOW_CONNECTIONS false").format(
            sql.Identifier(copy), sql.Identifier(database)
        ),
        connectable(database, True),
    )


def restoring(environment_id: str, label: str) -> Sequence[Statement]:
    """Return the statements that restore a copy, in order.

    Whichever was the last one done, doing all of them again gives the same: the copy itself
    is only read, and the database is replaced by one that is already whole.
    """
    database, copy = database_name(environment_id), _copy_name(environment_id, label)
    fresh = unfinished_name(environment_id)
    return (
        dropping(fresh),
        sql.SQL("CREATE DATABASE {} TEMPLATE {} OWNER {} ALLOW_CONNECTIONS false").format(
            sql.Identifier(fresh), sql.Identifier(copy), sql.Identifier(database)
        ),
        # A copy has its objects' owners, not the rights on the database itself.
        sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(sql.Identifier(fresh)),
        dropping(database),
        sql.SQL("ALTER DATABASE {} RENAME TO {}").format(sql.Identifier(fresh), sql.Identifier(database)),
        connectable(database, True),
    )


def closing(database: str) -> Sequence[Statement]:
    """Return the statements that end every session of a database and let none in."""
    return (
        connectable(database, False),
        sql.SQL(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = {} AND pid <> pg_backend_pid()"
        ).format(sql.Literal(database)),
    )


def connectable(database: str, allowed: bool) -> Statement:
    """Return the statement that opens a database to sessions, or shuts it."""
    return sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}").format(
        sql.Identifier(database), sql.SQL("true" if allowed else "false")
    )


def dropping(database: str) -> Statement:
    """Return the statement that removes a database, ending its sessions, if it is there."""
    return sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(database))


def database_name(environment_id: str) -> str:
    """Return the name of an environment's database, which is its role's too."""
    return f"env_{environment_id}"


def unfinished_name(environment_id: str) -> str:
    """Return the name of the database that is about to take the place of the environment's."""
    return f"{database_name(environment_id)}_restoring"


def _copy_prefix(environment_id: str) -> str:
    return f"{database_name(environment_id)}_copy_"


def _copy_name(environment_id: str, label: str) -> str:
    if not _LABEL.match(label):
        raise ValueError(f"{label!r} cannot be the label of a copy")
    return _copy_prefix(environment_id) + label
