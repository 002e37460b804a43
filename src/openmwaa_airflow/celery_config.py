"""Celery's configuration, for `[celery] celery_config_options`.

Airflow's own, with MWAA's choices on top: no remote control (a worker obeys its supervisor,
not the broker), and a message is given to another worker only after 12 hours, MWAA's limit
of a task. A worker shows that it is alive by touching a file with each heartbeat, because
with remote control off it cannot be pinged.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from airflow.providers.celery.executors.default_celery import DEFAULT_CELERY_CONFIG
from celery.signals import celeryd_init, heartbeat_sent, worker_ready, worker_shutting_down

from openmwaa_airflow import result_tables, workarounds
from openmwaa_airflow.hostname import component_name

VISIBILITY_TIMEOUT_S = 12 * 3600

result_tables.keep_connections()

_transport_options = {"visibility_timeout": VISIBILITY_TIMEOUT_S}
if os.environ.get("OPENMWAA_BROKER_KEY_PREFIX"):
    # A broker shared with other environments: each has its own keys.
    _transport_options["global_keyprefix"] = os.environ["OPENMWAA_BROKER_KEY_PREFIX"]

CELERY_CONFIG = {
    **DEFAULT_CELERY_CONFIG,
    "worker_enable_remote_control": False,
    "broker_transport_options": _transport_options,
    # The result tables are in a database that may be restarted under us.
    "database_engine_options": {
        **(DEFAULT_CELERY_CONFIG.get("database_engine_options") or {}),
        "pool_pre_ping": True,
    },
}


def _ready_file() -> Path:
    return Path(os.environ["AIRFLOW_HOME"]) / "run" / f"{component_name()}.ready"


@celeryd_init.connect
def _prepare(**_kwargs) -> None:
    workarounds.apply_to_worker()


@worker_ready.connect
@heartbeat_sent.connect
def _touch(**_kwargs) -> None:
    with contextlib.suppress(OSError):  # a full disk must not stop the worker
        _ready_file().touch()


@worker_shutting_down.connect
def _remove(**_kwargs) -> None:
    with contextlib.suppress(OSError):
        _ready_file().unlink(missing_ok=True)
