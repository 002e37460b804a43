"""A component parses its own command alone, and nobody else notices. Real runtimes."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import pytest

from openmwaa.airflow.versions import VERSIONS
from openmwaa.artifacts.runtimes import RuntimeStore
from openmwaa.settings import Settings

pytestmark = pytest.mark.timeout(600)

SOURCE = Path(__file__).parents[2] / "src"
NEWEST = "3.3.1"
CODE = """
from airflow.cli import cli_parser
from openmwaa_airflow.one_command import parse_only

def known(parser):
    return sorted(parser._subparsers._group_actions[0].choices)

everything = known(cli_parser.get_parser())
parse_only("scheduler")
parser = cli_parser.get_parser()
assert known(parser) == ["scheduler"]
assert callable(parser.parse_args(["scheduler", "--pid", "x"]).func)
assert known(cli_parser.get_parser()) == everything
parse_only("nonsense")
assert known(cli_parser.get_parser()) == everything
"""


@pytest.mark.parametrize(
    "version", [one if one == NEWEST else pytest.param(one, marks=pytest.mark.thorough) for one in VERSIONS]
)
def test_only_the_next_parser_knows_one_command(version: str, tmp_path: Path) -> None:
    store = RuntimeStore(Settings(home=tmp_path), {version: VERSIONS[version].lock})
    runtime = asyncio.run(store.ensure(version))
    ended = subprocess.run(
        [str(runtime.path / "bin" / "python"), "-P", "-c", CODE],
        env={"AIRFLOW_HOME": str(tmp_path), "PYTHONPATH": str(SOURCE), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
