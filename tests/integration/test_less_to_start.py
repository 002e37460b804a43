"""What components no longer do when they start makes no difference to what they then are. Real runtimes."""

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

ONE_COMMAND = """
from airflow import __version__ as airflow_version
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
parse_only("celery")
assert known(cli_parser.get_parser()) == (everything if airflow_version.startswith("2.") else ["celery"])
assert known(cli_parser.get_parser()) == everything
"""

ROUTES = """
from fastapi import APIRouter, FastAPI
from airflow.api_fastapi.core_api.app import init_views
from airflow.api_fastapi.core_api.routes.public import public_router
from openmwaa_airflow.zygote.routes import make_routes

def an_api():
    api = FastAPI(title="Airflow")
    init_views(api)
    return api

def facts(api):
    names = ("path", "methods", "name", "unique_id")
    return [(type(route).__name__, *(str(getattr(route, name, None)) for name in names)) for route in api.routes]

before = an_api()
many = len(public_router.routes)
make_routes()
first, second = an_api(), an_api()
assert facts(first) == facts(second) == facts(before)
assert first.openapi() == second.openapi() == before.openapi()
assert len(public_router.routes) == many
overridden = [route for route in first.routes if getattr(route, "dependant", None)]
assert {id(r.dependency_overrides_provider.dependency_overrides) for r in overridden} == {id(first.dependency_overrides)}
other = FastAPI()
other.include_router(APIRouter(), prefix="/other")
"""

ADAPTERS = """
import sys
import airflow.sdk.execution_time.comms as comms
import airflow.sdk.execution_time.task_runner as task_runner
from pydantic import TypeAdapter
from openmwaa_airflow.zygote.tasks import make_adapters

def decoder():
    return comms.CommsDecoder(socket=None)

before = decoder().body_decoder
make_adapters()
first, second = decoder(), decoder()
assert first.body_decoder is second.body_decoder is first.err_decoder
assert first.body_decoder.json_schema() == before.json_schema()
message = {"type": "VariableResult", "key": "a", "value": "b"}
assert first.body_decoder.validate_python(message) == before.validate_python(message)
assert task_runner.TypeAdapter(task_runner.JsonValue).validate_python({"a": [1]}) == {"a": [1]}
other = comms.TypeAdapter(list[int])
assert type(other) is TypeAdapter and other is not comms.TypeAdapter(list[int])
assert other.validate_python(["1"]) == [1]
assert comms.TypeAdapter[int](int).validate_python("2") == 2
"""

HEARTBEATS = """
import time
from types import SimpleNamespace
from airflow.sdk.execution_time.supervisor import MIN_HEARTBEAT_INTERVAL, ActivitySubprocess
from openmwaa_airflow import workarounds

told = []
tasks = SimpleNamespace(heartbeat=lambda id, pid: told.append(id))

def started():
    task = object.__new__(ActivitySubprocess)
    task.id, task._process, task._terminal_state = "a task", SimpleNamespace(pid=1), None
    task._last_heartbeat_attempt = task._last_successful_heartbeat = 0
    task.client = SimpleNamespace(task_instances=tasks)
    task._on_child_started()
    return task

# What it sends to its task is left out: only what it notes about heartbeats counts here.
ActivitySubprocess._on_child_started = lambda task: setattr(task, "_last_successful_heartbeat", time.monotonic())
started()._send_heartbeat_if_needed()
assert told == ["a task"], "Airflow no longer sends one at once: the workaround can go"
workarounds.apply_to_worker()
task = started()
task._send_heartbeat_if_needed()
assert told == ["a task"]
task._last_heartbeat_attempt -= MIN_HEARTBEAT_INTERVAL
task._send_heartbeat_if_needed()
assert told == ["a task"] * 2
"""

RESULT_TABLES = """
import os
from celery.backends.database.session import SessionManager
from sqlalchemy import text
from openmwaa_airflow import result_tables

url = f"sqlite:///{os.environ['AIRFLOW_HOME']}/results.db"
result_tables.keep_connections()
manager = SessionManager()
engine, make = manager.create_session(url, pool_pre_ping=True)
again, _ = manager.create_session(url, pool_pre_ping=True)
assert engine is again
with make() as session:
    assert session.execute(text("SELECT 1")).scalar() == 1
child = os.fork()
if child == 0:
    os._exit(manager.get_engine(url) is engine)
assert os.waitpid(child, 0)[1] == 0, "a connection of another process"
manager._after_fork()
assert manager.get_engine(url) is not engine, "Celery keeps its own for the processes of a pool"
"""


def versions(generation: str) -> list[object]:
    """Return every version of a generation; all but the newest are for the thorough run."""
    found = [version for version in VERSIONS if version.startswith(generation)]
    return [one if one == NEWEST else pytest.param(one, marks=pytest.mark.thorough) for one in found]


def run(version: str, code: str, home: Path) -> None:
    """Run code with a version's interpreter, which must end well."""
    store = RuntimeStore(Settings(home=home), {version: VERSIONS[version].lock})
    runtime = asyncio.run(store.ensure(version))
    ended = subprocess.run(
        [str(runtime.path / "bin" / "python"), "-P", "-c", code],
        env={
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
            "PYTHONPATH": str(SOURCE),
            "PATH": "/usr/bin:/bin",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize("version", [*versions("2"), *versions("3")])
def test_only_the_next_parser_knows_one_command(version: str, tmp_path: Path) -> None:
    run(version, ONE_COMMAND, tmp_path)


@pytest.mark.parametrize("version", versions("3"))
def test_routes_that_were_made_before_are_those_that_would_be_made(version: str, tmp_path: Path) -> None:
    run(version, ROUTES, tmp_path)


@pytest.mark.parametrize("version", versions("3"))
def test_adapters_that_were_made_before_decode_the_same(version: str, tmp_path: Path) -> None:
    run(version, ADAPTERS, tmp_path)


@pytest.mark.parametrize("version", versions("3"))
def test_a_task_says_once_that_it_runs(version: str, tmp_path: Path) -> None:
    run(version, HEARTBEATS, tmp_path)


@pytest.mark.parametrize("version", [*versions("2"), *versions("3")])
def test_engines_of_the_result_tables_stay_in_their_process(version: str, tmp_path: Path) -> None:
    run(version, RESULT_TABLES, tmp_path)
