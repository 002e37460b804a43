"""Keeping processes: starts, restarts, replacements, removal, adoption."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
from pathlib import Path

import pytest

from openmwaa.supervise import ProcessTable, Supervisor
from openmwaa.supervise.identity import identity_of, marked
from tests.unit.supervise.conftest import Make, until


def pids(table: ProcessTable) -> list[int]:
    return sorted(marked(table.marker_prefix()))


def pid_of(supervisor: Supervisor, name: str = "one") -> int:
    return supervisor.observe()[name].pid or 0


async def test_a_wanted_process_runs_in_a_session_of_its_own_and_appends_to_its_log(
    supervisor: Supervisor, make: Make, tmp_path: Path
) -> None:
    spec = make("import time; print('hello', flush=True); time.sleep(600)")
    spec.log_path.parent.mkdir()
    spec.log_path.write_text("earlier\n")
    await supervisor.ensure(spec)
    pid = pid_of(supervisor)
    assert os.getsid(pid) == pid
    await until(lambda: spec.log_path.read_text() == "earlier\nhello\n")


async def test_wanting_the_same_again_changes_nothing(supervisor: Supervisor, make: Make) -> None:
    await supervisor.ensure(make())
    pid = pid_of(supervisor)
    await asyncio.gather(*(supervisor.ensure(make()) for _ in range(5)))
    assert pid_of(supervisor) == pid
    assert pids(supervisor.table) == [pid]


async def test_a_killed_process_is_started_again(supervisor: Supervisor, make: Make) -> None:
    ended: list[tuple[str, str]] = []
    supervisor = Supervisor(supervisor.table, on_exit=lambda *how: ended.append(how))
    await supervisor.ensure(make())
    pid = pid_of(supervisor)
    os.kill(pid, signal.SIGKILL)
    await until(lambda: pid_of(supervisor) not in {0, pid})
    seen = supervisor.observe()["one"]
    assert (seen.restarts, seen.last_exit) == (1, "signal 9")
    assert ended == [("one", "signal 9")]
    await supervisor.close()


async def test_a_crasher_is_started_again_more_and_more_slowly(
    supervisor: Supervisor, make: Make, tmp_path: Path
) -> None:
    await supervisor.ensure(make("import time; print(time.monotonic(), flush=True); raise SystemExit(3)"))
    log = tmp_path / "logs" / "one.log"
    await until(lambda: len(log.read_text().split()) >= 5, within_s=20)
    times = [float(word) for word in log.read_text().split()]
    waits = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert waits[0] < 1
    assert waits[3] > 2 * waits[0]
    assert supervisor.observe()["one"].last_exit == "exit code 3"


async def test_the_rest_of_an_instance_is_gone_before_its_replacement_starts(
    supervisor: Supervisor, make: Make, tmp_path: Path
) -> None:
    """Also children in other sessions, and what a child runs with variables of its own choice."""
    code = """
import os, subprocess, sys, time
folder = os.environ["FOLDER"]
def runs(pid):
    try:
        return open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
left = [name for name in os.listdir(folder) if name.startswith("child-") and runs(name[6:])]
open(os.path.join(folder, "found"), "a").write(f"{len(left)}\\n")
def start(code, **options):
    child = subprocess.Popen([sys.executable, "-I", "-S", "-c", code], **options)
    open(os.path.join(folder, f"child-{child.pid}"), "w").close()
sleep = "import time; time.sleep(600)"
start(sleep)
start(sleep, start_new_session=True)
start(f"import subprocess, sys; subprocess.run([sys.executable, '-I', '-S', '-c', '{sleep}'], env=dict())")
time.sleep(600)
"""
    await supervisor.ensure(make(code))
    main = pid_of(supervisor)
    await until(lambda: len(list(tmp_path.glob("child-*"))) == 3 and len(pids(supervisor.table)) == 5)
    members = pids(supervisor.table)
    os.kill(main, signal.SIGKILL)
    await until(lambda: (tmp_path / "found").read_text().split() == ["0", "0"])
    assert not [pid for pid in members if identity_of(pid)]


async def test_another_spec_replaces_the_process_with_the_old_ones_signal(
    supervisor: Supervisor, make: Make, tmp_path: Path
) -> None:
    code = """
