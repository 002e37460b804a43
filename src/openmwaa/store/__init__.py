"""PostgreSQL as the only truth. Nothing outside this package imports the driver."""

from openmwaa.store.database import Database, StoreUnavailableError
from openmwaa.store.store import Store

__all__ = ["Database", "Store", "StoreUnavailableError"]
