"""`openmwaa control`: the AWS APIs, the gateway, the operator's socket and the reconciler."""

from __future__ import annotations

import asyncio
import signal

import structlog

from openmwaa.kit.logs import configure_logging
from openmwaa.kit.unix_server import serve_unix
from openmwaa.services.users import service_user
from openmwaa.settings import Settings
from openmwaa.wiring import control_plane

_log = structlog.get_logger()


async def run_control(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT. Holds no state: it may be killed at any moment.

    Raises:
        StoreUnavailableError: PostgreSQL did not answer in time; the supervisor tries again.
    """
    configure_logging(level=settings.log_level, process="control")
    stop = stop_on_signals()
    layout = settings.layout
    # The proxy runs as the services' user: its group may connect, others may not.
    group = service_user(settings).gid
    async with control_plane(settings) as control:
        loops = [
            asyncio.create_task(one.run())
            for one in (control.reconciler, control.housekeeping, control.snapshots)
        ]
        _log.info("control_started", home=str(settings.home))
        try:
            await asyncio.gather(
                serve_unix(
                    {layout.control_socket: control.api, layout.gateway_socket: control.gateway},
                    stop,
                    mode=0o660,
                    group=group,
                ),
                serve_unix({layout.operator_socket: control.operator}, stop),
            )
        finally:
            for loop in loops:
                loop.cancel()
            await asyncio.gather(*loops, return_exceptions=True)


def stop_on_signals() -> asyncio.Event:
    """Return an event that SIGTERM and SIGINT set."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop
