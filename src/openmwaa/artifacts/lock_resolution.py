"""Lock files: the whole closure of an Airflow version, with hashes, as of a day.

Resolved without a date every Airflow version installs and then fails (airflow.md 9), so a
newer lock is only as good as the check of the runtime that it makes (`runtime_check`).
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from datetime import date
from typing import Final

import uv

from openmwaa.kit.errors import GiveUp

_PLATFORM: Final = "x86_64-manylinux_2_28"  # hashes of the other platforms' files are listed too
_TIMEOUT_S: Final = 300.0


def compile_command(as_of: date, python: str) -> tuple[str, ...]:
    """Return the command that reads requirements from standard input and prints a lock.

    Args:
        as_of: Packages uploaded from this day (UTC) on are not seen.

        python: Version of Python, e.g. `3.11`.
    """
    return (
        *(uv.find_uv_bin(), "pip", "compile", "-", "--quiet", "--no-config"),
        *("--python-version", python, "--python-platform", _PLATFORM),
        *("--exclude-newer", f"{as_of}T00:00:00Z"),
        *("--generate-hashes", "--no-emit-index-url", "--no-annotate", "--no-header"),
    )


async def resolve_lock(requirements: Sequence[str], as_of: date) -> str:
    """Return the text of a lock.

    Raises:
        GiveUp: There is no solution, or the package index cannot be reached.
    """
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    process = await asyncio.create_subprocess_exec(
        *compile_command(as_of, python),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={name: value for name, value in os.environ.items() if not name.startswith("PYTHON")},
    )
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            out, err = await process.communicate("\n".join(requirements).encode())
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        lines = [line.strip() for line in err.decode(errors="replace").splitlines() if line.strip()]
        raise GiveUp(
            f"No lock can be made as of {as_of}",
            code="LOCK_FAILED",
            component="runtime",
            evidence=" ".join(lines[-3:])[:500],
        )
    return out.decode()
