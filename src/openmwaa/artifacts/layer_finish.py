"""Makes a virtual environment with a few packages stand on a runtime: `layer_finish.py INSTRUCTIONS`.

Run as a script with `python -I -S`, as the builder: packages of strangers have been written there,
and nobody with more rights may follow their links. Imports the standard library only.
"""

import compileall
import contextlib
import json
import os
import sys
from pathlib import Path

PATH_FILE = "zzz_openmwaa_runtime.pth"
"""The last in the order in which Python reads such files: the layer's own come first."""

NOT_COPIED = ("activate", "deactivate", "python", "pydoc.bat")
LONGEST_SHEBANG = 127
AIRFLOW_ITSELF = ("airflow/__init__.py", "airflow/providers/__init__.py")


def main() -> None:
    """Follow the instructions."""
    instructions = json.loads(Path(sys.argv[1]).read_text())
    venv, runtime = Path(instructions["venv"]), Path(instructions["runtime"])
    site = Path(instructions["site"])
    for name in AIRFLOW_ITSELF:  # some providers carry a copy, which would hide the runtime's
        with contextlib.suppress(FileNotFoundError):
            (site / name).unlink()
    below = runtime / site.relative_to(venv)
    (site / PATH_FILE).write_text(f"import site; site.addsitedir({str(below)!r})\n")
    copy_scripts(runtime / "bin", venv / "bin")
    with contextlib.suppress(FileNotFoundError):
        (venv / ".lock").unlink()  # uv's, writable for everybody
    for folder in (site, Path(instructions["plugins"])):
        compileall.compile_dir(folder, maxlevels=50, quiet=2, workers=1)


def copy_scripts(source: Path, target: Path) -> None:
    """Give the runtime's commands to the layer, with the layer's Python; its own commands win."""
    old, new = os.fsencode(source / "python"), os.fsencode(target / "python")
    for script in sorted(source.iterdir()):
        ours = target / script.name
        if script.name.startswith(NOT_COPIED) or os.path.lexists(ours) or not script.is_file():
            continue
        body = body_of(script.read_bytes(), old)
        if body is None:
            ours.symlink_to(script)
        else:
            ours.write_bytes(header(new) + body)
            ours.chmod(0o755)


def body_of(script: bytes, python: bytes) -> bytes | None:
    """Return a script without its first line; None if it is not one of this Python."""
    first, _, rest = script.partition(b"\n")
    if first == b"#!" + python:
        return rest
    # How installers write it where the path is too long for a first line.
    second, _, rest = rest.partition(b"\n")
    third, _, rest = rest.partition(b"\n")
    if first == b"#!/bin/sh" and second.startswith(b"'''exec'") and python in second and third == b"' '''":
        return rest
    return None


def header(python: bytes) -> bytes:
    """Return the first lines of a script for a Python."""
    if len(python) + 2 <= LONGEST_SHEBANG and b" " not in python:
        return b"#!" + python + b"\n"
    return b"#!/bin/sh\n'''exec' '" + python + b"' \"$0\" \"$@\"\n' '''\n"


if __name__ == "__main__":
    main()
