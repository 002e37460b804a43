"""The user's start-up script: run before a component becomes Airflow.

It is sourced by bash as the component's user in AIRFLOW_HOME. What it exports is the
environment of Airflow, but for what the service or AirflowConfigurationOptions decide; a
failure keeps Airflow from starting. `python -P -m openmwaa_airflow.startup check [COMPONENT]`
runs it once and starts nothing; COMPONENT is by
default what MWAA_AIRFLOW_COMPONENT says.

Source: mwaa.md 5.5.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from openmwaa_airflow import preloaded, startup_variables
from openmwaa_airflow.startup_log import MOST_BYTES, ScriptLog
from openmwaa_airflow.startup_processes import (
    ends_within,
    group_members,
    has_failed,
    signal_group,
    stop_group,
)
from openmwaa_airflow.startup_verification import differences

SCRIPT_VARIABLE = "OPENMWAA_STARTUP_SCRIPT"
LIMIT_VARIABLE = "OPENMWAA_STARTUP_LIMIT_S"
"""Another limit than `LIMIT_S`; for tests."""

LIMIT_S = 295.0
"""As in MWAA's image; its documentation says five minutes."""

FAILED = 78
"""Exit code of a component whose script failed: EX_CONFIG of sysexits.h."""

_COMPONENT_VARIABLES = ("MWAA_AIRFLOW_COMPONENT", "MWAA_COMMAND")
_COMPONENTS = ("scheduler", "worker", "webserver", "hybrid")
_NOT_FOR_AIRFLOW = "OPENMWAA_STARTUP_"
"""What variables begin with that are only for us. Without them the second start runs no script."""

_CRLF = b"\r\n"


class ScriptFailedError(Exception):
    """The script failed; Airflow must not start. `last_lines` is the end of what it printed."""

    def __init__(self, reason: str, last_lines: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.last_lines = last_lines

    def __str__(self) -> str:
        if not self.last_lines:
            return self.reason
        return f"{self.reason} Its last lines:\n{self.last_lines}"


def component_variables(component: str) -> dict[str, str]:
    """Return what tells a script where it runs: `scheduler`, `worker`, `webserver` or `hybrid`."""
    return dict.fromkeys(_COMPONENT_VARIABLES, component)


def apply(component: str) -> None:
    """Run the script of this component, if there is one, and go on with the variables it exported.

    Going on means `exec` of the same command: a variable such as LD_LIBRARY_PATH or PYTHONWARNINGS
    is only read when a program starts. The process stays the same, and so does its interpreter,
    whatever PATH has become.

    Args:
        component: Name of the component, for the log file.

    Raises:
        SystemExit: The script failed (78), or the component was told to end while it ran.
    """
    if not os.environ.get(SCRIPT_VARIABLE):
        return
    try:
        variables = run(component, dict(os.environ))
    except ScriptFailedError as error:
        print(f"Airflow was not started. {error}", file=sys.stderr, flush=True)  # noqa: T201 - the component's log
        sys.exit(FAILED)
    if preloaded.is_forked():  # it becomes a program after all if one of them needs that
        os.environ.clear()
        os.environ.update(variables)
        return
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], variables)  # noqa: S606 - that is the purpose


def run(component: str, environment: Mapping[str, str], *, keep_background: bool = True) -> dict[str, str]:
    """Run the script and return the variables that Airflow should have.

    Its output goes to our own and to a file below AIRFLOW_HOME/logs/startup.

    Args:
        component: For the name of the file.

        environment: Variables of the component, the script's path among them.

        keep_background: Whether what the script leaves running runs on.

    Raises:
        ScriptFailedError: It ended with another code than 0, took too long, or left no variables.

        SystemExit: We were asked to end; the script was stopped.
    """
    began = time.monotonic()
    try:
        with ScriptLog(Path(environment["AIRFLOW_HOME"]) / "logs" / "startup", component) as log:
            try:
                exported = _exported(environment, log, keep_background=keep_background)
                return _concluded(environment, exported, log)
            except ScriptFailedError as error:
                error.last_lines = log.tail()
                log.say(error.reason)
                raise
            finally:
                log.say(f"The start-up script took {time.monotonic() - began:.2f} seconds.")
    except OSError as error:
        raise ScriptFailedError(f"The start-up script cannot be run: {error}.") from error


def _exported(environment: Mapping[str, str], log: ScriptLog, *, keep_background: bool) -> dict[str, str]:
    """Run the script; return every variable that a program started at its end would have."""
    with tempfile.TemporaryDirectory() as scratch:
        dump = Path(scratch) / "variables.json"
        _source(dump, environment, log, keep_background=keep_background)
        try:
            return startup_variables.read(dump)
        except (OSError, ValueError) as error:
            raise ScriptFailedError(
                "The start-up script ended, but its variables could not be read. It must not replace the "
                "shell by `exec`, nor the EXIT trap when it calls `exit`."
            ) from error


