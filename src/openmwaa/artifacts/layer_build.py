"""Filling a layer's folder: files unpacked, packages installed, everything tried out.

Who writes what matters: the layer's folder and its files are ours, only `venv` and `plugins` are
the builder's while code of packages runs. We write nothing below those two afterwards, and take
them over when no process of the builder is left.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import uv

from openmwaa.artifacts.build_sandbox import Build
from openmwaa.artifacts.layer import LayerStage
from openmwaa.artifacts.layer_errors import Asked
from openmwaa.artifacts.layer_resolution import (
    Resolution,
    install,
    installed_packages,
    resolve,
)
from openmwaa.artifacts.layer_trial import try_out
from openmwaa.artifacts.plugins_zip import unpack_plugins
from openmwaa.artifacts.programs import Ended
from openmwaa.artifacts.requirements_text import DAGS, Folders, RequirementsFile, parse_requirements
from openmwaa.artifacts.runtimes import Runtime
from openmwaa.artifacts.text_encoding import decode
from openmwaa.artifacts.trees import close_to_writers, give, open_to_everyone
from openmwaa.kit.errors import GiveUp

FINISH: Final = Path(__file__).with_name("layer_finish.py")

_T = TypeVar("_T")


@dataclass(frozen=True)
class LayerFiles:
    """The three files of a user; None: there is none.

    Attributes:
        plugins: Path of the zip file.
    """

    requirements: bytes | None = None
    plugins: Path | None = None
    startup_script: bytes | None = None


Report = Callable[[LayerStage, str], None]


async def visible_dags(build: Build, requirements: bytes, dags: Path | None) -> Path | None:
    """Return the DAG folder where a build sees it: a copy, made only if the requirements name it."""
    if dags is None or DAGS not in decode(requirements):
        return dags
    copy = build.work / "dags"
    await in_thread(_copy_readable, dags, copy)
    return copy


def _copy_readable(source: Path, target: Path) -> None:
    shutil.copytree(source, target, copy_function=shutil.copyfile)
    for folder, _, files in os.walk(target):
        Path(folder).chmod(0o755)
        for name in files:
            Path(folder, name).chmod(0o644)


async def fill_layer(
    build: Build, runtime: Runtime, files: LayerFiles, dags: Path | None, report: Report
) -> dict[str, Any]:
    """Build a layer in its folder, which exists and is empty.

    Args:
        build: Where and as whom; `build.layer` is the folder.

        runtime: The runtime below.

        files: What to build from.

        dags: Where lines that name `/usr/local/airflow/dags` lead; None: they are refused.

        report: Told the stage and the last line worth showing.

    Returns:
        The facts of the layer, without times.

    Raises:
        GiveUp: One of the files cannot be used.

        Retry: An index does not answer.
    """
    layer = build.layer
    if layer is None:
        raise AssertionError("a build of a layer has a folder")
    report(LayerStage.UNPACKING, "")
    await _place_files(layer, files)
    file = RequirementsFile()
    resolution = Resolution(unchanged=installed_packages(runtime.path))
    if files.requirements is not None:
        seen = await visible_dags(build, files.requirements, dags)
        file = parse_requirements(
            files.requirements, Folders(layer / "plugins" if files.plugins else None, seen)
        )
        report(LayerStage.RESOLVING, "")
        resolution = await resolve(build, runtime, file, UvLines(report, LayerStage.RESOLVING))
    report(LayerStage.INSTALLING, "")
    site = await _make_environment(build, layer, runtime, resolution, file, report)
    report(LayerStage.COMPILING, "")
    await _finish(build, layer, runtime, site)
    report(LayerStage.VERIFYING, "")
    warnings = await try_out(build, layer, runtime, resolution, file, site)
    size = await in_thread(_take_over, layer, bool(build.builder))
    return {
        "packages": installed_packages(layer / "venv"),
        "added": dict(resolution.added),
        "changed": {name: list(change) for name, change in resolution.changed.items()},
        "overrides": resolution.overrides,
        "built_from_source": resolution.builds,
        "warnings": [*resolution.warnings, *warnings],
        "isolation": build.isolation.name,
        "python": sys.version.split()[0],
        "size_bytes": size,
    }


async def in_thread(
    function: Callable[..., _T], *arguments: object, stop: threading.Event | None = None
) -> _T:
    """Call a blocking function; if we are cancelled, return only when it has ended.

    Args:
        function: Works on files that are locked as long as we run.

        arguments: Its arguments.

        stop: Set when we are cancelled.
    """
    task = asyncio.ensure_future(asyncio.to_thread(function, *arguments))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        if stop is not None:
            stop.set()
        await asyncio.wait((task,))
        raise


async def _place_files(layer: Path, files: LayerFiles) -> None:
    for name in ("inputs", "plugins", "startup", "requirements", "venv"):
        (layer / name).mkdir(mode=0o755)
        (layer / name).chmod(0o755)
    for name, content, places in (
        ("requirements.txt", files.requirements, ("inputs", "requirements")),
        ("startup.sh", files.startup_script, ("inputs", "startup")),
    ):
        for place in places if content is not None else ():
            target = layer / place / name
            target.write_bytes(content or b"")
            target.chmod(0o755 if place == "startup" else 0o644)
    if files.plugins is not None:
        original = layer / "inputs" / "plugins.zip"
        await in_thread(shutil.copyfile, files.plugins, original)
        original.chmod(0o644)
        stop = threading.Event()
        await in_thread(lambda: unpack_plugins(original, layer / "plugins", stop=stop), stop=stop)


async def _make_environment(
    build: Build,
    layer: Path,
    runtime: Runtime,
    resolution: Resolution,
    file: RequirementsFile,
    report: Report,
) -> Path:
    """Make the virtual environment and install the pins; return its site-packages."""
    venv = layer / "venv"
    _give_if_separate(venv, build.isolation.fetcher)
    ended = await build.fetch(
        uv.find_uv_bin(),
        "venv",
        "--no-project",
        "--color",
        "never",
        "--python",
        str(_base_python()),
        str(venv),
    )
    _require(ended, "The virtual environment of the layer could not be made")
    if resolution.builds:
        await in_thread(_give_if_separate, venv, build.builder)
    asked = Asked(file, "", {}, runtime.version)
    lines = UvLines(report, LayerStage.INSTALLING)
    await install(build, resolution, file, venv / "bin" / "python", asked, lines)
    return venv / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"


async def _finish(build: Build, layer: Path, runtime: Runtime, site: Path) -> None:
    for name in ("venv", "plugins"):
        await in_thread(_give_if_separate, layer / name, build.builder)
    instructions = build.work / "finish.json"
    paths = {"venv": layer / "venv", "runtime": runtime.path, "site": site, "plugins": layer / "plugins"}
    instructions.write_text(json.dumps({name: str(path) for name, path in paths.items()}))
    ended = await build.build(str(_base_python()), "-I", "-S", str(FINISH), str(instructions))
    _require(ended, "The layer could not be finished")


def _take_over(layer: Path, separate: bool) -> int:
    """Make the layer ours, for everybody to read and nobody to write; return its size."""
    if separate:
        give(layer, os.geteuid(), os.getegid())
    close_to_writers(layer)
    return open_to_everyone(layer)


def _give_if_separate(path: Path, uid: int) -> None:
    if uid:
        give(path, uid, uid)


def _base_python() -> Path:
    """Return the interpreter below our own virtual environment, which others may start."""
    return (
        Path(sys.base_prefix).resolve() / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}"
    )


def _require(ended: Ended, reason: str) -> None:
    if ended.code != 0:
        said = [line for line in ended.lines if line.strip()]
        raise GiveUp(reason, code="LAYER_BROKEN", component="layer", evidence="\n".join(said[-5:])[:900])


class UvLines:
    """Passes on what uv says that is worth showing."""

    def __init__(self, report: Report, stage: LayerStage) -> None:
        self._report = report
        self._stage = stage

    def __call__(self, line: str) -> None:
        text = line.strip()
        if text.startswith(("Downloading ", "Building ", "Built ", "Prepared ", "Resolved ")):
            self._report(self._stage, text[:200])
