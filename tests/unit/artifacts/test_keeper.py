"""The keeper leaves nothing of a program behind, however the program tries to get away."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from openmwaa.artifacts.build_sandbox import KEEPER
from openmwaa.artifacts.programs import run_program
from tests.support.eventually import eventually

SLEEP = "31750.25"
ORPHAN = f"""
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execve('/bin/sleep', ['sleep', '{SLEEP}'], {{}})
    os._exit(0)
os.wait()
print('started', flush=True)
"""


def command(*argv: str) -> tuple[str, ...]:
    return (sys.executable, "-I", "-S", str(KEEPER), str(os.getpid()), "0", *argv)


def python(code: str) -> tuple[str, ...]:
    return command(sys.executable, "-I", "-S", "-c", code)


def sleepers() -> list[int]:
    return [one.pid for one in psutil.process_iter(["cmdline"]) if one.info["cmdline"] == ["sleep", SLEEP]]


async def test_what_a_program_left_ends_with_it(tmp_path: Path) -> None:
    """An orphan in a session of its own, without our variables."""
    ended = await run_program(python(ORPHAN), cwd=tmp_path, env={})
    assert (ended.code, ended.lines) == (0, ("started",))
    assert not sleepers()


@pytest.mark.parametrize(("code", "expected"), [("raise SystemExit(7)", 7), ("import os; os.abort()", 134)])
async def test_the_exit_is_told_as_a_shell_does(tmp_path: Path, code: str, expected: int) -> None:
    assert (await run_program(python(code), cwd=tmp_path, env={})).code == expected


async def test_a_program_that_is_not_there_is_said(tmp_path: Path) -> None:
    ended = await run_program(command("/no/such/program"), cwd=tmp_path, env={})
    assert ended.code == 127
    assert "cannot start /no/such/program" in ended.lines[0]


async def test_cancelling_ends_all_of_it(tmp_path: Path) -> None:
    started = asyncio.Event()
    run = asyncio.create_task(
        run_program(
            python(ORPHAN + "time.sleep(1000)\n"),
            cwd=tmp_path,
            env={},
            on_line=lambda _: started.set(),
            stop_signal=signal.SIGTERM,
        )
    )
    await started.wait()
    assert await asyncio.to_thread(eventually, sleepers, within_s=10)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert not sleepers()


def test_it_ends_all_when_its_parent_is_killed() -> None:
    """`kill -9` of the service in the middle of a build."""
    parent = subprocess.Popen(
        [
            *(sys.executable, "-c"),
            "import os, subprocess, sys\n"
            f"subprocess.run([sys.executable, '-I', '-S', {str(KEEPER)!r}, str(os.getpid()), '0', sys.executable,"
            f" '-c', {ORPHAN + 'time.sleep(1000)'!r}])",
        ]
    )
    eventually(sleepers, within_s=20)
    parent.kill()
    parent.wait()
    eventually(lambda: not sleepers(), within_s=20, what="all ended")


async def test_the_program_cannot_release_our_lock(tmp_path: Path) -> None:
    """It inherits no descriptor: `flock` on one of ours would let another builder in."""
    with (tmp_path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        code = "import os; print(sorted(os.listdir('/proc/self/fd')))"
        ended = await run_program(python(code), cwd=tmp_path, env={}, pass_fds=(lock.fileno(),))
        assert ended.lines == ("['0', '1', '2', '3']",)  # the last is of the listing itself


async def test_a_flood_of_output_is_bounded(tmp_path: Path) -> None:
    code = "import sys\nfor _ in range(200): sys.stdout.write('x' * 1_000_000)\nprint('\\nlast')"
    started = time.monotonic()
    ended = await run_program(python(code), cwd=tmp_path, env={})
    assert ended.lines[-1] == "last"
    assert sum(map(len, ended.lines)) < 1_000_000
    assert time.monotonic() - started < 60
