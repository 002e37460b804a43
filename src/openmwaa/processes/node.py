"""`openmwaa node`: the agent that owns this host's environments."""

from __future__ import annotations

import asyncio
import contextlib

import structlog

from openmwaa.kit.logs import configure_logging
from openmwaa.kit.unix_server import serve_unix
from openmwaa.processes.control import stop_on_signals
from openmwaa.settings import Settings
from openmwaa.wiring import node_agent

_log = structlog.get_logger()


async def run_node(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT; environments go on and are adopted by the next agent."""
    configure_logging(level=settings.log_level, process="node")
    stop = stop_on_signals()
    async with node_agent(settings) as agent:
        await agent.start()
        mirrors = asyncio.create_task(agent.mirror_for_ever())
        _log.info("node_started", home=str(settings.home))
        try:
            await serve_unix({settings.layout.node_socket: agent.app()}, stop)
        finally:
            mirrors.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await mirrors
