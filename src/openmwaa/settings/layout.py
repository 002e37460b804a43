"""Where state lives below the home directory, and which port each listener has."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

FIRST_ORDINAL = 1
LAST_ORDINAL = 250


@dataclass(frozen=True)
class Layout:
    """Paths below one home directory. Nothing else is ever written but runtimes, where they are shared."""

    home: Path
    runtimes_folder: Path | None = None

    @property
    def settings_file(self) -> Path:
        return self.home / "openmwaa.toml"

    @property
    def port_base_file(self) -> Path:
        return self.home / "run" / "port-base"

    @property
    def master_key(self) -> Path:
        return self.home / "keys" / "master.key"

    @property
    def admin_credentials(self) -> Path:
        """Access key of the bootstrap administrator, mode 0600, for `openmwaa aws-env`."""
        return self.home / "keys" / "admin.json"

    @property
    def run(self) -> Path:
        """Sockets and process records; rebuilt by a restart."""
        return self.home / "run"

    @property
    def control_socket(self) -> Path:
        """AWS APIs; Caddy and the command line connect here."""
        return self.run / "control.sock"

    @property
    def gateway_socket(self) -> Path:
        """Sign-on and forward authentication; only Caddy connects here."""
        return self.run / "gateway.sock"

    @property
    def operator_socket(self) -> Path:
        """What AWS has no call for; only the command line connects here."""
        return self.run / "operator.sock"

    @property
    def node_socket(self) -> Path:
        """The node agent; only the control plane connects here."""
        return self.run / "node.sock"

    @property
    def processes(self) -> Path:
        """Identity records of supervised processes."""
        return self.run / "processes"

    @property
    def up_processes(self) -> Path:
        """Records of what `openmwaa up` supervises: the embedded services, control and node."""
        return self.processes / "up"

    @property
    def node_processes(self) -> Path:
        """Records of what `openmwaa node` supervises: the environments' components and brokers."""
        return self.processes / "node"

    @property
    def services(self) -> Path:
        """Data of the embedded services, one folder each."""
        return self.home / "services"

    @property
    def logs(self) -> Path:
        """Logs of the service itself and of the embedded services."""
        return self.home / "logs"

    @property
    def ca_bundle(self) -> Path:
        """Public roots plus our local authority: what clients are given as `AWS_CA_BUNDLE`."""
        return self.home / "tls" / "ca-bundle.pem"

    @property
    def runtimes(self) -> Path:
        """Installed Airflow versions; homes of one host may share the folder."""
        return self.runtimes_folder or self.home / "runtimes"

    @property
    def locks(self) -> Path:
        """Lock files that are newer than those of this release."""
        return self.home / "locks"

    @property
    def layers(self) -> Path:
        """Built layers, one folder per id: what a user's requirements, plugins and script become."""
        return self.home / "layers"

    @property
    def layer_builds(self) -> Path:
        """Scratch folders of builds under way and uv's cache for layers; may be deleted when none runs."""
        return self.home / "layer-builds"

    @property
    def plug_in(self) -> Path:
        """Content-addressed copies of `openmwaa_airflow`, the code that runs inside Airflow."""
        return self.home / "plug-in"

    @property
    def environments(self) -> Path:
        """One folder per environment id: Airflow's home, DAGs, logs."""
        return self.home / "environments"


@dataclass(frozen=True)
class Ports:
    """Loopback ports, counted from one base."""

    base: int

    @property
    def https(self) -> int:
        """TLS: the AWS APIs at 127.0.0.1, each environment at its own address."""
        return self.base

    @property
    def postgres(self) -> int:
        return self.base + 1

    @property
    def s3(self) -> int:
        return self.base + 2

    @property
    def feed(self) -> int:
        """Plain HTTP, by token: where the embedded object store says what changed."""
        return self.base + 3

    def seaweedfs(self, offset: int) -> int:
        """Return one of SeaweedFS's internal ports, offset 0 to 9."""
        return self.base + 10 + offset

    def address(self, ordinal: int) -> IPv4Address:
        """Return the loopback address of the environment with this ordinal (1 to 250).

        The port base is part of the address, so that two homes never share one.
        """
        if not FIRST_ORDINAL <= ordinal <= LAST_ORDINAL:
            raise ValueError(f"ordinal must be {FIRST_ORDINAL} to {LAST_ORDINAL}, not {ordinal}")
        return IPv4Address(bytes((127, *self.base.to_bytes(2, "big"), ordinal)))
