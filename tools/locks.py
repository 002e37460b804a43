"""Write the lock file of each Airflow version: `python tools/locks.py [VERSION ...]`.

The result depends only on `openmwaa.airflow.versions`: packages that were uploaded
from a version's `locked_on` day on are not seen. Run `tests/airflow` afterwards: a set that
installs may still fail (no task runs, or the API has no routes).
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from openmwaa.airflow.versions import VERSIONS, AirflowVersion
from openmwaa.artifacts.lock_resolution import compile_command

_PYTHON = "3.11"

_HEADER = """\
# Airflow {version} with all it needs, as of {locked_on}. Made by tools/locks.py; do not edit.
"""


def compile_lock(version: AirflowVersion) -> str:
    """Return the text of a version's lock file."""
    result = subprocess.run(
        compile_command(version.locked_on, _PYTHON),
        input="\n".join(version.requirements),
        text=True,
        stdout=subprocess.PIPE,
        check=True,
    )
    return _HEADER.format(version=version.version, locked_on=version.locked_on) + result.stdout


def main(arguments: list[str]) -> int:
    """Write the locks of the named versions, or of all."""
    for name in arguments or VERSIONS:
        version = VERSIONS[name]
        text = compile_lock(version)
        version.lock.parent.mkdir(exist_ok=True)
        Path(version.lock).write_text(text)
        packages = text.count("==")
        sys.stdout.write(f"{version.lock.name}: {packages} packages, as of {version.locked_on}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
