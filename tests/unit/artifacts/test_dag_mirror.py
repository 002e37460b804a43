"""Which objects become which files."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from openmwaa.artifacts.dag_mirror import choose_files
from openmwaa.artifacts.source_bucket import SourceObject


def entry(key: str, size: int = 1) -> SourceObject:
    return SourceObject(key, "etag", size, datetime.now(UTC))


def test_keys_become_paths_below_the_prefix() -> None:
    chosen = choose_files(
        [entry("dags/"), entry("dags/a.py"), entry("dags/lib/b.py"), entry("dags/e/", 0)], "dags/"
    )
    assert set(chosen.files) == {"a.py", "lib/b.py"}
    assert chosen.ignored == ()


@pytest.mark.parametrize(
    "key",
    [
        "../x.py",
        "a/../../x.py",
        "/etc/passwd",
        "a//b.py",
        "./a.py",
        "a/./b.py",
        "nul\0.py",
        "..",
        "folder/",
        "x" * 256,
        "/".join("x" * 100 for _ in range(20)),
        "half\ud800.py",
    ],
)
def test_a_key_that_is_no_safe_path_is_reported_and_ignored(key: str) -> None:
    chosen = choose_files([entry("dags/good.py"), entry(f"dags/{key}")], "dags/")
    assert set(chosen.files) == {"good.py"}
    assert len(chosen.ignored) == 1


def test_a_key_that_is_also_a_folder_is_ignored() -> None:
    chosen = choose_files([entry("a"), entry("a/b"), entry("a/b/c"), entry("a-b")], "")
    assert set(chosen.files) == {"a/b/c", "a-b"}
    assert len(chosen.ignored) == 2
