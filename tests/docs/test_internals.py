"""The documents that describe the tree describe this tree."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LIFE = ROOT / "docs/internals/life-of-an-environment.md"


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`(src/[^`]+)`", LIFE.read_text()))))
def test_every_file_on_the_path_of_an_environment_exists(name: str) -> None:
    """`life-of-an-environment.md` names only files that are there."""
    assert (ROOT / name).is_file()


def test_decision_records_have_unique_numbers() -> None:
    """No two decision records carry one number."""
    numbers = [path.name[:4] for path in (ROOT / "docs/adr").glob("[0-9]*.md")]
    assert len(numbers) == len(set(numbers)) > 0
