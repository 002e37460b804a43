"""From a manifest to the commands, variables and sandboxes of one environment's processes."""

from __future__ import annotations

import hashlib
from pathlib import Path

from openmwaa.backends.local import broker
from openmwaa.backends.local.folders import EnvironmentFolders
from openmwaa.backends.local.host import Host
from openmwaa.backends.local.replicas import Replica, base_variables, interpreter_folder
from openmwaa.environments.manifest import Manifest
from openmwaa.supervise import ProcessSpec, Sandbox
from openmwaa.supervise.forking import Forker


class Specs:
    """Builds the specs of one environment."""

    def __init__(self, host: Host, environment_id: str, folders: EnvironmentFolders) -> None:
        self._host = host
        self._id = environment_id
        self._folders = folders

    @property
    def working_folder(self) -> Path:
        """Where processes start, as they see it."""
        return self._host.isolation.airflow_home(self._folders)

    def address(self, manifest: Manifest) -> str:
        """Return the loopback address of the environment."""
        return str(self._host.settings.ports.address(manifest.ordinal))

    def runtime(self, manifest: Manifest) -> Path:
        """Return the virtual environment that programs are looked up in."""
        return interpreter_folder(self._host.settings.layout, manifest.runtime, manifest.layer)

    def sandbox(self, manifest: Manifest) -> Sandbox | None:
        """Return the sandbox of the environment's processes."""
        layout = self._host.settings.layout
        layer = layout.layers / manifest.layer if manifest.layer else None
        programs = [layout.runtimes, layout.plug_in, broker.valkey_binary(), *([layer] if layer else ())]
        return self._host.isolation.sandbox(
            self._folders, manifest.ordinal, programs=tuple(programs), layer=layer
        )

    def variables(self, manifest: Manifest, replica: Replica | None = None) -> dict[str, str]:
        """Return the complete environment of a process, secrets opened."""
        component = replica.component if replica else None
        sealed = {**manifest.secrets, **(component.secrets if component else {})}
        opened = {
            name: self._host.keyring.open(text, context=f"environment/{self._id}/{name}").reveal()
            for name, text in sealed.items()
        }
        plain = {**manifest.variables, **(component.variables if component else {})}
        return {**base_variables(self._host.variables), **plain, **opened}

    def replica(self, manifest: Manifest, replica: Replica, forker: Forker | None = None) -> ProcessSpec:
        """Return how to run a replica.

        Args:
            manifest: What runs.

            replica: Which one.

            forker: Forks it; None: it is started as a program.
        """
        component = replica.component
        return ProcessSpec(
            name=f"{self._id}/{replica.name}",
            argv=replica.argv(address=self.address(manifest), runtime=self.runtime(manifest)),
            env=self.variables(manifest, replica),
            cwd=self.working_folder,
            log_path=self._folders.logs / f"{replica.name}.log",
            stop_signal=component.stop_signal,
            stop_grace_s=component.stop_grace_s,
            sandbox=self.sandbox(manifest),
            fingerprint=replica.hash,
            forker=forker,
        )

    def broker(self, manifest: Manifest) -> ProcessSpec:
        """Return how to run the broker."""
        home = self.working_folder
        argv = broker.broker_argv(home)
        return ProcessSpec(
            name=f"{self._id}/{broker.BROKER}",
            argv=argv,
            env={**base_variables(self._host.variables), "PATH": "/usr/bin:/bin", "HOME": str(home)},
            cwd=home,
            log_path=self._folders.logs / "broker.log",
            sandbox=self.sandbox(manifest),
            # Not its variables: it must not restart because the agent was started from elsewhere.
            fingerprint=hashlib.sha256("\0".join(argv).encode()).hexdigest()[:16],
        )
