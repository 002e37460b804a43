"""A DAG folder as one stream, and back. The format is tar, so that it can be read without us."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Final

from openmwaa.artifacts.snapshot_format import as_file
from openmwaa.kit.errors import GiveUp, Retry

_READ_BYTES: Final = 1024 * 1024


def pack(folder: Path) -> Iterator[bytes]:
    """Yield a tar of the regular files below a folder, in the order of their paths.

    Args:
        folder: Not a link to one: it must not change its target while this runs. If it is a
            snapshot of a `DagMirror`, the list beside it says which files it must have.

    Raises:
        Retry: It is not whole: the mirror removes old ones.
    """
    replaced = Retry("the DAG folder was replaced while it was read")
    try:
        found = {
            str(path.relative_to(folder)): path
            for path in folder.rglob("*")
            if path.is_file() and not path.is_symlink()
        }
        if not folder.is_dir() or _listed(folder) not in (None, found.keys()):
            raise replaced
        for name, path in sorted(found.items()):
            yield from _packed(path, name)
    except FileNotFoundError as error:
        raise replaced from error
    yield bytes(2 * tarfile.BLOCKSIZE)


def unpack(pieces: Iterable[bytes]) -> Iterator[tuple[str, Iterator[bytes]]]:
    """Yield path and content of each file; a content must be read before the next file is asked for.

    Raises:
        GiveUp: A path leads out of the folder, or the stream is no tar.
    """
    reader = as_file(pieces)
    try:
        with tarfile.open(mode="r|", fileobj=reader) as archive:
            for member in archive:
                if not member.isfile():
                    continue
                parts = PurePosixPath(member.name).parts
                if member.name.startswith("/") or ".." in parts or not parts:
                    raise _no_archive(f"a file has the path {member.name!r}")
                content = archive.extractfile(member)
                assert content is not None  # noqa: S101 - a regular file has a content
                yield member.name, _pieces(content)
        for _ in iter(lambda: reader.read(_READ_BYTES), b""):
            pass  # to the end, which is where the stream proves to be whole
    except tarfile.TarError as error:
        raise _no_archive(str(error)) from error


def _listed(folder: Path) -> set[str] | None:
    try:
        return set(json.loads(folder.with_name(f"{folder.name}.json").read_text()))
    except FileNotFoundError:
        return None


def _packed(path: Path, name: str) -> Iterator[bytes]:
    info = tarfile.TarInfo(name)
    with path.open("rb") as file:
        state = path.stat()
        info.size, info.mtime, info.mode = state.st_size, int(state.st_mtime), 0o644
        yield info.tobuf(tarfile.PAX_FORMAT)
        left = info.size
        while left:
            piece = file.read(min(left, _READ_BYTES))
            if not piece:
                raise Retry(f"{name} changed while it was read")
            left -= len(piece)
            yield piece
    yield bytes(-info.size % tarfile.BLOCKSIZE)


def _pieces(content: IO[bytes]) -> Iterator[bytes]:
    return iter(lambda: content.read(_READ_BYTES), b"")


def _no_archive(evidence: str) -> GiveUp:
    return GiveUp(
        "the DAG archive cannot be used", code="SNAPSHOT_DAMAGED", component="dags", evidence=evidence
    )
