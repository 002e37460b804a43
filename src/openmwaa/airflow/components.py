"""From a spec to the list of components that should run. Pure: the same arguments, the same manifest."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from openmwaa.airflow.options import WEB_PORT, settings_of, variable
from openmwaa.airflow.preload import build_preload, process_variables
from openmwaa.airflow.secrets import GENERATION_OF, ONLY_FOR
from openmwaa.airflow.startup_rules import LONGEST_S, component_variables, startup_rules
from openmwaa.airflow.versions import AirflowVersion, airflow_version
from openmwaa.environments.arns import bucket_of
from openmwaa.environments.classes import CLASSES, Size
from openmwaa.environments.manifest import (
    Component,
    DagSource,
    FileProbe,
    HttpProbe,
    Kind,
    Manifest,
    Placement,
)
from openmwaa.environments.spec import EnvironmentSpec

LOGIN_PATH: Final = "/aws_mwaa/aws-console-sso"
LOGOUT_PATH: Final = "/aws_mwaa/logout"

_GIB: Final = 1024**3
_VARIABLE: Final = re.compile(r"^[A-Z][A-Z0-9_]*$")
_WORKER_SILENT_S: Final = 20.0
"""A worker's heartbeat comes every 2 s; one that misses ten hangs or has lost its broker."""

_START_TIMEOUT_S: Final = 180.0
_STOP_GRACE_S: Final = 90.0
"""MWAA's patience between SIGTERM and SIGKILL (mwaa.md 6.5)."""

_DRAIN_S: Final = 12 * 3600.0
"""How long a worker that is no longer wanted may finish its tasks (mwaa.md 2.3)."""

_SERIES: Final = 100
"""Workers of one series have numbers below this; more than any quota of workers."""

_WEB_STOP_GRACE_S: Final = 5.0
"""Tasks of Airflow 3 need the web server: one that waits for idle connections to close is away too long."""

_TRIGGERER_SWITCH: Final = "mwaa.triggerer_enabled"

_LOG_MEMBER: Final[Mapping[Kind, str]] = {
    Kind.SCHEDULER: "SchedulerLogs",
    Kind.TRIGGERER: "SchedulerLogs",  # MWAA writes both to one group (mwaa.md 9.1)
    Kind.DAG_PROCESSOR: "DagProcessingLogs",
    Kind.WEBSERVER: "WebserverLogs",
    Kind.WORKER: "WorkerLogs",
}
_LEVEL_WHEN_OFF: Final = "WARNING"
"""Level of a component whose log type is off: nobody keeps its log, but it can still say why it failed."""


@dataclass(frozen=True)
class Surroundings:
    """What an environment must know of the service around it.

    Attributes:
        web_url: Where users reach its web server: `https://host[:port]`, no slash at the end.

        gateway_public_key: PEM of the Ed25519 key that signs identities; two one after the
            other while the key is being changed.

        s3_endpoint_url: For boto3 in components and tasks.
    """

    web_url: str
    gateway_public_key: str
    s3_endpoint_url: str
    region: str
    account_id: str


def audience(environment_id: str) -> str:
    """Return the audience of identities for one environment."""
    return f"openmwaa:{environment_id}"


def migrate_commands(version: str) -> list[tuple[str, ...]]:
    """Return the one-shot commands that bring the metadata database up to date, in order.

    After them the built-in roles exist, and starting a component writes nothing. Safe to
    repeat. One process for all steps: most of the time of each would be its start.
    """
    _ = airflow_version(version)
    return [("python", "-P", "-m", "openmwaa_airflow.migrate")]


def requeue_commands() -> list[tuple[str, ...]]:
    """Return the one-shot commands that bring broker and database together again.

    After the database was replaced while nothing ran. Safe to repeat.
    """
    return [("python", "-P", "-m", "openmwaa_airflow.requeue")]


