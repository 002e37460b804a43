"""What differs between the supported Airflow versions, as data.

Everything else in this package reads these tables; no other module compares version
numbers. To add a version: add a row, run `tools/locks.py`, run `tests/airflow`.

Sources: MWAA user guide "Apache Airflow versions"; the definitions of AWS's published
images for provider and library pins (mwaa.md 4).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from types import MappingProxyType
from typing import Final

LOCKS: Final = Path(__file__).parent / "locks"

_COMMON_REQUIREMENTS: Final = (
    "psycopg2-binary",  # Airflow's driver for PostgreSQL, without a compiler
    "asyncpg",  # Airflow 3's asynchronous sessions; the triggerer's on 2.x
    "redis",  # Celery's broker
    "pyarrow",  # Parquet, for data work beside pandas
    "virtualenv",  # PythonVirtualenvOperator, as in MWAA's images
)


@dataclass(frozen=True)
class AirflowVersion:
    """One supported version.

    Attributes:
        version: As MWAA's API spells it.

        generation: 2 or 3: which family of commands, options and REST API.

        released: When the Apache project released it.

        locked_on: Packages uploaded from this day (UTC) on are not in its lock: resolved without a
            date, every version here installs and then fails (airflow.md 9).

        requirements: What the lock is made of. Pins are those of MWAA's image.

        mwaa_python: Python of MWAA's image, for people; runtimes use the service's own Python.

        end_of_support: Last day on which MWAA supports it; None while no date is published (mwaa.md 4).

        rest_prefix: Where the stable REST API begins.

        health_path: Answers without a log-in what runs (`openmwaa.airflow.health`).

        probe_path: A web server that answers it is ready for users and tasks. On 3.x the first
            request to the task API builds it, which takes seconds: the probe has it built before
            the first task, whose client may not wait that long.

        renamed_options: Option of the newest spelling -> option this version reads.
    """

    version: str
    generation: int
    released: date
    locked_on: date
    requirements: tuple[str, ...]
    mwaa_python: str
    end_of_support: date | None
    rest_prefix: str
    health_path: str
    probe_path: str
    renamed_options: Mapping[str, str]

    @property
    def lock(self) -> Path:
        """Requirements with hashes, the whole closure."""
        return LOCKS / f"{self.version}.txt"

    @property
    def numbers(self) -> tuple[int, ...]:
        """The version for comparisons."""
        return tuple(int(part) for part in self.version.split("."))

    def option(self, newest: str) -> str:
        """Return how this version spells an option, e.g. `scheduler.dag_dir_list_interval`."""
        return self.renamed_options.get(newest, newest)


_OPTIONS_OF_2: Final = MappingProxyType(
    {
        "api.expose_config": "webserver.expose_config",
        "api.secret_key": "webserver.secret_key",
        "api.workers": "webserver.workers",
        "dag_processor.bundle_refresh_check_interval": "scheduler.dag_dir_list_interval",
        "dag_processor.parsing_processes": "scheduler.parsing_processes",
        "dag_processor.refresh_interval": "scheduler.dag_dir_list_interval",
        "fab.config_file": "webserver.config_file",
        "scheduler.task_instance_heartbeat_sec": "scheduler.local_task_job_heartbeat_sec",
        "scheduler.task_instance_heartbeat_timeout": "scheduler.scheduler_zombie_task_threshold",
        "scheduler.task_instance_heartbeat_timeout_detection_interval": "scheduler.zombie_detection_interval",
        "triggerer.capacity": "triggerer.default_capacity",
    }
)


def _two(
    version: str,
    *,
    released: date,
    locked_on: date,
    requirements: tuple[str, ...],
    mwaa_python: str = "3.12",
    end_of_support: date | None = None,
) -> AirflowVersion:
    return AirflowVersion(
        version=version,
        generation=2,
        released=released,
        locked_on=locked_on,
        requirements=requirements + _COMMON_REQUIREMENTS,
        mwaa_python=mwaa_python,
        end_of_support=end_of_support,
        rest_prefix="/api/v1",
        health_path="/health",
        probe_path="/health",
        renamed_options=_OPTIONS_OF_2,
    )


def _three(
    version: str,
    *,
    released: date,
    locked_on: date,
    requirements: tuple[str, ...],
    end_of_support: date | None = None,
) -> AirflowVersion:
    return AirflowVersion(
        version=version,
        generation=3,
        released=released,
        locked_on=locked_on,
        requirements=(*requirements, "apache-airflow-providers-standard", *_COMMON_REQUIREMENTS),
        mwaa_python="3.12",
        end_of_support=end_of_support,
        rest_prefix="/api/v2",
        health_path="/api/v2/monitor/health",
        probe_path="/execution/health",
        renamed_options=MappingProxyType({}),
    )


VERSIONS: Final[Mapping[str, AirflowVersion]] = MappingProxyType(
    {
        entry.version: entry
        for entry in (
            _two(
                "2.10.3",
                released=date(2024, 11, 4),
                locked_on=date(2024, 11, 8),
                mwaa_python="3.11",
                requirements=(
                    "apache-airflow[amazon,celery,postgres,statsd,pandas]==2.10.3",
                    "apache-airflow-providers-fab",
                    "apache-airflow-providers-amazon[aiobotocore]==9.0.0",
                    "celery==5.4.0",
                    "kombu==5.4.2",
                    "billiard==4.2.1",
                ),
            ),
            _two(
                "2.11.2",
                released=date(2026, 3, 14),
                locked_on=date(2026, 3, 20),
                requirements=(
                    "apache-airflow[amazon,celery,postgres,statsd,pandas]==2.11.2",
                    "apache-airflow-providers-fab",
                    "apache-airflow-providers-amazon[aiobotocore]==9.22.0",
                    # From 3.16.0 to at least 3.17.1 the scheduler sends `execute_command` and the worker
                    # knows it under another name: every task of Airflow 2 fails.
                    "apache-airflow-providers-celery==3.15.2",
                    # Without these two the resolver prefers an old Celery to an old Redis client.
                    "celery==5.6.2",
                    "redis<6.5",
                ),
            ),
            _three(
                "3.0.6",
                released=date(2025, 8, 29),
                locked_on=date(2025, 8, 30),
                requirements=(
                    "apache-airflow[amazon,celery,postgres,statsd,pandas]==3.0.6",
                    "apache-airflow-providers-fab==2.4.1",
                    "apache-airflow-providers-amazon[aiobotocore]==9.12.0",
                    "celery==5.5.2",
                    "kombu==5.5.4",
                    "billiard==4.2.1",
                ),
            ),
            _three(
                "3.2.1",
                released=date(2026, 4, 22),
                locked_on=date(2026, 4, 30),
                requirements=(
                    "apache-airflow[amazon,celery,postgres,statsd,pandas,gunicorn]==3.2.1",
                    "apache-airflow-providers-fab==3.6.1",
                    "apache-airflow-providers-amazon[aiobotocore]==9.25.0",
                    # Without a pin the resolver prefers an old Celery to an old Redis client.
                    "celery==5.6.3",
                    "kombu==5.6.2",
                    "billiard==4.2.4",
                ),
            ),
            _three(
                "3.3.1",
                released=date(2026, 8, 12),
                locked_on=date(2026, 8, 20),
                requirements=(
                    "apache-airflow[amazon,celery,postgres,statsd,pandas,gunicorn]==3.3.1",
                    "apache-airflow-providers-fab==3.8.0",
                    "apache-airflow-providers-amazon[aiobotocore]==9.34.0",
                    "celery==5.6.3",
                    "kombu==5.6.2",
                    "billiard==4.2.4",
                ),
            ),
        )
    }
)
"""Every supported version, oldest first."""

NEWEST: Final = max(VERSIONS.values(), key=lambda entry: entry.numbers).version
"""What an environment gets whose creator chose no version."""


_LOCKED: Final = re.compile(r"^(?P<name>[a-z0-9][a-z0-9.-]*)==(?P<version>[^\s;]+)", re.MULTILINE)
PROVIDER_PREFIX: Final = "apache-airflow-providers-"


def packages_of(lock_text: str) -> dict[str, str]:
    """Return package name -> version of a lock file's text, in its order."""
    return {match["name"]: match["version"] for match in _LOCKED.finditer(lock_text)}


def providers_of(lock_text: str) -> dict[str, str]:
    """Return the Airflow providers of a lock file's text: full package name -> version."""
    return {name: pin for name, pin in packages_of(lock_text).items() if name.startswith(PROVIDER_PREFIX)}


def airflow_version(version: str) -> AirflowVersion:
    """Return the row of a version.

    Raises:
        KeyError: The version is not supported; the API refuses it before it gets here.
    """
    return VERSIONS[version]
