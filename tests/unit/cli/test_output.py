"""Formatting for people."""

from __future__ import annotations

import pytest

from openmwaa.cli.output import age, size, table_lines


def test_tables_are_aligned_numbers_to_the_right() -> None:
    """No trailing spaces, so that lines can be compared."""
    assert table_lines(("name", "count"), [("a", 1), ("long", 200), ("b", None)]) == [
        "NAME  COUNT",
        "a         1",
        "long    200",
        "b         -",
    ]


def test_an_empty_table_is_its_header() -> None:
    """A script can skip the first line always."""
    assert table_lines(("a", "b"), []) == ["A  B"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (59, "59s"),
        (60, "1m 0s"),
        (3_599, "59m 59s"),
        (3_600, "1h 0m"),
        (90_061, "1d 1h"),
        (-5, "0s"),
    ],
)
def test_ages(seconds: float, text: str) -> None:
    """Two units at most."""
    assert age(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (45_200_000, "45.2 MB"), (5e12, "5000.0 GB")]
)
def test_sizes(count: int, text: str) -> None:
    """Decimal units, as disks and S3 use them."""
    assert size(int(count)) == text
