"""What a start-up script prints: kept in a file of its own, and copied to the component's output."""

from __future__ import annotations

import contextlib
import glob
import os
import sys
import time
from pathlib import Path
from types import TracebackType

KEPT = 5
"""Files per component, the newest included."""

MOST_BYTES = 64 * 1024 * 1024
"""What a script may print until it has ended: a loop that prints would fill the disk of all."""

_LAST_LINES = 20
_LAST_BYTES = 8192


class ScriptLog:
    """The file of one run.

    Its name is MWAA's, with the component in place of the host. The script writes to it by
    itself; `copy` brings to our output what was added since.
    """

    def __init__(self, folder: Path, component: str) -> None:
        """Make the file and remove old ones.

        Raises:
            OSError: The file cannot be made.
        """
        folder.mkdir(parents=True, exist_ok=True)
        stem = f"startup_script_execution_{component}_"
        _remove_old(folder, stem)
        self.path = folder / f"{stem}{int(time.time())}.log"
        self.descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o640)
        self._begin = self._copied = os.fstat(self.descriptor).st_size

    def __enter__(self) -> ScriptLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        os.close(self.descriptor)

    def say(self, text: str) -> None:
        """Add a line of our own. A full disk does not matter here."""
        with contextlib.suppress(OSError):
            size = os.fstat(self.descriptor).st_size
            begun = size > self._begin and os.pread(self.descriptor, 1, size - 1) != b"\n"
            line = "\n" * begun + text + "\n"
            os.write(self.descriptor, line.encode(errors="replace"))
        self.copy()

    def copy(self) -> None:
        """Copy what is new to our output."""
        with contextlib.suppress(OSError):
            while chunk := os.pread(self.descriptor, 65_536, self._copied):
                self._copied += len(chunk)
                sys.stdout.buffer.write(chunk)
            sys.stdout.buffer.flush()

    @property
    def is_too_long(self) -> bool:
        """Whether the script has printed more than it may."""
        return os.fstat(self.descriptor).st_size - self._begin > MOST_BYTES

    def tail(self) -> str:
        """Return the last lines of this run."""
        size = os.fstat(self.descriptor).st_size
        start = max(self._begin, size - _LAST_BYTES)
        text = os.pread(self.descriptor, _LAST_BYTES, start).decode(errors="replace")
        return "\n".join(text.splitlines()[-_LAST_LINES:])


def _remove_old(folder: Path, stem: str) -> None:
    """Make room for a new file; another component of the same name may do the same."""

    def epoch(path: Path) -> int:
        number = path.stem.removeprefix(stem)
        return int(number) if number.isdigit() else 0

    files = sorted(folder.glob(f"{glob.escape(stem)}*.log"), key=epoch, reverse=True)
    for path in files[KEPT - 1 :]:
        with contextlib.suppress(OSError):
            path.unlink()