def _source(dump: Path, environment: Mapping[str, str], log: ScriptLog, *, keep_background: bool) -> None:
    script = Path(environment[SCRIPT_VARIABLE])
    windows_lines = _CRLF in script.read_bytes()
    limit_s = float(environment.get(LIMIT_VARIABLE) or LIMIT_S)
    with _asked_to_end() as asked:
        # It writes to the file, not to a pipe: what it leaves running may print long after we are Airflow.
        bash = subprocess.Popen(
            ["/bin/bash", "--noprofile", "--norc", "-c", _bash_code(dump), str(script)],
            env=environment,
            cwd=environment["AIRFLOW_HOME"],
            stdin=subprocess.DEVNULL,
            stdout=log.descriptor,
            stderr=log.descriptor,
            start_new_session=True,
        )
        in_time = ends_within(
            bash.pid, limit_s, meanwhile=log.copy, unless=lambda: asked() or log.is_too_long
        )
        if not in_time:
            stop_group(bash.pid, meanwhile=log.copy)
        elif has_failed(bash.pid) or not keep_background:
            signal_group(bash.pid, signal.SIGKILL)
        left = len(group_members(bash.pid))
        code = bash.wait()
        if asked():
            raise SystemExit(128 + asked())
    log.copy()
    if log.is_too_long:
        raise ScriptFailedError(f"The start-up script printed more than {MOST_BYTES >> 20} MiB.")
    if not in_time:
        raise ScriptFailedError(
            f"The start-up script did not end within {limit_s:g} seconds and was stopped."
        )
    if code:
        how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
        hint = " It has Windows line ends (CRLF), which bash does not understand." if windows_lines else ""
        raise ScriptFailedError(f"The start-up script {how}.{hint}")
    if left and keep_background:
        log.say(f"{left} background process(es) of the start-up script run on until this component ends.")


def _bash_code(dump: Path) -> str:
    """Return what bash does: the script, and then, also if it calls `exit`, its variables.

    The script may have defined functions and aliases by any name. In POSIX mode, which an
    assignment switches on, no function hides `exec` and `export`, and no alias hides a quoted
    word. A subshell, so that the script's own handlers find the shell as they left it. The
    names of the two variables are ours: `set -a` would export them.
    """
    program = shlex.join([sys.executable, "-I", "-S", startup_variables.__file__, str(dump)])
    posix = "[[ -o posix ]] || { POSIXLY_CORRECT=1; \\export -n POSIXLY_CORRECT; }"
    write = f'{posix}; \\export -n OPENMWAA_STATUS; \\exec {program} "$OPENMWAA_STATUS"'
    # Bash keeps the code of `exit` by itself, but with `set -e` a failing handler would replace it.
    at_exit = f"[[ -s {shlex.quote(str(dump))} ]] || ( OPENMWAA_STATUS=0; {write} )"
    # Also after the script: it may have put a handler of its own in the place of this one.
    return f'trap {shlex.quote(at_exit)} EXIT\nsource "$0"\n( OPENMWAA_STATUS=$?; {write} )\n'


def _concluded(environment: Mapping[str, str], exported: Mapping[str, str], log: ScriptLog) -> dict[str, str]:
    """Merge the variables, and say what has no effect and what looks wrong."""
    rules = startup_variables.Rules.of(environment)
    after, refused = startup_variables.merged(environment, exported, rules)
    for name, why in refused.items():
        log.say(f"Ignored: the start-up script changed {name}, but {why}.")
    for difference in differences(after):
        log.say(f"Validation Error: {difference}")
    return {name: value for name, value in after.items() if not name.startswith(_NOT_FOR_AIRFLOW)}


@contextmanager
def _asked_to_end() -> Iterator[Callable[[], int]]:
    """Take note of signals that ask us to end; gives what returns the last one, or 0."""
    seen: list[int] = []
    numbers = (signal.SIGTERM, signal.SIGINT)
    former = {number: signal.signal(number, lambda got, _frame: seen.append(got)) for number in numbers}
    try:
        yield lambda: seen[-1] if seen else 0
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def main() -> int:
    """Check the script: run it once as a component would; nothing of it goes on.

    Returns:
        Exit code: 0, also where there is no script; 78 with the reason and the script's last lines
        on stderr; 2 for wrong usage.
    """
    environment = dict(os.environ)
    component = "".join(sys.argv[2:3]) or environment.get(_COMPONENT_VARIABLES[0], "")
    if sys.argv[1:2] != ["check"] or len(sys.argv) > 3 or component not in _COMPONENTS:
        usage = f"usage: python -P -m openmwaa_airflow.startup check {'|'.join(_COMPONENTS)}"
        print(usage, file=sys.stderr)  # noqa: T201 - of a command
        return 2
    environment |= component_variables(component)
    if not environment.get(SCRIPT_VARIABLE):
        return 0
    try:
        run(f"check-{component}", environment, keep_background=False)
    except ScriptFailedError as error:
        with contextlib.suppress(BrokenPipeError):
            print(error, file=sys.stderr, flush=True)  # noqa: T201 - read by whoever checks
        return FAILED
    return 0


if __name__ == "__main__":
    sys.exit(main())
