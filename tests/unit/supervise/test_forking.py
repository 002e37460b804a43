"""Processes that a preloaded one forks, kept like any other; the preloaded one has loaded nothing here."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from openmwaa.supervise import ManagedProcess, ProcessSpec, ProcessTable, Supervisor
from openmwaa.supervise.forking import CannotForkError, Command, ForkedChild, fork
from openmwaa.supervise.identity import carries, identity_of, marked, was_forked
from openmwaa.supervise.orphans import become_subreaper, reap_orphans
from openmwaa.supervise.process import kill_marked
from openmwaa.supervise.sandbox import LAUNCHER, Sandbox
from tests.unit.supervise.conftest import Make, until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="entering sandboxes needs root")

STAND_IN = """
import os, random, sys
from pathlib import Path
from openmwaa_airflow.zygote import child
from openmwaa_airflow.zygote.program import finish
from openmwaa_airflow.zygote.server import Server
path, launcher = Path(sys.argv[1]), child.load_launcher(sys.argv[2])
own = random.Random(1)
child.find_title()
child.find_generators()
host = os.open("/proc/self/ns/mnt", os.O_RDONLY)
connection = Server(path).serve()
if connection is not None:
    request, _ = child.begin(connection, host_mounts=host, launcher=launcher)
    connection.close()
    finish(lambda: exec(request.argv[-1], {"__name__": "__main__", "own": own}))
"""


class Forking:
    """Forks from the stand-in; `Forker`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.forked = 0

    def fork(self, name: str, command: Command, stdio: tuple[int, int, int]) -> ForkedChild | None:
        try:
            child = fork(self.path, command, stdio)
        except CannotForkError:
            return None
        self.forked += 1
        return child


@pytest.fixture
async def stand_in(tmp_path: Path) -> AsyncIterator[subprocess.Popen[bytes]]:
    path = tmp_path / "forks.sock"
    source = Path(__file__).parents[3] / "src"
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", STAND_IN, str(path), str(LAUNCHER)],
        env={"PYTHONPATH": str(source), "SPT_NOENV": "1", "OF_THE_ZYGOTE": "yes"},
        start_new_session=True,
    )
    try:
        await until(path.exists, what="the stand-in listens")
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def forker(stand_in: subprocess.Popen[bytes], tmp_path: Path) -> Forking:
    return Forking(tmp_path / "forks.sock")


def output(spec: ProcessSpec) -> str:
    return spec.log_path.read_text() if spec.log_path.exists() else ""


async def test_a_forked_process_has_its_own_session_variables_and_output(
    table: ProcessTable, make: Make, forker: Forking
) -> None:
    code = """
import json, os, sys
print(json.dumps([os.getsid(0) == os.getpid(), sorted(os.environ), os.getcwd(), os.read(0, 1).decode(),
    sorted(os.listdir("/proc/self/fd"))]))
"""
    spec = make(code, forker=forker)
    process = ManagedProcess.start(spec, table)
    report = await process.wait()
    assert str(report) == "exit code 0"
    session, names, folder, stdin, descriptors = json.loads(output(spec))
    assert session
    assert names == ["FOLDER", "OPENMWAA_PROCESS", "PATH", "SPT_NOENV"]
    assert folder == str(spec.cwd)
    assert stdin == ""
    assert set(descriptors) <= {"0", "1", "2", "3"}  # the last one lists the folder
    assert forker.forked == 1
    process.close()


async def test_it_is_found_by_its_marker_and_shows_nothing_else(
    table: ProcessTable, make: Make, forker: Forking
) -> None:
    """Also what it forks; a program that it starts carries the marker among its variables."""
    code = """
import os, subprocess, sys, time
if os.fork() == 0:
    time.sleep(600)
subprocess.Popen([sys.executable, "-I", "-S", "-c", "import time; time.sleep(600)"], start_new_session=True)
print("ready", flush=True)
time.sleep(600)
"""
    spec = make(code, forker=forker)
    process = ManagedProcess.start(spec, table)
    await until(lambda: output(spec))
    marker = process.record.marker
    assert carries(process.pid, marker)
    assert was_forked(process.pid)
    assert Path(f"/proc/{process.pid}/environ").read_bytes() == f"OPENMWAA_PROCESS={marker}\0".encode()
    assert await kill_marked(marker) == 3
    assert str(await process.wait()) == "signal 9"
    process.close()


