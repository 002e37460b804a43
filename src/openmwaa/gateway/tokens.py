"""Signed tokens: four kinds, each with one purpose and bound to one environment.

The audience says both, so that a token of one kind or environment is worth nothing to
another. It carries the environment's id, not its name: tokens of a deleted environment are
refused by a new one of the same name.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

import jwt

from openmwaa.gateway.keys import GatewayKey

_ALGORITHM: Final = "EdDSA"
_LEEWAY_S: Final = 5.0
_LONGEST: Final = 4096
_REQUIRED: Final = ("aud", "sub", "iat", "nbf", "exp", "jti")


class TokenKind(StrEnum):
    """What a token is for."""

    IDENTITY = "identity"
    """Tells the Airflow of one environment who makes one request."""

    SESSION = "session"
    """A signed-in browser or client."""

    WEB = "web"
    """From CreateWebLoginToken; buys a session."""

    CLI = "cli"
    """From CreateCliToken; runs commands."""


LIFETIME_S: Final = MappingProxyType(
    {
        TokenKind.IDENTITY: 60,
        TokenKind.SESSION: 12 * 3600,
        TokenKind.WEB: 60,
        TokenKind.CLI: 60,
    }
)
"""How long a token is valid, in seconds (mwaa.md 8.2, 8.3)."""


class TokenRefusedError(Exception):
    """The token is not valid for this purpose and environment."""

    def __init__(self, *, expired: bool = False) -> None:
        super().__init__("the token has expired" if expired else "the token is not valid here")
        self.expired = expired


@dataclass(frozen=True)
class Claims:
    """What a verified token says."""

    kind: TokenKind
    environment_id: str
    subject: str
    roles: tuple[str, ...]
    token_id: str
    expires_at: int


def audience(kind: TokenKind, environment_id: str) -> str:
    """Return the audience of a kind of token for one environment."""
    if kind is TokenKind.IDENTITY:
        return f"openmwaa:{environment_id}"
    return f"openmwaa:{environment_id}:{kind.value}"


class Tokens:
    """Mints and verifies with the gateway's key. Keeps no state."""

    def __init__(self, key: GatewayKey, *, clock: Callable[[], float] = time.time) -> None:
        self._key = key
        self._clock = clock

    def mint(self, kind: TokenKind, environment_id: str, *, subject: str, roles: Sequence[str] = ()) -> str:
        """Return a signed token.

        Args:
            kind: Decides audience and lifetime.

            environment_id: The only environment that it is for.

            subject: Airflow user name.

            roles: Names of Airflow roles; empty for tokens that carry none.
        """
        now = int(self._clock())
        payload = {
            "aud": audience(kind, environment_id),
            "sub": subject,
            "roles": list(roles),
            "iat": now,
            "nbf": now,
            "exp": now + LIFETIME_S[kind],
            "jti": uuid.uuid4().hex,
        }
        return jwt.encode(payload, self._key.private, algorithm=_ALGORITHM, headers={"kid": self._key.kid})

    def verify(self, token: str, kind: TokenKind, environment_id: str) -> Claims:
        """Return what a token says.

        Raises:
            TokenRefusedError: Not ours, altered, expired, or of another kind or environment.
        """
        if len(token) > _LONGEST:
            raise TokenRefusedError
        try:
            payload = jwt.decode(
                token,
                self._key.public,
                algorithms=[_ALGORITHM],
                audience=audience(kind, environment_id),
                leeway=_LEEWAY_S,
                options={"require": list(_REQUIRED), "strict_aud": True},
            )
        except jwt.ExpiredSignatureError as error:
            raise TokenRefusedError(expired=True) from error
        except (jwt.PyJWTError, RecursionError) as error:  # a header of nested brackets exhausts the parser
            raise TokenRefusedError from error
        return Claims(
            kind=kind,
            environment_id=environment_id,
            subject=payload["sub"],
            roles=tuple(payload["roles"]),
            token_id=payload["jti"],
            expires_at=payload["exp"],
        )

    def is_ours(self, token: str) -> bool:
        """Return whether a text is a token of any kind that this key signed, valid or not."""
        if len(token) > _LONGEST:
            return False
        try:
            return bool(jwt.get_unverified_header(token).get("kid") == self._key.kid)
        except (jwt.PyJWTError, RecursionError):
            return False
