"""plugins.zip: what is in it stays in its folder."""

from __future__ import annotations

import contextlib
import io
import stat
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openmwaa.artifacts.plugins_zip import unpack_plugins
from openmwaa.kit.errors import GiveUp
from tests.support.packages import zipped


def unpack(tmp_path: Path, data: bytes, **limits: int) -> Path:
    archive, folder = tmp_path / "plugins.zip", tmp_path / "root" / "plugins"
    archive.write_bytes(data)
    folder.mkdir(parents=True)
    unpack_plugins(archive, folder, **limits)
    return folder


def with_entry(name: str, *, attributes: int = 0, flags: int = 0) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        entry = zipfile.ZipInfo(name)
        entry.external_attr = attributes << 16
        file.writestr(entry, b"content")
        entry.flag_bits |= flags
    return out.getvalue()


def test_flat_and_nested_files_keep_their_place_and_are_readable(tmp_path: Path) -> None:
    folder = unpack(tmp_path, zipped({"a.py": "A", "deep/er/b.py": "B", "empty/": ""}))
    assert (folder / "a.py").read_text() == "A"
    assert (folder / "deep" / "er" / "b.py").read_text() == "B"
    assert (folder / "empty").is_dir()
    assert stat.S_IMODE((folder / "a.py").stat().st_mode) == 0o644


def test_programs_stay_executable_and_mac_folders_are_left_out(tmp_path: Path) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        entry = zipfile.ZipInfo("bin/tool")
        entry.external_attr = (stat.S_IFREG | 0o6777) << 16
        file.writestr(entry, b"#!/bin/sh\n")
        file.writestr("__MACOSX/._a.py", b"\0")
    folder = unpack(tmp_path, out.getvalue())
    assert stat.S_IMODE((folder / "bin" / "tool").stat().st_mode) == 0o755
    assert not (folder / "__MACOSX").exists()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"no zip at all", "not a usable zip file"),
        (b"", "not a usable zip file"),
        (with_entry("../x"), "leads out"),
        (with_entry("a/../../x"), "leads out"),
        (with_entry("/etc/x"), "leads out"),
        (with_entry("..\\x"), "leads out"),
        (with_entry("C:\\x"), "leads out"),
        (with_entry("link", attributes=stat.S_IFLNK | 0o777), "is a link"),
        (with_entry("pipe", attributes=stat.S_IFIFO | 0o644), "is a link or a device"),
        (with_entry("secret", flags=1), "is encrypted"),
        (with_entry("n" * 300), "cannot be written"),
        (zipped({"a": "x", "a/b": "y"}), "a file and a folder at once"),
        (zipped({"a.py": "x" * 5000})[:-40], "not a usable zip file"),
    ],
    ids=str,
)
def test_what_is_dangerous_or_broken_is_refused(tmp_path: Path, data: bytes, reason: str) -> None:
    with pytest.raises(GiveUp) as caught:
        unpack(tmp_path, data)
    assert caught.value.code == "PLUGINS_INVALID"
    assert reason in caught.value.reason
    assert {path.name for path in tmp_path.iterdir()} == {"plugins.zip", "root"}
    assert {path.name for path in (tmp_path / "root").iterdir()} == {"plugins"}


def test_a_bomb_is_stopped_by_what_it_writes(tmp_path: Path) -> None:
    """Also if its directory lies about the sizes."""
    data = zipped({"zeros": b"\0" * 3_000_000})
    with pytest.raises(GiveUp, match="larger than"):
        unpack(tmp_path, data, most_bytes=1_000_000)
    lying = data.replace((3_000_000).to_bytes(4, "little"), (1000).to_bytes(4, "little"))
    (tmp_path / "second").mkdir()
    with pytest.raises(GiveUp):
        unpack(tmp_path / "second", lying, most_bytes=1_000_000)


def test_names_that_do_not_say_they_are_utf_8_are_read_as_such(tmp_path: Path) -> None:
    """Many programs forget the flag."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        file.writestr("grüße.py", b"X = 1")
    data = bytearray(out.getvalue())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(signature) + offset + 1] &= ~0x08 & 0xFF
    assert (unpack(tmp_path, bytes(data)) / "grüße.py").exists()


@settings(max_examples=60, deadline=None)
@given(name=st.text(st.characters(codec="utf-8"), min_size=1, max_size=30))
def test_no_name_leads_out(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    folder = tmp_path_factory.mktemp("any")
    with contextlib.suppress(GiveUp):
        unpack(folder, with_entry(name))
    assert {path.name for path in folder.iterdir()} == {"plugins.zip", "root"}
    assert {path.name for path in (folder / "root").iterdir()} == {"plugins"}
