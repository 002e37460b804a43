"""Which lock file each Airflow version is installed from: the release's own, or a newer patch.

A newer patch comes with `openmwaa runtimes update` and is kept below `locks/` in the home:

    <runtime id>.txt    each lock that was ever brought, so that a runtime can be made again
    <version>.current   id of the runtime that new environments and maintenance windows get, and
                        of the release's own in whose place it is

Nothing that runs changes by it; see `environments.maintenance`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from openmwaa.kit.errors import GiveUp
from openmwaa.kit.files import write_atomically

_HASH_DIGITS: Final = 12


def runtime_id_of(version: str, text: bytes) -> str:
    """Return the id of the runtime that a lock makes."""
    return f"{version}-{hashlib.sha256(text).hexdigest()[:_HASH_DIGITS]}"


class LockFiles:
    """Lock files by version and by runtime."""

    def __init__(self, folder: Path, shipped: Mapping[str, Path]) -> None:
        """Take a folder.

        Args:
            folder: Holds newer patches; need not exist.

            shipped: Lock file of each version in this release.
        """
        self._folder = folder
        self._shipped = dict(shipped)

    def __iter__(self) -> Iterator[str]:
        return iter(self._shipped)

    def __contains__(self, version: object) -> bool:
        return version in self._shipped

    def current(self, version: str) -> str:
        """Return the id of the runtime that a version is installed as now.

        Raises:
            GiveUp: The version is not supported.
        """
        shipped = self.shipped(version)
        try:
            chosen, instead_of = self._pointer(version).read_text().split()
        except (FileNotFoundError, ValueError):
            return shipped
        # A later release brings a lock of its own, which is newer again.
        return chosen if instead_of == shipped and self._kept(chosen).exists() else shipped

    def shipped(self, version: str) -> str:
        """Return the id of the runtime that this release's own lock makes; errors as `current`."""
        if version not in self._shipped:
            known = ", ".join(self._shipped)
            raise GiveUp(f"Airflow {version} is not supported; supported: {known}", code="UNKNOWN_VERSION")
        return runtime_id_of(version, self._shipped[version].read_bytes())

    def lock_of(self, runtime_id: str) -> Path | None:
        """Return the lock of a runtime; None if it is not known (any more)."""
        kept = self._kept(runtime_id)
        if kept.exists():
            return kept
        version = runtime_id.rpartition("-")[0]
        shipped = self._shipped.get(version)
        if shipped is not None and runtime_id_of(version, shipped.read_bytes()) == runtime_id:
            return shipped
        return None

    def keep(self, version: str, text: str) -> str:
        """Keep a lock and return the id of its runtime; nothing uses it yet."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        runtime_id = runtime_id_of(version, text.encode())
        write_atomically(self._kept(runtime_id), text)
        return runtime_id

    def choose(self, version: str, runtime_id: str) -> None:
        """Install a version from a kept lock from now on, until a release brings another one itself."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomically(self._pointer(version), f"{runtime_id} {self.shipped(version)}")

    def _kept(self, runtime_id: str) -> Path:
        return self._folder / f"{runtime_id}.txt"

    def _pointer(self, version: str) -> Path:
        return self._folder / f"{version}.current"
