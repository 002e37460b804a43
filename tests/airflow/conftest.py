"""Installed runtimes and a database server for tests that run Airflow without the service."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from openmwaa.airflow.versions import VERSIONS
from openmwaa.artifacts.runtimes import RuntimeStore
from openmwaa.kit.secret import Secret
from openmwaa.settings import Settings
from tests.airflow import bare
from tests.support.service import a_home

PORT = int(os.environ.get("OPENMWAA_TEST_ALONE_PORT", "23101"))


@pytest.fixture(scope="module")
def runtimes() -> Iterator[RuntimeStore]:
    """A store of runtimes; `OPENMWAA_TEST_HOME` names a home whose runtimes are reused."""
    locks = {version: row.lock for version, row in VERSIONS.items()}
    if chosen := os.environ.get("OPENMWAA_TEST_HOME"):
        yield RuntimeStore(Settings(home=Path(chosen)), locks)
        return
    with a_home() as home:
        yield RuntimeStore(Settings(home=home), locks)


@pytest.fixture(scope="module")
def database() -> Iterator[Secret]:
    """The superuser's URL of a PostgreSQL server."""
    with bare.postgres(PORT) as url:
        yield url
