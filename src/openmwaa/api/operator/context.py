"""What the operator's requests are answered with; wiring fills it in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openmwaa.api.ports import Preflight
from openmwaa.artifacts.installer import RuntimeInstaller
from openmwaa.backends.base import CommandResult, Observed
from openmwaa.environments.changes import ChangePlan
from openmwaa.environments.manifest import Manifest
from openmwaa.environments.record import EnvironmentRecord
from openmwaa.environments.requests import Limits
from openmwaa.environments.spec import EnvironmentSpec
from openmwaa.snapshots import SnapshotDesk
from openmwaa.store import Store


@dataclass(frozen=True)
class LogFolders:
    """Where the logs of one environment are on this host.

    Attributes:
        components: Holds `<kind>-<index>.log` for each replica.

        tasks: Airflow's own folder of task logs: `dag_id=…/run_id=…/task_id=…/attempt=….log`.
    """

    components: Path
    tasks: Path


Preview = Callable[
    [EnvironmentRecord, EnvironmentSpec, ChangePlan, Mapping[str, bytes] | None], Awaitable[dict[str, Any]]
]


@dataclass(frozen=True)
class OperatorContext:
    """Parts that requests are answered with.

    Attributes:
        limits: What UpdateEnvironment accepts here.

        web_host: Host name of an environment's web server, with its port unless it is 443.

        observe: What runs now. May raise Retry or GiveUp.

        manifest: What should run for a spec of an environment; no I/O.

        run_airflow: `await run_airflow(record, arguments, timeout_s)`: runs `airflow *arguments`
            beside the environment's components.

        preflight: Looks at the source bucket before an update is accepted.

        preview: `await preview(record, wanted, plan, contents)`: more about a planned change, as
            members of the answer. `contents`: files that are not in the bucket yet, by field of the
            spec; None: without building or importing anything.

        log_folders: Where the logs are; None for a backend whose logs are not files of this host.

        snapshots: Makes, keeps and restores snapshots; None: requests about them are refused.
    """

    store: Store
    limits: Limits
    web_host: Callable[[EnvironmentRecord], str]
    observe: Callable[[EnvironmentRecord], Awaitable[Observed]]
    manifest: Callable[[EnvironmentRecord, EnvironmentSpec], Manifest]
    run_airflow: Callable[[EnvironmentRecord, Sequence[str], float], Awaitable[CommandResult]]
    runtimes: RuntimeInstaller
    preflight: Preflight
    preview: Preview | None = None
    log_folders: Callable[[EnvironmentRecord], LogFolders] | None = None
    snapshots: SnapshotDesk | None = None
