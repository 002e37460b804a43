"""The start-up script, run by the real bash before a stand-in for Airflow."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from openmwaa.supervise import ManagedProcess, ProcessSpec, ProcessTable
from tests.support.eventually import eventually
from tests.support.startup import ScriptedComponent, kill, runs

FAILED = 78


@pytest.fixture
def component(tmp_path: Path) -> ScriptedComponent:
    return ScriptedComponent(tmp_path)


def test_without_a_script_the_component_just_starts(component: ScriptedComponent) -> None:
    started = component.start("exit 1", OPENMWAA_STARTUP_SCRIPT="")
    assert (started.code, component.logs()) == (0, [])
    assert started.airflow is not None


def test_exports_reach_airflow_and_other_variables_do_not(component: ScriptedComponent) -> None:
    started = component.start("export SHOWN=yes\nHIDDEN=no\nunset FORMER\n", FORMER="x", STAYS="y")
    assert started.code == 0
    assert (started.environment["SHOWN"], started.environment["STAYS"]) == ("yes", "y")
    assert not {"HIDDEN", "FORMER"} & started.environment.keys()


def test_it_is_sourced_where_mwaa_does_it(component: ScriptedComponent) -> None:
    started = component.start(
        'printf \'%s\\n\' "$PWD" "$0" "${BASH_SOURCE[0]}" $# "$MWAA_AIRFLOW_COMPONENT" "$MWAA_COMMAND"\n'
        "cd /; umask 077; return 0; echo not reached\n"
    )
    where, name, source, count, kind, command = started.stdout.splitlines()[:6]
    assert (where, name, source, count) == (str(component.home), *[str(component.script)] * 2, "0")
    assert (kind, command) == ("worker", "worker")
    assert "not reached" not in started.stdout
    assert started.airflow is not None
    assert (
        started.airflow["cwd"] == started.environment.get("PWD", str(component.home)) == str(component.home)
    )


def test_airflow_is_the_same_process_and_knows_nothing_of_the_script(component: ScriptedComponent) -> None:
    started = component.start("echo pid=$PPID")
    assert started.airflow is not None
    assert f"pid={started.airflow['pid']}" in started.stdout
    assert started.airflow["argv"][1:] == ["celery", "worker"]
    assert not [name for name in started.environment if name.startswith("OPENMWAA_STARTUP")]
    assert started.environment["OPENMWAA_COMPONENT"] == "worker-0"


@pytest.mark.parametrize(
    "script",
    [
        "export X=1; exit",
        "export X=1; exit 0; export X=2",
        "set -euo pipefail; export X=1",
        "set -eu; f() { export X=1; exit 0; }; f; export X=2",
        "set -a; X=1; exit 0",
        "set -o posix; export X=1",
        "(exit 5); export X=1",
        "trap 'export X=2; echo own handler' EXIT; export X=1",
        "export X=1; umask 777",
        "export X=1; IFS=0; set -f; shopt -s failglob nullglob; readonly X",
        "export X=1; unset PATH",
        "export X=1; exec >/dev/null 2>&1 </dev/null",
        "export X=1; exec 1>&- 2>&- 0<&-",
        "export X=1; export LC_ALL=C LANG=C PYTHONHOME=/nowhere",
        "X=1; export X; export -f nothing 2>/dev/null || true",
        "export X=1; trap 'true' DEBUG ERR",
    ],
)
def test_ways_to_end_well(component: ScriptedComponent, script: str) -> None:
    started = component.start(script)
    assert started.code == 0, started.stdout + started.stderr
    assert started.environment["X"] == "1"
    assert "OPENMWAA_STATUS" not in started.stdout
    assert not {"POSIXLY_CORRECT", "OPENMWAA_STATUS"} & started.environment.keys()


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo broken; exit 3", "exit code 3"),
        ("echo broken; return 4", "exit code 4"),
        ("echo broken; false", "exit code 1"),
        ("echo broken; set -e; false; true", "exit code 1"),
        ('echo broken; set -u; echo "$NOT_SET"; true', "exit code 1"),
        ("echo broken; kill -9 $$", "signal 9"),
        ("echo broken; if", "exit code"),
        ("echo broken; nosuchcommand", "exit code 127"),
        ("echo broken; exec true", "exec"),
        ("echo broken; trap true EXIT; exit 0", "EXIT trap"),
        ("echo broken; ulimit -f 0; exit 0", "variables could not be read"),
    ],
)
def test_ways_to_fail(component: ScriptedComponent, script: str, reason: str) -> None:
    started = component.start(script)
    assert (started.code, started.airflow) == (FAILED, None)
    assert reason in started.stderr
    assert "Airflow was not started" in started.stderr
    if "if" not in script:  # a file with a syntax error may be refused line by line
        assert "broken" in started.stdout
        assert "broken" in started.stderr.partition("last lines")[2]
    assert reason in started.log


def test_a_missing_script_and_a_folder_are_failures(component: ScriptedComponent, tmp_path: Path) -> None:
    for path in (tmp_path / "none.sh", tmp_path):
        started = component.start("", OPENMWAA_STARTUP_SCRIPT=str(path))
        assert (started.code, started.airflow) == (FAILED, None)
        assert str(path) in started.stderr


def test_windows_line_ends_are_named(component: ScriptedComponent) -> None:
    started = component.start(b"cd /tmp\r\nset -e\r\nexit 0\r\n")
    assert started.code == FAILED
    assert "Windows line ends" in started.stderr


def test_names_that_the_script_takes_do_not_confuse_us(component: ScriptedComponent) -> None:
    names = (
        "env",
        "python",
        "exec",
        "export",
        "exit",
        "trap",
        "builtin",
        "command",
        "unset",
        "set",
        "/usr/bin/env",
    )
    functions = "\n".join(f"function {name} {{ echo taken; }}" for name in names)
    aliases = "\n".join(f"alias {name}='echo taken'" for name in names if "/" not in name)
    started = component.start(f"declare -x X=1\nshopt -s expand_aliases\n{aliases}\n{functions}\n")
    assert started.code == 0, started.stdout + started.stderr
    assert started.environment["X"] == "1"


def test_output_that_looks_like_variables_is_only_output(component: ScriptedComponent) -> None:
    started = component.start('echo \'{"FAKE": "1"}\'; printf "FAKE=1\\0"; env -0; export X=1\n')
    assert "FAKE" not in started.environment
    assert started.environment["X"] == "1"


def test_exported_functions_reach_the_shells_of_tasks(component: ScriptedComponent) -> None:
    started = component.start("greet() { echo hello; }; export -f greet\n")
    said = subprocess.run(
        ["/bin/bash", "-c", "greet"], env=started.environment, capture_output=True, text=True, check=True
    )
    assert said.stdout == "hello\n"


def test_variables_with_names_that_bash_does_not_know_are_kept(component: ScriptedComponent) -> None:
    assert component.start("true", **{"a.b-c": "kept"}).environment["a.b-c"] == "kept"


def test_the_output_goes_to_the_component_and_to_a_file(component: ScriptedComponent) -> None:
    started = component.start("echo one; echo two >&2; printf 'three'\n")
    for text in (started.stdout, started.log):
        assert text.startswith("one\ntwo\nthree")
    assert re.fullmatch(r"The start-up script took \d+\.\d\d seconds\.", started.log.splitlines()[-1])
    assert re.fullmatch(r"startup_script_execution_worker-0_\d+\.log", component.logs()[0].name)


def test_a_failure_shows_only_the_last_lines(component: ScriptedComponent) -> None:
    started = component.start("for i in {1..5000}; do echo line $i; done; exit 1\n")
    assert "line 1\n" in started.stdout
    assert "line 4999\nline 5000" in started.stderr
    assert "line 4000" not in started.stderr


def test_only_the_newest_files_are_kept(component: ScriptedComponent) -> None:
    folder = component.home / "logs" / "startup"
    folder.mkdir(parents=True)
    for name in ("worker-0", "worker-01", "check-worker"):
        for epoch in range(8, 16):
            (folder / f"startup_script_execution_{name}_{epoch}.log").touch()
    component.start("true")
    left = {path.name for path in folder.iterdir()}
    assert len([name for name in left if "_worker-0_" in name]) == 5
    assert {f"startup_script_execution_worker-0_{epoch}.log" for epoch in (12, 13, 14, 15)} < left
    assert len(left) == 5 + 16


def test_a_script_that_takes_too_long_is_stopped_with_its_children(component: ScriptedComponent) -> None:
    script = (
        "trap '' TERM\n"
        "(trap '' TERM; echo $BASHPID >stubborn; while :; do sleep 1; done) &\n"
        "sleep 600 & echo $! >polite\n"
        "echo waiting; while :; do sleep 1; done\n"
    )
    started = component.start(script, OPENMWAA_STARTUP_LIMIT_S="1.5")
    assert (started.code, started.airflow) == (FAILED, None)
    assert "did not end within 1.5 seconds" in started.stderr
    assert "waiting" in started.stderr
    children = [int(component.read(name)) for name in ("stubborn", "polite")]
    eventually(lambda: not any(map(runs, children)), within_s=5, what="children ended")


def test_a_script_that_prints_without_end_is_stopped(component: ScriptedComponent) -> None:
    script = "head -c 70000000 /dev/zero | tr '\\0' '\\n'; sleep 600"
    started = component.start(script)
    assert (started.code, started.airflow) == (FAILED, None)
    assert "printed more than 64 MiB" in started.stderr


def test_a_polite_script_is_given_time_to_clean_up(component: ScriptedComponent) -> None:
    script = "trap 'sleep 0.5; echo clean >done; exit 0' TERM; while :; do sleep 0.1; done"
    assert component.start(script, OPENMWAA_STARTUP_LIMIT_S="1").code == FAILED
    assert component.read("done") == "clean\n"


def test_what_a_failed_script_left_running_is_killed(component: ScriptedComponent) -> None:
    component.start("sleep 600 & echo $! >left; exit 1")
    left = int(component.read("left"))
    eventually(lambda: not runs(left), within_s=5, what="the leftover ended")


def test_a_component_that_is_told_to_end_ends_its_script(component: ScriptedComponent) -> None:
    script = "echo $$ >pid; sleep 600"
    process = subprocess.Popen(component.argv(), env=component.environment(script), cwd=component.home)
    try:
        pid = int(eventually(lambda: component.read("pid"), within_s=20, what="the script runs"))
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 128 + signal.SIGTERM
    finally:
        process.kill()
        process.wait()
    assert not runs(pid)
    assert not (component.home / "airflow.json").exists()


async def test_background_processes_go_on_and_end_with_the_component(
    component: ScriptedComponent, tmp_path: Path
) -> None:
    """As in MWAA's containers; here the supervisor knows them by the variable that they inherited."""
    component.home.joinpath("..", "modules", "airflow", "__main__.py").write_text(
        "import signal\ndef main():\n    print('airflow runs', flush=True)\n    signal.pause()\n"
    )
    script = "(while :; do echo still here; sleep 0.1; done) & echo $! >first\nsetsid sleep 600 & echo $! >second\n"
    environment = component.environment(script)
    log = tmp_path / "component.log"
    spec = ProcessSpec("e/worker-0", tuple(component.argv()), environment, component.home, log)
    table = ProcessTable(tmp_path / "table")
    process = ManagedProcess.start(spec, table)
    left: list[int] = []
    try:
        eventually(lambda: "airflow runs" in log.read_text(), within_s=20, what="Airflow was started")
        left = [int(component.read(name)) for name in ("first", "second")]
        size = component.logs()[0].stat().st_size
        eventually(lambda: component.logs()[0].stat().st_size > size, within_s=10, what="it goes on printing")
        assert all(map(runs, left))
        assert "run on until this component ends" in log.read_text()
        await process.stop(signal.SIGTERM, 10)
        assert not any(map(runs, left))
    finally:
        for pid in (process.pid, *left):
            kill(pid)
        process.close()


