"""Airflow configuration: what we choose, what a user may change, what nobody may.

Precedence, lowest first: defaults, the environment's configuration options, protected
settings. Like MWAA, an option that a protected setting overrides is accepted and has no
effect; `overridden` lets an event say so. Values are what Airflow reads from
`AIRFLOW__SECTION__KEY` variables.

Sources: mwaa.md 6.2 (essential settings), 6.3 (defaults of MWAA); each deviation says why.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from openmwaa.airflow.known_options import known_options
from openmwaa.airflow.versions import AirflowVersion
from openmwaa.environments.classes import CLASSES
from openmwaa.environments.manifest import Placement
from openmwaa.environments.spec import EnvironmentSpec

Settings = dict[str, str]
"""`section.key` -> value."""

TASK_HEARTBEAT_S: Final = 5
TASK_LOST_AFTER_S: Final = 50
TASK_LOST_CHECK_S: Final = 5
ORPHANS_CHECK_S: Final = 10
WEB_PORT: Final = 8080

_PROTECTED_SECTIONS: Final = frozenset({"metrics", "traces", "api_auth", "celery_broker_transport_options"})
_PROTECTED_ELSEWHERE: Final = frozenset(
    {
        # Secrets and addresses: they are given to components apart from the settings.
        "api.secret_key",
        "celery.result_backend",
        "core.fernet_key",
        "core.internal_api_secret_key",
        "database.sql_alchemy_conn",
        "database.sql_alchemy_conn_async",
        "webserver.secret_key",
        # Where a web server listens is part of the route to it.
        "api.host",
        "api.port",
        "webserver.web_server_host",
        "webserver.web_server_port",
        # Plain HTTP on loopback: TLS ends at the gateway.
        "api.ssl_cert",
        "api.ssl_key",
        "webserver.web_server_ssl_cert",
        "webserver.web_server_ssl_key",
    }
)
_ANY_CLASS: Final = "mw1.small"
"""Classes differ in numbers of processes alone, which are read when these start."""

_FETCH_INTERVAL: Final = "core.min_serialized_dag_fetch_interval"
_INDIRECT: Final = re.compile(r"_(cmd|secret)$")
_KEY: Final = re.compile(r"^(?P<section>common\.io|[^.]+)\.(?P<key>.+)$", re.IGNORECASE)
"""One section of Airflow has a dot in its name."""


def variable(option: str) -> str:
    """Return the variable of an option: `core.parallelism` -> `AIRFLOW__CORE__PARALLELISM`.

    Raises:
        ValueError: It names no section.
    """
    section, _, key = canonical(option).partition(".")
    return f"AIRFLOW__{section.upper()}__{key.upper()}"


def canonical(option: str) -> str:
    """Return the one spelling of all that mean the same variable: `CORE.load.examples` -> `core.load_examples`.

    Raises:
        ValueError: It names no section.
    """
    match = _KEY.match(option)
    if match is None:
        raise ValueError(f"{option!r} has no section")
    section, key = (match[group].lower().replace(".", "_") for group in ("section", "key"))
    return f"{section}.{key}"


def malformed(options: Mapping[str, str]) -> list[str]:
    """Return the options that name no section: the API refuses them."""
    return sorted(option for option in options if _KEY.match(option) is None)


def overridden(options: Mapping[str, str], version: AirflowVersion) -> list[str]:
    """Return the options that have no effect, because the service decides them."""
    return sorted(option for option in options if is_protected(option, version))


def is_protected(option: str, version: AirflowVersion) -> bool:
    """Return whether an option is the service's own. `…_cmd` and `…_secret` are other ways to set one."""
    known = known_options(version.version)
    name = known.current(canonical(option))
    plain = known.current(_INDIRECT.sub("", canonical(option)))
    candidates = {name, plain}
    if candidates & (_PROTECTED_ELSEWHERE | _FIXED.keys()):
        return True
    if candidates & (_FIXED_2 if version.generation == 2 else _FIXED_3).keys():
        return True
    return plain.partition(".")[0] in _PROTECTED_SECTIONS


def protected_variables(version: AirflowVersion) -> list[str]:
    """Return patterns, as `fnmatch` knows them, of the variables of every protected option."""
    generation = _FIXED_2 if version.generation == 2 else _FIXED_3
    names = [variable(option) for option in _PROTECTED_ELSEWHERE | _FIXED.keys() | generation.keys()]
    sections = [f"AIRFLOW__{section.upper()}__*" for section in _PROTECTED_SECTIONS]
    return sorted([*sections, *names, *(f"{name}_{way}" for name in names for way in ("CMD", "SECRET"))])


