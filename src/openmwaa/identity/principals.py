"""Who a caller is, and the administrator that exists from the first start."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import string
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from openmwaa.identity.policy import FULL_ACCESS
from openmwaa.kit.files import write_atomically
from openmwaa.kit.secret import Secret
from openmwaa.services.endpoints import operator_key
from openmwaa.settings import Settings
from openmwaa.store import Store
from openmwaa.store.keys import AccessKey

ADMINISTRATOR: Final = "admin"
_ADMINISTRATOR_KEY: Final = "administrator-access-key"
_KEY_ID_LETTERS: Final = string.ascii_uppercase + "234567"
_MAX_AIRFLOW_NAME: Final = 64


@dataclass(frozen=True)
class Principal:
    """A caller whose signature was verified."""

    arn: str
    policy: Mapping[str, Any]
    access_key_id: str

    @classmethod
    def of(cls, key: AccessKey) -> Self:
        """Return the principal that an access key belongs to."""
        return cls(arn=key.principal_arn, policy=key.policy, access_key_id=key.id)

    @property
    def account(self) -> str:
        return self.arn.split(":")[4]

    @property
    def iam_identity(self) -> str:
        """`user/<name>`, `assumed-role/<role>/<session>` or `root`: what CreateWebLoginToken reports."""
        kind, _, path = self.arn.split(":", 5)[5].partition("/")
        if kind == "user":  # a user's path is not part of its identity
            return f"user/{path.rsplit('/', 1)[-1]}"
        return f"{kind}/{path}" if path else kind

    @property
    def airflow_identity(self) -> str:
        """Name of the Airflow user: the identity without its session, a hash if longer than 64 (mwaa.md 8.5)."""
        kind, *rest = self.iam_identity.split("/")
        name = "/".join((kind, *rest[:1]))
        if len(name) <= _MAX_AIRFLOW_NAME:
            return name
        return hashlib.sha256(name.encode()).hexdigest()

    @property
    def user_id(self) -> str:
        """Stable unique id in the form of IAM's, as GetCallerIdentity reports it."""
        kind, *rest = self.iam_identity.split("/")
        if kind == "root":
            return self.account
        if kind == "assumed-role":
            role = _unique_id("AROA", f"{self.account}/role/{rest[0]}")
            return f"{role}:{rest[-1]}"
        return _unique_id("AIDA", self.arn)


async def ensure_administrator(store: Store, settings: Settings) -> AccessKey:
    """Make sure that the administrator has a key, and that it is written for `openmwaa aws-env`.

    Safe to call from several processes at once: all end with the same key. A key that an
    operator switched off stays off.

    Args:
        store: Keeps the key, sealed.

        settings: Decides account and where the file is written, `Layout.admin_credentials`
            (mode 0600): a JSON object with `access_key_id`, `secret_access_key`,
            `principal_arn`, `account_id` and `region`.
    """
    sealed = await store.keys.get_or_create(_ADMINISTRATOR_KEY, lambda: _first_key_pair(settings))
    pair = json.loads(sealed.reveal())
    wanted = AccessKey(
        id=pair["id"],
        secret=Secret(pair["secret"]),
        principal_arn=f"arn:aws:iam::{settings.account_id}:user/{ADMINISTRATOR}",
        policy=FULL_ACCESS,
    )
    key = await store.access_keys.get(wanted.id)
    if key is None or (key.active and key.principal_arn != wanted.principal_arn):
        await store.access_keys.put(wanted)
        key = wanted
    path = settings.layout.admin_credentials
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    credentials = {
        "access_key_id": key.id,
        "secret_access_key": key.secret.reveal(),
        "principal_arn": key.principal_arn,
        "account_id": settings.account_id,
        "region": settings.region,
    }
    write_atomically(path, json.dumps(credentials, indent=2) + "\n", mode=0o600)
    return key


def new_access_key(principal_arn: str, policy: Mapping[str, Any]) -> AccessKey:
    """Return a fresh active key; the caller puts it into the store."""
    pair = json.loads(_new_key_pair().reveal())
    return AccessKey(pair["id"], Secret(pair["secret"]), principal_arn, policy)


def _first_key_pair(settings: Settings) -> Secret:
    """Return the key that the embedded S3 was started with: one key serves all of `openmwaa aws-env`."""
    key_id, secret = operator_key(settings)
    return Secret(json.dumps({"id": key_id, "secret": secret.reveal()}))


def _new_key_pair() -> Secret:
    """Return id and secret in the shape of AWS's: 20 characters from AKIA on, and 40 of base64."""
    key_id = "AKIA" + "".join(secrets.choice(_KEY_ID_LETTERS) for _ in range(16))
    secret = base64.b64encode(secrets.token_bytes(30)).decode()
    return Secret(json.dumps({"id": key_id, "secret": secret}))


def _unique_id(prefix: str, text: str) -> str:
    return prefix + base64.b32encode(hashlib.sha256(text.encode()).digest()).decode()[:17]
