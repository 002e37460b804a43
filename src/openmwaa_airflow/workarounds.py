"""Faults of single Airflow versions that would break what we promise. Each names its end."""

from __future__ import annotations

from airflow import __version__ as airflow_version


def apply_to_worker() -> None:
    """Apply what a Celery worker needs, before it forks its pool."""
    if airflow_version.startswith("3.0."):
        _let_heartbeats_fail()


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
