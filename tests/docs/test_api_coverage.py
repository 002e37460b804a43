"""The page on coverage names every operation and field of the model, and says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from openmwaa.api.models import load
from openmwaa.environments.requests import _NOT_BUILT_YET

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "api-coverage.md").read_text()


def rows(heading: str) -> dict[str, str]:
    """Return the table below a heading: first column -> second column."""
    section = PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]
    return dict(re.findall(r"^\| (\w+) \| ([^|]+?) \|", section, re.MULTILINE))


def test_every_operation_is_described() -> None:
    table = rows("Operations of MWAA")
    table.pop("Operation")
    assert set(table) == set(load("mwaa").operation_names)


@pytest.mark.parametrize("operation", ["CreateEnvironment", "UpdateEnvironment"])
def test_every_field_is_described(operation: str) -> None:
    table = rows(f"Fields of {operation}")
    table.pop("Field")
    shape = load("mwaa").operation_model(operation).input_shape
    assert shape is not None
    assert set(table) == set(shape.members)
    assert set(table.values()) <= {"works", "stored only", "refused"}
    assert all(table[member] == "refused" for member in _NOT_BUILT_YET)
