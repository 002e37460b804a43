"""Write the lock file of each Airflow version: `python tools/locks.py [VERSION ...]`.

The result depends only on `openmwaa.airflow.versions`: packages that were uploaded
from a version's `locked_on` day on are not seen. Run `tests/airflow` afterwards: a set that
installs may still fail (no task runs, or the API has no routes).
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import uv

from openmwaa.airflow.versions import VERSIONS, AirflowVersion

_PYTHON = "3.11"
_PLATFORM = "x86_64-manylinux_2_28"  # hashes of the other platforms' files are listed too

_HEADER = """\
# Airflow {version} with all it needs, as of {locked_on}. Made by tools/locks.py; do not edit.
"""


def compile_lock(version: AirflowVersion) -> str:
    """Return the text of a version's lock file."""
    command = [
        *(uv.find_uv_bin(), "pip", "compile", "-", "--quiet", "--no-config"),
        *("--python-version", _PYTHON, "--python-platform", _PLATFORM),
        *("--exclude-newer", f"{version.locked_on}T00:00:00Z"),
        *("--generate-hashes", "--no-emit-index-url", "--no-annotate", "--no-header"),
    ]
    result = subprocess.run(
        command, input="\n".join(version.requirements), text=True, stdout=subprocess.PIPE, check=True
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
