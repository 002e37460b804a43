"""Why the service decides an option itself, and what a user can do instead."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

HANDED_ON: Final = frozenset(
    {"metrics.statsd_on", "metrics.metrics_allow_list", "metrics.metrics_block_list"}
)
"""Protected, but a user's value is accepted: it is for what filters the measurements (mwaa.md 6.2)."""

_SIGN_ON: Final = "sign-on is the service's, by IAM"
_ADDRESS: Final = "it decides addresses and certificates"
_OWN_KEY: Final = "each environment has a key of its own"
_LOGS: Final = "use LoggingConfiguration for logs"
_METRICS: Final = "only statsd_on, metrics_allow_list and metrics_block_list can be set there"
_BROKER: Final = "each environment has a broker of its own"
_AS_MWAA: Final = "as on MWAA, this is not supported"

_WHY: Final[Mapping[str, str]] = {
    "api.auth_backends": _SIGN_ON,
    "api.base_url": _ADDRESS,
    "api.host": _ADDRESS,
    "api.port": _ADDRESS,
    "api.secret_key": _OWN_KEY,
    "api.ssl_cert": _ADDRESS,
    "api.ssl_key": _ADDRESS,
    "api_auth": _SIGN_ON,
    "celery.broker_url": _BROKER,
    "celery.celery_config_options": "workers need the service's; use celery.extra_celery_config where there is one",
    "celery.result_backend": "each environment has a database of its own",
    "celery.worker_enable_remote_control": _AS_MWAA,
    "celery_broker_transport_options": _BROKER,
    "core.auth_manager": _SIGN_ON,
    "core.dags_folder": "use DagS3Path",
    "core.execution_api_server_url": _ADDRESS,
    "core.executor": "tasks run on Celery workers",
    "core.fernet_key": _OWN_KEY,
    "core.hostname_callable": "components have names of their own",
    "core.internal_api_secret_key": _OWN_KEY,
    "core.load_examples": "upload the examples you want to the DAG folder",
    "core.multi_team": _AS_MWAA,
    "core.plugins_folder": "use PluginsS3Path",
    "database.sql_alchemy_conn": "each environment has a database of its own",
    "database.sql_alchemy_conn_async": "each environment has a database of its own",
    "execution_api.jwt_expiration_time": "tasks may run for 12 hours and more",
    "fab": _SIGN_ON,
    "logging": _LOGS,
    "metrics": _METRICS,
    "operators.default_queue": "each environment has one queue",
    "scheduler.child_process_log_directory": _LOGS,
    "scheduler.standalone_dag_processor": "the DAG processor is a component of its own",
    "traces": "it has no place for traces",
    "triggerer.queues_enabled": _AS_MWAA,
    "webserver": _SIGN_ON,
    "webserver.base_url": _ADDRESS,
    "webserver.secret_key": _OWN_KEY,
    "webserver.warn_deployment_exposure": "Airflow is reached only through the service",
    "webserver.web_server_host": _ADDRESS,
    "webserver.web_server_port": _ADDRESS,
    "webserver.web_server_ssl_cert": _ADDRESS,
    "webserver.web_server_ssl_key": _ADDRESS,
}
"""Option, or section for all its protected options -> the reason."""


def why_protected(option: str) -> str:
    """Return the reason for a protected option in a few words, without a full stop."""
    plain = re.sub(r"_(cmd|secret)$", "", option)
    section = option.partition(".")[0]
    return _WHY.get(option) or _WHY.get(plain) or _WHY.get(section) or "it would not work with another value"
