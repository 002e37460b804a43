"""What this host has left: disk, memory, ports. Reads only; `doctor` and the preflight share it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

import psutil

GIB: Final = 1024**3
MIB: Final = 1024**2

_CGROUP: Final = Path("/sys/fs/cgroup")
_UNLIMITED: Final = "max"


def free_disk(path: Path) -> tuple[int, Path]:
    """Return the free bytes for what is written at `path`, and the nearest folder that exists."""
    folder = next(one for one in (path, *path.parents) if one.exists())
    return shutil.disk_usage(folder).free, folder


def available_memory() -> int:
    """Return how many bytes can be used without swapping: of the host, or of this process's control group.

    A control group's limit is that of a container or of a systemd unit. Page cache counts as available.
    """
    limits = [psutil.virtual_memory().available]
    folder = _own_group()
    while folder is not None and folder.is_relative_to(_CGROUP):
        left = _left_in(folder)
        if left is not None:
            limits.append(left)
        folder = folder.parent if folder != _CGROUP else None
    return min(limits)


def _own_group() -> Path | None:
    """Return the folder of our control group; None without version 2 of control groups."""
    try:
        line = Path("/proc/self/cgroup").read_text().strip().splitlines()[-1]
    except (OSError, IndexError):
        return None
    hierarchy, _, path = line.partition("::")
    return _CGROUP / path.lstrip("/") if hierarchy == "0" else None


def _left_in(folder: Path) -> int | None:
    try:
        limit = (folder / "memory.max").read_text().strip()
        if limit == _UNLIMITED:
            return None
        used = int((folder / "memory.current").read_text())
        statistics = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return None
    cache = int(statistics.get("inactive_file", 0)) + int(statistics.get("active_file", 0))
    return max(0, int(limit) - used + cache)
