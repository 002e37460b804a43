"""All repositories over one database."""

from __future__ import annotations

from typing import Self

from openmwaa.kit.keyring import Keyring
from openmwaa.kit.secret import Secret
from openmwaa.store.airflow_databases import AirflowDatabases
from openmwaa.store.airflow_state import AirflowState
from openmwaa.store.airflow_templates import AirflowTemplates
from openmwaa.store.database import Database
from openmwaa.store.environments import EnvironmentRepository
from openmwaa.store.events import EventRepository
from openmwaa.store.keys import AccessKeyRepository, KeyRepository
from openmwaa.store.leases import LeaseRepository
from openmwaa.store.metadata_dumps import MetadataDumps
from openmwaa.store.snapshot_schedules import ScheduleRepository
from openmwaa.store.snapshots import SnapshotRepository


class Store:
    """What the control plane remembers."""

    def __init__(self, database: Database, keyring: Keyring) -> None:
        self.database = database
        self.environments = EnvironmentRepository(database)
        self.leases = LeaseRepository(database)
        self.events = EventRepository(database)
        self.access_keys = AccessKeyRepository(database, keyring)
        self.keys = KeyRepository(database, keyring)
        self.airflow_databases = AirflowDatabases(database)
        self.airflow_templates = AirflowTemplates(database)
        self.airflow_state = AirflowState(database)
        self.metadata_dumps = MetadataDumps(database)
        self.snapshots = SnapshotRepository(database)
        self.schedules = ScheduleRepository(database)

    @classmethod
    async def open(cls, url: Secret, keyring: Keyring, *, timeout_s: float = 30.0) -> Self:
        """Connect and migrate.

        Args:
            url: `postgresql://…` of a user that may create roles and databases.

            keyring: Seals what must not be stored in clear.

            timeout_s: How long to wait for the server.

        Raises:
            StoreUnavailableError: No connection within the time.
        """
        return cls(await Database.open(url, timeout_s=timeout_s), keyring)

    async def close(self) -> None:
        """Close every connection."""
        await self.database.close()
