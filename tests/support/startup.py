"""Start-up scripts run by the real bash, before a stand-in for Airflow that tells what it was given."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openmwaa_airflow

_AIRFLOW = """
import json, os, sys
def main():
    seen = {"environment": dict(os.environ), "argv": sys.argv, "pid": os.getpid(), "cwd": os.getcwd()}
    with open(os.path.join(os.environ["AIRFLOW_HOME"], "airflow.json"), "w") as file:
        json.dump(seen, file)
"""


@dataclass
class Started:
    """How a start went; `airflow` is what the stand-in saw, None if it was not started."""

    code: int
    stdout: str
    stderr: str
    airflow: dict[str, Any] | None
    log: str

    @property
    def environment(self) -> dict[str, str]:
        assert self.airflow is not None, f"Airflow was not started: {self.stdout}{self.stderr}"
        return dict(self.airflow["environment"])


class ScriptedComponent:
    """One component with a start-up script, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.script = folder / "startup.sh"
        package = folder / "modules" / "airflow"
        for path in (self.home, package):
            path.mkdir(parents=True)
        (package / "__init__.py").touch()
        (package / "__main__.py").write_text(_AIRFLOW)
        source = Path(openmwaa_airflow.__file__).parent.parent
        self.variables = {
            "AIRFLOW_HOME": str(self.home),
            "LANG": "C.UTF-8",
            "MWAA_AIRFLOW_COMPONENT": "worker",
            "MWAA_COMMAND": "worker",
            "OPENMWAA_STARTUP_SCRIPT": str(self.script),
            "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
            "PYTHONPATH": f"{source}:{package.parent}",
        }

    def environment(self, script: str | bytes, variables: Mapping[str, str] | None = None) -> dict[str, str]:
        """Write the script; return the variables of the component."""
        self.script.write_bytes(script.encode() if isinstance(script, str) else script)
        return self.variables | dict(variables or {})

    def argv(self, name: str = "worker-0") -> list[str]:
        """Return the command of the component."""
        return [sys.executable, "-P", "-m", "openmwaa_airflow.start", name, "celery", "worker"]

    def start(self, script: str | bytes, **variables: str) -> Started:
        """Start the component with a script and wait for its end."""
        return self._run(self.argv(), self.environment(script, variables))

    def check(self, script: str | bytes, *arguments: str, **variables: str) -> Started:
        """Check a script."""
        argv = [sys.executable, "-P", "-m", "openmwaa_airflow.startup", "check", *arguments]
        return self._run(argv, self.environment(script, variables))

    def _run(self, argv: list[str], environment: dict[str, str]) -> Started:
        told = self.home / "airflow.json"
        told.unlink(missing_ok=True)
        done = subprocess.run(
            argv,
            env=environment,
            cwd=self.home,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=60,
            check=False,
        )
        logs = self.logs()
        return Started(
            done.returncode,
            done.stdout,
            done.stderr,
            json.loads(told.read_text()) if told.exists() else None,
            logs[-1].read_text(errors="replace") if logs else "",
        )

    def logs(self) -> list[Path]:
        """Return the files about runs, oldest first."""
        return sorted((self.home / "logs" / "startup").glob("*"), key=lambda path: path.stat().st_mtime)

    def read(self, name: str) -> str:
        """Return what the script wrote to a file in AIRFLOW_HOME; empty if it is not there yet."""
        path = self.home / name
        return path.read_text() if path.exists() else ""


def runs(pid: int) -> bool:
    """Return whether a process runs; one that waits to be reaped does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def kill(pid: int) -> None:
    """Kill a process that the script of a test left behind."""
    if runs(pid):
        os.kill(pid, 9)
