"""From a manifest to the processes of this host. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from openmwaa.environments.manifest import Component, Kind, Manifest
from openmwaa.settings.layout import Layout

_PASSED_ON = ("TZ",)


@dataclass(frozen=True)
class Replica:
    """One process that should run."""

    component: Component
    index: int
    hash: str

    @property
    def name(self) -> str:
        """`<kind>-<index>`."""
        return f"{self.component.kind}-{self.index}"

    @property
    def port(self) -> int | None:
        return None if self.component.port is None else self.component.port + self.index

    def argv(self, *, address: str, runtime: Path) -> tuple[str, ...]:
        """Return the command with its places filled in; a bare program name is one of the runtime's."""
        program, *arguments = (
            part.replace("{index}", str(self.index))
            .replace("{port}", str(self.port))
            .replace("{address}", address)
            for part in self.component.argv
        )
        return (resolve(program, runtime), *arguments)


def replicas_of(manifest: Manifest) -> list[Replica]:
    """Return every replica in dependency order."""
    return [
        Replica(component, component.first_index + offset, manifest.component_hash(component))
        for component in manifest.components
        for offset in range(component.replicas)
    ]


def drain_s(manifest: Manifest, kind: Kind) -> float | None:
    """Return how long a replica that is no longer wanted may take; None: as it was started with."""
    return next((one.drain_s for one in manifest.components if one.kind is kind), None)


def interpreter_folder(layout: Layout, runtime: str, layer: str | None) -> Path:
    """Return the virtual environment that components run from: the layer's, if there is one."""
    return layout.layers / layer / "venv" if layer else layout.runtimes / runtime


def resolve(program: str, runtime: Path) -> str:
    """Return the path of a program: one without a folder is the runtime's."""
    return program if "/" in program else str(runtime / "bin" / program)


def kind_and_index(name: str) -> tuple[Kind, int] | None:
    """Read `<kind>-<index>`; None for what is no component, such as the broker."""
    kind, _, index = name.rpartition("-")
    if kind not in set(Kind) or not index.isdigit():
        return None
    return Kind(kind), int(index)


def base_variables(host: Mapping[str, str]) -> dict[str, str]:
    """Return what components inherit from the host: next to nothing, and no secret."""
    return {name: host[name] for name in _PASSED_ON if name in host}
