"""The code that runs inside Airflow, copied to a folder named by its content.

Environments never read it from where OpenMWAA is installed: an upgrade of OpenMWAA must not
change a running environment, and their users cannot enter every place it may be installed in.
"""

from __future__ import annotations

import compileall
import hashlib
import importlib.util
import os
import shutil
from functools import cache
from pathlib import Path

from openmwaa.settings.layout import Layout

_PACKAGE = "openmwaa_airflow"


@cache
def _source() -> tuple[Path, str]:
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(_PACKAGE)
    folder = Path(spec.submodule_search_locations[0])
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        if "__pycache__" not in path.parts:
            digest.update(str(path.relative_to(folder)).encode() + b"\0" + path.read_bytes() + b"\0")
    return folder, digest.hexdigest()[:12]


def plug_in_path(layout: Layout) -> Path:
    """Return the folder to put on PYTHONPATH. It exists after `publish_plug_in`."""
    return layout.plug_in / _source()[1]


def publish_plug_in(layout: Layout) -> Path:
    """Make the copy if it is missing; seen whole or not at all."""
    target = plug_in_path(layout)
    if target.exists():
        return target
    layout.plug_in.mkdir(mode=0o755, parents=True, exist_ok=True)
    draft = layout.plug_in / f".{target.name}.{os.getpid()}"
    shutil.rmtree(draft, ignore_errors=True)
    shutil.copytree(_source()[0], draft / _PACKAGE, ignore=shutil.ignore_patterns("__pycache__"))
    compileall.compile_dir(draft, quiet=1, stripdir=str(draft), prependdir=str(target))
    for folder, _, files in os.walk(draft):
        Path(folder).chmod(0o755)
        for name in files:
            Path(folder, name).chmod(0o644)
    try:
        draft.rename(target)
    except OSError:
        if not target.exists():
            raise
        shutil.rmtree(draft)  # another process was first
    return target
