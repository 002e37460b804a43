"""One running service for all tests that need one, and a rule about what tests leave behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.service import KEPT_HOME, Service, a_home, a_service, start

PORT_BASE = 28750


@pytest.fixture(scope="session")
def service() -> Iterator[Service]:
    """A service started the way a user starts it, shared by the whole session.

    `OPENMWAA_TEST_HOME` names a home to use and leave running, for quick repetitions by hand.
    """
    if KEPT_HOME:
        yield start(Path(KEPT_HOME), PORT_BASE)
        return
    with a_home() as home, a_service(home, PORT_BASE) as running:
        yield running
