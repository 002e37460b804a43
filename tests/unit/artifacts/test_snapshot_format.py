"""Whatever was stored differently from what was written does not open, and the part is named."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openmwaa.artifacts import snapshot_format
from openmwaa.artifacts.snapshot_format import (
    Part,
    PartWriter,
    SnapshotDamagedError,
    SnapshotManifest,
    as_file,
    read_part,
)
from openmwaa.kit.errors import GiveUp
from openmwaa.kit.keyring import LocalKeyring
from openmwaa.kit.secret import Secret

SNAPSHOT = "snap-0000000000000000"
CHUNK = 64
BOX = CHUNK + 16


@pytest.fixture(autouse=True, scope="module")
def small_chunks() -> Iterator[None]:
    """Chunks of a few bytes, so that short contents have many."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(snapshot_format, "CHUNK_BYTES", CHUNK)
        yield


@pytest.fixture(scope="module")
def keyring(tmp_path_factory: pytest.TempPathFactory) -> LocalKeyring:
    return LocalKeyring(tmp_path_factory.mktemp("keys") / "master.key")


def write(content: bytes, name: str = "database", snapshot: str = SNAPSHOT) -> tuple[Part, bytes]:
    writer = PartWriter(snapshot, name, [content])
    stored = b"".join(writer)
    return writer.part, stored


def read(part: Part, stored: bytes, snapshot: str = SNAPSHOT) -> bytes:
    return b"".join(read_part(snapshot, part, [stored]))


@given(st.lists(st.binary(max_size=200), max_size=8), st.integers(1, 300))
def test_what_was_written_is_read_however_it_is_cut(pieces: list[bytes], cut: int) -> None:
    writer = PartWriter(SNAPSHOT, "database", pieces)
    stored = b"".join(writer)
    part, content = writer.part, b"".join(pieces)
    assert (part.size_bytes, part.stored_bytes) == (len(content), len(stored))
    again = read_part(SNAPSHOT, part, [stored[i : i + cut] for i in range(0, len(stored), cut)])
    assert b"".join(again) == content


@given(st.binary(min_size=33, max_size=300))
def test_nothing_of_the_content_is_in_what_is_stored(content: bytes) -> None:
    _, stored = write(content + content)
    assert content[:16] not in stored
    assert write(content)[1] != write(content)[1]


