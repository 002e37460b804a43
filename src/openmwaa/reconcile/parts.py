"""What steps work with.

This is where Airflow knowledge, artifacts, the database server and a backend meet; none of
them knows another.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from openmwaa.airflow.components import Surroundings, build_manifest
from openmwaa.artifacts.layers import Layer
from openmwaa.backends.base import Backend
from openmwaa.environments.layer import layer_of
from openmwaa.environments.manifest import Manifest
from openmwaa.environments.record import EnvironmentRecord
from openmwaa.environments.spec import EnvironmentSpec
from openmwaa.kit.keyring import Keyring
from openmwaa.kit.secret import Secret
from openmwaa.store import Store

_ROLL: Final = "OPENMWAA_ROLL"


@dataclass(frozen=True)
class StepResult:
    """What a step leaves behind.

    Attributes:
        checkpoint: JSON value, small.

        message: One sentence for the environment's history; empty: not worth a line.

        secrets: Sealed texts to keep, by variable name.
    """

    checkpoint: Any = True
    message: str = ""
    secrets: Mapping[str, str] = field(default_factory=dict)


class Accounts(Protocol):
    """S3 accounts of environments."""

    async def ensure_user(self, environment_id: str, bucket: str) -> tuple[str, Secret] | None: ...

    async def grant(self, environment_id: str, *buckets: str) -> None: ...

    async def remove_user(self, environment_id: str) -> None: ...


class Runtime(Protocol):
    """An installed Airflow."""

    @property
    def id(self) -> str: ...


class Runtimes(Protocol):
    """Installs Airflow versions."""

    async def ensure_id(self, runtime_id: str) -> Runtime:
        """Return a runtime, installing it first if need be."""
        ...

    def has(self, runtime_id: str) -> bool:
        """Return whether it is installed."""
        ...

    def locate(self, version: str) -> Runtime:
        """Return the newest runtime of a version, installed or not."""
        ...


class Layers(Protocol):
    """Builds what a spec has on top of its runtime."""

    async def ensure(
        self,
        record: EnvironmentRecord,
        spec: EnvironmentSpec,
        contents: Mapping[str, bytes] | None = None,
    ) -> Layer | None:
        """Return the layer of a spec, building it first if need be; None: it has none."""
        ...

    async def installed(
        self,
        record: EnvironmentRecord,
        spec: EnvironmentSpec,
        contents: Mapping[str, bytes] | None = None,
    ) -> Mapping[str, str]:
        """Return every package that a spec leads to, with its version; builds nothing."""
        ...


class Snapshots(Protocol):
    """Reads what was kept of environments."""

    async def load(self, snapshot_id: str, record: EnvironmentRecord) -> Mapping[str, str]:
        """Make the environment's database equal to the snapshot's; return sealed secrets that go with it."""
        ...

    async def version_of(self, snapshot_id: str) -> str:
        """Return the Airflow version that wrote it."""
        ...


@dataclass(frozen=True)
class Parts:
    """Everything that steps use; wiring fills it in.

    Attributes:
        shared_broker: Address of a broker that all environments use; None: each has its own.
    """

    store: Store
    keyring: Keyring
    backend: Backend
    runtimes: Runtimes
    layers: Layers
    accounts: Accounts
    snapshots: Snapshots
    surroundings: Callable[[EnvironmentRecord], Surroundings]
    shared_broker: Secret | None = None

    def runtime_id(self, spec: EnvironmentSpec) -> str:
        """Return the runtime of a spec."""
        return spec.runtime_id or self.runtimes.locate(spec.airflow_version).id

    def manifest(self, record: EnvironmentRecord, spec: EnvironmentSpec | None = None) -> Manifest:
        """Return what should run for `spec`, by default for the one that is wanted.

        The same row gives the same manifest, so nothing is replaced by building it again.
        """
        spec = spec or record.spec
        runtime, layer = self.runtime_id(spec), layer_of(spec)
        manifest = build_manifest(
            spec,
            environment_id=record.id,
            ordinal=record.ordinal,
            runtime=runtime,
            layer=layer,
            placement=self.backend.place(record.id, record.ordinal, runtime, layer),
            secrets=record.secrets,
            surroundings=self.surroundings(record),
        )
        # An update without a changed field replaces every component all the same (mwaa.md 1.6).
        return dataclasses.replace(manifest, variables={**manifest.variables, _ROLL: str(spec.roll)})

    def running_manifest(self, record: EnvironmentRecord) -> Manifest:
        """Return the manifest of what was last seen healthy."""
        return self.manifest(record, record.good_spec)

    def open(self, record: EnvironmentRecord, name: str) -> Secret:
        """Open one of the environment's secrets."""
        return self.keyring.open(record.secrets[name], context=record.secret_context(name))

    def seal(self, record: EnvironmentRecord, secrets: Mapping[str, Secret]) -> dict[str, str]:
        """Seal secrets for the environment."""
        return {
            name: self.keyring.seal(secret, context=record.secret_context(name))
            for name, secret in secrets.items()
        }