async def test_how_it_ends_is_known(table: ProcessTable, make: Make, forker: Forking) -> None:
    for code, how in (
        ("raise SystemExit(7)", "exit code 7"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", "signal 15"),
        ("1 / 0", "exit code 1"),
        ("import atexit, sys; atexit.register(print, 'bye'); sys.exit('no')", "exit code 1"),
    ):
        process = ManagedProcess.start(make(code, forker=forker), table)
        assert str(await process.wait()) == how
        process.close()
    assert output(make()).endswith("no\nbye\n")


async def test_it_runs_as_the_sandboxs_user(table: ProcessTable, make: Make, forker: Forking) -> None:
    code = "import os; print(os.getresuid(), os.getgroups(), os.readlink('/proc/self/exe') != '')"
    spec = make(code, forker=forker, cwd=Path("/"), sandbox=Sandbox(54321, 54322))
    process = ManagedProcess.start(spec, table)
    await process.wait()
    assert output(spec) == "(54321, 54321, 54321) [] True\n"
    process.close()


async def test_no_two_draw_the_same_numbers(table: ProcessTable, make: Make, forker: Forking) -> None:
    code = """
import multiprocessing, random, tempfile, uuid
print(random.random(), own.random(), uuid.uuid4(), tempfile.mktemp(),
    bytes(multiprocessing.current_process().authkey).hex())
"""
    specs = [make(code, name=f"one-{number}", forker=forker) for number in range(2)]
    for spec in specs:
        process = ManagedProcess.start(spec, table)
        await process.wait()
        process.close()
    drawn = [output(spec).split() for spec in specs]
    assert len(drawn[0]) == 5
    assert not set(drawn[0]) & set(drawn[1])


async def test_a_supervisor_keeps_it_like_any_other(
    supervisor: Supervisor, make: Make, forker: Forking
) -> None:
    await supervisor.ensure(make(forker=forker, fingerprint="same"))
    pid = supervisor.observe()["one"].pid
    assert pid
    await until(lambda: was_forked(pid))
    os.kill(pid, signal.SIGKILL)
    await until(lambda: supervisor.observe()["one"].pid not in {None, pid})
    assert supervisor.observe()["one"].last_exit == "signal 9"
    assert forker.forked == 2
    await supervisor.close()
    successor = Supervisor(supervisor.table)
    again = supervisor.table.read("one")
    await successor.ensure(make(forker=forker, fingerprint="same"))
    assert again
    assert again.identity
    assert successor.observe()["one"].pid == again.identity.pid
    assert forker.forked == 2
    await successor.remove("one")
    assert identity_of(again.identity.pid) is None


async def test_without_the_preloaded_process_a_program_is_started(
    supervisor: Supervisor, make: Make, forker: Forking, stand_in: subprocess.Popen[bytes]
) -> None:
    """And what it had forked runs on, and is kept."""
    become_subreaper()
    reaper = asyncio.create_task(reap_orphans())
    await supervisor.ensure(make(forker=forker))
    await supervisor.ensure(make("import time; time.sleep(600)", name="two", forker=forker))
    first, second = (supervisor.observe()[name].pid or 0 for name in ("one", "two"))
    stand_in.kill()
    stand_in.wait()
    await supervisor.ensure(make(name="three", forker=forker))
    third = supervisor.observe()["three"].pid
    assert third
    assert not was_forked(third)
    os.kill(first, signal.SIGTERM)
    await until(lambda: supervisor.observe()["one"].last_exit)
    assert supervisor.observe()["one"].last_exit == "signal 15"  # we have inherited it
    assert supervisor.observe()["two"].pid == second
    await supervisor.remove("two")
    await until(lambda: not Path(f"/proc/{second}").exists())
    reaper.cancel()
    for name in ("one", "three"):
        await supervisor.remove(name)


async def test_what_was_forked_for_a_killed_supervisor_is_adopted(
    table: ProcessTable, make: Make, forker: Forking, tmp_path: Path
) -> None:
    """It died between the fork and the note of it: the marker leads to the process."""
    code = f"""
import asyncio, os, signal
from pathlib import Path
import openmwaa.supervise.process as process
from openmwaa.supervise import ProcessSpec, ProcessTable, Supervisor
from openmwaa.supervise.forking import fork

class Dying:
    def fork(self, name, command, stdio):
        fork(Path({str(forker.path)!r}), command, stdio)
        os.kill(os.getpid(), signal.SIGKILL)

folder = Path({str(tmp_path)!r})
asyncio.run(Supervisor(ProcessTable(folder / "table")).ensure(ProcessSpec(
    name="one", argv=("python", "import time; time.sleep(600)"), env={{}}, cwd=folder,
    log_path=folder / "one.log", forker=Dying(), fingerprint="same",
)))
"""
    killed = await asyncio.to_thread(subprocess.run, [sys.executable, "-c", code], check=False)
    assert killed.returncode == -signal.SIGKILL
    record = table.read("one")
    assert record
    assert record.identity is None
    await until(lambda: list(marked(record.marker)))
    supervisor = Supervisor(table)
    await supervisor.ensure(make(forker=forker, fingerprint="same"))
    assert forker.forked == 0
    assert [supervisor.observe()["one"].pid] == list(marked(record.marker))
    await supervisor.remove("one")


async def test_a_client_that_goes_away_gets_no_process(
    tmp_path: Path, stand_in: subprocess.Popen[bytes]
) -> None:
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)) as connection:
        connection.connect(str(tmp_path / "forks.sock"))
        content, descriptors, _, _ = socket.recv_fds(connection, 4096, 1)
        pid = json.loads(content)["pid"]
        os.close(descriptors[0])
    await until(lambda: not Path(f"/proc/{pid}").exists())


