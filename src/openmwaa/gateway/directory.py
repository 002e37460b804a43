"""The environment behind a host, remembered for a moment.

A page of Airflow's UI is dozens of requests, each of which asks for its environment. What
is remembered may be a second old; that is safe because tokens are bound to an environment's
id, which is never reused.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from openmwaa.environments.errors import EnvironmentNotFoundError
from openmwaa.environments.record import EnvironmentRecord
from openmwaa.gateway.hosts import ByLabel, ByOrdinal, HostKey, label_of, parse_host
from openmwaa.settings import Settings

_FRESH_S = 1.0


class EnvironmentLookup(Protocol):
    """The part of the store that the gateway reads."""

    async def get(self, name: str) -> EnvironmentRecord:
        """Return a living environment, or raise EnvironmentNotFoundError."""
        ...

    async def get_by_id(self, environment_id: str) -> EnvironmentRecord:
        """Return a living environment, or raise EnvironmentNotFoundError."""
        ...

    async def get_by_ordinal(self, ordinal: int) -> EnvironmentRecord:
        """Return a living environment, or raise EnvironmentNotFoundError."""
        ...


class EnvironmentDirectory:
    """Finds environments by host."""

    def __init__(
        self,
        settings: Settings,
        environments: EnvironmentLookup,
        *,
        fresh_s: float = _FRESH_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._environments = environments
        self._fresh_s = fresh_s
        self._clock = clock
        # Bounded by the number of environments: only what was found is remembered.
        self._found: dict[HostKey, tuple[float, EnvironmentRecord]] = {}

    async def find(self, host: str) -> EnvironmentRecord:
        """Return the environment that a Host header means.

        Raises:
            EnvironmentNotFoundError: No living environment has this host.

            Retry: The store cannot answer now.
        """
        key = parse_host(self._settings, host)
        if key is None:
            raise EnvironmentNotFoundError(f"No environment is served at {host}.")
        remembered = self._found.get(key)
        if remembered and self._clock() - remembered[0] < self._fresh_s:
            return remembered[1]
        self._found.pop(key, None)
        record = await self._load(key)
        self._found[key] = (self._clock(), record)
        return record

    async def _load(self, key: HostKey) -> EnvironmentRecord:
        match key:
            case ByOrdinal(ordinal):
                return await self._environments.get_by_ordinal(ordinal)
            case ByLabel(label):
                return await self._load_by_label(label, may_be_id=key.may_be_id)

    async def _load_by_label(self, label: str, *, may_be_id: bool) -> EnvironmentRecord:
        if may_be_id:
            # Ids first: nobody can take over an environment's host by choosing its id as a name.
            try:
                record = await self._environments.get_by_id(label)
            except EnvironmentNotFoundError:
                pass
            else:
                if label_of(record) == label:
                    return record
        record = await self._environments.get(label)
        if label_of(record) != label:
            raise EnvironmentNotFoundError(f"No environment is served at {label}.")
        return record
