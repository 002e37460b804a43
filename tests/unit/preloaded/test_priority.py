"""Which component gives way to others."""

from __future__ import annotations

from pathlib import Path

from openmwaa_airflow.priority import give_way


def test_the_kernel_is_asked_for_less_weight(tmp_path: Path) -> None:
    asked = tmp_path / "autogroup"
    asked.touch()
    assert give_way(asked)
    assert asked.read_text() == "5"


def test_a_kernel_that_weighs_no_sessions_changes_nothing(tmp_path: Path) -> None:
    assert not give_way(tmp_path / "missing" / "autogroup")
