"""Envelope encryption of every secret that OpenMWAA stores.

A secret is sealed with a fresh data key (AES-256-GCM); the data key is sealed with
the master key. The master key never leaves this module. The context (for example
`environment/<id>/fernet`) is authenticated: a sealed text moved to another place
does not open.
"""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from openmwaa.kit.secret import Secret

_VERSION = "v1"
_KEY_BYTES = 32
_NONCE_BYTES = 12


class SealBrokenError(Exception):
    """The sealed text was altered, moved to another context, or sealed with another key."""


class Keyring(Protocol):
    """Seals and opens secrets. Implementations: a local key file; later AWS KMS."""

    def seal(self, secret: Secret, *, context: str) -> str:
        """Return printable ASCII that only `open` with the same context reveals."""
        ...

    def open(self, sealed: str, *, context: str) -> Secret:
        """Return the secret.

        Raises:
            SealBrokenError: Wrong key, wrong context, or altered text.
        """
        ...


class LocalKeyring:
    """Keyring whose master key is a file of 32 random bytes, mode 0600."""

    def __init__(self, key_file: Path) -> None:
        self._master = AESGCM(_load_or_create(key_file))

    def seal(self, secret: Secret, *, context: str) -> str:
        """Seal with a fresh data key; two seals of one secret differ."""
        data_key = AESGCM.generate_key(bit_length=_KEY_BYTES * 8)
        box = _encrypt(AESGCM(data_key), secret.reveal().encode(), context)
        wrapped = _encrypt(self._master, data_key, context)
        return ".".join((_VERSION, _to_text(wrapped), _to_text(box)))

    def open(self, sealed: str, *, context: str) -> Secret:
        """Open a text that `seal` made with the same context."""
        try:
            version, wrapped, box = sealed.split(".")
            if version != _VERSION:
                raise SealBrokenError(f"unknown seal version {version!r}")
            data_key = _decrypt(self._master, _to_bytes(wrapped), context)
            return Secret(_decrypt(AESGCM(data_key), _to_bytes(box), context).decode())
        except (ValueError, InvalidTag) as error:
            raise SealBrokenError("the sealed text does not open with this key and context") from error


def _load_or_create(path: Path) -> bytes:
    """Read the master key; make it first if missing. Safe against a second starter and a crash."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not path.exists():
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            os.write(descriptor, os.urandom(_KEY_BYTES))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        try:
            os.link(draft, path)  # fails if another starter was first: theirs is the key
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    key = path.read_bytes()
    if len(key) != _KEY_BYTES:
        raise SealBrokenError(f"{path} is not a key of {_KEY_BYTES} bytes")
    return key


def _encrypt(cipher: AESGCM, plain: bytes, context: str) -> bytes:
    nonce = os.urandom(_NONCE_BYTES)
    return nonce + cipher.encrypt(nonce, plain, context.encode())


def _decrypt(cipher: AESGCM, box: bytes, context: str) -> bytes:
    return cipher.decrypt(box[:_NONCE_BYTES], box[_NONCE_BYTES:], context.encode())


def _to_text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode()


def _to_bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text)
