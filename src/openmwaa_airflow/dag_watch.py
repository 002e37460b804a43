"""Tells Airflow's DAG processor at once which files a new snapshot of the DAG folder changed.

By itself the processor finds new and removed files when an interval has passed, and changed ones
when it has worked off everything else: with a thousand files, minutes later. The DAG folder is a
link that is moved to a new snapshot, and unchanged files are the same inodes in both. So whether
anything changed is one `readlink` in each round of the processor's loop, and what changed is a
comparison of inodes. Then the processor lists the folder now, and parses what changed first.

Airflow is not modified: methods of its manager are wrapped in this process. Where a version does
not have them, or they fail, nothing happens and the intervals hold.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

_log = logging.getLogger(__name__)

KIND = "dag-processor"
"""Names of components of this kind begin with it."""

_BY_INTERVALS = "DAG files are found by Airflow's intervals alone"
_IN_MOVED_TO, _IN_NONBLOCK, _IN_CLOEXEC = 0x80, 0o4000, 0o2000000
_LONGEST_EVENTS = 64 * 1024


class Watch:
    """The DAG folder as the processor last saw it."""

    def __init__(self, folder: Path) -> None:
        """Look at a folder that is a link to a snapshot, perhaps over further links."""
        self._folder = folder
        self._snapshot: str | None = None
        self._inodes: dict[str, tuple[int, int]] = {}
        self._waiting: dict[str, None] = {}
        self.broken = False
        """It has failed once, and must not be used any more."""

        self.descriptor = _watch_moves_in(_folder_of_last_link(folder))
        """Readable after the link may have moved; None: that is seen when the loop comes round."""

    @contextlib.contextmanager
    def guarding(self) -> Iterator[None]:
        """Let a failure of ours be the last one, and nobody else's."""
        try:
            yield
        except Exception:  # noqa: BLE001 - Airflow works without it
            self.broken = True
            _log.exception(_BY_INTERVALS)

    def moved(self) -> bool:
        """Note what changed if there is a new snapshot; return whether there is one."""
        self.drain()
        snapshot = os.path.realpath(self._folder)
        if snapshot == self._snapshot:
            return False
        before, self._inodes = self._inodes, dict(_inodes(snapshot))
        if self._snapshot is None:  # the processor finds these by itself: it is about to list the folder
            self._snapshot = snapshot
            return False
        self._snapshot = snapshot
        changed = sorted(path for path, inode in self._inodes.items() if before.get(path) != inode)
        self._waiting = dict.fromkeys([*changed, *(path for path in self._waiting if path in self._inodes)])
        return True

    def doubt(self, paths: Iterable[str]) -> None:
        """Have files parsed after those that changed, because they may have needed one that did.

        Args:
            paths: Relative to the folder: those that could not be imported, or are being parsed.
        """
        self._waiting |= dict.fromkeys(path for path in paths if path in self._inodes)

    def due(self, busy: Callable[[str], bool]) -> list[str]:
        """Return what to parse, relative to the folder, in this order and each once.

        A file that is being parsed stays until that ends: it may have been read before it changed,
        and the processor would not parse it twice at a time.

        Args:
            busy: Whether a file is being parsed now.
        """
        due = [path for path in self._waiting if not busy(path)]
        for path in due:
            del self._waiting[path]
        return due

    def drain(self) -> None:
        """Take notice of the events that were waiting."""
        if self.descriptor is not None:
            with contextlib.suppress(BlockingIOError):
                os.read(self.descriptor, _LONGEST_EVENTS)


def install() -> None:
    """Wrap what this version's processor does in each round; without it, say so and change nothing."""
    try:
        from airflow.dag_processing.manager import DagFileProcessorManager  # noqa: PLC0415
        from airflow.settings import DAGS_FOLDER  # noqa: PLC0415

        folder = Path(DAGS_FOLDER)
        if not folder.is_symlink():  # the user's own, or a test's
            return
        watch = Watch(folder)
        if hasattr(DagFileProcessorManager, "_refresh_dag_dir"):
            from openmwaa_airflow import dag_watch_v2 as generation  # noqa: PLC0415
        else:
            from openmwaa_airflow import dag_watch_v3 as generation  # noqa: PLC0415
        generation.wrap(DagFileProcessorManager, watch)
    except Exception:  # noqa: BLE001 - Airflow works without it
        _log.exception(_BY_INTERVALS)


def _inodes(top: str) -> Iterable[tuple[str, tuple[int, int]]]:
    for folder, _, names in os.walk(top):
        for name in names:
            path = os.path.join(folder, name)
            with contextlib.suppress(OSError):
                stat = os.stat(path)
                # A file that returns to an earlier content is the inode it was, with a new time.
                yield os.path.relpath(path, top), (stat.st_ino, stat.st_mtime_ns)


def _folder_of_last_link(path: Path) -> Path:
    """Return where the link is that points to something that is no link."""
    while (target := path.parent / path.readlink()).is_symlink():
        path = target
    return path.parent


def _watch_moves_in(folder: Path) -> int | None:
    """Return a descriptor that is readable after something in a folder got its name by a rename."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.inotify_init1(_IN_NONBLOCK | _IN_CLOEXEC)
    if descriptor < 0:
        return None
    if libc.inotify_add_watch(descriptor, os.fsencode(folder), _IN_MOVED_TO) < 0:
        os.close(descriptor)
        return None
    return int(descriptor)
