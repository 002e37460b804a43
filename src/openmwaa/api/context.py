"""What requests are answered with, and one verified call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from openmwaa.api.ports import Preflight, RestInvoker, TokenIssuer
from openmwaa.environments.manifest import Manifest
from openmwaa.environments.record import EnvironmentRecord
from openmwaa.environments.requests import Limits
from openmwaa.environments.spec import EnvironmentSpec
from openmwaa.identity.principals import Principal
from openmwaa.kit.keyring import Keyring
from openmwaa.settings import Settings
from openmwaa.store import Store


def _utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class ApiContext:
    """Parts that the API is made of; wiring fills it in.

    Attributes:
        keyring: Seals the secrets of new environments.

        web_host: Host name of an environment's web server, with its port unless it is 443.

        limits: What CreateEnvironment and UpdateEnvironment accept here.

        manifest: What should run for a spec of an environment; no I/O.

        clock: Current time with a time zone; decides whether a signature has expired.
    """

    settings: Settings
    store: Store
    keyring: Keyring
    preflight: Preflight
    tokens: TokenIssuer
    rest: RestInvoker
    web_host: Callable[[EnvironmentRecord], str]
    limits: Limits
    manifest: Callable[[EnvironmentRecord, EnvironmentSpec], Manifest]
    clock: Callable[[], datetime] = field(default=_utc_now)


@dataclass(frozen=True)
class Call:
    """One operation that a verified principal may carry out.

    Attributes:
        parameters: Input members by their names in the model, validated.

        airflow_role: Highest Airflow role granted, for the operations that need one.
    """

    operation: str
    principal: Principal
    parameters: Mapping[str, Any]
    request_id: str
    airflow_role: str | None = None