def test_another_python_in_path_is_told_and_not_used(component: ScriptedComponent, tmp_path: Path) -> None:
    fake = tmp_path / "bin" / "python"
    fake.parent.mkdir()
    fake.write_text("#!/bin/sh\necho 2.7.18 1.10.15\n")
    fake.chmod(0o755)
    started = component.start(f'export PATH="{fake.parent}:$PATH"', AIRFLOW_VERSION="3.3.1")
    assert started.code == 0
    assert started.environment["PATH"].startswith(f"{fake.parent}:")
    python = sys.version.split()[0]
    assert (
        f"Validation Error: Python is {python}, but {fake}, which PATH leads to, has 2.7.18." in started.log
    )
    assert f"Validation Error: Airflow is 3.3.1, but {fake}, which PATH leads to, has 1.10.15." in started.log
    assert "Validation Error" in component.start("export PATH=/nowhere").stdout
    assert "Validation Error" not in component.start("true").stdout


class TestCheck:
    def test_a_good_script_passes_and_starts_nothing(self, component: ScriptedComponent) -> None:
        done = component.check("echo kind=$MWAA_AIRFLOW_COMPONENT/$MWAA_COMMAND; sleep 600 & echo $! >left")
        assert (done.code, done.stderr, done.airflow) == (0, "", None)
        assert "kind=worker/worker" in done.stdout
        assert re.fullmatch(r"startup_script_execution_check-worker_\d+\.log", component.logs()[0].name)
        left = int(component.read("left"))
        eventually(lambda: not runs(left), within_s=5, what="the leftover ended")

    def test_the_component_can_be_named(self, component: ScriptedComponent) -> None:
        assert (
            "hybrid/hybrid" in component.check("echo $MWAA_AIRFLOW_COMPONENT/$MWAA_COMMAND", "hybrid").stdout
        )
        assert component.check("true", "kitchen").code == 2

    def test_a_bad_script_fails_with_its_last_lines(self, component: ScriptedComponent) -> None:
        done = component.check("echo no such mirror >&2; exit 7")
        assert done.code == FAILED
        assert done.stderr.splitlines()[0].startswith("The start-up script ended with exit code 7.")
        assert done.stderr.splitlines()[-1] == "no such mirror"

    def test_without_a_script_there_is_nothing_to_check(self, component: ScriptedComponent) -> None:
        assert component.check("exit 1", OPENMWAA_STARTUP_SCRIPT="").code == 0
