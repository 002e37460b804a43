"""Packages that are imported already see what a layer adds to them."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from openmwaa_airflow.zygote.layers import _extend_packages


@pytest.fixture
def modules() -> Iterator[None]:
    known, path = set(sys.modules), list(sys.path)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - known:
        del sys.modules[name]


def a_package(root: Path, *names: str, text: str = "") -> None:
    for name in names:
        folder = root.joinpath(*name.split("."))
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "__init__.py").write_text(text)


@pytest.mark.usefixtures("modules")
def test_a_part_of_a_package_is_found_in_a_folder_that_came_later(tmp_path: Path) -> None:
    runtime, layer = tmp_path / "runtime", tmp_path / "layer"
    a_package(runtime, "wide", "wide.deep")
    a_package(layer, "wide.deep.added")
    sys.path.append(str(runtime))
    importlib.import_module("wide.deep")
    sys.path.append(str(layer))
    _extend_packages()
    assert importlib.import_module("wide.deep.added").__file__ == str(layer / "wide/deep/added/__init__.py")


@pytest.mark.usefixtures("modules")
def test_a_package_with_a_second_name_below_a_plain_module(tmp_path: Path) -> None:
    """As `requests.packages` has `urllib3`."""
    a_package(tmp_path, "plain", "other")
    (tmp_path / "plain" / "names.py").write_text(
        "import other, sys\nsys.modules[f'{__name__}.other'] = other\n"
    )
    sys.path.append(str(tmp_path))
    importlib.import_module("plain.names")
    assert not hasattr(sys.modules["plain.names"], "__path__")
    _extend_packages()
    assert importlib.import_module("plain.names.other").__path__ == [str(tmp_path / "other")]
