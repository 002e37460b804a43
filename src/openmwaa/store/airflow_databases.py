"""One database and one role per environment, in the same server as the store.

Names are `env_<id>`. The role owns its database and can connect to no other.
"""

from __future__ import annotations

from urllib.parse import quote, urlsplit

from psycopg import sql

from openmwaa.kit.secret import Secret
from openmwaa.store.database import Database

_CONNECTION_LIMIT = 80


class AirflowDatabases:
    """Makes and removes the metadata databases of environments."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def ensure(self, environment_id: str, password: Secret) -> None:
        """Make role and database if missing and set the password. Safe to repeat after a crash at any line."""
        name = sql.Identifier(_name(environment_id))
        async with self._database.connection() as connection:
            cursor = await connection.execute(
                "SELECT 1 FROM pg_roles WHERE rolname = %s", (_name(environment_id),)
            )
            verb = "ALTER" if await cursor.fetchone() else "CREATE"
            await connection.execute(
                sql.SQL(verb + " ROLE {} LOGIN PASSWORD {} CONNECTION LIMIT {}").format(
                    name, sql.Literal(password.reveal()), sql.Literal(_CONNECTION_LIMIT)
                )
            )
            # A user's own server may give us a role that is no superuser: it must be a member to hand over ownership.
            await connection.execute(sql.SQL("GRANT {} TO CURRENT_USER").format(name))
            cursor = await connection.execute(
                "SELECT 1 FROM pg_database WHERE datname = %s", (_name(environment_id),)
            )
            if not await cursor.fetchone():
                await connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(name, name))
            await connection.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(name))

    async def drop(self, environment_id: str) -> None:
        """Remove database and role, ending their sessions. Does nothing if they are gone."""
        name = sql.Identifier(_name(environment_id))
        async with self._database.connection() as connection:
            await connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(name))
            await connection.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(name))

    async def exists(self, environment_id: str) -> bool:
        """Return whether the database or the role is still there."""
        row = await self._database.one(
            "SELECT EXISTS (SELECT 1 FROM pg_database WHERE datname = %(name)s)"
            " OR EXISTS (SELECT 1 FROM pg_roles WHERE rolname = %(name)s) AS there",
            {"name": _name(environment_id)},
        )
        return bool(row and row["there"])

    def url(self, environment_id: str, password: Secret) -> Secret:
        """Return `postgresql://env_<id>:<password>@host:port/env_<id>` as the environment uses it."""
        parts = urlsplit(self._database.url.reveal())
        name = _name(environment_id)
        host = parts.hostname or "127.0.0.1"
        return Secret(
            f"postgresql://{name}:{quote(password.reveal(), safe='')}@{host}:{parts.port or 5432}/{name}"
        )


def _name(environment_id: str) -> str:
    return f"env_{environment_id}"
