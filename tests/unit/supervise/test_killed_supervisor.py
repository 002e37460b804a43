"""A supervisor that is killed at any line: what it started is found again, and never started twice."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from openmwaa.supervise import ProcessSpec, ProcessTable, Supervisor
from openmwaa.supervise.identity import identity_of, marked
from tests.unit.supervise.conftest import Make, until

_DIE_AT = """
import asyncio, os, signal, sys
from pathlib import Path
import openmwaa.supervise.process as process
from openmwaa.supervise import ProcessSpec, ProcessTable, Supervisor

where, folder = sys.argv[1], Path(sys.argv[2])
die = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
write, spawn = ProcessTable.write, process._spawn

def dying_write(self, record):
    if where == "before-record": die()
    if where == "before-identity" and record.identity: die()
    write(self, record)
    if where == "after-record" and not record.identity: die()
    if where == "after-identity" and record.identity: die()

def dying_spawn(*how):
    child = spawn(*how)
    if where == "after-spawn": die()
    return child

ProcessTable.write, process._spawn = dying_write, dying_spawn
code = "import time; time.sleep(600)"
spec = ProcessSpec(
    name="one", argv=(sys.executable, "-I", "-S", "-c", code), env={"PATH": "/usr/bin:/bin", "FOLDER": str(folder)},
    cwd=folder, log_path=folder / "logs" / "one.log",
)
asyncio.run(Supervisor(ProcessTable(folder / "table")).ensure(spec))
raise SystemExit("did not die")
"""


@pytest.mark.parametrize(
    ("where", "runs"),
    [
        ("before-record", False),
        ("after-record", False),
        ("after-spawn", True),
        ("before-identity", True),
        ("after-identity", True),
    ],
)
async def test_killed_while_starting(
    where: str, runs: bool, table: ProcessTable, make: Make, tmp_path: Path
) -> None:
    killed = subprocess.run(
        (sys.executable, "-c", _DIE_AT, where, str(tmp_path)), capture_output=True, text=True, check=False
    )
    assert killed.returncode == -9, killed.stderr
    # The kernel carries on with an exec that was under way.
    before = await until(lambda: list(marked(table.marker_prefix()))) if runs else []
    supervisor = Supervisor(table)
    await supervisor.ensure(make())
    after = list(marked(table.marker_prefix()))
    assert len(after) == 1
    assert after == [supervisor.observe()["one"].pid]
    if runs:
        assert after == before
    await supervisor.remove("one")
    assert not list(marked(table.marker_prefix()))


async def test_a_stranger_with_the_recorded_pid_is_left_alone(table: ProcessTable, make: Make) -> None:
    """The pid was given to another process since: after a reboot that is likely."""
    stranger = subprocess.Popen((sys.executable, "-I", "-S", "-c", "import time; time.sleep(600)"))
    try:
        supervisor = Supervisor(table)
        await supervisor.ensure(make())
        record = table.read("one")
        await supervisor.remove("one")
        assert record is not None
        assert record.identity is not None
        stale = record.identity.__class__(
            stranger.pid, record.identity.start_ticks - 1000, record.identity.boot_id
        )
        table.write(record.__class__(**{**record.__dict__, "identity": stale}))
        following = Supervisor(table)
        await following.ensure(make())
        assert following.observe()["one"].pid not in {None, stranger.pid}
        await following.remove("one")
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


async def test_of_two_leaders_the_main_process_is_adopted(table: ProcessTable, make: Make) -> None:
    """A child may lead a session too, and carries the same marker."""
    code = """
import subprocess, sys, time
subprocess.Popen([sys.executable, "-I", "-S", "-c", "import time; time.sleep(600)"], start_new_session=True)
time.sleep(600)
"""
    supervisor = Supervisor(table)
    await supervisor.ensure(make(code))
    main = supervisor.observe()["one"].pid
    await until(lambda: sum(os.getsid(pid) == pid for pid in marked(table.marker_prefix())) == 2)
    await supervisor.close()
    record = table.read("one")
    assert record is not None
    table.write(record.__class__(**{**record.__dict__, "identity": None}))
    following = Supervisor(table)
    await following.ensure(make(code))
    assert following.observe()["one"].pid == main
    await following.remove("one")


async def test_markers_of_similar_names_are_not_mixed_up(table: ProcessTable, make: Make) -> None:
    supervisor = Supervisor(table)
    names = ("e/worker-1", "e/worker-10", "e2/worker-1")
    for name in names:
        await supervisor.ensure(make(name=name))
    await supervisor.remove("e/worker-1")
    assert {name for name, seen in supervisor.observe().items() if seen.pid} == set(names[1:])
    assert [record.name for record in table.list("e")] == ["e/worker-10"]
    for name in names:
        await supervisor.remove(name)


@pytest.mark.parametrize("name", ["", "/", "../x", "a/../b", "a//b", "a b", "."])
def test_a_name_stays_inside_the_table(name: str, table: ProcessTable, make: Make) -> None:
    with pytest.raises(ValueError, match="cannot be the name"):
        table.read(name)


def test_identity_of_an_ended_process_is_none() -> None:
    child = subprocess.Popen(("/bin/true",))
    child_id = identity_of(child.pid)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert identity_of(child.pid) is None  # it ended, though nobody has reaped it yet
    child.wait()
    assert child_id is None or not child_id.is_alive


def test_a_record_from_another_release_can_be_read(table: ProcessTable, make: Make) -> None:
    spec: ProcessSpec = make()
    path = table.folder / f"{spec.name}.json"
    path.write_text(
        '{"name": "one", "marker": "m", "spec_hash": "h", "identity": null, '
        '"started_at": "2026-01-01T00:00:00+00:00", "unknown": 1}'
    )
    record = table.read("one")
    assert record is not None
    assert record.stop_grace_s == 10.0
