"""What the PostgreSQL server of the environments' databases allows and holds."""

from __future__ import annotations

from openmwaa.store.airflow_databases import database_name
from openmwaa.store.database import Database

_SPARE_CONNECTIONS = 10


class DatabaseServer:
    """Questions to the server; changes nothing."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def why_no_new_database(self) -> str | None:
        """Return why no role and database can be made there; None if they can.

        Raises:
            StoreUnavailableError: The server does not answer.
        """
        row = await self._database.one(
            "SELECT rolname, rolsuper OR (rolcreatedb AND rolcreaterole) AS may_create,"
            " pg_is_in_recovery() AS is_standby,"
            " current_setting('max_connections')::int AS connections,"
            " (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend') AS used"
            " FROM pg_roles WHERE rolname = current_user"
        )
        if row is None:
            return "the user of the settings has no role"
        if row["is_standby"]:
            return "the server is a standby, which cannot be written to"
        if not row["may_create"]:
            return f"role {row['rolname']} may not create roles and databases (CREATEROLE, CREATEDB)"
        if row["connections"] - row["used"] < _SPARE_CONNECTIONS:
            return f"{row['used']} of max_connections = {row['connections']} are in use"
        return None

    async def size_bytes(self, environment_id: str) -> int:
        """Return the size of an environment's database on the server's disk; 0 if there is none.

        Raises:
            StoreUnavailableError: The server does not answer.
        """
        row = await self._database.one(
            "SELECT pg_database_size(oid) AS size FROM pg_database WHERE datname = %s",
            (database_name(environment_id),),
        )
        return int(row["size"]) if row else 0
