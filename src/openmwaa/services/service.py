"""What the supervisor needs to know of each embedded service."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from openmwaa.kit.errors import OperatorError
from openmwaa.services.users import ServiceUser
from openmwaa.supervise import ProcessSpec


class ServiceBrokenError(OperatorError):
    """A service cannot be prepared; the text holds what its own tool said."""


class EmbeddedService(Protocol):
    """One server that `up` starts. All methods are idempotent."""

    @property
    def name(self) -> str:
        """Name of the process in the table, e.g. `postgres`."""
        ...

    async def prepare(self) -> None:
        """Make folders, secrets and configuration. Called before `spec`, while no process of it runs or one is adopted.

        Raises:
            ServiceBrokenError: It can never start like this.
        """
        ...

    def spec(self) -> ProcessSpec:
        """Return how to start it. Equal as long as nothing changed that needs a restart."""
        ...

    async def is_ready(self) -> bool:
        """Return whether it does its work now: a query, a stored object, an answered request."""
        ...

    async def settle(self) -> None:
        """Do what can be done only while it runs, e.g. its own configuration over its own API."""
        ...


def base_variables(home: Path) -> dict[str, str]:
    """Return the environment of a server: nothing is inherited."""
    return {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C.UTF-8", "TZ": "UTC", "HOME": str(home)}


def digest_of(*files: Path) -> str:
    """Return a short hash of files, so that a changed configuration changes the process specification."""
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in files)).hexdigest()[:16]


async def run_tool(
    argv: Sequence[str | Path],
    *,
    user: ServiceUser,
    cwd: Path,
    variables: Mapping[str, str],
    stdin: bytes = b"",
    timeout_s: float = 60.0,
) -> tuple[int, str]:
    """Run one of the services' own tools as their user and wait for it; it is killed if abandoned.

    Returns:
        Exit code and what it printed.

    Raises:
        TimeoutError: It did not end in time.
    """
    identity = {"user": user.uid, "group": user.gid, "extra_groups": []} if user.switch else {}
    process = await asyncio.create_subprocess_exec(
        *(os.fspath(part) for part in argv),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=cwd,
        env=dict(variables),
        start_new_session=True,
        **identity,  # type: ignore[arg-type]
    )
    try:
        async with asyncio.timeout(timeout_s):
            output, _ = await process.communicate(stdin)
    except BaseException:
        if process.returncode is None:
            process.kill()
            await process.wait()
        raise
    return process.returncode or 0, output.decode(errors="replace")
