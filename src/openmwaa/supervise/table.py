"""The memory of a supervisor: one JSON file per process, written before the process starts."""

from __future__ import annotations

import asyncio
import dataclasses
import fcntl
import json
import os
import re
import shutil
import signal
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from openmwaa.kit.errors import OperatorError
from openmwaa.kit.files import write_atomically
from openmwaa.supervise.identity import ProcessIdentity

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*")

_POLL_S = 0.05


@dataclass(frozen=True)
class ProcessRecord:
    """What is known of one process.

    Attributes:
        marker: Value of `OPENMWAA_PROCESS` that this instance and all it starts carry.

        spec_hash: `ProcessSpec.identity_hash` it was started with.

        identity: None: about to start, or the starter died before it could say.

        restarts: Unexpected ends since it was first started with this hash.

        stop_signal: As in the `ProcessSpec`: whoever stops it may not know that any more.

        stop_grace_s: Likewise.
    """

    name: str
    marker: str
    spec_hash: str
    identity: ProcessIdentity | None
    started_at: datetime
    restarts: int = 0
    last_exit: str | None = None
    stop_signal: int = signal.SIGTERM
    stop_grace_s: float = 10.0

    def to_json(self) -> str:
        return json.dumps({**dataclasses.asdict(self), "started_at": self.started_at.isoformat()})

    @classmethod
    def from_json(cls, text: str) -> ProcessRecord:
        known = {field.name for field in dataclasses.fields(cls)}
        data = {name: value for name, value in json.loads(text).items() if name in known}
        identity = data["identity"]
        return cls(
            **{
                **data,
                "identity": ProcessIdentity(**identity) if identity else None,
                "started_at": datetime.fromisoformat(data["started_at"]),
            }
        )


class TableInUseError(OperatorError):
    """Another supervisor has the table."""


class ProcessTable:
    """A folder of records. One supervisor writes; anybody of the same user may read."""

    def __init__(self, folder: Path) -> None:
        """Take a folder.

        Args:
            folder: Made if missing, mode 0700. Its path is part of every marker, so that two
                tables never mistake each other's processes.
        """
        self.folder = folder
        self._owner: int | None = None
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    async def own(self, *, within_s: float) -> None:
        """Be the one supervisor of this table, until this process ends.

        Args:
            within_s: How long to wait for a former one that is about to end.

        Raises:
            TableInUseError: Another one stays.
        """
        descriptor = os.open(self.folder / ".owner", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        deadline = time.monotonic() + within_s
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    os.close(descriptor)
                    raise TableInUseError(f"another process supervises {self.folder}") from None
                await asyncio.sleep(_POLL_S)
            else:
                self._owner = descriptor
                return

    def disown(self) -> None:
        """Let another supervisor have the table."""
        if self._owner is not None:
            os.close(self._owner)
            self._owner = None

    def marker_prefix(self, name_prefix: str = "") -> str:
        """Return what the markers of all processes begin with whose names begin so."""
        return f"{self.folder}:{name_prefix}"

    def write(self, record: ProcessRecord) -> None:
        """Add or replace a record, durably."""
        path = self._path(record.name)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomically(path, record.to_json())

    def read(self, name: str) -> ProcessRecord | None:
        """Return a record; None if there is none."""
        try:
            return ProcessRecord.from_json(self._path(name).read_text())
        except FileNotFoundError:
            return None

    def forget(self, name: str) -> None:
        """Remove a record; does nothing if there is none."""
        self._path(name).unlink(missing_ok=True)

    def forget_group(self, group: str) -> None:
        """Remove every record whose name begins with `<group>/`."""
        shutil.rmtree(self._path(group).with_suffix(""), ignore_errors=True)

    def list(self, group: str = "") -> list[ProcessRecord]:
        """Return the records by name: all, or those whose name begins with `<group>/`."""
        folder = self._path(group).with_suffix("") if group else self.folder
        paths = sorted(folder.rglob("*.json"))
        found = [self.read(str(path.relative_to(self.folder))[: -len(".json")]) for path in paths]
        return [record for record in found if record is not None]

    def _path(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} cannot be the name of a process")
        return self.folder / f"{name}.json"
