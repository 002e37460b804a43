"""How much memory replicas use."""

from __future__ import annotations

import resource
from collections import defaultdict
from pathlib import Path

from openmwaa.supervise.identity import running

_PAGE_BYTES = resource.getpagesize()


def resident_bytes(prefix: str) -> dict[str, int]:
    """Return the resident memory of instances by name, all their processes together.

    Pages that processes share count in each of them.

    Args:
        prefix: What their markers begin with; the name is what follows, up to the colon.
    """
    found: dict[str, int] = defaultdict(int)
    for one in running():
        if one.marker.startswith(prefix):
            found[one.marker.removeprefix(prefix).partition(":")[0]] += _resident(one.identity.pid)
    return dict(found)


def _resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES
    except OSError:
        return 0
