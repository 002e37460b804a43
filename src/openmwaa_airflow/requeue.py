"""Forget what the broker still holds and queue it again: `python -m openmwaa_airflow.requeue`.

For a change that replaced the metadata database while nothing ran: another Airflow version, or
a snapshot's content. Messages of the former version would fail in the new one's workers, and a
task that waits for a message that is gone would wait until its time-out. Tasks that ran are
not touched: the scheduler misses their heartbeat and deals with them as the DAG says.
Safe to repeat.
"""

from __future__ import annotations

import os

from airflow import settings
from airflow.configuration import conf
from redis import Redis
from sqlalchemy import text

_AGAIN = text(
    "UPDATE task_instance SET state = 'scheduled', queued_dttm = NULL, external_executor_id = NULL"
    " WHERE state = 'queued'"
)


def main() -> None:
    """Empty the broker, then let the scheduler queue its tasks again."""
    _empty_broker()
    with settings.engine.begin() as connection:
        connection.execute(_AGAIN)


def _empty_broker() -> None:
    url = conf.get("celery", "broker_url")
    prefix = os.environ.get("OPENMWAA_BROKER_KEY_PREFIX", "")
    if url.startswith("redis+socket://"):
        path = url.removeprefix("redis+socket://").partition("?")[0]
        client = Redis(unix_socket_path=path)
    else:
        client = Redis.from_url(url)
    with client:
        if not prefix:
            client.flushdb()  # nobody else uses it
            return
        for key in client.scan_iter(f"{prefix}*"):
            client.delete(key)


if __name__ == "__main__":
    main()
