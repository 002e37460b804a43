"""Commands of the runtime, given to a layer."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from openmwaa.artifacts.layer_finish import body_of, copy_scripts, header

BODY = b"import sys\nprint(sys.executable)\n"


@pytest.mark.parametrize("depth", [1, 8], ids=["short path", "path too long for a first line"])
def test_a_copied_command_runs_with_the_python_beside_it(tmp_path: Path, depth: int) -> None:
    """Also in a path that is too long for the kernel or has a space."""
    runtime = tmp_path / "runtime" / "bin"
    layer = tmp_path.joinpath(*["a deep folder of a layer"] * depth) / "bin"
    for folder in (runtime, layer):
        folder.mkdir(parents=True)
        (folder / "python").symlink_to(sys.executable)
    python = str(runtime / "python").encode()
    (runtime / "tool").write_bytes(b"#!" + python + b"\n" + BODY)
    (runtime / "far").write_bytes(b"#!/bin/sh\n'''exec' '" + python + b"' \"$0\" \"$@\"\n' '''\n" + BODY)
    (runtime / "native").write_bytes(b"\x7fELF")
    (runtime / "activate").write_text("VIRTUAL_ENV=runtime")
    (runtime / "own").write_bytes(b"#!" + python + b"\n" + BODY)
    (layer / "own").write_text("the layer's")
    copy_scripts(runtime, layer)
    for name in ("tool", "far"):
        said = subprocess.run([layer / name], capture_output=True, text=True, check=True).stdout.strip()
        assert said == str(layer / "python")
    assert (layer / "native").resolve() == runtime / "native"
    assert (layer / "own").read_text() == "the layer's"
    assert not (layer / "activate").exists()


def test_a_header_is_recognised_again() -> None:
    for python in (b"/short/python", b"/" + b"x" * 200 + b"/python", b"/with space/python"):
        assert body_of(header(python) + BODY, python) == BODY
        assert body_of(header(python) + BODY, b"/other/python") is None
