"""Ids of environments: short, never reused, safe in every kind of name."""

from __future__ import annotations

import secrets
import string

_LETTERS = string.ascii_lowercase
_REST = string.ascii_lowercase + string.digits


def new_environment_id() -> str:
    """Return 12 random characters, a letter first: 61 bits, valid in DNS, PostgreSQL and paths."""
    return secrets.choice(_LETTERS) + "".join(secrets.choice(_REST) for _ in range(11))
