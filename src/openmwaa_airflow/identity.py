"""Who is asking, as the gateway says it: a signed token per request.

The token is an EdDSA JWT. Its audience is this environment alone, so that the token of one
environment opens no other. Nothing inside the environment can make one: the components
hold only the public key. Airflow's own user tokens (signed with a secret that the scheduler
and the web server know) are not accepted for users.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass

import jwt
from cryptography.hazmat.primitives.serialization import load_pem_public_key

PUBLIC_KEY_VARIABLE = "OPENMWAA_GATEWAY_PUBLIC_KEY"
AUDIENCE_VARIABLE = "OPENMWAA_AUDIENCE"
LOGIN_URL_VARIABLE = "OPENMWAA_LOGIN_URL"
LOGOUT_URL_VARIABLE = "OPENMWAA_LOGOUT_URL"

STANDARD_ROLES = frozenset({"Admin", "Op", "User", "Viewer", "Public"})

_NO_OVERRIDE = {"Public"}
_LEEWAY_S = 5
_MAX_NAME = 64
_HASH_DIGITS = 40
_PEM = re.compile(r"-----BEGIN PUBLIC KEY-----.*?-----END PUBLIC KEY-----", re.DOTALL)


@dataclass(frozen=True)
class Identity:
    """A verified caller: Airflow user name (at most 64 characters) and role names."""

    name: str
    roles: tuple[str, ...]


def verify(token: str) -> Identity:
    """Return the identity that the gateway signed.

    Raises:
        jwt.ExpiredSignatureError: The token is older than its lifetime.

        jwt.InvalidTokenError: Anything else is wrong with it.
    """
    failure = jwt.InvalidTokenError("no key")
    for key in _public_keys(os.environ[PUBLIC_KEY_VARIABLE]):
        try:
            claims = jwt.decode(
                token,
                key,
                algorithms=["EdDSA"],
                audience=os.environ[AUDIENCE_VARIABLE],
                leeway=_LEEWAY_S,
                options={"require": ["exp", "iat", "aud", "sub"]},
            )
        except jwt.InvalidSignatureError as error:
            failure = error  # there are two keys while they are being changed
        else:
            return identity_of(claims)
    raise failure


def identity_of(claims: dict) -> Identity:
    """Read the claims of a token whose signature was verified.

    Raises:
        jwt.InvalidTokenError: The claims have another shape.
    """
    name, roles = claims.get("sub"), claims.get("roles")
    if not (isinstance(name, str) and name):
        raise jwt.InvalidTokenError("sub must be a user name")
    if not (isinstance(roles, list) and all(isinstance(role, str) for role in roles)):
        raise jwt.InvalidTokenError("roles must be a list of names")
    return Identity(_shortened(name), tuple(sorted(set(roles))))


def wanted_roles(claimed: Iterable[str], current: Iterable[str]) -> set[str]:
    """Return which roles a user should have.

    Who comes as `Public` keeps the custom roles that an administrator gave inside Airflow;
    any other role replaces what was there (MWAA user guide, "Create a custom Airflow role").
    """
    if set(claimed) == _NO_OVERRIDE:
        return (set(current) - STANDARD_ROLES) | _NO_OVERRIDE
    return set(claimed)


def bearer_token(authorization: str | None) -> str | None:
    """Return the token of an `Authorization` header, or None."""
    scheme, _, token = (authorization or "").partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None


def _shortened(name: str) -> str:
    """Keep names within 64 characters as MWAA does: a long one ends in its hash."""
    if len(name) <= _MAX_NAME:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:_HASH_DIGITS]
    return f"{name[: _MAX_NAME - _HASH_DIGITS - 1]}-{digest}"


@functools.cache
def _public_keys(pem: str) -> tuple:
    keys = tuple(load_pem_public_key(block.encode()) for block in _PEM.findall(pem))
    if not keys:
        raise RuntimeError(f"{PUBLIC_KEY_VARIABLE} holds no public key")
    return keys
