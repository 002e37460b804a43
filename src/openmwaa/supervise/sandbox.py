"""Whom a process runs as and which files it sees; carried out by `launcher.py` before `exec`."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

LAUNCHER = Path(__file__).with_name("launcher.py")


@dataclass(frozen=True)
class Cover:
    """Hide a folder: `source` is seen in its place, an empty one if None."""

    target: str
    source: str | None = None


@dataclass(frozen=True)
class Mounts:
    """A mount namespace of its own for the process and what it starts.

    Attributes:
        covers: Folders to hide.

        keep: Paths that stay visible although a cover hides a folder above them.

        binds: (source, target): `source` is seen at `target` too. A target that does not exist
            is made in the namespace only; nothing changes on the host.
    """

    covers: tuple[Cover, ...] = ()
    keep: tuple[str, ...] = ()
    binds: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Sandbox:
    """User and mounts of a process. Needs root."""

    uid: int
    gid: int
    mounts: Mounts | None = None

    def instructions(self, cwd: Path) -> dict[str, Any]:
        """Return what `launcher.py` follows, as plain values."""
        return {**dataclasses.asdict(self), "cwd": str(cwd)}

    def command(self, argv: tuple[str, ...], cwd: Path) -> tuple[str, ...]:
        """Return the command that enters the sandbox and becomes `argv`."""
        instructions = json.dumps(self.instructions(cwd))
        # -I -S: neither the target's PYTHON* variables nor site packages concern the launcher.
        return (sys.executable, "-I", "-S", str(LAUNCHER), instructions, *argv)


@cache
def can_mount() -> bool:
    """Return whether this host lets us make mount namespaces."""
    probe = subprocess.run(
        (sys.executable, "-I", "-S", str(LAUNCHER), "probe"), capture_output=True, check=False
    )
    return probe.returncode == 0
