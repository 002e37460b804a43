"""How much memory replicas use."""

from __future__ import annotations

import resource
import threading
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from openmwaa.supervise.identity import ProcessIdentity, Running, running, was_forked

_PAGE_BYTES = resource.getpagesize()
_LOOK_EVERY_S: Final = 2.0
"""To look at every process of a host takes 20 ms, and who starts is asked about four times a second."""

_SHARE_FOR_AT_MOST_S: Final = 60.0
"""To count shared pages takes the kernel some 10 ms for a process; one that has just started still grows."""


@dataclass(frozen=True)
class _Share:
    counted_at: float
    good_for_s: float
    bytes: int


class HostMemory:
    """Counts for every environment of this host; may be asked by many threads."""

    def __init__(self) -> None:
        self._looking = threading.Lock()
        self._looked_at = -_LOOK_EVERY_S
        self._running: list[Running] = []
        self._shares: dict[ProcessIdentity, _Share] = {}

    def of_instances(self, prefix: str) -> dict[str, int]:
        """Return the bytes of instances by name, all their processes together, as of the last two seconds.

        Pages that processes share count in each of them, but for processes that were forked from one
        that had loaded everything: of those each has its share.

        Args:
            prefix: What their markers begin with; the name is what follows, up to the colon.
        """
        found: dict[str, int] = defaultdict(int)
        with self._looking:  # who waits for another to look need not look again
            self._look()
            for one in self._running:
                if one.marker.startswith(prefix):
                    name = one.marker.removeprefix(prefix).partition(":")[0]
                    found[name] += self._bytes_of(one.identity)
        return dict(found)

    def _look(self) -> None:
        now = time.monotonic()
        if now - self._looked_at < _LOOK_EVERY_S:
            return
        self._running, self._looked_at = running(), now
        alive = {one.identity for one in self._running}
        self._shares = {one: share for one, share in self._shares.items() if one in alive}

    def _bytes_of(self, identity: ProcessIdentity) -> int:
        return self._share(identity) if was_forked(identity.pid) else _resident(identity.pid)

    def _share(self, identity: ProcessIdentity) -> int:
        now = time.monotonic()
        known = self._shares.get(identity)
        if known is None or now - known.counted_at >= known.good_for_s:
            good_for_s = min(2 * known.good_for_s, _SHARE_FOR_AT_MOST_S) if known else _LOOK_EVERY_S
            known = _Share(now, good_for_s, _proportional(identity.pid))
            self._shares[identity] = known
        return known.bytes


def _resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES
    except OSError:
        return 0


def _proportional(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return _resident(pid)
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)