import signal, time
def leave(*_):
    print("asked", flush=True); raise SystemExit
signal.signal(signal.SIGUSR1, leave)
print("ready", flush=True); time.sleep(600)
"""
    await supervisor.ensure(make(code, stop_signal=signal.SIGUSR1))
    log = tmp_path / "logs" / "one.log"
    await until(lambda: "ready" in log.read_text())
    old = pid_of(supervisor)
    await supervisor.ensure(make())
    assert identity_of(old) is None
    assert "asked" in log.read_text()
    assert pids(supervisor.table) == [pid_of(supervisor)]
    assert supervisor.observe()["one"].restarts == 0


async def test_stopping_asks_the_main_process_only(
    supervisor: Supervisor, make: Make, tmp_path: Path
) -> None:
    """As a Celery worker needs it: its children finish their tasks."""
    code = """
import os, signal, subprocess, sys, time
work = "import time; print('work', flush=True); time.sleep(1); print('done', flush=True)"
child = subprocess.Popen([sys.executable, "-I", "-S", "-c", work])
def leave(*_):
    print("child", child.wait(), flush=True); raise SystemExit
signal.signal(signal.SIGTERM, leave)
print("ready", flush=True); time.sleep(600)
"""
    await supervisor.ensure(make(code, stop_grace_s=20))
    log = tmp_path / "logs" / "one.log"
    await until(lambda: "ready" in log.read_text() and "work" in log.read_text())
    await supervisor.remove("one")
    assert log.read_text().split()[-3:] == ["done", "child", "0"]
    assert supervisor.observe() == {}
    assert supervisor.table.list() == []


async def test_what_does_not_leave_in_time_is_killed(
    supervisor: Supervisor, make: Make, tmp_path: Path
) -> None:
    code = (
        "import signal, time; signal.signal(15, signal.SIG_IGN); print('ready', flush=True); time.sleep(600)"
    )
    await supervisor.ensure(make(code, stop_grace_s=0.3))
    await until(lambda: "ready" in (tmp_path / "logs" / "one.log").read_text())
    began = asyncio.get_running_loop().time()
    await supervisor.remove("one")
    assert 0.3 <= asyncio.get_running_loop().time() - began < 3
    assert pids(supervisor.table) == []


async def test_a_process_that_wrote_over_its_variables_is_killed_too(
    supervisor: Supervisor, make: Make, tmp_path: Path
) -> None:
    """By its descriptor: the marker cannot find it."""
    code = """
import ctypes, signal, sys, time
signal.signal(15, signal.SIG_IGN)
stat = open("/proc/self/stat").read().rpartition(")")[2].split()
start, end = int(stat[49 - 2]), int(stat[50 - 2])  # env_start and env_end
ctypes.memset(start, 0, end - start)
print("ready", flush=True); time.sleep(600)
"""
    await supervisor.ensure(make(code, stop_grace_s=0.2))
    pid = pid_of(supervisor)
    await until(lambda: "ready" in (tmp_path / "logs" / "one.log").read_text())
    assert pids(supervisor.table) == []
    await supervisor.remove("one")
    assert identity_of(pid) is None


async def test_the_next_supervisor_adopts_what_runs(supervisor: Supervisor, make: Make) -> None:
    await supervisor.ensure(make())
    pid = pid_of(supervisor)
    await supervisor.close()
    assert identity_of(pid) is not None

    following = Supervisor(supervisor.table)
    assert [record.name for record in following.unwanted()] == ["one"]
    await following.ensure(make())
    assert pid_of(following) == pid
    os.kill(pid, signal.SIGKILL)
    await until(lambda: pid_of(following) not in {0, pid})
    await following.remove("one")
    assert pids(supervisor.table) == []


async def test_an_end_that_nobody_saw_counts_as_one(supervisor: Supervisor, make: Make) -> None:
    await supervisor.ensure(make())
    pid = pid_of(supervisor)
    await supervisor.close()
    os.kill(pid, signal.SIGKILL)
    await until(lambda: identity_of(pid) is None)
    following = Supervisor(supervisor.table)
    await following.ensure(make())
    seen = following.observe()["one"]
    assert (seen.restarts, seen.last_exit) == (1, "ended")
    await following.close()


async def test_removing_what_only_the_table_knows_gives_it_its_own_time(
    supervisor: Supervisor, make: Make, tmp_path: Path
) -> None:
    code = """
