"""Passwords and keys of the embedded services: made once, stored sealed.

Each process of the home can read them after `openmwaa up` made them.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from collections.abc import Callable

from openmwaa.kit.files import write_atomically
from openmwaa.kit.keyring import LocalKeyring
from openmwaa.kit.secret import Secret
from openmwaa.settings import Settings


class ServiceSecrets:
    """Named secrets of one home, in a file of sealed texts."""

    def __init__(self, settings: Settings) -> None:
        self._file = settings.layout.master_key.with_name("services.json")
        self._keyring = LocalKeyring(settings.layout.master_key)

    def get(self, name: str) -> Secret | None:
        """Return a secret, or None if it was never made."""
        sealed = self._read().get(name)
        return self._keyring.open(sealed, context=_context(name)) if sealed else None

    def get_or_create(self, name: str, make: Callable[[], Secret] | None = None) -> Secret:
        """Return a secret, making and storing it first if need be. Safe for several processes at once.

        Args:
            name: Unique among the services, e.g. `postgres/superuser`.

            make: Makes it; default: 32 random bytes as URL-safe text.
        """
        lock = os.open(self._file.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            known = self.get(name)
            if known is None:
                known = make() if make else Secret(secrets.token_urlsafe(32))
                sealed = self._read() | {name: self._keyring.seal(known, context=_context(name))}
                write_atomically(self._file, json.dumps(sealed, indent=1))
            return known
        finally:
            os.close(lock)

    def _read(self) -> dict[str, str]:
        try:
            sealed: dict[str, str] = json.loads(self._file.read_text())
        except FileNotFoundError:
            return {}
        return sealed


def _context(name: str) -> str:
    return f"service/{name}"