@given(st.binary(max_size=400), st.data())
def test_one_changed_bit_is_found(content: bytes, data: st.DataObject) -> None:
    part, stored = write(content)
    place = data.draw(st.integers(0, len(stored) * 8 - 1))
    altered = bytearray(stored)
    altered[place // 8] ^= 1 << place % 8
    with pytest.raises(SnapshotDamagedError) as caught:
        read(part, bytes(altered))
    assert caught.value.component == "database"
    assert "database" in caught.value.reason


@given(st.binary(max_size=400), st.data())
def test_a_cut_is_found_wherever_it_is(content: bytes, data: st.DataObject) -> None:
    part, stored = write(content)
    with pytest.raises(SnapshotDamagedError):
        read(part, stored[: data.draw(st.integers(0, len(stored) - 1))])


def swapped(stored: bytes) -> bytes:
    return stored[BOX : 2 * BOX] + stored[:BOX] + stored[2 * BOX :]


@pytest.mark.parametrize(
    "tamper",
    [
        swapped,
        lambda stored: stored[BOX:],
        lambda stored: stored[:BOX] + stored,
        lambda stored: stored[:BOX] * 4,
        lambda stored: stored[: 2 * BOX],
        lambda stored: stored + b"more",
        lambda stored: stored + stored[-BOX:],
        lambda stored: b"",
    ],
    ids=["swapped", "first-missing", "repeated", "one-only", "last-missing", "longer", "last-twice", "empty"],
)
def test_chunks_have_their_place(tamper: Callable[[bytes], bytes]) -> None:
    part, stored = write(b"x" * 4 * CHUNK)
    assert read(part, stored) == b"x" * 4 * CHUNK
    with pytest.raises(SnapshotDamagedError):
        read(part, tamper(stored))


def test_one_part_or_snapshot_does_not_stand_in_for_another() -> None:
    part, stored = write(b"content")
    other, other_stored = write(b"content", name="dags")
    for one, content in ((part, other_stored), (other, stored)):
        with pytest.raises(SnapshotDamagedError):
            read(one, content)
    # With the right key, too: the name is part of what is authenticated.
    with pytest.raises(SnapshotDamagedError):
        read(dataclasses.replace(part, name="dags"), stored)
    with pytest.raises(SnapshotDamagedError):
        read(part, stored, snapshot="snap-1111111111111111")


def test_a_checksum_that_differs_is_found_at_the_end() -> None:
    part, stored = write(b"content")
    for wrong in ({"sha256": "0" * 64}, {"size_bytes": 1}, {"stored_bytes": 1}):
        with pytest.raises(SnapshotDamagedError, match="database"):
            read(dataclasses.replace(part, **wrong), stored)


def a_manifest() -> SnapshotManifest:
    return SnapshotManifest(
        snapshot_id=SNAPSHOT,
        environment_id="abcdefghijkl",
        environment_name="alpha",
        region="us-east-1",
        account="000000000000",
        created_at=datetime(2026, 11, 28, tzinfo=UTC),
        reason="manual",
        airflow_version="3.3.1",
        runtime_id="3.3.1-abc",
        spec={"name": "alpha", "logging": {}},
        tags={"team": "data"},
        rows={"public.dag_run": 3},
        secrets={"AIRFLOW__CORE__FERNET_KEY": Secret("the-fernet-key")},
        parts=(write(b"content")[0],),
    )


def test_a_manifest_opens_as_it_was_sealed(keyring: LocalKeyring) -> None:
    manifest = a_manifest()
    stored = manifest.seal(keyring)
    assert SnapshotManifest.open(stored, SNAPSHOT, keyring) == manifest
    for hidden in (b"fernet", b"alpha", manifest.parts[0].key.reveal().encode()):
        assert hidden not in stored
    assert "the-fernet-key" not in repr(manifest)
    assert manifest.parts[0].key.reveal() not in repr(manifest)


def test_an_altered_manifest_does_not_open(keyring: LocalKeyring) -> None:
    stored = a_manifest().seal(keyring)
    for place in range(3, len(stored) - 5, 7):
        if stored[place + 1] in b".=":
            continue  # base64 has spare bits there: another letter may mean the same
        altered = bytearray(stored)
        altered[place] = ord("A") if stored[place] != ord("A") else ord("x")
        with pytest.raises(SnapshotDamagedError, match="manifest"):
            SnapshotManifest.open(bytes(altered), SNAPSHOT, keyring)


def test_a_manifest_is_bound_to_its_snapshot_and_master_key(keyring: LocalKeyring, tmp_path: Path) -> None:
    stored = a_manifest().seal(keyring)
    with pytest.raises(SnapshotDamagedError, match="manifest"):
        SnapshotManifest.open(stored, "snap-1111111111111111", keyring)
    with pytest.raises(SnapshotDamagedError, match="manifest"):
        SnapshotManifest.open(stored, SNAPSHOT, LocalKeyring(tmp_path / "another.key"))


def test_a_manifest_of_a_newer_format_is_refused_in_words(
    keyring: LocalKeyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot_format, "FORMAT", 2)
    stored = a_manifest().seal(keyring)
    monkeypatch.undo()
    with pytest.raises(GiveUp, match="has format 2"):
        SnapshotManifest.open(stored, SNAPSHOT, keyring)


@given(st.lists(st.binary(max_size=50), max_size=10), st.integers(1, 70))
def test_a_stream_reads_like_a_file(pieces: list[bytes], size: int) -> None:
    reader = as_file(pieces)
    cuts = list(iter(lambda: reader.read(size), b""))
    assert b"".join(cuts) == b"".join(pieces)
    assert {len(cut) for cut in cuts[:-1]} <= {size}
