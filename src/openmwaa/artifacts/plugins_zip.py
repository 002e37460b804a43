"""plugins.zip: unpacked so that nothing in it can leave its folder or fill the disk."""

from __future__ import annotations

import shutil
import stat
import threading
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import Final

from openmwaa.kit.errors import GiveUp

MOST_BYTES: Final = 1024**3
"""MWAA advises at most 1 GB of requirements and plugins together (mwaa.md 5.3)."""

_MOST_ENTRIES: Final = 100_000
_CHUNK: Final = 1024**2
_ENCRYPTED: Final = 0x1
_UTF8_NAME: Final = 0x800
_LEFT_OUT: Final = "__MACOSX"


def unpack_plugins(
    archive: Path, folder: Path, *, stop: threading.Event | None = None, most_bytes: int = MOST_BYTES
) -> int:
    """Unpack plugins.zip into an empty folder. Blocking.

    Folders are made as needed and files written with fixed modes, never links or devices.
    What macOS adds for itself (`__MACOSX/`) is left out: Airflow would load it as plugins.

    Args:
        archive: The zip file.

        folder: Must exist.

        stop: Ends the work early when set.

        most_bytes: Bound of the unpacked files together, counted while writing.

    Returns:
        Bytes written.

    Raises:
        GiveUp: `PLUGINS_INVALID`, saying which entry and why.
    """
    stop = stop or threading.Event()
    written = 0
    try:
        with zipfile.ZipFile(archive) as file:
            entries = file.infolist()
            if len(entries) > _MOST_ENTRIES:
                raise _invalid(f"it has {len(entries)} entries; at most {_MOST_ENTRIES} are unpacked")
            for entry in entries:
                if stop.is_set():
                    break
                target = _target(entry)
                if target.parts[:1] != (_LEFT_OUT,):
                    written += _unpack(file, entry, folder / target, most_bytes - written)
    except zipfile.BadZipFile as error:
        raise _invalid(f"it is not a usable zip file: {error}") from error
    except (NotImplementedError, zlib.error, EOFError, RuntimeError, ValueError) as error:
        raise _invalid(f"it cannot be read: {error}") from error
    return written


def _unpack(file: zipfile.ZipFile, entry: zipfile.ZipInfo, target: Path, left: int) -> int:
    name = entry.filename[:200]
    if entry.file_size > left:
        raise _too_large()
    size = 0
    try:
        if entry.filename.endswith(("/", "\\")):
            target.mkdir(mode=0o755, parents=True, exist_ok=True)
            return 0
        target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        with file.open(entry) as source, target.open("wb") as out:
            while chunk := source.read(_CHUNK):
                size += len(chunk)
                if size > left:
                    raise _too_large()
                out.write(chunk)
    except (FileExistsError, IsADirectoryError, NotADirectoryError) as error:
        raise _invalid(f"{name!r} is a file and a folder at once") from error
    except (UnicodeError, OSError) as error:
        if shutil.disk_usage(target.anchor).free < _CHUNK:
            raise
        raise _invalid(f"{name!r} cannot be written: {error}") from error
    target.chmod(0o755 if entry.external_attr >> 16 & 0o111 else 0o644)
    return size


def _target(entry: zipfile.ZipInfo) -> PurePosixPath:
    """Return where an entry belongs, relative to the folder."""
    name = _name(entry)
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if entry.flag_bits & _ENCRYPTED:
        raise _invalid(f"{name[:200]!r} is encrypted")
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise _invalid(f"{name[:200]!r} is a link or a device")
    path = PurePosixPath(name.replace("\\", "/"))
    if not path.parts:
        raise _invalid("an entry has no name")
    if path.is_absolute() or ".." in path.parts or ":" in "".join(path.parts[:1])[1:2] or "\0" in name:
        raise _invalid(f"{name[:200]!r} leads out of the folder")
    return path


def _name(entry: zipfile.ZipInfo) -> str:
    """Return the name; many programs write UTF-8 without saying so."""
    if entry.flag_bits & _UTF8_NAME:
        return entry.orig_filename
    try:
        return entry.orig_filename.encode("cp437").decode("utf-8")
    except UnicodeError:
        return entry.orig_filename


def _too_large() -> GiveUp:
    return _invalid(f"its files are larger than {MOST_BYTES / 1024**3:.0f} GiB together")


def _invalid(reason: str) -> GiveUp:
    return GiveUp(
        f"plugins.zip cannot be used: {reason}",
        code="PLUGINS_INVALID",
        component="plugins.zip",
        evidence=reason,
        fix="Build the zip file again: the plugins' files at its top level, no links, no password.",
    )
