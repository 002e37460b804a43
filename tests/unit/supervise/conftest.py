"""A table of its own for each test, and nothing left running after it."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from openmwaa.supervise import ProcessSpec, ProcessTable, Supervisor
from openmwaa.supervise.process import kill_marked

Make = Callable[..., ProcessSpec]


@pytest.fixture
async def table(tmp_path: Path) -> AsyncIterator[ProcessTable]:
    table = ProcessTable(tmp_path / "table")
    yield table
    await kill_marked(table.marker_prefix())


@pytest.fixture
async def supervisor(table: ProcessTable) -> AsyncIterator[Supervisor]:
    supervisor = Supervisor(table)
    yield supervisor
    await supervisor.close()


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Return a spec that runs a few lines of Python; keywords are fields of the spec."""

    def make(code: str = "import time; time.sleep(600)", name: str = "one", **fields: Any) -> ProcessSpec:
        return ProcessSpec(
            **{
                "name": name,
                "argv": (sys.executable, "-I", "-S", "-c", code),
                "env": {"PATH": "/usr/bin:/bin", "FOLDER": str(tmp_path)},
                "cwd": tmp_path,
                "log_path": tmp_path / "logs" / f"{name}.log",
                "stop_signal": signal.SIGTERM,
                **fields,
            }
        )

    return make


async def until(condition: Callable[[], Any], *, within_s: float = 10.0, what: str = "") -> Any:
    """Wait for a condition and return what it gave."""
    deadline = asyncio.get_running_loop().time() + within_s
    while not (value := condition()):
        assert asyncio.get_running_loop().time() < deadline, f"not within {within_s:.0f} s: {what}"
        await asyncio.sleep(0.01)
    return value
