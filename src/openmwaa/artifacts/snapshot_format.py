"""How a snapshot is written: parts as encrypted streams, and one sealed manifest that vouches for them.

A part is a stream of chunks of 1 MiB, each encrypted with AES-256-GCM under a key of that part
alone. The nonce of a chunk is its number and whether it is the last one, so that chunks which
are missing, repeated, exchanged or cut off at the end do not decrypt (the construction is
STREAM: Hoang, Reyhanitabar, Rogaway, Vizár, "Online Authenticated-Encryption and its
Nonce-Reuse Misuse-Resistance", CRYPTO 2015). Snapshot and part are authenticated with every chunk: one
part cannot stand in for another.

The manifest holds the parts' keys, sizes and checksums and the secrets that the data needs. It
is sealed by the keyring as a whole, and written last: a snapshot without one does not exist.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from openmwaa.kit.errors import GiveUp
from openmwaa.kit.keyring import Keyring, SealBrokenError
from openmwaa.kit.secret import Secret

FORMAT: Final = 1
DATABASE: Final = "database"
DAGS: Final = "dags"
INPUTS: Final = ("requirements", "plugins", "startup_script")
"""Parts that are files of the source bucket; each is named like its field of EnvironmentSpec."""

CHUNK_BYTES: Final = 1024 * 1024
_TAG_BYTES: Final = 16
_KEY_BITS: Final = 256
_COUNTER_BYTES: Final = 11


class SnapshotDamagedError(GiveUp):
    """What is stored is not what was written; nothing may be restored from it."""

    def __init__(self, snapshot_id: str, part: str, evidence: str) -> None:
        super().__init__(
            f"part {part} of snapshot {snapshot_id} is damaged or was altered",
            code="SNAPSHOT_DAMAGED",
            component=part,
            evidence=evidence,
            fix="restore another snapshot",
        )
        self.part = part


@dataclass(frozen=True)
class Part:
    """One part as the manifest knows it.

    Attributes:
        size_bytes: Of the content.

        stored_bytes: Of the object.

        sha256: Of the content, hexadecimal.

        key: Key of its stream alone.
    """

    name: str
    size_bytes: int
    stored_bytes: int
    sha256: str
    key: Secret = field(repr=False)


@dataclass(frozen=True)
class SnapshotManifest:
    """Everything in a snapshot that is not a stream.

    Attributes:
        spec: `EnvironmentSpec.to_json()` of what ran.

        runtime_id: The runtime that had the database last.

        rows: Number of rows by `schema.table`, as of the dump.

        secrets: What the data cannot be read without, by name: Airflow's fernet key.
    """

    snapshot_id: str
    environment_id: str
    environment_name: str
    region: str
    account: str
    created_at: datetime
    reason: str
    airflow_version: str
    runtime_id: str
    spec: Mapping[str, Any]
    tags: Mapping[str, str]
    rows: Mapping[str, int]
    secrets: Mapping[str, Secret]
    parts: tuple[Part, ...]

    def part(self, name: str) -> Part | None:
        """Return a part by its name."""
        return next((part for part in self.parts if part.name == name), None)

    def seal(self, keyring: Keyring) -> bytes:
        """Return what is stored."""
        members = {entry.name: getattr(self, entry.name) for entry in dataclasses.fields(self)}
        members |= {
            "format": FORMAT,
            "created_at": self.created_at.astimezone(UTC).isoformat(),
            "secrets": {name: secret.reveal() for name, secret in self.secrets.items()},
            "parts": [{**vars(part), "key": part.key.reveal()} for part in self.parts],
        }
        text = json.dumps(members, default=dict)
        return keyring.seal(Secret(text), context=_manifest_context(self.snapshot_id)).encode()

    @classmethod
    def open(cls, stored: bytes, snapshot_id: str, keyring: Keyring) -> Self:
        """Restore what `seal` made.

        Raises:
            SnapshotDamagedError: Altered, of another snapshot, or sealed with another master key.

            GiveUp: Written by a newer release.
        """
        try:
            text = keyring.open(stored.decode(), context=_manifest_context(snapshot_id)).reveal()
        except (SealBrokenError, UnicodeDecodeError) as error:
            raise SnapshotDamagedError(
                snapshot_id, "manifest", "it does not open with this service's master key"
            ) from error
        members = json.loads(text)
        if (written := members.pop("format")) != FORMAT:
            raise GiveUp(
                f"snapshot {snapshot_id} has format {written}, this release reads {FORMAT}",
                code="SNAPSHOT_FORMAT",
                fix="use the release that wrote it, or a newer one",
            )
        known = {entry.name for entry in dataclasses.fields(cls)}
        values = {name: value for name, value in members.items() if name in known}
        values |= {
            "created_at": datetime.fromisoformat(members["created_at"]),
            "secrets": {name: Secret(value) for name, value in members["secrets"].items()},
            "parts": tuple(Part(**{**part, "key": Secret(part["key"])}) for part in members["parts"]),
        }
        return cls(**values)


class PartWriter:
    """Encrypts one part; iterate it to get what is to be stored, then ask for `part`.

    Holds at most two chunks in memory.
    """

    def __init__(self, snapshot_id: str, name: str, content: Iterable[bytes]) -> None:
        self._name = name
        self._key = AESGCM.generate_key(bit_length=_KEY_BITS)
        self._bound_to = _stream_context(snapshot_id, name)
        self._content = content
        self._digest = hashlib.sha256()
        self._size = 0
        self._complete = False
        self.stored_bytes = 0

    def __iter__(self) -> Iterator[bytes]:
        cipher = AESGCM(self._key)
        for number, (chunk, last) in enumerate(_with_last(_regroup(self._counted(), CHUNK_BYTES))):
            box = cipher.encrypt(_nonce(number, last=last), chunk, self._bound_to)
            self.stored_bytes += len(box)
            yield box
        self._complete = True

    @property
    def part(self) -> Part:
        """What the manifest says about it; only once all of it was taken."""
        if not self._complete:
            raise ValueError(f"part {self._name} is not complete")
        return Part(
            self._name,
            self._size,
            self.stored_bytes,
            self._digest.hexdigest(),
            Secret(base64.b64encode(self._key).decode()),
        )

    def _counted(self) -> Iterator[bytes]:
        for piece in self._content:
            self._digest.update(piece)
            self._size += len(piece)
            yield piece


def read_part(snapshot_id: str, part: Part, stored: Iterable[bytes]) -> Iterator[bytes]:
    """Decrypt a part and check it; what was yielded may be used for good only once the iterator ended.

    Raises:
        SnapshotDamagedError: Names the part. Each chunk is checked before it is yielded.
    """
    cipher = AESGCM(base64.b64decode(part.key.reveal()))
    bound_to = _stream_context(snapshot_id, part.name)
    digest, size, stored_size = hashlib.sha256(), 0, 0
    for number, (box, last) in enumerate(_with_last(_regroup(stored, CHUNK_BYTES + _TAG_BYTES))):
        stored_size += len(box)
        try:
            chunk = cipher.decrypt(_nonce(number, last=last), box, bound_to)
        except (InvalidTag, ValueError) as error:
            raise SnapshotDamagedError(
                snapshot_id, part.name, f"chunk {number} of {part.stored_bytes} stored bytes does not decrypt"
            ) from error
        digest.update(chunk)
        size += len(chunk)
        yield chunk
    if (size, stored_size, digest.hexdigest()) != (part.size_bytes, part.stored_bytes, part.sha256):
        raise SnapshotDamagedError(snapshot_id, part.name, "size or SHA-256 differ from the manifest")


def as_file(pieces: Iterable[bytes]) -> io.BufferedReader:
    """Return pieces as a file to read from, once, forwards.

    A read gives as much as it asks for until the end. (boto3 takes a short read for the end
    of a small file, and then holds all the rest in memory.)
    """
    return io.BufferedReader(_Pieces(pieces), buffer_size=CHUNK_BYTES)


class _Pieces(io.RawIOBase):
    """An iterator of bytes; one read gives at most one piece."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill as much as the present piece gives; 0 at the end."""
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._rest = memoryview(piece)
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count


def _regroup(pieces: Iterable[bytes], size: int) -> Iterator[bytes]:
    """Yield pieces of exactly `size` bytes and one shorter rest; one empty piece for nothing at all."""
    buffer = bytearray()
    some = False
    for piece in pieces:
        buffer += piece
        while len(buffer) >= size:
            some = True
            yield bytes(buffer[:size])
            del buffer[:size]
    if buffer or not some:
        yield bytes(buffer)


def _with_last(pieces: Iterator[bytes]) -> Iterator[tuple[bytes, bool]]:
    held = next(pieces)
    for piece in pieces:
        yield held, False
        held = piece
    yield held, True


def _nonce(number: int, *, last: bool) -> bytes:
    # A key serves one stream of one part, so numbers are enough to never repeat a nonce.
    return number.to_bytes(_COUNTER_BYTES, "big") + bytes([last])


def _stream_context(snapshot_id: str, name: str) -> bytes:
    return f"openmwaa-snapshot/{FORMAT}/{snapshot_id}/{name}".encode()


def _manifest_context(snapshot_id: str) -> str:
    return f"snapshot/{snapshot_id}/manifest"
