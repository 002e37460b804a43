"""What layers are made of, what they are once built, and how far a build is."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any

from openmwaa.artifacts.runtimes import Runtime
from openmwaa.environments.layer import layer_id


class LayerStage(StrEnum):
    """What a build is doing."""

    WAITING = "waiting for another build"
    UNPACKING = "unpacking"
    RESOLVING = "resolving"
    INSTALLING = "installing"
    COMPILING = "compiling"
    VERIFYING = "verifying"
    DONE = "done"


@dataclass(frozen=True)
class LayerInputs:
    """What a layer is made of; at least one of the three files.

    Attributes:
        plugins: Path of the zip file, which must not change while it is used.

        dags: Where lines with `/usr/local/airflow/dags` lead; None: they are refused. Not part of
            the id: what such a line reads may differ from build to build.
    """

    runtime: Runtime
    requirements: bytes | None = None
    plugins: Path | None = None
    startup_script: bytes | None = None
    dags: Path | None = None

    @cached_property
    def id(self) -> str:
        """Id of the layer. Reads the zip file once.

        Raises:
            ValueError: None of the three files is given: that is no layer.
        """
        plugins = None
        if self.plugins is not None:
            with self.plugins.open("rb") as file:
                plugins = hashlib.file_digest(file, "sha256").hexdigest()
        made = layer_id(self.runtime.id, _digest(self.requirements), plugins, _digest(self.startup_script))
        if made is None:
            raise ValueError("a layer needs requirements, plugins or a start-up script")
        return made


@dataclass(frozen=True)
class Layer:
    """A built layer.

    Attributes:
        facts: `layer.json`: packages, added, changed, overrides, warnings, isolation, seconds,
            size_bytes, python, runtime, airflow.
    """

    id: str
    path: Path
    facts: Mapping[str, Any]

    @property
    def venv(self) -> Path:
        """Virtual environment to start Airflow from."""
        return self.path / "venv"

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the user should know, one sentence each."""
        return tuple(self.facts["warnings"])


@dataclass(frozen=True)
class LayerProgress:
    """How far a build is; `detail` is the last thing uv said worth showing."""

    layer: str
    stage: LayerStage
    detail: str = ""


Progress = Callable[[LayerProgress], None]


def _digest(content: bytes | None) -> str | None:
    return None if content is None else hashlib.sha256(content).hexdigest()
