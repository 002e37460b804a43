"""How much memory replicas use."""

from __future__ import annotations

import resource
import time
from collections import defaultdict
from pathlib import Path
from typing import Final

from openmwaa.supervise.identity import ProcessIdentity, running, was_forked

_PAGE_BYTES = resource.getpagesize()
_SHARE_FOR_S: Final = 60.0
"""To count shared pages takes the kernel some 10 ms for a process."""

_shares: dict[ProcessIdentity, tuple[float, int]] = {}


def memory_bytes(prefix: str) -> dict[str, int]:
    """Return the memory of instances by name, all their processes together.

    Pages that processes share count in each of them, but for processes that were forked from one
    that had loaded everything: of those each has its share.

    Args:
        prefix: What their markers begin with; the name is what follows, up to the colon.
    """
    found: dict[str, int] = defaultdict(int)
    for one in running():
        if one.marker.startswith(prefix):
            found[one.marker.removeprefix(prefix).partition(":")[0]] += _memory(one.identity)
    return dict(found)


def _memory(identity: ProcessIdentity) -> int:
    return _share(identity) if was_forked(identity.pid) else _resident(identity.pid)


def _resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES
    except OSError:
        return 0


def _share(identity: ProcessIdentity) -> int:
    now = time.monotonic()
    when, share = _shares.get(identity, (0.0, 0))
    if not when or now - when > _SHARE_FOR_S:
        share = _proportional(identity.pid)
        _shares[identity] = (now, share)
        for old in [one for one, (looked, _) in _shares.items() if now - looked > 2 * _SHARE_FOR_S]:
            del _shares[old]
    return share


def _proportional(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return _resident(pid)
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)
