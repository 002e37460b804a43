"""Which modules are preloaded for which Airflow, recorded once from components at work, and what they make.

`tools/preloaded_modules.py` writes the files in `lists`. A version without a file is not
preloaded at all.
"""

from __future__ import annotations

from pathlib import Path

_FOLDER = Path(__file__).parent / "lists"
_OF_WORKERS = ".workers.txt"

_ALWAYS_EXCLUDED = (
    # Options of one environment are read when these are imported: brokers, log folders, executors.
    "airflow.__main__",
    "airflow.api_fastapi.main",
    "airflow.cli.cli_parser",
    "airflow.config_templates.airflow_local_settings",
    "airflow.providers.amazon.aws.cli.definition",
    "airflow.providers.celery.cli.definition",
    "airflow.providers.celery.executors.celery_executor",
    "airflow.providers.celery.executors.celery_executor_utils",
    "airflow.providers.celery.executors.default_celery",
    "openmwaa_airflow.celery_config",
    # Its options' defaults are who and where it was imported.
    "gunicorn",
    # Code of an environment's own.
    "airflow_local_settings",
)
_EXECUTORS = ("airflow.executors.base_executor",)
_COMMAND_LINE = ("airflow.cli.cli_config", "airflow.providers.fab.cli.definition")
_EXCLUDED_OF = {
    # Here the auth manager imports the command line.
    "2.10.3": _EXECUTORS,
    "2.11.2": _EXECUTORS,
    # And here the scheduler imports the executors too.
    "3.0.6": (),
    "3.2.1": (*_EXECUTORS, *_COMMAND_LINE),
    "3.3.1": (*_EXECUTORS, *_COMMAND_LINE),
}
"""Version -> modules that read options which users often set, and that nothing else needs at import."""


def versions() -> list[str]:
    """Return the versions that can be preloaded."""
    return sorted(path.name.removesuffix(_OF_WORKERS) for path in _FOLDER.glob(f"*{_OF_WORKERS}"))


def excluded_from(version: str) -> frozenset[str]:
    """Return the modules that each component imports itself."""
    return frozenset((*_ALWAYS_EXCLUDED, *_EXCLUDED_OF.get(version, ())))


def modules_of(version: str) -> tuple[list[str], list[str]]:
    """Return the modules to import, in order: those of workers, then the others. What they import is left out.

    Raises:
        FileNotFoundError: The version cannot be preloaded.
    """
    excluded = excluded_from(version)
    workers, others = (
        [name for name in _names(file) if name not in excluded]
        for file in (f"{version}{_OF_WORKERS}", f"{version}.txt")
    )
    return workers, others


def loggers_of(version: str) -> list[str]:
    """Return the names of the loggers that those modules make; none if that was not recorded."""
    try:
        return _names(f"{version}.loggers.txt")
    except FileNotFoundError:
        return []


def _names(file: str) -> list[str]:
    lines = (_FOLDER / file).read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]
