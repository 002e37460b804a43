"""What the metadata databases of environments say: read only, with the service's own rights.

Exact and cheap: one indexed query, also with tens of thousands of task instances (airflow.md 5).
"""

from __future__ import annotations

import psycopg

from openmwaa.store.airflow_databases import database_name
from openmwaa.store.database import Database

_CONNECT_S = 3


class AirflowState:
    """Asks the metadata database of an environment."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def running_tasks(self, environment_id: str) -> int | None:
        """Return how many tasks run or wait in a worker's queue; None if the database cannot say."""
        url = self._database.url_of(database_name(environment_id)).reveal()
        try:
            async with await psycopg.AsyncConnection.connect(url, connect_timeout=_CONNECT_S) as connection:
                cursor = await connection.execute(
                    "SELECT count(*) FROM task_instance WHERE state IN ('running', 'restarting')"
                )
                row = await cursor.fetchone()
        except psycopg.Error:
            return None
        return int(row[0]) if row else None
