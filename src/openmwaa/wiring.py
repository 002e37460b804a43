"""The only place where implementations are chosen and connected."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from starlette.types import ASGIApp

from openmwaa.airflow.components import Surroundings
from openmwaa.airflow.versions import VERSIONS
from openmwaa.artifacts.runtimes import RuntimeStore
from openmwaa.backends.base import CommandResult
from openmwaa.backends.local.backend import LocalBackend
from openmwaa.environments.record import EnvironmentRecord
from openmwaa.gateway import (
    EnvironmentDirectory,
    GatewayContext,
    ReadyUpstreams,
    Tokens,
    create_gateway,
    load_gateway_key,
)
from openmwaa.gateway.hosts import hostname_of
from openmwaa.identity.principals import ensure_administrator
from openmwaa.kit.keyring import LocalKeyring
from openmwaa.reconcile.act import Actor
from openmwaa.reconcile.loop import Reconciler
from openmwaa.services.endpoints import load_endpoints
from openmwaa.services.s3_accounts import S3Accounts
from openmwaa.settings import Settings
from openmwaa.store import Store
