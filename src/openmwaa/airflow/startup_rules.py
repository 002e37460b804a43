"""What a start-up script is told, and what it may not change.

Precedence, lowest first (mwaa.md 5.5): the container's variables, the service's defaults, the
script's exports, AirflowConfigurationOptions, protected variables, essential settings. A
component knows its variables but not which are which; these rules tell it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

from openmwaa.airflow.options import is_protected, protected_variables, variable
from openmwaa.airflow.versions import AirflowVersion
from openmwaa.environments.manifest import Kind
from openmwaa.environments.spec import EnvironmentSpec

RULES_VARIABLE: Final = "OPENMWAA_STARTUP_RULES"
"""As `openmwaa_airflow.startup_variables` reads it."""

LONGEST_S: Final = 300.0
"""The script's limit with the patience after it."""

_MWAA_COMPONENT: Final[Mapping[Kind, str]] = {
    Kind.SCHEDULER: "scheduler",
    Kind.TRIGGERER: "scheduler",
    Kind.DAG_PROCESSOR: "scheduler",
    Kind.WEBSERVER: "webserver",
    Kind.WORKER: "worker",
}
"""What MWAA calls a component: it runs the first three in one container (mwaa.md 5.5, 6.4)."""

_ON_MICRO: Final = "hybrid"
"""What it calls all but the web server on mw1.micro, where the worker is in that container too.
Ours are processes of their own, but a script that was written for MWAA asks for this word."""

_PROTECTED_BY_MWAA: Final = (
    "MWAA__*",
    "AIRFLOW_ENV_ID",
    "AIRFLOW_ENV_NAME",
    "AIRFLOW_HOME",
    "AIRFLOW_TASK_REVISION_ID",
    "AIRFLOW_VERSION",
    "AIRFLOW__API__BASE_URL",
    "AIRFLOW__AWS_MWAA__REDIRECT_URL",
    "AIRFLOW__CORE__DATABASE_ACCESS_ISOLATION",
    "AIRFLOW__WEBSERVER__BASE_URL",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_DEFAULT_REGION",
    "AWS_EXECUTION_ENV",
    "AWS_REGION",
    "CUSTOMER_ACCOUNT_ID",
    "ECS_AGENT_URI",
    "ECS_CONTAINER_METADATA_URI",
    "ECS_CONTAINER_METADATA_URI_V4",
    "JWT_PUBLIC_KEY",
    "PYTHONPATH",
    "PYTHONUNBUFFERED",
    "USE_NON_CRITICAL_LOGGING",
    "WATCHTOWER_VERSION",
)
_RESERVED_BY_MWAA: Final = (
    "AIRFLOW_CONN_AWS_DEFAULT",
    "MWAA_AIRFLOW_COMPONENT",
    "MWAA_COMMAND",
    # Options that a user may set, but only as options.
    "AIRFLOW__CELERY__WORKER_AUTOSCALE",
    "AIRFLOW__CORE__DAG_CONCURRENCY",
    "AIRFLOW__CORE__MAX_ACTIVE_TASKS_PER_DAG",
    "AIRFLOW__CORE__PARALLELISM",
    "AIRFLOW__DAG_PROCESSOR__PARSING_PROCESSES",
    "AIRFLOW__SCHEDULER__PARSING_PROCESSES",
    # Former spellings of essential settings, and those of the other generation of Airflow.
    "AIRFLOW__API__SECRET_KEY",
    "AIRFLOW__CELERY__DEFAULT_QUEUE",
    "AIRFLOW__CORE__SQL_ALCHEMY_CONN",
    "AIRFLOW__WEBSERVER__SECRET_KEY",
)
_OURS: Final = ("FORWARDED_ALLOW_IPS",)
"""Part of the route to a web server. OPENMWAA_* and the like are reserved without being told."""


def component_variables(spec: EnvironmentSpec, kind: Kind) -> dict[str, str]:
    """Return the variables by which a script knows the component that it runs in."""
    micro = spec.environment_class == "mw1.micro"
    name = _ON_MICRO if micro and kind is not Kind.WEBSERVER else _MWAA_COMPONENT[kind]
    return {"MWAA_AIRFLOW_COMPONENT": name, "MWAA_COMMAND": name}


def startup_rules(spec: EnvironmentSpec, version: AirflowVersion) -> dict[str, str]:
    """Return the variables that tell a component what its script may not change; none without a script."""
    if spec.startup_script is None:
        return {}
    options = [
        variable(option) for option in spec.airflow_configuration_options if not is_protected(option, version)
    ]
    reserved = {*_PROTECTED_BY_MWAA, *_RESERVED_BY_MWAA, *_OURS, *protected_variables(version)}
    rules = {"options": sorted(options), "reserved": sorted(reserved)}
    return {RULES_VARIABLE: json.dumps(rules, separators=(",", ":"))}
