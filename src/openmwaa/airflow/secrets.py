"""The secrets of one environment: which there are, how they are made, who gets them.

A secret is stored sealed under its name; where the name is a variable, the manifest carries
the sealed text to the components that need it and to no other.
"""

from __future__ import annotations

import base64
import os
import secrets
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from openmwaa.environments.manifest import Kind
from openmwaa.kit.secret import Secret

DATABASE_PASSWORD: Final = "database-password"  # noqa: S105 - a name
"""Password of the environment's database role; no component sees it but within the URLs."""

FERNET_KEY: Final = "AIRFLOW__CORE__FERNET_KEY"
WEB_SECRET_KEY_2: Final = "AIRFLOW__WEBSERVER__SECRET_KEY"  # noqa: S105 - a name
WEB_SECRET_KEY_3: Final = "AIRFLOW__API__SECRET_KEY"  # noqa: S105 - a name
TASK_TOKEN_SECRET: Final = "AIRFLOW__API_AUTH__JWT_SECRET"  # noqa: S105 - a name
METADATA_URL: Final = "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"
RESULTS_URL: Final = "AIRFLOW__CELERY__RESULT_BACKEND"

ONLY_FOR: Final[Mapping[str, frozenset[Kind]]] = MappingProxyType(
    {
        # Signs sessions; all web servers of an environment share it.
        WEB_SECRET_KEY_2: frozenset({Kind.WEBSERVER}),
        WEB_SECRET_KEY_3: frozenset({Kind.WEBSERVER}),
        # Signs the tokens of tasks: made by schedulers, checked by web servers. A worker that
        # knew it could speak for any task.
        TASK_TOKEN_SECRET: frozenset({Kind.SCHEDULER, Kind.WEBSERVER}),
    }
)
"""Variable -> kinds of component; a variable that is not here goes to all and to one-shot commands."""

GENERATION_OF: Final[Mapping[str, int]] = MappingProxyType(
    {WEB_SECRET_KEY_2: 2, WEB_SECRET_KEY_3: 3, TASK_TOKEN_SECRET: 3}
)
"""Variable -> the only generation of Airflow that reads it."""


def new_secrets() -> dict[str, Secret]:
    """Return fresh random secrets for a new environment, by name.

    They are made for every generation of Airflow at once and last through version changes.
    """
    return {
        DATABASE_PASSWORD: Secret(secrets.token_urlsafe(32)),
        FERNET_KEY: Secret(base64.urlsafe_b64encode(os.urandom(32)).decode()),
        WEB_SECRET_KEY_2: Secret(secrets.token_urlsafe(48)),
        WEB_SECRET_KEY_3: Secret(secrets.token_urlsafe(48)),
        TASK_TOKEN_SECRET: Secret(secrets.token_urlsafe(72)),
    }


BROKER_URL: Final = "AIRFLOW__CELERY__BROKER_URL"
"""Variable of a broker that environments share; its address may hold a password."""


def database_variables(url: Secret) -> dict[str, Secret]:
    """Return the secrets that follow from the URL of the environment's database, by variable.

    Args:
        url: `postgresql://role:password@host:port/database`.
    """
    scheme, _, rest = url.reveal().partition("://")
    if scheme not in ("postgresql", "postgres"):
        raise ValueError(f"not a PostgreSQL URL: {scheme}://…")
    return {
        METADATA_URL: Secret(f"postgresql+psycopg2://{rest}"),
        RESULTS_URL: Secret(f"db+postgresql+psycopg2://{rest}"),
    }