import signal, time
def leave(*_):
    time.sleep(0.5); print("drained", flush=True); raise SystemExit
signal.signal(signal.SIGUSR2, leave)
print("ready", flush=True); time.sleep(600)
"""
    await supervisor.ensure(make(code, stop_signal=signal.SIGUSR2, stop_grace_s=20))
    log = tmp_path / "logs" / "one.log"
    await until(lambda: "ready" in log.read_text())
    await supervisor.close()
    await Supervisor(supervisor.table).remove("one")
    assert log.read_text().split() == ["ready", "drained"]
    assert supervisor.table.list() == []


async def test_a_removal_that_was_abandoned_can_be_taken_up_again(supervisor: Supervisor, make: Make) -> None:
    code = (
        "import signal, time; signal.signal(15, signal.SIG_IGN); print('ready', flush=True); time.sleep(600)"
    )
    spec = make(code, stop_grace_s=600)
    await supervisor.ensure(spec)
    await until(lambda: "ready" in spec.log_path.read_text())
    pid = pid_of(supervisor)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(supervisor.remove("one"), 0.2)
    assert pid_of(supervisor) == pid
    await supervisor.remove("one", grace_s=0.1)
    assert pids(supervisor.table) == []


async def test_wanting_during_a_removal_waits_and_starts_a_new_one(
    supervisor: Supervisor, make: Make
) -> None:
    await supervisor.ensure(make())
    pid = pid_of(supervisor)
    await asyncio.gather(supervisor.remove("one"), supervisor.ensure(make()))
    assert pids(supervisor.table) == [pid_of(supervisor)]
    assert pid_of(supervisor) != pid
    assert [record.name for record in supervisor.table.list()] == ["one"]


async def test_a_program_that_cannot_be_started(supervisor: Supervisor, make: Make, tmp_path: Path) -> None:
    program = tmp_path / "program"
    spec = make(argv=(str(program),))
    with pytest.raises(FileNotFoundError):
        await supervisor.ensure(spec)
    await supervisor.ensure(spec, patient=True)
    seen = supervisor.observe()["one"]
    assert seen.pid is None
    assert seen.last_exit == "cannot start: No such file or directory"
    program.write_text("#!/bin/sh\nexec sleep 600\n")
    program.chmod(0o755)
    await until(lambda: pid_of(supervisor))


async def test_a_full_disk_after_the_start_makes_no_second_copy(
    supervisor: Supervisor, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = supervisor.table.write

    def refuse_identities(record: object) -> None:
        if record.identity is not None:
            raise OSError(28, "No space left on device")
        write(record)

    monkeypatch.setattr(supervisor.table, "write", refuse_identities)
    await supervisor.ensure(make())
    monkeypatch.undo()
    pid = pid_of(supervisor)
    assert pids(supervisor.table) == [pid]
    await supervisor.close()
    following = Supervisor(supervisor.table)
    await following.ensure(make())
    assert pid_of(following) == pid
    await following.close()


async def test_a_variable_of_the_spec_cannot_hide_the_process(supervisor: Supervisor, make: Make) -> None:
    await supervisor.ensure(make(env={"OPENMWAA_PROCESS": "elsewhere"}))
    assert pids(supervisor.table) == [pid_of(supervisor)]
