"""What to start."""

from __future__ import annotations

import hashlib
import json
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from openmwaa.supervise.forking import Forker
from openmwaa.supervise.sandbox import Sandbox


@dataclass(frozen=True)
class ProcessSpec:
    """One process.

    Attributes:
        name: Unique in its table; letters, digits, `-`, `_`, and `/` between parts.

        argv: Program and arguments; the program is an absolute path.

        env: The complete environment of the process.

        cwd: Its working folder.

        log_path: Standard output and error are appended here by the process itself, so that
            no line is lost when the supervisor dies.

        stop_signal: Asks the main process to end; its children are not signalled.

        stop_grace_s: How long it may take before the whole instance is killed.

        sandbox: User and mounts; None: as we are.

        fingerprint: Two specs with the same one are the same process. Empty: made from argv
            and env.

        forker: Forks it where that is possible, instead of starting a program.
    """

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: Path
    log_path: Path
    stop_signal: int = signal.SIGTERM
    stop_grace_s: float = 10.0
    sandbox: Sandbox | None = None
    fingerprint: str = ""
    forker: Forker | None = field(default=None, compare=False)

    @property
    def identity_hash(self) -> str:
        """What a running process is compared by."""
        if self.fingerprint:
            return self.fingerprint
        content = json.dumps([self.argv, sorted(self.env.items()), str(self.cwd)])
        return hashlib.sha256(content.encode()).hexdigest()[:16]