def settings_of(
    spec: EnvironmentSpec, version: AirflowVersion, placement: Placement, *, web_url: str
) -> Settings:
    """Return every setting of an environment except secrets, by precedence.

    Args:
        spec: Gives class and options.

        version: Decides spellings and which settings exist.

        placement: Gives paths, address and broker.

        web_url: Where users reach the web server, e.g. `https://127.34.46.1:8750`.
    """
    known = known_options(version.version)
    defaults = _defaults(spec.environment_class, version)
    if not (spec.requirements or spec.plugins or spec.startup_script):
        # Without anybody else's views, `migrate` has made every permission already. To look at each
        # again takes a web server half a second of CPU time of its start.
        defaults["fab.update_fab_perms"] = "False"
    mine = {
        canonical(option): value
        for option, value in spec.airflow_configuration_options.items()
        if not is_protected(option, version)
    }
    # Under a deprecated name an option would lose against our default, which has the new name.
    options = {known.current(name): value for name, value in mine.items() if name in known.deprecated}
    options |= {name: value for name, value in mine.items() if name not in known.deprecated}
    return defaults | options | _protected(version, placement, web_url)


def settings_of_all(version: AirflowVersion, placement: Placement, *, web_url: str) -> Settings:
    """Return the settings of an environment of some class whose user chose nothing.

    Args:
        version: As in `settings_of`.

        placement: Likewise.

        web_url: Likewise.
    """
    return _defaults(_ANY_CLASS, version) | _protected(version, placement, web_url)


def _defaults(environment_class: str, version: AirflowVersion) -> Settings:
    """Return what a user may change."""
    size = CLASSES[environment_class]
    chosen = {
        # As MWAA (mwaa.md 6.3).
        "core.parallelism": "10000",
        "core.max_active_tasks_per_dag": "10000",
        "core.sensitive_var_conn_names": "proxy,proxies",
        "celery.sync_parallelism": "1",
        # For Airflow a started task is like one that waits: it says so itself, to the API server or the
        # database. Each note costs a transaction, 5 ms of CPU time.
        "celery.task_track_started": "False",
        "scheduler.task_queued_timeout": "1800.0",
        "secrets.backend_kwargs": '{"connections_lookup_pattern": "^(?!aws_default$).*$"}',
        "usage_data_collection.enabled": "False",
        # Databases are migrated before anything is started. To look whether that is so takes each
        # component and each command 0.2 to 0.4 s of CPU time: it imports every migration.
        "database.check_migrations": "False",
        "database.sql_alchemy_connect_args": "openmwaa_airflow.connection_options.CONNECT_ARGS",
        # As MWAA's class. All of the pool at once: 60 MB more than a pool that grows, and no surprises.
        "celery.worker_autoscale": f"{size.tasks_per_worker},{size.tasks_per_worker}",
        # MWAA's limit is 2 x vCPU - 1 (mwaa.md 3).
        "dag_processor.parsing_processes": str(max(1, 2 * size.scheduler.vcpu - 1)),
        "api.workers": str(size.webserver.vcpu),
        # The default of 16 holds wide DAGs back: twice the tasks per second with 64 (airflow.md 8).
        "scheduler.max_tis_per_query": "64",
        # `openmwaa_airflow.dag_watch` says at once what changed; this is for files that others generate,
        # and in case a version does not let it.
        "dag_processor.refresh_interval": "5",
        # The default of 30 drops what a second change within half a minute has parsed. Only what differs is
        # written, so this writes no more often.
        "core.min_serialized_dag_update_interval": "0",
        # A task whose worker died is found within a minute instead of five (airflow.md 6). Not
        # less: every running task counts as lost if the API server or the database is away for longer.
        "scheduler.task_instance_heartbeat_sec": str(TASK_HEARTBEAT_S),
        "scheduler.task_instance_heartbeat_timeout": str(TASK_LOST_AFTER_S),
        "scheduler.task_instance_heartbeat_timeout_detection_interval": str(TASK_LOST_CHECK_S),
        # A scheduler only looks after tasks that it queued or adopted. At the default of 300 s a worker
        # that dies after its scheduler was replaced would not be missed for so long.
        "scheduler.orphaned_tasks_check_interval": str(ORPHANS_CHECK_S),
        # MWAA says True, for isolation. On 2.x that starts Airflow anew for every task: 2.4 CPU
        # seconds each, a quarter of the throughput (airflow.md 8). It changes nothing on 3.x.
        "core.execute_tasks_new_python_interpreter": "False",
    }
    if version.generation == 2:
        # As MWAA: the next task is chosen by a scheduler, not by the process of the last task.
        chosen["scheduler.schedule_after_task_execution"] = "False"
    else:
        chosen |= {
            "workers.secrets_backend_kwargs": chosen["secrets.backend_kwargs"],
            "workers.min_heartbeat_interval": str(TASK_HEARTBEAT_S),
            # The default of 3 kills every running task while the API server restarts. Whether a
            # task is lost is for the scheduler to say, by the timeout above.
            "workers.max_failed_heartbeats": "12",
            # The default of 5 tries ends after about 8 s, before a restarted API server answers, and
            # its first answers take longer than the default time-out of 5 s.
            "workers.execution_api_retries": "20",
            "workers.execution_api_retry_wait_max": "5.0",
            "workers.execution_api_timeout": "30.0",
            "dag_processor.bundle_refresh_check_interval": "2",
        }
    if _FETCH_INTERVAL in known_options(version.version).options:
        # For so long schedulers and web servers go on with a DAG's former tasks, by default 10 s. It costs one
        # lookup by key per DAG in use. Later versions ask each time.
        chosen[_FETCH_INTERVAL] = "1"
    return {version.option(option): value for option, value in chosen.items()}


