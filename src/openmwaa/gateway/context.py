"""What the gateway needs from the rest of the control plane; wiring fills it in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from openmwaa.backends.base import CommandResult
from openmwaa.environments.record import EnvironmentRecord
from openmwaa.gateway.directory import EnvironmentDirectory
from openmwaa.gateway.tokens import Tokens
from openmwaa.settings import Settings

RunAirflow = Callable[[EnvironmentRecord, Sequence[str], float], Awaitable[CommandResult]]
"""`await run_airflow(record, arguments, timeout_s)`: runs `airflow *arguments` beside the
environment's components, with empty standard input. May raise Retry or GiveUp."""

Upstreams = Callable[[EnvironmentRecord], Awaitable[Sequence[str]]]
"""`await upstreams(record)`: `address:port` of each web server that is ready now."""


@dataclass(frozen=True)
class GatewayContext:
    """Parts that requests are answered with.

    Attributes:
        cli_concurrency: Commands at once per environment; more are answered 503 (mwaa.md 1.10).

        cli_timeout_s: A command that takes longer is stopped.
    """

    settings: Settings
    directory: EnvironmentDirectory
    tokens: Tokens
    upstreams: Upstreams
    run_airflow: RunAirflow
    cli_concurrency: int = 4
    cli_timeout_s: float = 600.0
