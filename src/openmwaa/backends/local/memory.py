"""How much memory replicas use."""

from __future__ import annotations

import resource
import threading
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from openmwaa.supervise.identity import ProcessIdentity, running, was_forked

_PAGE_BYTES = resource.getpagesize()
_AT_LEAST_S: Final = 2.0
_TIMES_ITS_LENGTH: Final = 100
"""Between two looks; so they take no more than 1 % of a core, however many processes there are."""

_SHARE_FOR_AT_MOST_S: Final = 60.0
"""To count shared pages takes the kernel some 10 ms for a process; one that has just started still grows."""


@dataclass(frozen=True)
class _Share:
    counted_at: float
    good_for_s: float
    bytes: int


class HostMemory:
    """Counts for every environment of this host; may be asked by many threads, and often."""

    def __init__(self) -> None:
        self._looking = threading.Lock()
        self._look_again_at = 0.0
        self._bytes: dict[str, int] = {}
        self._shares: dict[ProcessIdentity, _Share] = {}

    def of_instances(self, prefix: str) -> dict[str, int]:
        """Return the bytes of instances by name, all their processes together, as of the last look.

        Pages that processes share count in each of them, but for processes that were forked from one
        that had loaded everything: of those each has its share.

        Args:
            prefix: What their markers begin with; the name is what follows, up to the colon.
        """
        with self._looking:  # who waits for another to look need not look again
            began = time.monotonic()
            if began >= self._look_again_at:
                self._look()
                ended = time.monotonic()
                self._look_again_at = ended + max(_AT_LEAST_S, _TIMES_ITS_LENGTH * (ended - began))
            found: dict[str, int] = defaultdict(int)
            for marker, count in self._bytes.items():
                if marker.startswith(prefix):
                    found[marker.removeprefix(prefix).partition(":")[0]] += count
            return dict(found)

    def _look(self) -> None:
        self._bytes = defaultdict(int)
        shares, self._shares = self._shares, {}
        for one in running():
            if not one.marker:
                continue
            if was_forked(one.identity.pid):
                share = self._shares[one.identity] = _renewed(shares.get(one.identity), one.identity.pid)
                self._bytes[one.marker] += share.bytes
            else:
                self._bytes[one.marker] += _resident(one.identity.pid)


def _renewed(known: _Share | None, pid: int) -> _Share:
    now = time.monotonic()
    if known is not None and now - known.counted_at < known.good_for_s:
        return known
    good_for_s = min(2 * known.good_for_s, _SHARE_FOR_AT_MOST_S) if known else _AT_LEAST_S
    return _Share(now, good_for_s, _proportional(pid))


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