_FIXED: Final[Mapping[str, str]] = {
    "core.executor": "CeleryExecutor",
    "core.load_examples": "False",
    "core.hostname_callable": "openmwaa_airflow.hostname.component_name",
    "core.dags_folder": "{dags}",
    "core.plugins_folder": "{plugins}",
    "celery.broker_url": "{broker}",
    "celery.celery_config_options": "openmwaa_airflow.celery_config.CELERY_CONFIG",
    "celery.worker_enable_remote_control": "False",
    "operators.default_queue": "default",
    # One folder for all components: a task's log is read from it while the task runs and after
    # its worker is gone.
    "logging.base_log_folder": "{home}/logs",
    "logging.remote_logging": "False",
    "logging.remote_log_conn_id": "",
    "logging.remote_base_log_folder": "",
    "logging.logging_config_class": "",
    "logging.colored_console_log": "False",
    # Off until the service has a place for metrics.
    "metrics.statsd_on": "False",
    "metrics.otel_on": "False",
    "traces.otel_on": "False",
}
_FIXED_2: Final[Mapping[str, str]] = {
    "api.auth_backends": "airflow.api.auth.backend.session",
    "core.auth_manager": "airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager",
    "logging.dag_processor_manager_log_location": "{home}/logs/dag_processor_manager/dag_processor_manager.log",
    "scheduler.child_process_log_directory": "{home}/logs/scheduler",
    "scheduler.standalone_dag_processor": "True",
    "webserver.base_url": "{web}",
    "webserver.config_file": "{plug_in}/openmwaa_airflow/webserver_config.py",
    "webserver.cookie_secure": "True",
    "webserver.enable_proxy_fix": "True",
    "webserver.warn_deployment_exposure": "False",
}
_FIXED_3: Final[Mapping[str, str]] = {
    "api.base_url": "{web}",
    "api_auth.jwt_algorithm": "HS512",
    "core.auth_manager": "openmwaa_airflow.auth_manager_v3.GatewayAuthManager",
    "core.execution_api_server_url": "http://{address}:{port}/execution/",
    "core.multi_team": "False",
    "execution_api.jwt_expiration_time": "86400",
    "fab.auth_backends": "airflow.providers.fab.auth_manager.api.auth.backend.session",
    "fab.auth_role_public": "",
    "fab.config_file": "{plug_in}/openmwaa_airflow/webserver_config.py",
    "fab.cookie_secure": "True",
    "fab.enable_proxy_fix": "True",
    "logging.dag_processor_child_process_log_directory": "{home}/logs/dag_processor",
    "triggerer.queues_enabled": "False",
}


def _protected(version: AirflowVersion, placement: Placement, web_url: str) -> Settings:
    """Return what nobody may change."""
    names = {
        "address": str(placement.address),
        "broker": placement.broker_url,
        "dags": str(placement.dags_folder),
        "home": str(placement.airflow_home),
        "plug_in": str(placement.plug_in_path),
        "plugins": str(placement.plugins_folder),
        "port": str(WEB_PORT),
        "web": web_url,
    }
    fixed = {**_FIXED, **(_FIXED_2 if version.generation == 2 else _FIXED_3)}
    return {option: value.format_map(names) for option, value in fixed.items()}