async def test_others_are_refused(tmp_path: Path, stand_in: subprocess.Popen[bytes]) -> None:
    """The socket is closed to them; and whoever gets it opened by somebody else is not answered."""
    path = tmp_path / "forks.sock"
    assert path.stat().st_mode & 0o777 == 0o600
    tmp_path.chmod(0o755)
    path.chmod(0o666)
    code = f"""
import os, socket
os.setgid(54322), os.setuid(54321)
client = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
client.connect({str(path)!r})
client.settimeout(5)
print(client.recv(100))
"""
    for folder in tmp_path.parents:
        if folder.stat().st_uid == os.geteuid() and "pytest" in str(folder):
            folder.chmod(0o755)
    answer = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout == "b''\n"


def descriptors_of(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def zombies_of(pid: int) -> Iterator[str]:
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, parent, *_ = entry.read_text().rpartition(")")[2].split()
            if int(parent) == pid and state == "Z":
                yield entry.parent.name


async def test_200_forks_leave_nothing(
    table: ProcessTable, make: Make, forker: Forking, stand_in: subprocess.Popen[bytes]
) -> None:
    async def once() -> None:
        process = ManagedProcess.start(make("pass", forker=forker), table)
        assert str(await process.wait()) == "exit code 0"
        process.close()

    await once()
    theirs, ours = descriptors_of(stand_in.pid), descriptors_of(os.getpid())
    for _ in range(200):
        await once()
    # It closes a connection just after it has said how the child ended: the first count may hold one more.
    await until(lambda: descriptors_of(stand_in.pid) <= theirs, what="it has closed all connections")
    assert descriptors_of(os.getpid()) == ours
    assert list(zombies_of(stand_in.pid)) == []
