"""One API over one database for the session; each test starts without environments."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.api import ApiServer, an_api
from tests.support.postgres import a_database, a_postgres
from tests.support.service import a_home


@pytest.fixture(scope="session")
def api_server() -> Iterator[ApiServer]:
    with (
        a_postgres() as server,
        a_database(server, "api") as database,
        a_home() as home,
        an_api(database, home) as running,
    ):
        yield running


@pytest.fixture
def api(api_server: ApiServer) -> Iterator[ApiServer]:
    yield api_server
    api_server.clear()