def build_manifest(
    spec: EnvironmentSpec,
    *,
    environment_id: str,
    ordinal: int,
    runtime: str,
    layer: str | None = None,
    placement: Placement,
    secrets: Mapping[str, str],
    surroundings: Surroundings,
) -> Manifest:
    """Return the manifest of an environment.

    Args:
        spec: What is wanted.

        environment_id: Id of the environment.

        ordinal: Its ordinal.

        runtime: Id of the installed runtime.

        layer: Id of the layer on top of it, if there is one.

        placement: Where the backend puts it.

        secrets: Sealed texts by name. Names that are variables are given to the components
            that need them (`openmwaa.airflow.secrets.ONLY_FOR`); other names are left out.

        surroundings: The service around it.
    """
    version = airflow_version(spec.airflow_version)
    mine = {
        name: sealed
        for name, sealed in secrets.items()
        if _VARIABLE.match(name) and GENERATION_OF.get(name, version.generation) == version.generation
    }
    settings = settings_of(spec, version, placement, web_url=surroundings.web_url)
    build = _Builder(spec, version, placement, mine, frozenset(map(variable, settings)))
    components = [build.scheduler(), build.dag_processor()]
    if spec.airflow_configuration_options.get(_TRIGGERER_SWITCH, "true").lower() != "false":
        components.append(build.triggerer())
    components += [build.webserver(), build.worker()]
    return Manifest(
        environment_id=environment_id,
        ordinal=ordinal,
        runtime=runtime,
        layer=layer,
        variables={
            **_process_variables(spec, placement, environment_id, surroundings),
            **{variable(option): value for option, value in settings.items()},
            **startup_rules(spec, version),
        },
        secrets={name: sealed for name, sealed in mine.items() if name not in ONLY_FOR},
        components=tuple(components),
        dags=DagSource(bucket=bucket_of(spec.source_bucket_arn), prefix=_folder_prefix(spec.dag_s3_path)),
        preload=build_preload(spec, version, placement, region=surroundings.region),
    )


def _process_variables(
    spec: EnvironmentSpec, placement: Placement, environment_id: str, surroundings: Surroundings
) -> dict[str, str]:
    """Return the variables that are not Airflow's own configuration."""
    return {
        **process_variables(spec.airflow_version, placement, region=surroundings.region),
        "PATH": f"{placement.runtime_path}/bin:/usr/local/bin:/usr/bin:/bin",
        # Also what the real service sets (mwaa.md 5.5, 5.6).
        "AIRFLOW_ENV_NAME": spec.name,
        "AIRFLOW_ENV_ID": environment_id,
        "CUSTOMER_ACCOUNT_ID": surroundings.account_id,
        "AWS_ENDPOINT_URL_S3": surroundings.s3_endpoint_url,
        # Read by openmwaa_airflow.
        **_broker_variables(placement, environment_id),
        **({"OPENMWAA_STARTUP_SCRIPT": str(placement.startup_script)} if spec.startup_script else {}),
        "OPENMWAA_GATEWAY_PUBLIC_KEY": surroundings.gateway_public_key,
        "OPENMWAA_AUDIENCE": audience(environment_id),
        "OPENMWAA_LOGIN_URL": LOGIN_PATH,
        "OPENMWAA_LOGOUT_URL": LOGOUT_PATH,
    }


def _broker_variables(placement: Placement, environment_id: str) -> dict[str, str]:
    """Give an environment keys of its own in a broker that others use too; a socket is its own."""
    if placement.broker_url.startswith("redis+socket:"):
        return {}
    return {"OPENMWAA_BROKER_KEY_PREFIX": f"{environment_id}:"}


