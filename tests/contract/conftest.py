"""The hosts that the contract is checked on."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.support.node import NodeHost, a_node_host

_PORT_BASES = {"auto": 21000, "off": 21030}


@pytest_asyncio.fixture(scope="module", loop_scope="session", params=sorted(_PORT_BASES))
async def host(request: pytest.FixtureRequest) -> AsyncIterator[NodeHost]:
    """A host with isolation, if we are root, and one without."""
    isolation: str = request.param
    if isolation == "auto" and os.geteuid() != 0:
        pytest.skip("isolation needs root")
    async with a_node_host(_PORT_BASES[isolation], isolation=isolation) as host:
        yield host
