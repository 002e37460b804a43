"""Which modules are preloaded for which Airflow, recorded once from components at work.

`tools/preloaded_modules.py` writes the files in `lists`. A version without a file is not
preloaded at all.
"""

from __future__ import annotations

from pathlib import Path

_FOLDER = Path(__file__).parent / "lists"

EXCLUDED = (
    # Options of one environment are read when these are imported: brokers, log folders, executors.
    "airflow.__main__",
    "airflow.api_fastapi.main",
    "airflow.config_templates.airflow_local_settings",
    "airflow.providers.celery.executors.celery_executor",
    "airflow.providers.celery.executors.celery_executor_utils",
    "airflow.providers.celery.executors.default_celery",
    "openmwaa_airflow.celery_config",
    # Code of an environment's own.
    "airflow_local_settings",
)
"""Modules that each component imports itself; also what is imported by nobody else."""


def versions() -> list[str]:
    """Return the versions that can be preloaded."""
    return sorted(path.stem for path in _FOLDER.glob("*.txt"))


def modules_of(version: str) -> list[str]:
    """Return the modules to import, in order; those that others import are left out.

    Raises:
        FileNotFoundError: The version cannot be preloaded.
    """
    lines = (_FOLDER / f"{version}.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]
