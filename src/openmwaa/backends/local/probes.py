"""Is a replica ready? Asked from outside, within a second."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime
from pathlib import Path

import httpx

from openmwaa.environments.manifest import FileProbe, HttpProbe, Probe

_TIMEOUT_S = 2.0


class Prober:
    """Asks replicas; holds one HTTP client."""

    def __init__(self) -> None:
        self._client = httpx.AsyncClient(
            timeout=_TIMEOUT_S, trust_env=False, limits=httpx.Limits(max_keepalive_connections=0)
        )

    async def close(self) -> None:
        await self._client.aclose()

    async def is_ready(
        self, probe: Probe, *, index: int, home: Path, address: str, port: int | None, since: datetime
    ) -> bool:
        """Return whether the replica answers its probe now; without a probe it does.

        Args:
            probe: Of its component.

            index: Number of the replica.

            home: AIRFLOW_HOME as the host sees it.

            address: Where it listens, if it does.

            port: Likewise.

            since: When the replica was started: a file that is older is its predecessor's.
        """
        match probe:
            case None:
                return True
            case HttpProbe(path):
                try:
                    answer = await self._client.get(f"http://{address}:{port}{path}")
                except httpx.HTTPError:
                    return False
                return answer.is_success
            case FileProbe(path, max_age_s):
                file = home / path.format(index=index)
                try:
                    touched = (await asyncio.to_thread(file.stat, follow_symlinks=False)).st_mtime
                except OSError:
                    return False
                return touched >= since.timestamp() and time.time() - touched <= max_age_s
