"""`openmwaa node`: the agent that owns this host's environments."""

from __future__ import annotations

import asyncio

import structlog

from openmwaa.backends.local.dag_feed import build_feed, serve_feed
from openmwaa.kit.logs import configure_logging
from openmwaa.kit.unix_server import serve_unix
from openmwaa.processes.control import stop_on_signals
from openmwaa.services.feed import feed_token
from openmwaa.settings import Settings
from openmwaa.supervise.orphans import become_subreaper, reap_orphans
from openmwaa.wiring import node_agent

_log = structlog.get_logger()


async def run_node(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT; environments go on and are adopted by the next agent."""
    configure_logging(level=settings.log_level, process="node")
    become_subreaper()
    stop = stop_on_signals()
    async with node_agent(settings) as agent:
        await agent.start()
        loops = [agent.mirror_for_ever(), agent.keep_zygotes(), reap_orphans()]
        if settings.s3_endpoint_url is None:
            loops.append(
                serve_feed(build_feed(feed_token(settings), agent.on_object_changed), settings.ports.feed)
            )
        background = [asyncio.create_task(one) for one in loops]
        _log.info("node_started", home=str(settings.home))
        try:
            await serve_unix({settings.layout.node_socket: agent.app()}, stop)
        finally:
            for task in background:
                task.cancel()
            await asyncio.gather(*background, return_exceptions=True)
