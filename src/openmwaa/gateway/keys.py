"""The gateway's signing key: one per service, kept sealed in the store."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol, Self

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from openmwaa.kit.secret import Secret

_NAME = "gateway-signing-key"


class KeyLookup(Protocol):
    """The part of the store that keeps the service's own keys."""

    async def get_or_create(self, name: str, make: Callable[[], Secret]) -> Secret:
        """Return the key; make it first if missing. All replicas get the same one."""
        ...


@dataclass(frozen=True)
class GatewayKey:
    """An Ed25519 key pair. Only the public half leaves the control plane."""

    private: Ed25519PrivateKey = field(repr=False)

    @classmethod
    def generate(cls) -> Self:
        """Make a new key pair."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def from_secret(cls, secret: Secret) -> Self:
        """Read what `to_secret` gave.

        Raises:
            ValueError: Not an unencrypted Ed25519 private key in PEM.
        """
        private = serialization.load_pem_private_key(secret.reveal().encode(), password=None)
        if not isinstance(private, Ed25519PrivateKey):
            raise ValueError("the gateway's key must be an Ed25519 key")  # noqa: TRY004 - a bad value, not a bug
        return cls(private)

    def to_secret(self) -> Secret:
        """Return the private key as PKCS #8 in PEM."""
        pem = self.private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        return Secret(pem.decode())

    @cached_property
    def public(self) -> Ed25519PublicKey:
        return self.private.public_key()

    @cached_property
    def public_pem(self) -> str:
        """The public key as environments are given it: `OPENMWAA_GATEWAY_PUBLIC_KEY`."""
        pem = self.public.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return pem.decode()

    @cached_property
    def kid(self) -> str:
        """Names this key in the header of its tokens; derived from the public key."""
        raw = self.public.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        return hashlib.sha256(raw).hexdigest()[:16]


async def load_gateway_key(keys: KeyLookup) -> GatewayKey:
    """Return the service's key from the store; the first caller makes it."""
    secret = await keys.get_or_create(_NAME, lambda: GatewayKey.generate().to_secret())
    return GatewayKey.from_secret(secret)
