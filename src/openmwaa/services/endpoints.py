"""Where PostgreSQL and S3 are, embedded or the user's own, and the keys to them."""

from __future__ import annotations

import base64
import secrets
from dataclasses import dataclass
from urllib.parse import quote

from openmwaa.kit.errors import OperatorError
from openmwaa.kit.secret import Secret
from openmwaa.services.secrets import ServiceSecrets
from openmwaa.settings import Settings

POSTGRES_DATABASE = "openmwaa"
POSTGRES_USER = "postgres"
POSTGRES_PASSWORD = "postgres/superuser"  # noqa: S105 - the name of a secret
S3_ADMIN_KEY_ID = "s3/admin-key-id"
S3_ADMIN_SECRET = "s3/admin-secret"  # noqa: S105 - the name of a secret
_OPERATOR_KEY_ID = "operator/key-id"
_OPERATOR_SECRET = "operator/secret"  # noqa: S105 - the name of a secret


class ServicesNotReadyError(OperatorError):
    """`openmwaa up` has never made the secrets of this home."""


@dataclass(frozen=True)
class ServiceEndpoints:
    """How to reach the services that everything else is built on.

    Attributes:
        postgres_url: `postgresql://…` of a user who may create roles and databases.

        s3_url: Endpoint for S3; for the embedded one also for IAM and STS.

        s3_access_key_id: Key that lists and reads source buckets; for the embedded one, the administrator's.

        s3_embedded: S3 is the embedded one, so accounts can be made (`s3_accounts`).
    """

    postgres_url: Secret
    s3_url: str
    s3_access_key_id: str
    s3_secret_access_key: Secret
    s3_embedded: bool
    region: str


def make_credentials(settings: Settings) -> None:
    """Make the administrators' passwords and keys of this home, once."""
    secrets_of_home = ServiceSecrets(settings)
    secrets_of_home.get_or_create(POSTGRES_PASSWORD)
    secrets_of_home.get_or_create(S3_ADMIN_KEY_ID, _new_key_id)
    secrets_of_home.get_or_create(S3_ADMIN_SECRET, _new_secret_key)
    operator_key(settings)


def operator_key(settings: Settings) -> tuple[str, Secret]:
    """Return the first access key of the administrator, made once: the AWS APIs and the embedded S3 know it.

    The key that the service itself uses (`ServiceEndpoints`) is another one, so either can be replaced.
    """
    secrets_of_home = ServiceSecrets(settings)
    key_id = secrets_of_home.get_or_create(_OPERATOR_KEY_ID, _new_key_id)
    return key_id.reveal(), secrets_of_home.get_or_create(_OPERATOR_SECRET, _new_secret_key)


def load_endpoints(settings: Settings) -> ServiceEndpoints:
    """Return where the services are. Works in each process of the home once `up` has prepared it.

    Raises:
        ServicesNotReadyError: The secrets do not exist yet.
    """
    if settings.s3_endpoint_url and settings.s3_access_key_id and settings.s3_secret_access_key:
        url, key_id = settings.s3_endpoint_url, settings.s3_access_key_id
        secret = Secret(settings.s3_secret_access_key.get_secret_value())
    else:
        url, key_id = f"http://127.0.0.1:{settings.ports.s3}", _known(settings, S3_ADMIN_KEY_ID).reveal()
        secret = _known(settings, S3_ADMIN_SECRET)
    return ServiceEndpoints(
        postgres_url=_postgres_url(settings),
        s3_url=url,
        s3_access_key_id=key_id,
        s3_secret_access_key=secret,
        s3_embedded=settings.s3_endpoint_url is None,
        region=settings.region,
    )


def _postgres_url(settings: Settings) -> Secret:
    if settings.postgres_url:
        return Secret(settings.postgres_url.get_secret_value())
    password = quote(_known(settings, POSTGRES_PASSWORD).reveal(), safe="")
    return Secret(
        f"postgresql://{POSTGRES_USER}:{password}@127.0.0.1:{settings.ports.postgres}/{POSTGRES_DATABASE}"
    )


def _new_key_id() -> Secret:
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
    return Secret("AKIA" + "".join(secrets.choice(alphabet) for _ in range(16)))


def _new_secret_key() -> Secret:
    return Secret(base64.b64encode(secrets.token_bytes(30)).decode())


def _known(settings: Settings, name: str) -> Secret:
    secret = ServiceSecrets(settings).get(name)
    if secret is None:
        raise ServicesNotReadyError(f"{settings.home} was never started; run `openmwaa up` first")
    return secret
