"""The rules of the ETL example, on the real data and on rows broken for the purpose."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

EXAMPLE = Path(__file__).parents[3] / "examples" / "etl"
Row = dict[str, str]
Validate = Callable[[list[Row], set[str]], tuple[list[Row], list[Row], dict[str, Any]]]


@pytest.fixture
def validate(monkeypatch: pytest.MonkeyPatch) -> Validate:
    """The function as a task imports it: from the DAG folder."""
    monkeypatch.syspath_prepend(str(EXAMPLE / "dags"))
    monkeypatch.delitem(sys.modules, "flights_etl", raising=False)
    from flights_etl.rules import validate as function  # noqa: PLC0415 - found by the line before

    return function


@pytest.fixture(scope="module")
def carriers() -> set[str]:
    return {row["carrier"] for row in rows("airlines")}


def rows(name: str) -> list[Row]:
    with (EXAMPLE / "data" / f"{name}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_real_week_has_sixteen_incomplete_rows(validate: Validate, carriers: set[str]) -> None:
    """Flights that departed and whose arrival was never recorded; cancelled flights are no error."""
    valid, rejected, report = validate(rows("flights"), carriers)
    assert (report["rows"], report["valid"], report["rejected"], report["cancelled"]) == (6104, 6088, 16, 929)
    assert len(valid) == 6088
    assert {row["reason"] for row in rejected} == {"arrival"}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"carrier": "NA"}, "complete"),
        ({"distance": "far"}, "numbers"),
        ({"day": "31"}, "date"),
        ({"dep_time": "1260"}, "clock"),
        ({"sched_dep_time": "2500"}, "clock"),
        ({"carrier": "XX"}, "carrier"),
        ({"origin": "BOS"}, "origin"),
        ({"dep_time": "NA"}, "cancelled"),
        ({"dep_delay": "99"}, "departure-delay"),
        ({"air_time": "NA"}, "arrival"),
    ],
)
def test_each_rule_finds_what_it_is_for(
    validate: Validate, carriers: set[str], changes: Row, reason: str
) -> None:
    """One broken column, one reason."""
    _, rejected, _ = validate([rows("flights")[0] | changes], carriers)
    assert [row["reason"] for row in rejected] == [reason]


def test_the_second_row_about_one_flight_is_rejected(validate: Validate, carriers: set[str]) -> None:
    """The first stays."""
    row = rows("flights")[0]
    valid, rejected, _ = validate([row, dict(row)], carriers)
    assert (len(valid), [one["reason"] for one in rejected]) == (1, ["unique"])
