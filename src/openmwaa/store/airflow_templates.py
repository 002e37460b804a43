"""Metadata databases as a runtime's migration leaves them, kept to make new ones from.

A template is a database `airflow_template_<runtime>` that nobody can connect to. It is made from
the first environment's database right after its migration, before any component has run, and
appears whole or not at all. What is in it belongs to a role that owns nothing else.
"""

from __future__ import annotations

from typing import Final

import psycopg
import structlog
from psycopg import AsyncConnection, sql
from psycopg.rows import DictRow

from openmwaa.store import airflow_databases as databases
from openmwaa.store.database import Database

_log = structlog.get_logger()

_OWNER: Final = "airflow_templates"
_RECIPE: Final = 1
"""Raised when `openmwaa_airflow.migrate` leaves something else behind for the same runtime."""


class AirflowTemplates:
    """Keeps templates, and makes metadata databases of environments from them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def has(self, runtime_id: str) -> bool:
        """Return whether there is a template of a runtime."""
        async with self._database.connection() as connection:
            return await _is_there(connection, template_name(runtime_id))

    async def keep(self, runtime_id: str, environment_id: str) -> None:
        """Make a template from an environment's database, which was only migrated so far.

        Ends every session of that database. Does nothing if there is one. Safe to repeat after a
        crash at any line. Where the server refuses there is no template, and no harm done.
        """
        template, name = template_name(runtime_id), databases.database_name(environment_id)
        async with self._database.exclusively(name), self._database.exclusively(template) as connection:
            if await _is_there(connection, template):
                return
            try:
                await self._make(connection, template, name)
            except psycopg.Error as error:
                _log.warning("template_not_kept", template=template, reason=str(error))
            finally:
                await connection.execute(databases.connectable(name, True))

    async def apply(self, runtime_id: str, environment_id: str) -> bool:
        """Put a copy of a runtime's template in the place of an environment's database.

        Safe to repeat after a crash at any line. Until it has ended well, the database may be missing.

        Returns:
            Whether it was done; if not, there is no template, or the server refuses and nothing was done.
        """
        template, name = template_name(runtime_id), databases.database_name(environment_id)
        fresh = databases.unfinished_name(environment_id)
        async with self._database.exclusively(name) as connection:
            if not await _is_there(connection, template):
                return False
            try:
                for statement in (databases.dropping(fresh), _clone(fresh, template), _private(fresh)):
                    await connection.execute(statement)
                async with await self._connect(fresh) as inner, inner.transaction():
                    await inner.execute(_give(fresh, name))
                    await inner.execute(_reassign(_OWNER, name))
            except psycopg.Error as error:
                _log.warning("template_not_used", template=template, reason=str(error))
                await connection.execute(databases.dropping(fresh))
                return False
            for statement in (databases.dropping(name), _rename(fresh, name)):
                await connection.execute(statement)
            return True

    async def _make(self, connection: AsyncConnection[DictRow], template: str, name: str) -> None:
        draft = f"{template}_draft"
        await connection.execute(databases.dropping(draft))
        for statement in (*databases.closing(name), _clone(draft, name), _private(draft)):
            await connection.execute(statement)
        cursor = await connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (_OWNER,))
        if not await cursor.fetchone():
            await connection.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(_OWNER)))
        await connection.execute(sql.SQL("GRANT {} TO CURRENT_USER").format(sql.Identifier(_OWNER)))
        async with await self._connect(draft) as inner, inner.transaction():
            # Who is to own something in a schema must be allowed to make it there.
            await inner.execute(sql.SQL("GRANT CREATE ON SCHEMA public TO {}").format(sql.Identifier(_OWNER)))
            await inner.execute(_reassign(name, _OWNER))
            # That took the environment's own database along, which every database knows of.
            await inner.execute(_give(name, name))
            await inner.execute("DELETE FROM log")  # says who migrated this one, and when
        for statement in (databases.connectable(draft, False), _rename(draft, template)):
            await connection.execute(statement)

    async def _connect(self, database: str) -> AsyncConnection[tuple[object, ...]]:
        url = self._database.url_of(database).reveal()
        return await psycopg.AsyncConnection.connect(url, autocommit=True)


def template_name(runtime_id: str) -> str:
    """Return the name of the template of a runtime."""
    return f"airflow_template_{runtime_id}_{_RECIPE}"


async def _is_there(connection: AsyncConnection[DictRow], database: str) -> bool:
    cursor = await connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (database,))
    return await cursor.fetchone() is not None


def _clone(database: str, source: str) -> databases.Statement:
    return sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(database), sql.Identifier(source))


def _private(database: str) -> databases.Statement:
    return sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(sql.Identifier(database))


def _reassign(owner: str, successor: str) -> databases.Statement:
    return sql.SQL("REASSIGN OWNED BY {} TO {}").format(sql.Identifier(owner), sql.Identifier(successor))


def _give(database: str, owner: str) -> databases.Statement:
    return sql.SQL("ALTER DATABASE {} OWNER TO {}").format(sql.Identifier(database), sql.Identifier(owner))


def _rename(database: str, name: str) -> databases.Statement:
    return sql.SQL("ALTER DATABASE {} RENAME TO {}").format(sql.Identifier(database), sql.Identifier(name))
