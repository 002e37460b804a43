"""Celery's result tables, read over a connection that stays.

A scheduler asks for the states of its tasks in each of its loops. Celery keeps connections to its result
tables in the processes of a worker's pool only: everywhere else each question makes an engine and a
connection, which costs PostgreSQL a process and both sides an authentication.
"""

from __future__ import annotations

import os
from typing import Any

from celery.backends.database.session import SessionManager
from sqlalchemy import create_engine

_engines: dict[tuple[int, str], Any] = {}
"""By process: a connection must not be used by another one that was forked meanwhile."""


def keep_connections() -> None:
    """Let every process keep its engine, with the pool that the configuration asks for."""
    original = SessionManager.get_engine

    def get_engine(self, dburi, **options):
        if self.forked:
            return original(self, dburi, **options)
        key = (os.getpid(), dburi)
        if key not in _engines:
            _engines[key] = create_engine(dburi, **options)
        return _engines[key]

    SessionManager.get_engine = get_engine
