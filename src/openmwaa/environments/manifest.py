"""The list of components that should run: where Airflow knowledge and backends meet.

`airflow` builds a manifest from a spec; a backend converges it and needs to know nothing
of Airflow. Pure data, JSON-able. Secrets appear only sealed.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, Self


class Kind(StrEnum):
    """Kinds of component that keep running, and one-shot commands."""

    SCHEDULER = "scheduler"
    DAG_PROCESSOR = "dag-processor"
    TRIGGERER = "triggerer"
    WEBSERVER = "webserver"
    WORKER = "worker"


@dataclass(frozen=True)
class HttpProbe:
    """Ready when `GET http://<address>:<port><path>` answers 2xx."""

    path: str


@dataclass(frozen=True)
class FileProbe:
    """Ready when the file was touched within `max_age_s`.

    `path` is relative to the environment's home and may contain `{index}`, the replica's number.
    """

    path: str
    max_age_s: float


Probe = HttpProbe | FileProbe | None


@dataclass(frozen=True)
class Component:
    """One kind of process and how many of it.

    Attributes:
        argv: Command; `{index}`, `{port}` and `{address}` are replaced per replica.

        port: Port of replica 0; replica i listens at `port + i`. None: it does not listen.

        variables: Environment variables of this component only, over the manifest's.

        secrets: Sealed environment variables of this component only, by variable name.

        stop_signal: Sent to the main process only: Celery's warm shutdown depends on that.

        stop_grace_s: How long the main process may take before everything is killed.

        start_timeout_s: How long it may take to become ready before it counts as failed.

        memory_bytes: Limit by environment class, where the host can enforce one.

        first_index: Number of the first replica. Raised, the former replicas finish their work
            beside their successors instead of before them.

        drain_s: How long a replica that is no longer wanted may take to finish its work; None: as
            `stop_grace_s`.
    """

    kind: Kind
    replicas: int
    argv: tuple[str, ...]
    probe: Probe = None
    port: int | None = None
    variables: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    stop_signal: int = 15
    stop_grace_s: float = 90.0
    start_timeout_s: float = 180.0
    memory_bytes: int | None = None
    first_index: int = 0
    drain_s: float | None = None


@dataclass(frozen=True)
class DagSource:
    """Where the DAG folder is mirrored from. The prefix ends with `/` or is empty."""

    bucket: str
    prefix: str


@dataclass(frozen=True)
class Preload:
    """A process that has loaded what components are made of, and that they can be forked from.

    Nothing in it belongs to one environment: those with an equal one share the process.

    Attributes:
        argv: Command; the program is one of the runtime's, whatever layer is on top. The backend adds
            where it listens and what else it must know of this host.

        variables: Its environment variables.
    """

    argv: tuple[str, ...]
    variables: Mapping[str, str]


@dataclass(frozen=True)
class Manifest:
    """Everything a backend needs to run one environment.

    Attributes:
        environment_id: Id of the environment; scopes everything the backend makes.

        runtime: Id of the Airflow runtime in the artifact store; backends pass it through `Placement`.

        variables: Environment variables of every component and one-shot command.

        secrets: Sealed environment variables of every component and one-shot command.
            The keyring's context is `environment/<environment_id>/<variable name>`.

        components: In dependency order: started and replaced from first to last.

        layer: Id of the layer on top of the runtime: packages, plugins, start-up script.

        preload: What components may be forked from; None: each is started as a program. Either gives
            the same.
    """

    environment_id: str
    ordinal: int
    runtime: str
    variables: Mapping[str, str]
    secrets: Mapping[str, str]
    components: tuple[Component, ...]
    dags: DagSource
    layer: str | None = None
    preload: Preload | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values; `from_json` restores an equal manifest."""
        data = dataclasses.asdict(self)
        for entry, component in zip(data["components"], self.components, strict=True):
            if component.probe is not None:
                entry["probe"]["type"] = type(component.probe).__name__
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Restore a manifest that `to_json` made."""
        probes = {"HttpProbe": HttpProbe, "FileProbe": FileProbe}

        def component(entry: Mapping[str, Any]) -> Component:
            probe = dict(entry["probe"]) if entry["probe"] else None
            return Component(
                **{
                    **entry,
                    "kind": Kind(entry["kind"]),
                    "argv": tuple(entry["argv"]),
                    "probe": probes[probe.pop("type")](**probe) if probe else None,
                }
            )

        preload = data.get("preload")
        return cls(
            **{
                **data,
                "preload": Preload(tuple(preload["argv"]), preload["variables"]) if preload else None,
                "components": tuple(component(entry) for entry in data["components"]),
                "dags": DagSource(**data["dags"]),
            }
        )

    def component_hash(self, component: Component) -> str:
        """Return what a replica of this component must be replaced for when it changes.

        Count and numbers of replicas, and how they leave, are left out: scaling replaces nothing.
        Sealed texts differ at every sealing, so callers must carry over the sealed text of an unchanged secret.
        """
        entry = dataclasses.asdict(dataclasses.replace(component, replicas=0, first_index=0, drain_s=None))
        entry |= {
            "runtime": self.runtime,
            "layer": self.layer,
            "all_variables": dict(self.variables),
            "all_secrets": dict(self.secrets),
        }
        return hashlib.sha256(json.dumps(entry, sort_keys=True, default=str).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Placement:
    """Where a backend puts an environment: what the manifest builder must know beforehand.

    Attributes:
        address: Host or address at which the web servers listen, reachable by control and proxy.

        airflow_home: `AIRFLOW_HOME` as the components see it.

        dags_folder: DAG folder as the components see it.

        broker_url: Celery broker of this environment.

        runtime_path: Virtual environment of the runtime, or of the layer on top of it, as the
            components see it.

        plug_in_path: Folder to put on `PYTHONPATH` so that `openmwaa_airflow` can be imported.

        plugins_folder: Airflow's plugins folder as the components see it.

        startup_script: Where the layer's start-up script is, if it has one.
    """

    address: IPv4Address | str
    airflow_home: Path
    dags_folder: Path
    broker_url: str
    runtime_path: Path
    plug_in_path: Path
    plugins_folder: Path
    startup_script: Path
