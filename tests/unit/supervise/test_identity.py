"""Finding a process by its marker at any moment of its life."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from openmwaa.supervise.identity import MARKER_VARIABLE, carries


def test_a_process_in_the_middle_of_exec_is_found(tmp_path: Path) -> None:
    """For a moment it has no environment that could be read; to miss it would start a second copy."""
    program = tmp_path / "again"
    program.write_text('#!/bin/sh\nexec "$0"\n')
    program.chmod(0o755)
    process = subprocess.Popen([program], env={**os.environ, MARKER_VARIABLE: "home/one:1"})
    try:
        missed = sum(not carries(process.pid, "home/one:") for _ in range(3000))
    finally:
        process.kill()
        process.wait()
    assert missed == 0


def test_a_process_without_any_variable_is_not_waited_for() -> None:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], env={})
    try:
        assert not carries(process.pid, "")
    finally:
        process.kill()
        process.wait()


def test_a_kernel_thread_carries_nothing() -> None:
    assert not carries(2, "")
