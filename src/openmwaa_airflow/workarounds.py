"""Faults of Airflow that would break what we promise. Each names its end."""

from __future__ import annotations

import contextlib

from airflow import __version__ as airflow_version


def apply_to_worker() -> None:
    """Apply what a Celery worker needs, before it forks its pool."""
    if airflow_version.startswith("2."):
        return
    if airflow_version.startswith("3.0."):
        _let_heartbeats_fail()
    _say_once_that_it_runs()


def _say_once_that_it_runs() -> None:
    """Let a task's first heartbeat come an interval after its start, which says the same to the API server.

    Airflow counts the start as a heartbeat, but not as an attempt at one, and sends another at once: one of five
    requests of a short task. To be removed when `_on_child_started` sets `_last_heartbeat_attempt` too.
    """
    # Only workers have it.
    from airflow.sdk.execution_time.supervisor import ActivitySubprocess  # noqa: PLC0415

    original = ActivitySubprocess._on_child_started

    def and_count_that(self, *arguments, **keywords):
        original(self, *arguments, **keywords)
        with contextlib.suppress(AttributeError):  # without either it is as it was
            self._last_heartbeat_attempt = max(self._last_heartbeat_attempt, self._last_successful_heartbeat)

    ActivitySubprocess._on_child_started = and_count_that


def _let_heartbeats_fail() -> None:
    """Keep a task alive when one heartbeat fails, as Airflow 3.0 means to.

    It logs the failure with `exception=<an exception>`, the renderer of structlog expects a
    text there, and the TypeError ends the task's supervisor: every task running while the API
    server restarts is lost. 3.1 logs it otherwise.
    """
    # Only workers have it.
    from airflow.sdk.execution_time.supervisor import ActivitySubprocess  # noqa: PLC0415

    original = ActivitySubprocess._handle_heartbeat_failures

    def with_text(self, exc):
        return original(self, exc if exc is None else f"{type(exc).__name__}: {exc}")

    ActivitySubprocess._handle_heartbeat_failures = with_text
