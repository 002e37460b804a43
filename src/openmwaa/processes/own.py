"""How the service's own processes are started: `openmwaa control` and `openmwaa node`."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import openmwaa
from openmwaa.settings import Settings
from openmwaa.supervise import ProcessSpec

CONTROL: Final = "control"
NODE: Final = "node"

_STOP_GRACE_S: Final = 15.0

_NEVER_INHERITED: Final = (
    "AWS_",  # would point the service's own clients elsewhere
    "PYTHONDONTWRITEBYTECODE",  # Airflow starts two to three times slower with it
    "OPENMWAA_PROCESS",
    "VIRTUAL_ENV",
)


_NO_PROXY: Final = ("127.0.0.1", "localhost")
"""The service's own parts are on this host, whatever HTTP_PROXY says."""


def own_argv(settings: Settings, *command: str) -> tuple[str, ...]:
    """Return the command line of one of our own commands; `-P` keeps the working folder off the path."""
    return (sys.executable, "-P", "-m", "openmwaa", "--home", str(settings.home), *command)


def own_variables(settings: Settings, inherited: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of our own processes: the caller's, for proxies and package indexes."""
    kept = {key: value for key, value in inherited.items() if not key.startswith(_NEVER_INHERITED)}
    direct = {
        name: ",".join((*_NO_PROXY, kept.get(name, ""))).rstrip(",") for name in ("NO_PROXY", "no_proxy")
    }
    return kept | direct | {"OPENMWAA_HOME": str(settings.home), "PYTHONUNBUFFERED": "1"}


def build_own_spec(settings: Settings, name: str, inherited: Mapping[str, str]) -> ProcessSpec:
    """Return how to start control or node.

    They are replaced when the code, the settings or the port base change, not because `up`
    was started from another shell.
    """
    argv = own_argv(settings, name)
    return ProcessSpec(
        name=name,
        argv=argv,
        env=own_variables(settings, inherited),
        cwd=settings.home,
        log_path=settings.layout.logs / f"{name}.log",
        stop_grace_s=_STOP_GRACE_S,
        fingerprint=_fingerprint(settings, argv, inherited),
    )


def _fingerprint(settings: Settings, argv: tuple[str, ...], inherited: Mapping[str, str]) -> str:
    chosen = {key: value for key, value in inherited.items() if key.startswith("OPENMWAA_")}
    chosen.pop("OPENMWAA_PROCESS", None)
    file = settings.layout.settings_file
    content = [
        openmwaa.__name__,
        str(_code_stamp()),
        argv,
        sorted(chosen.items()),
        settings.port_base,
        file.read_text() if file.exists() else "",
    ]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def _code_stamp() -> int:
    """Return the time of the newest source file: an upgrade in place changes it."""
    top = Path(openmwaa.__file__).parent
    return max(
        entry.stat().st_mtime_ns
        for folder, _, names in os.walk(top)
        for entry in (Path(folder, name) for name in names if name.endswith(".py"))
    )
