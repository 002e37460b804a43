"""The operator's commands against the real socket and store: what AWS has no call for."""

from __future__ import annotations

import json
import os
import stat
import tempfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from openmwaa.environments.status import Status
from openmwaa.store.leases import Outcome
from tests.support.operator import OperatorServer, an_operator
from tests.support.postgres import a_database, a_postgres
from tests.support.specs import a_spec


@pytest.fixture(scope="module")
def operator() -> Iterator[OperatorServer]:
    """One server for the module; its home has a short path, for the socket."""
    with (
        tempfile.TemporaryDirectory(prefix="operator-") as home,
        a_postgres() as postgres,
        a_database(postgres, "operator") as database,
        an_operator(database, Path(home)) as server,
    ):
        yield server


@pytest.fixture(scope="module", autouse=True)
def alpha(operator: OperatorServer) -> str:
    """An environment that is AVAILABLE."""
    operator.create(a_spec("alpha", airflow_configuration_options={"core.parallelism": "8"}))
    return "alpha"


def test_only_the_services_own_user_can_connect(operator: OperatorServer) -> None:
    """The permissions of the socket are the authentication."""
    mode = operator.settings.layout.operator_socket.stat().st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o600


def test_list_shows_what_get_environment_cannot(operator: OperatorServer) -> None:
    """Replicas and age beside name and status; a table for people, JSON for programs."""
    listed = json.loads(operator.cli("env", "list", "--json").output)
    assert [(one["name"], one["status"], one["replicas_ready"]) for one in listed] == [
        ("alpha", "AVAILABLE", 1)
    ]
    header, line = operator.cli("env", "list").output.splitlines()
    assert header.split() == ["NAME", "STATUS", "VERSION", "CLASS", "READY", "AGE", "URL"]
    assert line.split()[:5] == ["alpha", "AVAILABLE", "3.3.1", "mw1.micro", "1/1"]


def test_show_has_processes_mirror_isolation_and_places(operator: OperatorServer) -> None:
    """What a person needs to look further."""
    shown = json.loads(operator.cli("env", "show", "alpha", "--json").output)
    assert shown["replicas"][0] == {
        "kind": "worker",
        "index": 0,
        "hash": "h",
        "running": True,
        "ready": True,
        "since": "2026-11-23T03:10:00+00:00",
        "restarts": 2,
        "port": None,
        "pid": 4711,
        "rss_bytes": 120_000_000,
        "last_exit": "signal 9",
        "log_tail": [],
        "forked": False,
    }
    assert shown["missing_isolation"] == ["Memory limits are not enforced."]
    text = operator.cli("env", "show", "alpha").output
    for part in (
        "3 files",
        "user+mounts",
        "Memory limits are not enforced.",
        "worker-0",
        "4711",
        "signal 9",
        "core.parallelism = 8",
    ):
        assert part in text


def test_show_answers_while_the_backend_is_away(operator: OperatorServer) -> None:
    """The record is known all the same, and the reason is named."""
    operator.backend_away = True
    try:
        text = operator.cli("env", "show", "alpha").output
        assert "AVAILABLE" in text
        assert "What runs is not known: the node agent does not answer." in text
        assert operator.cli("env", "list").output.splitlines()[1].split()[4] == "?"
    finally:
        operator.backend_away = False


def test_an_unknown_name_is_mwaas_error(operator: OperatorServer) -> None:
    """One line on standard error, exit code 1, for every command."""
    for arguments in (("env", "show"), ("env", "plan"), ("env", "restart"), ("events",), ("logs",)):
        result = operator.cli(*arguments, "nobody")
        assert result.exit_code == 1
        assert result.stderr == "ResourceNotFoundException: No environment found with the name nobody.\n"
        assert result.stdout == ""


def test_plan_says_what_update_would_do_and_does_nothing(operator: OperatorServer) -> None:
    """By the manifests that would run; a wrong value is refused as UpdateEnvironment would."""
    before = operator.run(operator.store.environments.get("alpha"))
    plan = json.loads(operator.cli("env", "plan", "alpha", "--log", "scheduler=INFO", "--json").output)
    assert [(one["kind"], one["action"]) for one in plan["components"]] == [
        ("scheduler", "replace"),
        ("triggerer", "replace"),
    ]
    assert plan["stops_workers"] is False
    text = operator.cli("env", "plan", "alpha", "--option", "core.parallelism=16").output
    assert "airflow_configuration_options.core.parallelism: 8 -> 16" in text
    assert "Worker is replaced (1)." in text
    refused = operator.cli("env", "plan", "alpha", "--workers", "1:5")
    assert refused.exit_code == 1
    assert (
        refused.stderr == "ValidationException: The worker count for environment class mw1.micro must be 1.\n"
    )
    assert operator.run(operator.store.environments.get("alpha")) == before


