"""What a deployment uploads and deletes."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from openmwaa.cli.dags import file_of, plan_lines
from openmwaa.cli.errors import CommandFailed
from openmwaa.cli.folder_sync import Remote, local_files, plan_sync


def remote(content: bytes) -> Remote:
    return Remote(hashlib.md5(content, usedforsecurity=False).hexdigest(), len(content))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for path, content in {
        "a.py": "a",
        "sub/b.py": "b",
        ".airflowignore": "lib",
        "sub/__pycache__/b.pyc": "x",
        ".git/config": "x",
        "c.pyc": "x",
    }.items():
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    return tmp_path


def test_caches_and_version_control_stay_at_home(folder: Path) -> None:
    """`.airflowignore` is part of the DAG folder, byte-code is not."""
    assert list(local_files(folder)) == [".airflowignore", "a.py", "sub/b.py"]


def test_only_differences_are_uploaded(folder: Path) -> None:
    """By content, not by time; what is gone is deleted."""
    there = {"a.py": remote(b"a"), "sub/b.py": remote(b"B"), "old.py": remote(b"old")}
    plan = plan_sync(local_files(folder), there)
    assert (plan.added, plan.changed, plan.deleted, plan.unchanged) == (
        (".airflowignore",),
        ("sub/b.py",),
        ("old.py",),
        1,
    )
    assert plan_lines(plan, "s3://b/dags/") == [
        "+ .airflowignore",
        "~ sub/b.py",
        "- old.py",
        "s3://b/dags/: 1 new, 1 changed, 1 deleted, 1 unchanged",
    ]


def test_nothing_is_deleted_from_a_bucket_of_somebody_else(folder: Path) -> None:
    """`delete=False` keeps what is only there."""
    assert plan_sync(local_files(folder), {"old.py": remote(b"old")}, delete=False).deleted == ()


def test_an_object_uploaded_in_parts_is_uploaded_again(folder: Path) -> None:
    """Its ETag says nothing about its content."""
    assert "a.py" in plan_sync(local_files(folder), {"a.py": Remote("abc-2", 1)}).changed


def test_a_missing_folder_is_said_so(tmp_path: Path) -> None:
    """An empty deployment would delete everything."""
    with pytest.raises(CommandFailed, match="not a folder"):
        local_files(tmp_path / "nowhere")


def test_files_are_found_again_by_where_airflow_saw_them() -> None:
    """The longest path that fits wins, so equal names in subfolders are told apart."""
    known = {"x.py", "sub/x.py"}
    assert file_of("/srv/airflow/dags/sub/x.py", known) == "sub/x.py"
    assert file_of("/srv/airflow/dags/x.py", known) == "x.py"
    assert file_of("/srv/airflow/dags/ax.py", known) is None
