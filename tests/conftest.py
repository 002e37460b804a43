"""One running service for all tests that need one, and a rule about what tests leave behind."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.service import Service, a_home, a_service

PORT_BASE = 28750


@pytest.fixture(scope="session")
def service() -> Iterator[Service]:
    """A service started the way a user starts it, shared by the whole session."""
    with a_home() as home, a_service(home, PORT_BASE) as running:
        yield running
