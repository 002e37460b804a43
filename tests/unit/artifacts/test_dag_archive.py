"""DAG folders as streams."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest

from openmwaa.artifacts.dag_archive import pack, unpack
from openmwaa.kit.errors import GiveUp, Retry


def test_a_folder_comes_back_and_any_tar_can_read_it(tmp_path: Path) -> None:
    files = {
        "a.py": b"1",
        "lib/b.py": b"x" * 3_000_000,
        "ünï/" + "d" * 120 + "/c.py": b"",
        ".airflowignore": b"i",
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    (tmp_path / "link.py").symlink_to("/etc/passwd")
    packed = b"".join(pack(tmp_path))
    assert {name: b"".join(content) for name, content in unpack([packed])} == files
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        assert sorted(archive.getnames()) == sorted(files)


def test_an_empty_folder_is_an_empty_archive(tmp_path: Path) -> None:
    assert list(unpack(pack(tmp_path))) == []


def test_a_folder_that_is_being_removed_is_never_taken_for_a_smaller_one(tmp_path: Path) -> None:
    with pytest.raises(Retry):
        list(pack(tmp_path / "gone"))
    folder = tmp_path / "20261128T000000.000000-abc"
    folder.mkdir()
    (folder / "a.py").write_text("a")
    listing = folder.with_name(f"{folder.name}.json")
    listing.write_text(json.dumps({"a.py": [], "b.py": []}))
    with pytest.raises(Retry):
        list(pack(folder))
    listing.write_text(json.dumps({"a.py": []}))
    assert [name for name, content in unpack(pack(folder)) if list(content)] == ["a.py"]


@pytest.mark.parametrize("name", ["/etc/cron.d/x", "../x", "a/../../x"])
def test_a_path_that_leads_out_is_refused(name: str) -> None:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        archive.addfile(tarfile.TarInfo(name))
    with pytest.raises(GiveUp, match="DAG archive"):
        list(unpack([target.getvalue()]))


def test_what_is_no_tar_is_refused() -> None:
    with pytest.raises(GiveUp, match="DAG archive"):
        list(unpack([b"no tar" * 1000]))
