"""Lines of log files: when they were written, and what a person should see. Pure but for reading files."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, BinaryIO, Final

_STAMP: Final = re.compile(
    r"(?P<day>\d{4}-\d\d-\d\d)[T ](?P<time>\d\d:\d\d:\d\d)(?:[.,](?P<fraction>\d{1,6})\d*)?"
    r"\s?(?P<zone>Z|[+-]\d\d:?\d\d)?"
)
_STAMP_WITHIN: Final = 60
"""A line's time is near its beginning: `[2026-11-23T03:10:00.123+0000] …`, `2026-11-23T03:10:00Z …`."""

_DURATION: Final = re.compile(r"(\d+)([smhd])")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_TAIL_BYTES: Final = 512 * 1024
_HIDDEN_MEMBERS: Final = frozenset(
    {
        *("timestamp", "event", "level", "logger", "filename", "lineno", "loc", "error_detail"),
        *("dag_id", "run_id", "task_id", "ti_id", "map_index", "try_number"),  # the line's name says it
    }
)


@dataclass(frozen=True)
class LogLine:
    """One line.

    Attributes:
        at: When it was written; that of the line before where it does not say; None if none said.

        name: Of the component or task attempt.
    """

    at: datetime | None
    name: str
    text: str


def parse_since(text: str, now: datetime) -> datetime:
    """Return a moment from `90s`, `10m`, `2h`, `1d` (ago), or an ISO time (UTC unless it says otherwise).

    Raises:
        ValueError: Neither of these.
    """
    match = _DURATION.fullmatch(text)
    if match:
        return now - timedelta(seconds=int(match[1]) * _SECONDS[match[2]])
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


class LogFile:
    """Reads a growing file piece by piece, whole lines only."""

    def __init__(self, name: str, path: str) -> None:
        self.name = name
        self._path = path
        self._offset = 0
        self._rest = b""
        self._last: datetime | None = None

    def start_near_end(self) -> None:
        """Leave out what is far from the end."""
        with self._open() as file:
            size = os.fstat(file.fileno()).st_size
            if size > _TAIL_BYTES:
                file.seek(size - _TAIL_BYTES)
                file.readline()  # the rest of a line
                self._offset = file.tell()

    def read(self) -> list[LogLine]:
        """Return the lines that came since the last call. A file that is gone has none.

        Raises:
            PermissionError: This user may not read it.
        """
        try:
            with self._open() as file:
                if os.fstat(file.fileno()).st_size < self._offset:  # truncated: it begins anew
                    self._offset, self._rest = 0, b""
                file.seek(self._offset)
                data = file.read()
        except PermissionError:
            raise
        except OSError:
            return []
        self._offset += len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        return list(self._parse(line.decode(errors="replace") for line in lines))

    def finish(self) -> list[LogLine]:
        """Return the last line if it has no end: nobody waits for it."""
        rest, self._rest = self._rest, b""
        return list(self._parse([rest.decode(errors="replace")])) if rest else []

    def _parse(self, lines: Iterable[str]) -> Iterator[LogLine]:
        for line in lines:
            at, text = read_line(line)
            self._last = at or self._last
            yield LogLine(self._last, self.name, text)

    def _open(self) -> BinaryIO:
        # Task logs lie in folders of the environment's own user: a link there must not lead
        # elsewhere, and a pipe must not make us wait.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        file: BinaryIO = os.fdopen(os.open(self._path, flags), "rb")
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            file.close()
            raise OSError(f"{self._path} is not a regular file")
        return file


def read_line(line: str) -> tuple[datetime | None, str]:
    """Return when a line was written, if it says so, and its text for people.

    Airflow 3 writes task logs as JSON objects; they are shown as `time LEVEL event`.
    """
    if line.startswith("{") and '"event"' in line:
        try:
            entry = json.loads(line)
        except ValueError:
            entry = None
        if isinstance(entry, dict):
            return _moment(str(entry.get("timestamp", ""))), _CONTROL.sub("", _entry_text(entry))
    return _moment(line[:_STAMP_WITHIN]), _CONTROL.sub("", line)


def _entry_text(entry: dict[str, Any]) -> str:
    parts = [
        str(entry.get("timestamp", "")),
        str(entry.get("level", "")).upper(),
        str(entry.get("event", "")),
    ]
    parts += [f"{key}={value}" for key, value in entry.items() if key not in _HIDDEN_MEMBERS]
    details = entry.get("error_detail")
    if isinstance(details, list):
        parts += [
            f"{one.get('exc_type')}: {one.get('exc_value')}" for one in details if isinstance(one, dict)
        ]
    return " ".join(part for part in parts if part)


def _moment(text: str) -> datetime | None:
    match = _STAMP.search(text)
    if match is None:
        return None
    fraction = (match["fraction"] or "0").ljust(6, "0")
    zone = (match["zone"] or "+00:00").replace("Z", "+00:00")
    if ":" not in zone:
        zone = f"{zone[:3]}:{zone[3:]}"
    try:
        return datetime.fromisoformat(f"{match['day']}T{match['time']}.{fraction}{zone}")
    except ValueError:
        return None
