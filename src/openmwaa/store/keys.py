"""Access keys of callers and keys of the service itself; their secrets are stored sealed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from psycopg.types.json import Jsonb

from openmwaa.kit.keyring import Keyring
from openmwaa.kit.secret import Secret
from openmwaa.store.database import Database


@dataclass(frozen=True)
class AccessKey:
    """A key with which a principal signs requests, and what it may do."""

    id: str
    secret: Secret
    principal_arn: str
    policy: Mapping[str, Any]
    active: bool = True


class AccessKeyRepository:
    """Access keys by id."""

    def __init__(self, database: Database, keyring: Keyring) -> None:
        self._database = database
        self._keyring = keyring

    async def get(self, access_key_id: str) -> AccessKey | None:
        """Return a key, active or not; None if unknown."""
        row = await self._database.one("SELECT * FROM access_keys WHERE id = %s", (access_key_id,))
        return self._to_key(row) if row else None

    async def put(self, key: AccessKey) -> None:
        """Add or replace a key."""
        sealed = self._keyring.seal(key.secret, context=_context(key.id))
        await self._database.all(
            "INSERT INTO access_keys (id, sealed_secret, principal_arn, policy, active)"
            " VALUES (%s, %s, %s, %s, %s) ON CONFLICT (id) DO UPDATE SET sealed_secret = EXCLUDED.sealed_secret,"
            " principal_arn = EXCLUDED.principal_arn, policy = EXCLUDED.policy, active = EXCLUDED.active",
            (key.id, sealed, key.principal_arn, Jsonb(dict(key.policy)), key.active),
        )

    async def list(self) -> list[AccessKey]:
        """Return all keys, oldest first."""
        rows = await self._database.all("SELECT * FROM access_keys ORDER BY created_at, id")
        return [self._to_key(row) for row in rows]

    def _to_key(self, row: Mapping[str, Any]) -> AccessKey:
        return AccessKey(
            id=row["id"],
            secret=self._keyring.open(row["sealed_secret"], context=_context(row["id"])),
            principal_arn=row["principal_arn"],
            policy=row["policy"],
            active=row["active"],
        )


class KeyRepository:
    """Named keys of the service."""

    def __init__(self, database: Database, keyring: Keyring) -> None:
        self._database = database
        self._keyring = keyring

    async def get_or_create(self, name: str, make: Callable[[], Secret]) -> Secret:
        """Return the key; make it first if missing. All replicas get the same one."""
        context = f"service-key/{name}"
        row = await self._database.one("SELECT sealed FROM service_keys WHERE name = %s", (name,))
        if row is None:
            await self._database.all(
                "INSERT INTO service_keys (name, sealed) VALUES (%s, %s) ON CONFLICT DO NOTHING",
                (name, self._keyring.seal(make(), context=context)),
            )
            row = await self._database.one("SELECT sealed FROM service_keys WHERE name = %s", (name,))
        assert row is not None  # noqa: S101 - inserted above, never deleted
        return self._keyring.open(row["sealed"], context=context)


def _context(access_key_id: str) -> str:
    return f"access-key/{access_key_id}"