class _Builder:
    """Builds the components of one spec."""

    def __init__(
        self,
        spec: EnvironmentSpec,
        version: AirflowVersion,
        placement: Placement,
        secrets: Mapping[str, str],
        settled: frozenset[str],
    ) -> None:
        self._spec = spec
        self._version = version
        self._placement = placement
        self._secrets = secrets
        self._settled = settled
        self._size = CLASSES[spec.environment_class]

    def scheduler(self) -> Component:
        arguments = ("scheduler", "--skip-serve-logs")
        return self._component(Kind.SCHEDULER, self._spec.schedulers, arguments, self._size.scheduler)

    def dag_processor(self) -> Component:
        return self._component(Kind.DAG_PROCESSOR, 1, ("dag-processor",), self._size.scheduler)

    def triggerer(self) -> Component:
        arguments = ("triggerer", "--skip-serve-logs")
        # MWAA has a triggerer beside each scheduler. Its capacity is its own variable, so that another
        # scheduler replaces nothing but the triggerer.
        capacity = {"triggerer.capacity": str(self._size.triggerer_capacity * self._spec.schedulers)}
        return self._component(
            Kind.TRIGGERER, 1, arguments, self._size.scheduler, variables=self._unless_chosen(capacity)
        )

    def webserver(self) -> Component:
        """`airflow webserver` or `airflow api-server`; on 3.x the latter also serves the tasks."""
        arguments: tuple[str, ...]
        if self._version.generation == 2:
            pid = str(self._placement.airflow_home / "run" / "webserver-{index}.pid")
            arguments = ("webserver", "--hostname", "{address}", "--port", "{port}", "--pid", pid)
            if not self._spec.logging["WebserverLogs"].enabled:
                # gunicorn's line per request knows no level, and every probe would write one.
                arguments = (*arguments, "--access-logfile", "")
        else:
            arguments = ("api-server", "--host", "{address}", "--port", "{port}", "--proxy-headers")
        return self._component(
            Kind.WEBSERVER,
            self._spec.min_webservers,
            arguments,
            self._size.webserver,
            probe=HttpProbe(self._version.probe_path),
            port=WEB_PORT,
            stop_grace_s=_WEB_STOP_GRACE_S,
        )

    def worker(self) -> Component:
        # No -H: with it Airflow first asks all workers for their names and waits a second for
        # answers that a worker without remote control does not give.
        arguments = ("celery", "worker", "--without-mingle", "--without-gossip", "--skip-serve-logs")
        return self._component(
            Kind.WORKER,
            self._spec.min_workers,
            arguments,
            self._size.worker,
            probe=FileProbe("run/worker-{index}.ready", _WORKER_SILENT_S),
            first_index=self._spec.worker_series * _SERIES,
            drain_s=_STOP_GRACE_S if self._spec.hurry else _DRAIN_S,
        )

    def _component(
        self,
        kind: Kind,
        replicas: int,
        arguments: tuple[str, ...],
        size: Size,
        *,
        probe: HttpProbe | FileProbe | None = None,
        port: int | None = None,
        variables: Mapping[str, str] | None = None,
        stop_grace_s: float = _STOP_GRACE_S,
        first_index: int = 0,
        drain_s: float | None = None,
    ) -> Component:
        python = str(self._placement.runtime_path / "bin" / "python")
        return Component(
            kind=kind,
            replicas=replicas,
            # -P: the working folder does not belong on the path of modules.
            argv=(python, "-P", "-m", "openmwaa_airflow.start", f"{kind}-{{index}}", *arguments),
            probe=probe,
            port=port,
            variables={
                **component_variables(self._spec, kind),
                **self._log_levels(kind),
                **(variables or {}),
            },
            secrets={
                name: sealed
                for name, sealed in self._secrets.items()
                if name in ONLY_FOR and kind in ONLY_FOR[name]
            },
            stop_grace_s=stop_grace_s,
            first_index=first_index,
            drain_s=drain_s,
            start_timeout_s=_START_TIMEOUT_S + (LONGEST_S if self._spec.startup_script else 0),
            memory_bytes=size.memory_gib * _GIB,
        )

    def _log_levels(self, kind: Kind) -> dict[str, str]:
        """Return the levels of a component. A worker has two: its own and that of its tasks."""
        own = self._spec.logging[_LOG_MEMBER[kind]]
        levels = {"logging.logging_level": own.level if own.enabled else _LEVEL_WHEN_OFF}
        if kind is Kind.WORKER:
            task = self._spec.logging["TaskLogs"]
            levels = {
                "logging.celery_logging_level": levels["logging.logging_level"],
                "logging.logging_level": task.level if task.enabled else "CRITICAL",
            }
        return self._unless_chosen(levels)

    def _unless_chosen(self, options: Mapping[str, str]) -> dict[str, str]:
        """Return variables of a component's own options that the environment's settings leave open."""
        named = {variable(self._version.option(option)): value for option, value in options.items()}
        return {name: value for name, value in named.items() if name not in self._settled}


def _folder_prefix(path: str) -> str:
    """Return a DagS3Path as a key prefix: no slash before it, one after it."""
    stripped = path.strip("/")
    return f"{stripped}/" if stripped else ""