def test_events_are_there_after_the_environment_is_gone(operator: OperatorServer) -> None:
    """Its history stays under its name; `after` leaves out what is known."""
    operator.create(a_spec("gone"))
    operator.run(operator.store.environments.request_deletion("gone"))
    operator.run(operator.finish("gone", Outcome(next_in=timedelta(0), deleted=True)))
    assert operator.cli("env", "show", "gone").exit_code == 1
    events = json.loads(operator.cli("events", "gone", "--json").output)
    assert (events[0]["kind"], events[-1]["kind"]) == ("create-requested", "delete-requested")
    assert "Create requested" in operator.cli("events", "gone").output
    assert len(json.loads(operator.cli("events", "gone", "--limit", "1", "--json").output)) == 1


def test_restart_is_an_update_without_a_field(operator: OperatorServer) -> None:
    """Everything rolls; while it does, another one is refused with MWAA's words."""
    operator.create(a_spec("rolled"))
    assert operator.cli("env", "restart", "rolled", "--no-wait").exit_code == 0
    record = operator.run(operator.store.environments.get("rolled"))
    assert (record.generation, record.spec.roll, record.status) == (2, 2, Status.UPDATING)
    assert record.last_update.source == "openmwaa env restart"
    again = operator.cli("env", "restart", "rolled", "--no-wait")
    assert again.exit_code == 1
    assert again.stderr.startswith("ValidationException: Environments with UPDATING status must complete")


def test_a_direct_command_gets_its_arguments_and_gives_its_exit_code(operator: OperatorServer) -> None:
    """No shell, no list of allowed commands."""
    result = operator.cli("env", "cli", "alpha", "--direct", "--", "users", "list", "--output", "a b; c")
    assert operator.commands[-1] == ("users", "list", "--output", "a b; c")
    assert result.exit_code == 3
    assert (result.stdout, result.stderr) == ("out\n", "err\n")


def test_logs_are_merged_in_the_order_of_time(operator: OperatorServer) -> None:
    """Components and tasks; `--component` chooses as MWAA's log groups do."""
    record = operator.run(operator.store.environments.get("alpha"))
    folders = operator.log_folders(record)
    attempt = folders.tasks / "dag_id=etl" / "run_id=manual__1" / "task_id=load" / "attempt=1.log"
    for path, text in {
        folders.components / "scheduler-0.log": "[2026-11-23T03:10:02.000+0000] second\n",
        folders.components / "triggerer-0.log": "[2026-11-23T03:10:01.000+0000] first\nwith more\n",
        folders.components / "worker-0.log": "[2026-11-23T03:10:04.000+0000] fourth\n",
        attempt: '{"timestamp":"2026-11-23T03:10:03Z","level":"info","event":"third"}\n',
    }.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    secret = operator.settings.home / "secret"
    secret.write_text("secret\n")
    os.symlink(secret, attempt.with_name("attempt=2.log"))
    lines = operator.cli("logs", "alpha").output.splitlines()
    assert [line.split()[-1] for line in lines] == ["first", "more", "second", "third", "fourth"]
    assert lines[3].startswith("etl/manual__1/load/1 | ")
    scheduler = operator.cli("logs", "alpha", "--component", "scheduler").output
    assert [line.partition(" | ")[0] for line in scheduler.splitlines()] == [
        "triggerer-0",
        "triggerer-0",
        "scheduler-0",
    ]
    late = operator.cli("logs", "alpha", "--since", "2026-11-23T03:10:03", "--json").output
    assert [json.loads(line)["name"] for line in late.splitlines()] == ["etl/manual__1/load/1", "worker-0"]
    assert operator.cli("logs", "alpha", "--lines", "1").output.split()[-1] == "fourth"
    assert operator.cli("logs", "alpha", "--since", "soon").exit_code == 2


def test_runtimes_are_listed_and_an_unknown_one_is_refused(operator: OperatorServer) -> None:
    """Nothing is installed in this home; building one is tested with the runtimes themselves."""
    listed = json.loads(operator.cli("runtimes", "list", "--json").output)
    assert [(one["version"], one["installed"]) for one in listed] == [
        ("2.10.3", False),
        ("2.11.2", False),
        ("3.0.6", False),
        ("3.2.1", False),
        ("3.3.1", False),
    ]
    oldest = listed[0]
    assert (oldest["released"], oldest["end_of_support"], oldest["mwaa_python"]) == (
        "2024-11-04",
        None,
        "3.11",
    )
    assert oldest["providers"]["amazon"] == "9.0.0"
    table = operator.cli("runtimes", "list").output.splitlines()
    assert table[0].split()[:5] == ["VERSION", "INSTALLED", "PYTHON", "RELEASED", "END"]
    assert len(table) == 6
    refused = operator.cli("runtimes", "install", "1.10.12")
    assert refused.exit_code == 1
    assert "Airflow 1.10.12 is not supported" in refused.stderr
