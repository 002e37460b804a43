"""`openmwaa up` and `down` from outside: adoption, restarts, and nothing left behind.

Only the embedded services are looked at here; control, node and the API belong to tests of
the whole service.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from openmwaa.processes.stop import home_processes
from openmwaa.settings import load_settings
from openmwaa.supervise.identity import identity_of
from tests.support.eventually import eventually
from tests.support.service import a_home, clean_environment

PORT_BASE = 22500
OPENMWAA = str(Path(sys.executable).with_name("openmwaa"))
SERVICES = ("postgres", "seaweedfs", "caddy")


class Home:
    """A home that is started and stopped with the command line."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.started: list[subprocess.Popen[bytes]] = []

    def run(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [OPENMWAA, "--home", str(self.path), *arguments],
            env=clean_environment(),
            capture_output=True,
            text=True,
            check=check,
            timeout=120,
        )

    def up(self) -> subprocess.Popen[bytes]:
        """Start a foreground `up` and wait until the services are ready."""
        with (self.path / "test-up.log").open("ab") as log:
            process = subprocess.Popen(
                [OPENMWAA, "--home", str(self.path), "up", "--port-base", str(PORT_BASE)],
                env=clean_environment(),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.started.append(process)
        eventually(
            lambda: all(line["state"] == "running" for line in self.services().values()),
            within_s=60,
            what="services ready",
        )
        return process

    def status(self) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(self.run("status", "--json").stdout)
        return value

    def services(self) -> dict[str, Any]:
        return {line["name"]: line for line in self.status()["processes"] if line["name"] in SERVICES}

    def pids(self) -> dict[str, int]:
        return {name: line["pid"] for name, line in self.services().items()}

    def left(self) -> dict[int, str]:
        return home_processes(load_settings(home=self.path))


@contextmanager
def a_stopped_home() -> Iterator[Home]:
    with a_home() as path:
        home = Home(path)
        try:
            yield home
        finally:
            home.run("down", check=False)
            for process in home.started:
                process.kill()
                process.wait()


@pytest.fixture(scope="module")
def home() -> Iterator[Home]:
    with a_stopped_home() as home:
        yield home


def test_killed_it_leaves_everything_running_and_the_next_one_adopts(home: Home) -> None:
    first = home.up()
    before = home.pids()
    first.kill()
    first.wait()
    assert all(identity_of(pid) for pid in before.values())
    assert not home.status()["supervised"]
    assert (home.path / "run" / "port-base").read_text() == str(PORT_BASE)

    home.up()
    assert home.pids() == before
    assert home.status()["supervised"]


def test_a_second_one_is_refused_in_one_line(home: Home) -> None:
    if not home.status()["supervised"]:
        home.up()
    answer = home.run("up", check=False)
    assert answer.returncode == 1
    assert answer.stderr.startswith("Error: openmwaa is already running for ")
    assert answer.stderr.count("\n") == 1
    assert answer.stdout == ""


@pytest.mark.parametrize("name", SERVICES)
def test_a_killed_service_is_started_again(home: Home, name: str) -> None:
    if not home.status()["supervised"]:
        home.up()
    before = home.pids()
    os.kill(before[name], signal.SIGKILL)

    def back() -> bool:
        line = home.services()[name]
        return line["state"] == "running" and line["pid"] != before[name] and line["restarts"] >= 1

    eventually(back, within_s=30, what=f"{name} is back")
    after = home.pids()
    assert {key: pid for key, pid in after.items() if key != name} == {
        key: pid for key, pid in before.items() if key != name
    }


def test_a_hangup_ends_the_supervision_only(home: Home) -> None:
    process = home.started[-1] if home.status()["supervised"] else home.up()
    before = home.pids()
    process.send_signal(signal.SIGHUP)
    assert process.wait(timeout=15) == 0
    assert home.pids() == before


def test_down_stops_everything_also_without_a_supervisor_and_says_so(home: Home) -> None:
    process = home.up()
    process.kill()
    process.wait()
    answer = home.run("down")
    assert "nothing of this home runs any more" in answer.stdout
    assert home.left() == {}
    assert {line["state"] for line in home.status()["processes"]} == {"stopped"}
    assert home.run("down").returncode == 0
    assert not list(Path("/tmp").glob(f"seaweedfs-*-grpc-{PORT_BASE // 100}1*.sock"))


def test_down_stops_a_supervised_home(home: Home) -> None:
    process = home.up()
    home.run("down")
    assert process.wait(timeout=10) == 0
    assert home.left() == {}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_foreground_s_end_is_the_end_of_everything(home: Home, number: signal.Signals) -> None:
    process = home.up()
    process.send_signal(number)
    assert process.wait(timeout=40) == 0
    assert home.left() == {}


def test_a_port_that_another_program_uses_is_named_and_nothing_stays() -> None:
    with a_stopped_home() as home, socket.socket() as foreign:
        foreign.bind(("127.0.0.1", PORT_BASE + 21))
        foreign.listen()
        for arguments in (("up",), ("up", "--detach")):
            answer = home.run(*arguments, "--port-base", str(PORT_BASE + 20), check=False)
            assert answer.returncode == 1
            assert answer.stderr == (
                f"Error: postgres cannot start: 127.0.0.1:{PORT_BASE + 21} is used by another program; "
                "choose another --port-base\n"
            )
            assert home.left() == {}
        doctor = home.run("doctor", "--json", check=False)
        assert doctor.returncode == 1
        assert f"127.0.0.1:{PORT_BASE + 21}" in doctor.stdout


def test_doctor_finds_no_failure_here(home: Home) -> None:
    findings = json.loads(home.run("doctor", "--json").stdout)
    assert {one["level"] for one in findings} <= {"ok", "warning"}
    assert {"host", "home", "disk", "memory", "ports", "programs", "isolation"} <= {
        one["subject"] for one in findings
    }


def test_a_killed_start_is_finished_by_the_next() -> None:
    """kill -9 of `up` at moments of the first boot: database being made, keys being written, and so on."""
    with a_stopped_home() as home:
        for wait_s in (0.7, 1.0, 1.4, 1.9, 2.4):
            process = subprocess.Popen(
                [OPENMWAA, "--home", str(home.path), "up", "--port-base", str(PORT_BASE + 40)],
                env=clean_environment(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            time.sleep(wait_s)  # the moment is the point here
            process.kill()
            process.wait()
        home.started.append(
            subprocess.Popen(
                [OPENMWAA, "--home", str(home.path), "up"],
                env=clean_environment(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        )
        eventually(
            lambda: all(line["state"] == "running" for line in home.services().values()),
            within_s=60,
            what="services ready",
        )
        assert psutil.pid_exists(home.pids()["postgres"])
        home.run("down")
        assert home.left() == {}
