"""Distributions made on the spot, so that no test of layers needs a package from an index."""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

_BACKEND = """
import os, subprocess, sys, time, zipfile

{code}

def build_wheel(folder, config_settings=None, metadata_directory=None):
    name = {name!r} + "-" + {version!r}
    wheel = name + "-py3-none-any.whl"
    with zipfile.ZipFile(os.path.join(folder, wheel), "w") as file:
        file.writestr({name!r} + ".py", {module!r})
        file.writestr(name + ".dist-info/METADATA", {metadata!r})
        file.writestr(name + ".dist-info/WHEEL", {wheel!r})
        file.writestr(name + ".dist-info/RECORD", "")
    return wheel
"""
_WHEEL = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def wheel(
    name: str,
    version: str,
    files: Mapping[str, str] | None = None,
    *,
    requires: Sequence[str] = (),
    scripts: Mapping[str, str] | None = None,
    entry_points: str = "",
) -> tuple[str, bytes]:
    """Return name and content of a pure wheel; without files it has one module with `VERSION`."""
    files = dict(files if files is not None else {f"{name}.py": f"VERSION = {version!r}\n"})
    info = f"{name}-{version}.dist-info"
    if scripts:
        entry_points += "[console_scripts]\n" + "".join(f"{k} = {v}\n" for k, v in scripts.items())
    files[f"{info}/METADATA"] = _metadata(name, version, requires)
    files[f"{info}/WHEEL"] = _WHEEL
    if entry_points:
        files[f"{info}/entry_points.txt"] = entry_points
    files[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in (*files, f"{info}/RECORD"))
    return f"{name}-{version}-py3-none-any.whl", zipped(files)


def sdist(
    name: str, version: str, *, code: str = "", module: str = "", requires: Sequence[str] = ()
) -> tuple[str, bytes]:
    """Return name and content of a source distribution whose build runs `code`; it needs no build tool."""
    metadata = _metadata(name, version, requires)
    files = {
        "pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n',
        "PKG-INFO": metadata,
        "backend.py": _BACKEND.format(
            name=name, version=version, code=code, module=module, metadata=metadata, wheel=_WHEEL
        ),
    }
    out = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=out, mode="wb", mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w") as file,
    ):
        for path, text in files.items():
            entry = tarfile.TarInfo(f"{name}-{version}/{path}")
            entry.size = len(text.encode())
            file.addfile(entry, io.BytesIO(text.encode()))
    return f"{name}-{version}.tar.gz", out.getvalue()


def zipped(files: Mapping[str, str | bytes]) -> bytes:
    """Return a zip file."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        for path, content in files.items():
            file.writestr(
                zipfile.ZipInfo(path), content, zipfile.ZIP_DEFLATED
            )  # no times: same bytes each time
    return out.getvalue()


def plugins_zip(path: Path, *packages: tuple[str, bytes], **files: str) -> Path:
    """Write a plugins.zip with these distributions and modules."""
    path.write_bytes(zipped({**dict(packages), **{f"{name}.py": text for name, text in files.items()}}))
    return path


def _metadata(name: str, version: str, requires: Sequence[str]) -> str:
    needs = "".join(f"Requires-Dist: {one}\n" for one in requires)
    return f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}"
