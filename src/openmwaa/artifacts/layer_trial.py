"""Trying a layer out: what was added is imported, in a process of its own, before anyone uses it."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from openmwaa.artifacts.build_sandbox import Build
from openmwaa.artifacts.layer_resolution import PROBE, Resolution
from openmwaa.artifacts.requirements_text import RequirementsFile
from openmwaa.artifacts.runtimes import Runtime
from openmwaa.kit.errors import GiveUp

_CRASHES: Final = 5
"""Modules that may take the process with them before we stop trying the rest."""


async def try_out(
    build: Build,
    layer: Path,
    runtime: Runtime,
    resolution: Resolution,
    file: RequirementsFile,
    site: Path,
) -> list[str]:
    """Import Airflow and what is new, as the builder.

    Returns:
        Warnings about modules that nobody asked for.

    Raises:
        GiveUp: `LAYER_IMPORT_FAILED`: Airflow does not start, or something that the file requires
            has no module that can be imported.
    """
    failed: dict[str, dict[str, str]] = {}
    worked: dict[str, list[str]] = {}
    for _ in range(_CRASHES):
        mark = secrets.token_hex(8)
        question = build.work / "probe.json"
        question.write_text(
            json.dumps(
                {
                    "airflow": runtime.version,
                    "distributions": [pin.name for pin in resolution.pins],
                    "site": str(site),
                    "skip": [module for modules in failed.values() for module in modules],
                    "mark": mark,
                }
            )
        )
        python = layer / "venv" / "bin" / "python"
        ended = await build.build(str(python), "-I", str(PROBE), "import", str(question))
        answers = [
            json.loads(line.partition(mark)[2]) for line in ended.lines if mark in line and line.endswith("}")
        ]
        started: dict[str, str] = {}
        for one in answers:
            if "start" in one:
                started = one
            elif one.get("error"):
                failed.setdefault(one["distribution"], {})[one["end"]] = one["error"]
            elif "end" in one:
                worked.setdefault(one["distribution"], []).append(one["end"])
        if answers and "done" in answers[-1]:
            break
        # The last one that was started took the process with it.
        said = next((line for line in reversed(ended.lines) if line and mark not in line), "")
        module, distribution = started.get("start", "airflow"), started.get("distribution", "apache-airflow")
        failed.setdefault(distribution, {})[module] = (
            f"the process ended with {_code(ended.code)} {said}".strip()
        )
        if distribution == "apache-airflow":
            break
    return _judge(failed, worked, resolution, file)


def _judge(
    failed: Mapping[str, Mapping[str, str]],
    worked: Mapping[str, list[str]],
    resolution: Resolution,
    file: RequirementsFile,
) -> list[str]:
    warnings = []
    for distribution, modules in failed.items():
        module, error = next(iter(modules.items()))
        if distribution == "apache-airflow":
            changed = ", ".join(f"{name} {new}" for name, (_, new) in resolution.changed.items())
            raise _not_importable(
                f"Airflow itself does not start with this layer: {error}",
                f"import {module}: {error}",
                f"Do not change what Airflow runs with: {changed}." if changed else "",
            )
        if distribution in resolution.direct and distribution not in worked:
            line = next(one.line for one in file.requirements if one.name == distribution)
            raise _not_importable(
                f"{file.quote(line)} installs, but import {module} fails: {error}",
                f"import {module}: {error}",
                "Use another version, or add what it needs to the file.",
            )
        warnings += [f"import {name} ({distribution}) fails: {why}" for name, why in modules.items()]
    return warnings


def _not_importable(reason: str, evidence: str, fix: str) -> GiveUp:
    return GiveUp(
        reason[:700], code="LAYER_IMPORT_FAILED", component="requirements.txt", evidence=evidence, fix=fix
    )


def _code(code: int) -> str:
    return f"signal {code - 128}:" if code > 128 else f"exit code {code}:"
